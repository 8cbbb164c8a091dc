//! Releases follow each other: the newest becomes the current one, the newest two stay, and a restart changes nothing.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    images,
    loopback::{IMAGE, Loopback},
    node::Node,
};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    time::Duration,
};

const BYTES: u64 = 4 << 20;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn the_newest_two_releases_stay_and_survive_a_restart() {
    let world = Loopback::new("kept");
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    node.start();
    let mut sources = Vec::new();
    for release in ["1", "2", "3"] {
        sources.push(state(&world, release));
        world.hq.publish(IMAGE, release, &[sources.last().unwrap()]);
        node.wait_for(&format!("{release} is active"), LIMIT, |status| is(status, release, "active"));
        assert_eq!(current(&node), release);
    }
    node.wait_for("the oldest release is gone", LIMIT, |status| status.release(IMAGE, "1").is_none());
    assert!(!node.release_folder(IMAGE, "1").exists(), "its folder is gone as well");
    assert_kept(&node, &sources);

    assert_eq!(node.stop().code(), Some(0));
    node.start();
    let after = node.wait_for("both are known again", LIMIT, |status| {
        is(status, "3", "active") && is(status, "2", "complete")
    });
    assert!(after.release(IMAGE, "1").is_none(), "what was removed does not come back");
    assert_kept(&node, &sources);
    assert_eq!(current(&node), "3");

    // A channel that is pointed back to the older release makes it the current one, without a byte from anywhere.
    world.hq.promote(IMAGE, "2", "stable");
    let back = node.wait_for("2 is active again", LIMIT, |status| is(status, "2", "active"));
    assert_eq!(current(&node), "2");
    assert_eq!(back.release(IMAGE, "2").unwrap().bytes.have, back.release(IMAGE, "2").unwrap().bytes.total);
    node.stop();
}

/// The image as release `release` has it: the files of this machine, and something of its own.
fn state(world: &Loopback, release: &str) -> PathBuf {
    let folder = world.path().join("states").join(release);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("disk.img");
    images::make_blob(&file, BYTES);
    let mut end = OpenOptions::new().append(true).open(&file).unwrap();
    end.write_all(format!("this is release {release}\n").repeat(10_000).as_bytes()).unwrap();
    file
}

fn is(status: &branchmesh_tests::status::Status, release: &str, state: &str) -> bool {
    status.release(IMAGE, release).is_some_and(|found| found.state == state)
}

fn current(node: &Node) -> String {
    let pointer = node.release_folder(IMAGE, "1").with_file_name("current");
    fs::read_to_string(pointer).unwrap().trim().to_owned()
}

fn assert_kept(node: &Node, sources: &[PathBuf]) {
    for (release, source) in [("2", &sources[1]), ("3", &sources[2])] {
        assert_eq!(node.wrong_files(IMAGE, release, &[source.as_path()]), [""; 0], "release {release}");
    }
}
