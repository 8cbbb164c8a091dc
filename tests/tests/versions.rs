//! Versions as administrators handle them: updates that are suggested or left to commands, rollbacks that hold, pins
//! that keep, and what a kill leaves of all that.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    free_address::free_address,
    hq::COMMAND_LIMIT,
    images,
    loopback::{IMAGE, Loopback},
    nginx::Manner,
    node::Node,
    process::Process,
    run::run,
    status::{ReleaseStatus, Status},
};
use serde_json::Value;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    process::Command,
    time::Duration,
};

const BYTES: u64 = 1 << 20;
/// Per connection: a release takes long enough to be cut off.
const RATE_KIB: u32 = 64;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_suggested_release_is_shown_with_its_cost_and_fetched_when_it_is_accepted() {
    let world = Loopback::new("suggest");
    publish(&world, "1");
    let mut node = start(&world, |node| node.settings.update = "suggest".into());
    let cost = |status: &Status, name| release(status, name).cost.unwrap_or(0);
    let status = node.wait_for("told what 1 costs", LIMIT, |status| {
        status.is(IMAGE, "1", "announced") && cost(status, "1") > 0
    });
    assert_eq!(cost(&status, "1"), release(&status, "1").bytes.total, "nothing of it is here");
    assert!(release(&status, "1").reason.as_ref().unwrap().contains("branchmesh get desk@1"));
    accept(&node, "1");
    node.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));

    publish(&world, "2");
    let status = node.wait_for("told what 2 costs", LIMIT, |status| {
        status.is(IMAGE, "2", "announced") && cost(status, "2") > 0
    });
    assert!(cost(&status, "2") < release(&status, "2").bytes.total / 2, "most of 2 is here already");
    node.kill();
    node.start();
    let status = node.wait_for("nothing has changed", LIMIT, |status| {
        status.is(IMAGE, "1", "active") && status.is(IMAGE, "2", "announced") && cost(status, "2") > 0
    });
    assert!(release(&status, "2").kept.is_none(), "nothing of it takes space");
    assert!(!node.release_folder(IMAGE, "2").exists());
    accept(&node, "2");
    node.wait_for("2 is active", LIMIT, |status| status.is(IMAGE, "2", "active"));
}

#[test]
fn what_was_accepted_is_fetched_also_when_the_command_and_the_agent_are_killed() {
    let Some((world, source)) = Loopback::with_nginx("accepted", 8 * BYTES) else { return };
    let nginx = world.serve(Manner::Slow(RATE_KIB));
    let mut node = world.node("pc-01", &[nginx.url()]);
    node.settings.update = "suggest".into();
    node.start();
    node.wait_for("told what 1 costs", LIMIT, |status| {
        status.release(IMAGE, "1").is_some_and(|found| found.cost.is_some())
    });
    let mut get = Command::new(branchmesh());
    get.args(["get", "desk@1", "--http", &node.settings.http.to_string()]);
    let mut get = Process::start("get", &get, &world.path().join("get.log"));
    node.wait_for("some of it is here", LIMIT, |status| release(status, "1").bytes.have > 0);
    get.kill();
    node.kill();
    assert!(!node.release_folder(IMAGE, "1").exists(), "it finished before the kill: the test is too quick");
    node.start();
    node.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn a_seed_fetches_what_was_accepted_elsewhere_on_its_site_and_leaves_its_own_current_release_alone() {
    let world = Loopback::new("seed");
    publish(&world, "1");
    let origin = world.folder_origin();
    let [mut seed, mut client] = ["seed", "client"].map(|name| world.node(name, &[&origin]));
    seed.make_seed(&world.hq);
    client.settings.bootstrap = vec![seed.settings.listen.to_string()];
    for node in [&mut seed, &mut client] {
        node.settings.update = "suggest".into();
        node.start();
    }
    for node in [&mut seed, &mut client] {
        node.wait_for("1 is announced to both members", LIMIT, |status| {
            status.site.members == 2 && status.is(IMAGE, "1", "announced")
        });
    }
    accept(&client, "1");
    client.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));
    let status = seed.wait_for("1 is here", LIMIT, |status| status.is(IMAGE, "1", "complete"));
    assert!(release(&status, "1").reason.as_ref().unwrap().contains("suggested"), "{status:#?}");
    assert_eq!(seed.current(IMAGE), None);
}

#[test]
fn a_name_that_was_published_again_means_the_new_release() {
    let world = Loopback::new("again");
    publish(&world, "1");
    let mut node = start(&world, |_| {});
    node.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));
    remove(&world, "1");
    node.wait_for("1 is withdrawn", LIMIT, |status| release(status, "1").withdrawn);
    assert_eq!(node.current(IMAGE).as_deref(), Some("1"));
    let file = publish(&world, "other");
    remove(&world, "other");
    world.hq.publish(IMAGE, "1", &[&file]);
    node.wait_for("the new one has its folder", LIMIT, |status| {
        status.is(IMAGE, "1", "active") && !release(status, "1").withdrawn
    });
    assert_eq!(node.wrong_files(IMAGE, "1", &[&file]), [""; 0]);
}

