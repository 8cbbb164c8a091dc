//! `branchmesh verify`: files in place that somebody has changed are named, and nothing is changed.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    loopback::{IMAGE, Loopback},
    node::Node,
    run::{Finished, run},
};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    process::Command,
    time::Duration,
};

const BYTES: u64 = 4 << 20;
const LIMIT: Duration = Duration::from_secs(60);

fn verify(node: &Node, words: &[&str]) -> Finished {
    let mut command = Command::new(branchmesh());
    command.arg("verify").args(words).args(["--http", &node.settings.http.to_string()]);
    run(&mut command, LIMIT)
}

#[test]
fn files_that_somebody_changed_are_named() {
    let world = Loopback::new("verify-files");
    let (source, _) = world.publish(BYTES);
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    assert_eq!(verify(&node, &[IMAGE]).expect_refusal().code, Some(3), "no agent runs");
    node.start();
    node.wait_complete(IMAGE, "1", LIMIT);
    for name in [IMAGE.to_owned(), format!("{IMAGE}@1")] {
        let well = verify(&node, &[&name]).expect_ok();
        assert!(well.stdout.contains(&format!("{IMAGE}@1: 1 file")), "{}", well.stdout);
    }
    verify(&node, &[&format!("{IMAGE}@2")]).expect_refusal().expect_words(&["has no desk@2", "status"]);

    let file = node.release_folder(IMAGE, "1").join(source.file_name().unwrap());
    let mut changing = OpenOptions::new().write(true).open(&file).unwrap();
    changing.seek(SeekFrom::Start(BYTES / 2)).unwrap();
    changing.write_all(b"somebody was here").unwrap();
    drop(changing);
    let before = fs::read(&file).unwrap();
    let found =
        verify(&node, &[IMAGE, "--json"]).expect_refusal().expect_words(&["1 file of desk@1 changed"]);
    let answer: serde_json::Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!((found.code, &answer["changed"][0]["change"]), (Some(1), &"content".into()), "{answer}");
    let first = answer["changed"][0]["first"].as_u64().unwrap();
    assert!(first <= BYTES / 2 && first + (256 << 10) > BYTES / 2, "{answer}");
    assert!(fs::read(&file).unwrap() == before, "the file was changed");
}
