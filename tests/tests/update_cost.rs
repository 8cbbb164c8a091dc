//! `branchmesh diff` says what an update costs: a real node then fetches exactly so many bytes, by nginx's own count.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    claims::{Claims, Figure},
    loopback::{IMAGE, Loopback},
    nginx::{Access, Manner},
    skip::{Need, have_all},
};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
    time::Duration,
};

const BYTES: u64 = 24 << 20;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_node_fetches_exactly_what_diff_predicts() {
    let test = "cost of an update";
    if !have_all(test, &[Need::Program("nginx")]) {
        return;
    }
    let mut claims = Claims::of(test);
    let world = Loopback::new("update-cost");
    let nginx = world.serve(Manner::Proper);
    let mut node = world.node("pc-01", &[nginx.url()]);
    let (disk, _) = world.publish(BYTES);
    node.start();
    node.wait_complete(IMAGE, "1", LIMIT);
    compare(&mut claims, "a node with nothing", &world, &["desk@1"], &nginx.accesses());

    let before = nginx.accesses().len();
    change(&disk);
    let settings = world.path().join("vm.xml");
    fs::write(&settings, "<vm/>").unwrap();
    world.hq.publish(IMAGE, "2", &[&disk, &settings]);
    node.wait_complete(IMAGE, "2", LIMIT);
    compare(&mut claims, "an update", &world, &["desk@1", "desk@2"], &nginx.accesses()[before..]);
    assert_eq!(node.wrong_files(IMAGE, "2", &[&disk, &settings]), [""; 0]);
    claims.settle();
}

fn compare(claims: &mut Claims, what: &str, world: &Loopback, releases: &[&str], accesses: &[Access]) {
    let answer = world.hq.query("diff", releases, &world.folder_origin());
    let number = |path: &str| answer.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
    let fetched = |folder: &str| -> u64 {
        let files = accesses.iter().filter(|access| access.path.starts_with(folder));
        files.filter(|access| access.status < 300).map(|access| access.body_bytes).sum()
    };
    for (kind, predicted, sent) in [
        ("blocks", number("/blocks/new_bytes"), fetched("/packs/")),
        ("index parts", number("/index/new_bytes"), fetched("/indexes/")),
    ] {
        let words = format!("{} predicted, {} sent", Figure::bytes(predicted), Figure::bytes(sent));
        claims.holds(&format!("{what}: {kind}"), predicted == sent && sent > 0, &words);
    }
    assert_eq!(number("/fetch_bytes"), number("/blocks/new_bytes") + number("/index/new_bytes"));
    assert!(releases.len() == 1 || number("/fetch_bytes") < BYTES / 4, "{answer}");
}

/// Writes into the middle of the disk, and appends to it.
fn change(disk: &Path) {
    let mut file = OpenOptions::new().write(true).open(disk).unwrap();
    file.seek(SeekFrom::Start(BYTES / 3)).unwrap();
    file.write_all(&b"a patched system file\n".repeat(20_000)).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    let log: String = (0..20_000).map(|line| format!("{line}: installed\n")).collect();
    file.write_all(log.as_bytes()).unwrap();
}