#[test]
fn with_manual_updates_nothing_happens_without_a_command() {
    let world = Loopback::new("manual");
    publish(&world, "1");
    let mut node = start(&world, |node| node.settings.update = "manual".into());
    node.wait_for("1 is announced", LIMIT, |status| status.is(IMAGE, "1", "announced"));
    node.request("activate", "desk@1")
        .expect_refusal()
        .expect_words(&["desk@1 is not complete", "branchmesh get"]);
    accept(&node, "1");
    let status = node.wait_for("1 is complete", LIMIT, |status| status.is(IMAGE, "1", "complete"));
    assert!(release(&status, "1").reason.as_ref().unwrap().contains("branchmesh activate desk@1"));
    assert_eq!(node.current(IMAGE), None);

    let answer = done(&node, "activate", "desk");
    assert_eq!((&answer["release"], &answer["state"]), (&Value::from("1"), &Value::from("active")));
    assert_eq!(node.current(IMAGE).as_deref(), Some("1"));
    publish(&world, "2");
    node.wait_for("2 is announced", LIMIT, |status| status.is(IMAGE, "2", "announced"));
    node.kill();
    node.start();
    node.wait_for("nothing has changed", LIMIT, |status| {
        status.is(IMAGE, "1", "active") && status.is(IMAGE, "2", "announced")
    });
}

#[test]
fn a_rollback_holds_until_something_newer_comes_and_survives_a_kill() {
    let world = Loopback::new("rollback");
    let mut node = start(&world, |_| {});
    for name in ["1", "2"] {
        publish(&world, name);
        node.wait_for("active", LIMIT, |status| status.is(IMAGE, name, "active"));
    }
    let answer = done(&node, "rollback", "desk");
    assert_eq!((&answer["release"], &answer["previous"]), (&Value::from("1"), &Value::from("2")));
    assert_eq!((&answer["held"], node.current(IMAGE).as_deref()), (&Value::from(true), Some("1")));
    node.request("rollback", "desk").expect_refusal().expect_words(&["older than 1"]);
    assert_eq!(done(&node, "activate", "desk@1")["changed"], false, "it is so already");

    // A new catalog that says nothing new about the image changes nothing.
    world.hq.publish("other", "1", &[&world.path().join("1/disk.img")]);
    let held = |status: &Status| {
        let newer = release(status, "2");
        status.is(IMAGE, "1", "active")
            && release(status, "1").held
            && newer.state == "complete"
            && newer.reason.as_ref().is_some_and(|reason| reason.contains("branchmesh activate desk"))
    };
    let status = node.wait_for("other is active", LIMIT, |status| status.is("other", "1", "active"));
    assert!(held(&status), "{status:#?}");
    node.kill();
    node.start();
    node.wait_for("1 is still held", LIMIT, |status| held(status) && status.is("other", "1", "active"));
    assert_eq!(node.current(IMAGE).as_deref(), Some("1"));

    publish(&world, "3");
    let status = node.wait_for("3 is active", LIMIT, |status| status.is(IMAGE, "3", "active"));
    assert!(!status.releases.iter().any(|release| release.held), "{status:#?}");
    done(&node, "activate", "desk@2");
    assert_eq!(node.current(IMAGE).as_deref(), Some("2"));
    let answer = done(&node, "activate", "desk");
    assert_eq!((&answer["release"], &answer["held"]), (&Value::from("3"), &Value::from(false)));
    assert_eq!(node.current(IMAGE).as_deref(), Some("3"));
}

#[test]
fn a_pinned_release_stays_when_others_go_also_after_a_kill_and_after_its_removal_from_the_repository() {
    let world = Loopback::new("pinned");
    publish(&world, "1");
    let mut node = start(&world, |node| node.settings.keep_releases = 1);
    node.wait_for("1 is active", LIMIT, |status| status.is(IMAGE, "1", "active"));
    assert_eq!(done(&node, "pin", "desk")["release"], "1");
    assert_eq!(done(&node, "pin", "desk@1")["changed"], false, "it is so already");
    for name in ["2", "3"] {
        publish(&world, name);
        node.wait_for("active", LIMIT, |status| status.is(IMAGE, name, "active"));
    }
    let kept = |status: &Status| {
        status.is(IMAGE, "1", "complete") && status.is(IMAGE, "3", "active") && status.releases.len() == 2
    };
    let status = node.wait_for("2 is gone, 1 is not", LIMIT, kept);
    let pinned = release(&status, "1");
    assert!(pinned.pinned && pinned.goes.is_none() && pinned.kept.as_deref() == Some("pinned"), "{pinned:?}");
    assert!(release(&status, "3").kept.as_ref().unwrap().contains("active"));

    // One that is not here is fetched, and stays beside the other.
    let answer = done(&node, "pin", "desk@2");
    assert_eq!((&answer["changed"], &answer["pinned"]), (&Value::from(true), &Value::from(true)));
    node.wait_for("2 is back", LIMIT, |status| status.is(IMAGE, "2", "complete"));
    node.request("unpin", "desk").expect_refusal().expect_words(&["1, 2"]);
    remove(&world, "1");
    node.wait_for("1 is withdrawn", LIMIT, |status| release(status, "1").withdrawn);
    node.kill();
    node.start();
    let status = node.wait_for("all are back", LIMIT, |status| {
        ["1", "2"].iter().all(|name| status.is(IMAGE, name, "complete")) && status.is(IMAGE, "3", "active")
    });
    assert!(release(&status, "1").withdrawn && release(&status, "1").pinned);
    assert!(node.release_folder(IMAGE, "1").join("disk.img").exists());

    for name in ["1", "2"] {
        done(&node, "unpin", &format!("desk@{name}"));
        node.wait_for("it is gone", LIMIT, |status| status.release(IMAGE, name).is_none());
        assert!(!node.release_folder(IMAGE, name).exists());
    }
}

