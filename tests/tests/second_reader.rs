//! The format is what `docs/format.md` says: a reader in another language, written from that page, verifies and
//! rebuilds what branchmesh published, and refuses what was tampered with.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    hq::{Headquarters, flip_bit},
    images::same_content,
    python,
    run::{Finished, run},
    scratch::Scratch,
    skip::{Need, have_all},
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const MODULES: &[&str] = &["blake3", "cryptography", "zstandard"];
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn the_golden_repository_is_read_from_the_page_alone() {
    if !have_all("the_golden_repository_is_read_from_the_page_alone", &[Need::Python(MODULES)]) {
        return;
    }
    let golden = project("crates/repo/tests/golden/v1");
    let mut command = reader(&golden.join("repo"), &golden.join("keys/root.json"));
    command.arg("--key").arg(key_option("finance", &golden.join("keys/groups/finance.key")));
    // The signatures expire, the format does not.
    let answer = run(command.arg("--allow-expired"), LIMIT).expect_ok();
    let expected: Value = serde_json::from_slice(&fs::read(golden.join("expected.json")).unwrap()).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&answer.stdout).unwrap(), expected);
    assert_eq!(answer.stderr, "");
}

#[test]
fn what_was_published_today_is_rebuilt_and_what_was_tampered_with_refused() {
    let test = "what_was_published_today_is_rebuilt_and_what_was_tampered_with_refused";
    if !have_all(test, &[Need::Python(MODULES)]) {
        return;
    }
    let scratch = Scratch::new(test);
    let hq = Headquarters::new(&scratch.path().join("hq"));
    let source = scratch.path().join("disk.img");
    fs::write(&source, content()).unwrap();
    let mut command = hq.publish_command("ledger", "1", &[&source]);
    run(command.args(["--group", "finance", "--channel", "stable"]), LIMIT).expect_ok();
    hq.publish("kiosk", "1", &[&source]);

    let key = key_option("finance", &hq.keys().join("groups/finance.key"));
    let read = |name: &str, with_key: bool| -> (Finished, PathBuf) {
        let to = scratch.path().join(name);
        let mut command = reader(&hq.repository(), &hq.root_of_trust());
        if with_key {
            command.arg("--key").arg(&key);
        }
        (run(command.arg("--to").arg(&to), LIMIT), to)
    };
    let (answer, to) = read("with-key", true);
    answer.expect_ok();
    for release in ["ledger@1", "kiosk@1"] {
        assert!(same_content(&to.join(release).join("disk.img"), &source), "{release} came out differently");
    }
    let (answer, to) = read("without-key", false);
    assert!(answer.expect_ok().stderr.contains("the key of finance is not here"));
    assert!(to.join("kiosk@1/disk.img").exists() && !to.join("ledger@1").exists());

    flip_bit(&hq.packs()[0]);
    read("damaged-pack", true).0.expect_refusal();
    let timestamp = hq.repository().join("metadata/timestamp.json");
    let forged = fs::read_to_string(&timestamp).unwrap().replacen("\"version\":", "\"version\":1", 1);
    fs::write(&timestamp, forged).unwrap();
    let (answer, _) = read("forged", true);
    assert!(answer.expect_refusal().stderr.contains("refused"));
}

/// Some blocks of text, a hole, and some that do not shrink.
fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..40_000).flat_map(|line| format!("line {line} of a disk\n").into_bytes()).collect();
    bytes.resize(bytes.len() + (3 << 20), 0);
    let mut state = 1u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    });
    bytes.extend(noise.take(100_000).flatten());
    bytes
}

fn reader(repository: &Path, root: &Path) -> Command {
    let mut command = Command::new(python::with_modules(MODULES).unwrap());
    command.arg(project("docs/reader.py")).arg(repository).arg("--root").arg(root);
    command
}

fn key_option(group: &str, key: &Path) -> String {
    format!("{group}={}", key.display())
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
