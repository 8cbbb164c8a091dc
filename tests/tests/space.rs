//! A small disk: old releases make room for those that are wanted, and what must stay makes the others wait.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    images,
    loopback::{IMAGE, Loopback},
    node::Node,
    run::run,
    skip::{Need, have_all},
    status::Status,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(120);
/// A release takes twice its size: its packs, and its files.
const RELEASE_BYTES: u64 = 8 << 20;
/// Two releases fit, a third doesn't.
const DISK_BYTES: u64 = 44 << 20;

/// A file system of its own. The kernel drops its content with the last one who uses it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={DISK_BYTES}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "branchmesh-test"]).arg(at), LIMIT)
            .expect_ok();
        Self(at.into())
    }

    /// Bytes that are free, in units of 4 KiB.
    fn free(&self) -> u64 {
        let said =
            run(Command::new("stat").args(["-f", "-c", "%a %S"]).arg(&self.0), LIMIT).expect_ok().stdout;
        said.split_whitespace().map(|number| number.parse::<u64>().unwrap()).product()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A left-over mount would be seen in the next `findmnt`; the test's outcome stands.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

fn is(status: &Status, release: &str, state: &str) -> bool {
    status.release(IMAGE, release).is_some_and(|release| release.state == state)
}

fn publish(world: &Loopback, release: &str, seed: u64) {
    let disk = world.path().join(format!("{release}.img"));
    images::make_noise(&disk, seed, RELEASE_BYTES);
    world.hq.publish(IMAGE, release, &[&disk]);
}

fn tell(node: &Node, verb: &str, release: &str) {
    let name = format!("{IMAGE}@{release}");
    let http = node.settings.http.to_string();
    run(Command::new(branchmesh()).args([verb, &name, "--http", &http]), LIMIT).expect_ok();
}

#[test]
fn old_releases_make_room_and_pinned_ones_make_the_new_one_wait() {
    if !have_all("a small disk", &[Need::Mounts]) {
        return;
    }
    let world = Loopback::new("space");
    let disk = SmallDisk::mount(&world.path().join("small"));
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    node.settings.data_dir = disk.0.join("data");
    node.settings.free_space_floor = "1MB".into();
    node.settings.keep_releases = 5;
    node.start();
    for (release, seed) in [("1", 1), ("2", 2), ("3", 3)] {
        publish(&world, release, seed);
        node.wait_for(&format!("{release} is active"), LIMIT, |status| is(status, release, "active"));
        assert!(disk.free() >= 1_000_000, "the floor was crossed: {} bytes are free", disk.free());
    }
    let status = node.status().unwrap();
    assert!(status.release(IMAGE, "1").is_none() && is(&status, "2", "complete"), "{status:?}");

    tell(&node, "pin", "2");
    publish(&world, "4", 4);
    let waiting = node.wait_for("it says that space is lacking", LIMIT, |status| {
        status.complaints().contains("free_space_floor") && status.release(IMAGE, "4").is_some()
    });
    assert!(is(&waiting, "2", "complete") && is(&waiting, "3", "active"), "{waiting:?}");
    assert!(disk.free() >= 1_000_000, "the floor was crossed: {} bytes are free", disk.free());

    tell(&node, "unpin", "2");
    let done = node.wait_for("4 is active", LIMIT, |status| is(status, "4", "active"));
    assert!(done.release(IMAGE, "2").is_none() && is(&done, "3", "complete"), "{done:?}");
}