#[test]
fn status_says_what_goes_first() {
    let world = Loopback::new("order");
    let mut node = start(&world, |node| node.settings.keep_releases = 3);
    for name in ["1", "2", "3"] {
        publish(&world, name);
        node.wait_for("active", LIMIT, |status| status.is(IMAGE, name, "active"));
    }
    let status = node.wait_for("order", LIMIT, |status| status.is(IMAGE, "2", "complete"));
    let goes = ["1", "2", "3"].map(|name| release(&status, name).goes);
    assert_eq!(goes, [Some(1), Some(2), None]);
    assert_eq!(release(&status, "1").kept.as_deref(), Some("one of the newest 3"));
    let http = node.settings.http.to_string();
    let text =
        run(Command::new(branchmesh()).args(["status", "--http", &http]), COMMAND_LIMIT).expect_ok().stdout;
    let line = |name: &str| text.lines().find(|line| line.starts_with(name) && line.contains("newest"));
    assert!(line("desk@1").is_some_and(|line| line.ends_with("first")), "{text}");
    assert!(line("desk@2").is_some_and(|line| line.ends_with("as number 2")), "{text}");
}

#[test]
fn commands_without_an_agent_or_about_nothing_say_so() {
    let address = free_address().to_string();
    for verb in ["pin", "unpin", "activate", "rollback"] {
        let mut command = Command::new(branchmesh());
        let refused = run(command.args([verb, "desk", "--http", &address]), COMMAND_LIMIT);
        assert_eq!(refused.code, Some(3), "{}", refused.describe());
    }
    let world = Loopback::new("nothing");
    publish(&world, "1");
    let mut node = start(&world, |node| node.settings.subscribe = vec!["other".into()]);
    node.wait_for("it knows the repository", LIMIT, |status| status.complaints().contains("no other"));
    for verb in ["pin", "activate"] {
        node.request(verb, "desk@9").expect_refusal().expect_words(&["no desk@9"]);
        node.request(verb, "*").expect_refusal().expect_words(&["name one image"]);
    }
    node.request("rollback", "desk").expect_refusal().expect_words(&["no release of desk is active"]);
    assert_eq!(done(&node, "unpin", "desk@1")["changed"], false);
}

/// Publishes the image's next state: most of it as before.
fn publish(world: &Loopback, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("disk.img");
    images::make_blob(&file, BYTES);
    let mut end = OpenOptions::new().append(true).open(&file).unwrap();
    end.write_all(format!("this is release {name}\n").repeat(10_000).as_bytes()).unwrap();
    world.hq.publish(IMAGE, name, &[&file]);
    file
}

fn remove(world: &Loopback, name: &str) {
    let mut command = Command::new(branchmesh());
    command.args(["repo", "remove", &format!("{IMAGE}@{name}")]);
    command.arg("--repo").arg(world.hq.repository()).arg("--keys").arg(world.hq.keys());
    run(&mut command, COMMAND_LIMIT).expect_ok();
}

fn start(world: &Loopback, settle: impl FnOnce(&mut Node)) -> Node {
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    settle(&mut node);
    node.start();
    node
}

fn accept(node: &Node, name: &str) {
    let http = node.settings.http.to_string();
    let mut get = Command::new(branchmesh());
    run(get.args(["get", &format!("{IMAGE}@{name}"), "--http", &http]), LIMIT).expect_ok();
}

/// What the agent answers to a command that it carries out.
fn done(node: &Node, verb: &str, about: &str) -> Value {
    let answer = node.request(verb, about).expect_ok();
    serde_json::from_str(&answer.stdout).unwrap_or_else(|error| panic!("{error}\n{}", answer.describe()))
}

fn release<'a>(status: &'a Status, name: &str) -> &'a ReleaseStatus {
    status.release(IMAGE, name).unwrap_or_else(|| panic!("no {name} in {status:#?}"))
}
