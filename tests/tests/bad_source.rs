//! Files that cannot be published: each is named, and the repository stays as it was.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    hq::COMMAND_LIMIT,
    images,
    loopback::{IMAGE, Loopback},
    run::run,
    skip,
};
use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const BYTES: u64 = 4 << 20;

#[test]
fn an_unreadable_file_is_named_and_nothing_is_published() {
    let world = Loopback::new("unreadable");
    world.publish(BYTES);
    let (good, bad) = (world.path().join("a.img"), world.path().join("b.img"));
    images::make_blob(&good, BYTES);
    fs::write(&bad, "secret").unwrap();
    run(Command::new("chmod").arg("000").arg(&bad), COMMAND_LIMIT).expect_ok();
    let before = snapshot(&world);

    let mut publish = world.hq.publish_command(IMAGE, "2", &[&good, &bad]);
    if skip::is_root() {
        // Nothing is unreadable for root: somebody else publishes, who owns everything but that file.
        let binary = world.path().join("branchmesh");
        fs::copy(branchmesh(), &binary).unwrap();
        let mut handed_over = Command::new("chown");
        handed_over.args(["-R", "65534:65534"]).arg(world.path());
        run(&mut handed_over, COMMAND_LIMIT).expect_ok();
        run(Command::new("chown").arg("0:0").arg(&bad), COMMAND_LIMIT).expect_ok();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
        command.args(publish.get_args());
        publish = command;
    }
    let refused = run(publish.current_dir(world.path()), COMMAND_LIMIT).expect_refusal();
    refused.expect_words(&[&bad.display().to_string(), "permission denied"]);
    unchanged(&world, &before);
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named_and_nothing_is_published() {
    let world = Loopback::new("changing");
    world.publish(BYTES);
    let changing = world.path().join("changing.img");
    images::make_blob(&changing, 16 * BYTES);
    let before = snapshot(&world);
    let done = AtomicBool::new(false);
    let finished = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = File::options().append(true).open(&changing).unwrap();
            while !done.load(Ordering::Relaxed) {
                file.write_all(b"one more line\n").unwrap();
                thread::sleep(Duration::from_millis(2));
            }
        });
        let finished = run(&mut world.hq.publish_command(IMAGE, "2", &[&changing]), COMMAND_LIMIT);
        done.store(true, Ordering::Relaxed);
        finished
    });
    finished.expect_refusal().expect_words(&[&changing.display().to_string(), "chang"]);
    unchanged(&world, &before);
}

#[test]
fn a_missing_file_and_a_release_that_exists_are_named() {
    let world = Loopback::new("missing-source");
    let (source, _) = world.publish(BYTES);
    let before = snapshot(&world);
    let missing = world.path().join("missing.img");
    let refused = run(&mut world.hq.publish_command(IMAGE, "2", &[&missing]), COMMAND_LIMIT).expect_refusal();
    refused.expect_words(&[&missing.display().to_string()]);
    let refused = run(&mut world.hq.publish_command(IMAGE, "1", &[&source]), COMMAND_LIMIT).expect_refusal();
    refused.expect_words(&[&format!("{IMAGE}@1")]);
    unchanged(&world, &before);
}

/// What nodes would believe: the newest signed metadata.
fn snapshot(world: &Loopback) -> Vec<u8> {
    fs::read(world.hq.repository().join("metadata/timestamp.json")).unwrap()
}

/// The repository is as it was for every node, and a publisher can go on with it.
#[track_caller]
fn unchanged(world: &Loopback, before: &[u8]) {
    assert_eq!(snapshot(world), before, "the signed metadata has changed");
    let source = world.path().join("next.img");
    images::make_blob(&source, BYTES / 2);
    world.hq.publish(IMAGE, "next", &[&source]);
}
