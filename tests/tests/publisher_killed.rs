//! A publisher into a folder that is killed: readers see the old state or the new one, whole, and the next publisher
//! goes on.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    hq::files_below,
    images,
    loopback::{IMAGE, Loopback},
    process::Process,
    run::run,
};
use std::{path::Path, process::Command, time::Duration};

/// Three packs, so that there is a middle.
const BYTES: u64 = 72 << 20;
/// The publisher is killed when it has made so many files, up to here: packs, index parts, metadata.
const FILES_MAX: usize = 14;
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_publisher_that_is_killed_leaves_the_old_state_or_the_new_one() {
    let world = Loopback::new("publisher-killed");
    let small = world.path().join("small.img");
    images::make_noise(&small, 1, 1 << 20);
    world.hq.publish(IMAGE, "0", &[&small]);
    let disk = world.path().join("disk.img");
    let mut published = 0;
    let mut killed = 0;
    for files in 1..=FILES_MAX {
        // Other content each time: none of it is there yet.
        images::make_noise(&disk, files as u64 + 1, BYTES);
        let release = files.to_string();
        let repository = world.hq.repository();
        let before = files_below(&repository).len();
        let log = world.path().join("publish.log");
        let mut publisher =
            Process::start("publish", &world.hq.publish_command(IMAGE, &release, &[&disk]), &log);
        while publisher.is_running() && files_below(&repository).len() < before + files {
            std::thread::yield_now();
        }
        if publisher.is_running() {
            publisher.kill();
            killed += 1;
        }
        let listed = releases(&world, &repository);
        if listed.contains(&release) {
            published += 1;
        }
        assert!(listed.contains(&"0".to_owned()), "an older release is lost: {listed:?}");
        verify(&world, &repository);
    }
    assert!(killed > FILES_MAX / 2, "only {killed} of {FILES_MAX} were killed in time");
    assert!(published < FILES_MAX, "nothing was killed before its end");
    world.hq.publish(IMAGE, "last", &[&disk]);
    assert!(releases(&world, &world.hq.repository()).contains(&"last".to_owned()));
    verify(&world, &world.hq.repository());
}

fn releases(world: &Loopback, repository: &Path) -> Vec<String> {
    let mut command = Command::new(branchmesh());
    command.args(["repo", "list", "--json", "--root"]).arg(world.hq.root_of_trust()).arg(repository);
    let listed = run(&mut command, LIMIT).expect_ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let names = listed["releases"].as_array().unwrap().iter();
    names.map(|entry| entry["release"].as_str().unwrap().to_owned()).collect()
}

/// Every block of every release is there, and as signed.
fn verify(world: &Loopback, repository: &Path) {
    let mut command = Command::new(branchmesh());
    command.args(["repo", "verify", "--root"]).arg(world.hq.root_of_trust()).arg(repository);
    run(&mut command, LIMIT).expect_ok();
}
