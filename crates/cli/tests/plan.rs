//! `branchmesh plan` as an administrator runs it: with sizes by hand, with a repository, and with mistakes.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const BY_HAND: &str = "[[release]]\nimage = \"desk\"\nsize = \"20 MB\"\n";
const SITE: &str = "[[site]]\nname = \"lyon\"\nclients = 4\nwan = \"20 Mbit/s\"\n";

fn branchmesh(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_branchmesh")).current_dir(folder).args(arguments).output().unwrap()
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = branchmesh(folder, arguments);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn sizes_by_hand_give_a_table_json_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sites.toml"), format!("{BY_HAND}{SITE}")).unwrap();
    let page = branchmesh(folder.path(), &["plan", "sites.toml", "--svg", "chart.svg"]);
    assert!(page.status.success() && page.stderr.is_empty(), "{page:?}");
    assert!(String::from_utf8(page.stdout).unwrap().contains("lyon"));
    let chart = fs::read_to_string(folder.path().join("chart.svg")).unwrap();
    assert!(chart.starts_with("<svg") && chart.contains("lyon") && chart.trim_end().ends_with("</svg>"));
    let plan = json(folder.path(), &["plan", "sites.toml", "--json"]);
    assert_eq!(plan["total"]["mesh"]["wan_bytes"], 20_000_000);
    assert_eq!(plan["total"]["alone"]["wan_bytes"], 80_000_000);
}

#[test]
fn a_repository_gives_the_bytes_that_diff_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let noise = |from: u32| -> Vec<u8> {
        (from..from + 200_000).flat_map(|word| word.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
    };
    let run = |arguments: &[&str]| {
        let output = branchmesh(path, arguments);
        assert!(output.status.success(), "{output:?}");
    };
    run(&["repo", "init", "repo", "--keys", "keys"]);
    for (release, from) in [("1", 0), ("2", 100_000)] {
        fs::write(path.join("disk.img"), noise(from)).unwrap();
        run(&[
            "publish",
            "--repo",
            "repo",
            "--keys",
            "keys",
            "--image",
            "desk",
            "--release",
            release,
            "disk.img",
        ]);
    }
    let release = "[[release]]\nimage = \"desk\"\nrelease = \"desk@2\"\nolder = \"desk@1\"\n";
    let held = SITE.replace("lyon", "held") + "holds = [\"desk\"]\n";
    fs::write(path.join("sites.toml"), format!("{release}{SITE}{held}")).unwrap();

    let plan = json(path, &["plan", "sites.toml", "--repo", "repo", "--keys", "keys", "--json"]);
    let whole = json(path, &["diff", "desk@2", "--repo", "repo", "--keys", "keys", "--json"]);
    let update = json(path, &["diff", "desk@1", "desk@2", "--repo", "repo", "--keys", "keys", "--json"]);
    assert_ne!(whole["fetch_bytes"], update["fetch_bytes"]);
    for (site, diff) in [(0, &whole), (1, &update)] {
        assert_eq!(plan["sites"][site]["lacks_bytes"], diff["fetch_bytes"]);
        assert_eq!(plan["sites"][site]["each"]["mesh"]["wan_bytes"], diff["fetch_bytes"]);
    }
    assert_eq!(plan["repository_bytes"], whole["fetch_bytes"]);

    let lost = branchmesh(path, &["plan", "sites.toml"]);
    let said = String::from_utf8(lost.stderr).unwrap();
    assert!(lost.status.code() == Some(1) && said.contains("desk@2") && said.contains("--repo"), "{said}");
}

#[test]
fn a_mistake_is_exit_code_2_and_names_the_site() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = SITE.replace("clients = 4", "clients = 0");
    fs::write(folder.path().join("sites.toml"), format!("{BY_HAND}{wrong}")).unwrap();
    let refused = branchmesh(folder.path(), &["plan", "sites.toml"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("\"lyon\"") && said.contains("clients must be from 1"), "{said}");
    assert!(refused.stdout.is_empty());
}
