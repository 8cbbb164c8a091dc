//! What a release requires of a machine: met, it is fetched; not met, the machine says so and keeps what it has.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    loopback::{IMAGE, Loopback},
    run::run,
    status::Status,
};
use std::{path::Path, process::Command, time::Duration};

const BYTES: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_machine_that_lacks_what_a_release_requires_keeps_the_older_one_and_says_why() {
    let world = Loopback::new("requirements");
    let (source, _) = world.publish(BYTES);
    let origin = world.folder_origin();
    let mut fit = world.node("fit", &[&origin]);
    let mut unfit = world.node("unfit", &[&origin]);
    for (node, version) in [(&mut fit, "6.10"), (&mut unfit, "6.0")] {
        node.settings.facts.insert("virtualization-engine".into(), version.into());
        node.start();
        node.wait_for("1 is active", LIMIT, |status| is(status, "1", "active"));
    }
    publish_for_engine(&world, "2", &source);

    fit.wait_for("2 is active", LIMIT, |status| is(status, "2", "active"));
    let status = unfit.wait_for("2 is unsuitable", LIMIT, |status| is(status, "2", "unsuitable"));
    let reason = status.release(IMAGE, "2").unwrap().reason.clone().unwrap();
    assert!(reason.contains("virtualization-engine >= 6.1") && reason.contains("6.0"), "{reason}");
    assert!(is(&status, "1", "active"), "{status:#?}");
    assert!(!unfit.release_folder(IMAGE, "2").exists());
    let mut get = Command::new(branchmesh());
    get.args(["get", &format!("{IMAGE}@2"), "--http", &unfit.settings.http.to_string()]);
    run(&mut get, LIMIT).expect_refusal().expect_words(&["virtualization-engine >= 6.1", "6.0"]);

    // The machine gets what it lacked.
    unfit.stop();
    unfit.settings.facts.insert("virtualization-engine".into(), "6.1".into());
    unfit.start();
    unfit.wait_for("2 is active at last", LIMIT, |status| is(status, "2", "active"));
}

fn publish_for_engine(world: &Loopback, release: &str, source: &Path) {
    let mut publish = world.hq.publish_command(IMAGE, release, &[source]);
    run(publish.args(["--requires", "virtualization-engine >= 6.1"]), LIMIT).expect_ok();
}

fn is(status: &Status, release: &str, state: &str) -> bool {
    status.release(IMAGE, release).is_some_and(|found| found.state == state)
}
