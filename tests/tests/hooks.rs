//! Hooks: told in order, with the facts, at least once; one that fails or hangs is shown and changes nothing.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    images,
    loopback::{IMAGE, Loopback},
    run::run,
    wait,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const BYTES: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// Writes down what it was told, in one line.
const WRITE_DOWN: &str = "echo \"$BRANCHMESH_EVENT $BRANCHMESH_IMAGE@$BRANCHMESH_RELEASE \
     previous=${BRANCHMESH_PREVIOUS-none} files=$(ls \"$BRANCHMESH_FOLDER\")\" >> \"$1\"";

#[test]
fn hooks_are_told_what_happened_in_order_and_once() {
    let world = Loopback::new("hooks");
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    let told = world.path().join("told");
    node.settings.hooks.ready = Some(shell(WRITE_DOWN, &told));
    node.settings.hooks.activated = Some(shell(WRITE_DOWN, &told));
    publish(&world, "1");
    node.start();
    node.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));
    publish(&world, "2");
    node.wait_for("2 is active", LIMIT, |status| status.is(IMAGE, "2", "active"));
    node.request("rollback", IMAGE).expect_ok();
    let expected = [
        "ready desk@1 previous=none files=disk.img",
        "activated desk@1 previous=none files=disk.img",
        "ready desk@2 previous=none files=disk.img",
        "activated desk@2 previous=1 files=disk.img",
        "activated desk@1 previous=2 files=disk.img",
    ];
    wait_for_lines(&told, &expected);

    // What was told is not told again by the next run; what comes then is.
    assert_eq!(node.stop().code(), Some(0));
    node.start();
    node.wait_for("1 is active again", LIMIT, |status| {
        status.is(IMAGE, "1", "active") && status.is(IMAGE, "2", "complete")
    });
    node.request("activate", IMAGE).expect_ok();
    let more = [&expected[..], &["activated desk@2 previous=1 files=disk.img"]].concat();
    wait_for_lines(&told, &more);
}

#[test]
fn a_hook_that_was_cut_off_by_a_kill_runs_again() {
    let world = Loopback::new("hook-killed");
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    let told = world.path().join("told");
    let script = "echo begun >> \"$1\"; while [ -e \"$1\" ] && [ ! -e \"$1.go\" ]; do sleep 0.05; done; echo ended >> \"$1.ended\"";
    node.settings.hooks.ready = Some(shell(script, &told));
    publish(&world, "1");
    node.start();
    wait_for_lines(&told, &["begun"]);
    node.wait_for("1 is active whatever the hook does", LIMIT, |status| status.is(IMAGE, "1", "active"));
    node.kill();
    node.start();
    wait_for_lines(&told, &["begun", "begun"]);
    fs::write(told.with_extension("go"), "").unwrap();
    // The one that the first agent left behind, and the one of the second.
    let ended = told.with_extension("ended");
    let both = || lines(&ended).len() == 2;
    assert!(wait::until(LIMIT, || both().then_some(())).is_some(), "{:?}", lines(&ended));
}

#[test]
fn a_hook_that_fails_or_hangs_is_shown_and_changes_nothing() {
    let world = Loopback::new("hook-failures");
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    let told = world.path().join("told");
    node.settings.hooks.ready = Some(shell("echo waiting for ever; sleep 600", &told));
    node.settings.hooks.activated = Some(shell("echo no such machine >&2; exit 3", &told));
    node.settings.hooks.timeout = Some("1s".into());
    publish(&world, "1");
    node.start();
    node.wait_for("1 is active and both failures are shown", LIMIT, |status| {
        let problems = status.node.problems.join("\n");
        status.is(IMAGE, "1", "active")
            && problems.contains("the hook ready of desk@1 failed: it was ended after 1 s (waiting for ever)")
            && problems.contains(
                "the hook activated of desk@1 failed: it ended with exit status: 3 (no such machine)",
            )
    });

    // Put right, the next one clears its own failure.
    node.stop();
    node.settings.hooks.ready = Some(vec!["/no/such/program".into()]);
    node.settings.hooks.activated = Some(shell(WRITE_DOWN, &told));
    node.start();
    publish(&world, "2");
    node.wait_for("only one failure is left", LIMIT, |status| {
        let problems = &status.node.problems;
        status.is(IMAGE, "2", "active") && problems.len() == 1 && problems[0].contains("/no/such/program")
    });
    wait_for_lines(&told, &["activated desk@2 previous=1 files=disk.img"]);
}

#[test]
fn a_release_that_cannot_go_on_is_told_with_the_reason() {
    let world = Loopback::new("hook-failed");
    let file = world.path().join("disk.img");
    images::make_blob(&file, BYTES);
    run(world.hq.publish_command(IMAGE, "1", &[&file]).args(["--group", "finance"]), LIMIT).expect_ok();
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    // It could open the image, but its certificate does not let it have it.
    node.settings.keys.insert("finance".into(), world.hq.content_key("finance"));
    node.settings.subscribe = vec![IMAGE.into()];
    let told = world.path().join("told");
    let script = "echo \"$BRANCHMESH_EVENT ${BRANCHMESH_FOLDER-nowhere} $BRANCHMESH_REASON\" >> \"$1\"";
    node.settings.hooks.failed = Some(shell(script, &told));
    node.start();
    let said = wait::until(LIMIT, || lines(&told).first().cloned()).unwrap();
    assert!(said.starts_with("failed nowhere this node's certificate does not name the group"), "{said}");
}

fn shell(script: &str, told: &Path) -> Vec<String> {
    ["/bin/sh", "-c", script, "hook", told.to_str().unwrap()].map(String::from).to_vec()
}

fn publish(world: &Loopback, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("disk.img");
    images::make_blob(&file, BYTES);
    fs::write(folder.join("disk.img"), [fs::read(&file).unwrap(), name.repeat(10_000).into()].concat())
        .unwrap();
    world.hq.publish(IMAGE, name, &[&file]);
    file
}

fn lines(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(String::from).collect()
}

#[track_caller]
fn wait_for_lines(file: &Path, expected: &[&str]) {
    let found = wait::until(LIMIT, || (lines(file).len() >= expected.len()).then(|| lines(file)));
    assert_eq!(found.unwrap_or_else(|| lines(file)), expected);
}
