//! Repositories in S3: what is published there reaches nodes, and neither a second publisher, nor one that is killed,
//! nor a server that restarts takes anything away.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    images,
    loopback::Loopback,
    process::Process,
    run::{Finished, run},
    s3::{self, S3},
    skip::{Need, have_all},
    wait,
};
use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// No command takes longer with these images.
const LIMIT: Duration = Duration::from_secs(120);
/// Three packs, which hold 32 MiB each.
const THREE_PACKS: u64 = 80 << 20;

/// A repository in S3, and the folder of its publisher.
struct Desk {
    world: Loopback,
    s3: S3,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        have_all(test, &[Need::Program(s3::PROGRAM)]).then(|| {
            let world = Loopback::new(test);
            let s3 = S3::start(&world.path().join("s3"));
            let desk = Self { world, s3 };
            desk.cli(&["repo", "init", &desk.s3.url(), "--keys", &desk.keys()]).expect_ok();
            desk
        })
    }

    fn keys(&self) -> String {
        self.world.path().join("cloud-keys").display().to_string()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(branchmesh());
        command.args(words).envs(self.s3.environment());
        command
    }

    fn cli(&self, words: &[&str]) -> Finished {
        run(&mut self.command(words), LIMIT)
    }

    fn publishing(&self, image: &str, release: &str, disk: &Path) -> Command {
        let (url, keys, disk) = (self.s3.url(), self.keys(), disk.display().to_string());
        self.command(&[
            "publish",
            "--repo",
            &url,
            "--keys",
            &keys,
            "--image",
            image,
            "--release",
            release,
            &disk,
        ])
    }

    fn publish(&self, image: &str, release: &str, disk: &Path) -> Finished {
        run(&mut self.publishing(image, release, disk), LIMIT)
    }

    /// The names of all releases, verified with the publisher's root of trust.
    fn releases(&self) -> Vec<String> {
        let root = format!("{}/root.json", self.keys());
        let listed = self.cli(&["repo", "list", &self.s3.url(), "--root", &root, "--json"]).expect_ok();
        let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
        let name = |entry: &serde_json::Value| {
            format!("{}@{}", entry["image"].as_str().unwrap(), entry["release"].as_str().unwrap())
        };
        let mut names: Vec<String> = listed["releases"].as_array().unwrap().iter().map(name).collect();
        names.sort();
        names
    }

    /// A node takes a release from S3, and has it to the last byte.
    fn node_gets(&self, image: &str, release: &str, disk: &Path) {
        let mut node = self.world.node("pc-01", &[&self.s3.url()]);
        node.settings.trust.root = Path::new(&self.keys()).join("root.json");
        node.environment = self.s3.environment();
        node.start();
        node.wait_complete(image, release, LIMIT);
        assert_eq!(node.wrong_files(image, release, &[disk]), [""; 0]);
    }

    /// A command that looks after the repository, in words, about its URL and with its publisher's keys.
    fn caring(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["repo", words[0], &self.s3.url(), "--keys", &self.keys()]);
        command.args(&words[1..]);
        command
    }

    fn noise(&self, name: &str, seed: u64, bytes: u64) -> PathBuf {
        let path = self.world.path().join(name);
        images::make_noise(&path, seed, bytes);
        path
    }
}

#[test]
fn what_is_published_to_s3_reaches_a_node() {
    let Some(desk) = Desk::new("cloud-node") else { return };
    let disk = desk.noise("disk.img", 1, 6 << 20);
    desk.publish("desk", "1", &disk).expect_ok();
    assert_eq!(desk.releases(), ["desk@1"]);
    desk.node_gets("desk", "1", &disk);
    let again = desk.cli(&["repo", "init", &desk.s3.url(), "--keys", "elsewhere"]);
    again.expect_refusal().expect_words(&["s3://images/team/repo", "holds a repository already"]);
}

#[test]
fn a_publisher_who_was_overtaken_loses_nothing() {
    let Some(desk) = Desk::new("cloud-overtaken") else { return };
    let (slow, quick) = (desk.noise("slow.img", 2, 2 << 20), desk.noise("quick.img", 3, 2 << 20));
    desk.s3.gateway.hold_next(|request| request.puts("/metadata/timestamp.json"));
    let log = desk.world.path().join("slow.log");
    let mut publisher = Process::start("publish", &desk.publishing("slow", "1", &slow), &log);
    wait::until(LIMIT, || desk.s3.gateway.is_holding().then_some(())).expect("it never came to the end");

    desk.publish("quick", "1", &quick).expect_ok();
    desk.s3.gateway.let_through();
    let ended = publisher.wait(LIMIT).expect("it did not end");
    assert!(!ended.success(), "both publishers put the same version in force\n{}", publisher.tail());
    let said = publisher.log();
    assert!(said.contains("another publisher") && said.contains("publish again"), "{said}");
    assert_eq!(desk.releases(), ["quick@1"]);

    let packs = desk.s3.puts("/packs/");
    desk.publish("slow", "1", &slow).expect_ok();
    assert_eq!(desk.s3.puts("/packs/"), packs, "a pack that was there was sent again");
    assert_eq!(desk.releases(), ["quick@1", "slow@1"]);
    desk.node_gets("slow", "1", &slow);
}

#[test]
fn publishers_at_the_same_time_end_with_all_their_releases_in_the_repository() {
    let Some(desk) = Desk::new("cloud-race") else { return };
    let images = ["a", "b", "c"];
    let disks = images.map(|image| desk.noise(image, u64::from(image.as_bytes()[0]), 1 << 20));
    let log = |image: &str| desk.world.path().join(format!("{image}.log"));
    let start =
        |image: &str, disk: &Path| Process::start(image, &desk.publishing(image, "1", disk), &log(image));
    let running: Vec<Process> = images.iter().zip(&disks).map(|(image, disk)| start(image, disk)).collect();
    for (mut publisher, (image, disk)) in running.into_iter().zip(images.iter().zip(&disks)) {
        let ended = publisher.wait(LIMIT).expect("it did not end");
        if !ended.success() {
            assert!(publisher.log().contains("another publisher"), "{}", publisher.log());
            desk.publish(image, "1", disk).expect_ok();
        }
    }
    assert_eq!(desk.releases(), ["a@1", "b@1", "c@1"]);
}

#[test]
fn an_upload_that_was_killed_goes_on_where_it_was() {
    let Some(desk) = Desk::new("cloud-killed") else { return };
    let disk = desk.noise("disk.img", 4, 1 << 20);
    desk.publish("desk", "1", &disk).expect_ok();
    let packs = desk.s3.puts("/packs/");

    let large = desk.noise("large.img", 5, THREE_PACKS);
    let sent = std::sync::atomic::AtomicU32::new(0);
    desk.s3.gateway.hold_next(move |request| {
        request.puts("/packs/") && sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 2
    });
    let log = desk.world.path().join("killed.log");
    let mut publisher = Process::start("publish", &desk.publishing("desk", "2", &large), &log);
    wait::until(LIMIT, || desk.s3.gateway.is_holding().then_some(())).expect("there was no third pack");
    publisher.kill();
    desk.s3.gateway.let_through();
    assert_eq!(desk.releases(), ["desk@1"]);

    desk.publish("desk", "2", &large).expect_ok();
    let sent = desk.s3.puts("/packs/") - packs;
    assert!(sent <= 4, "{sent} packs were sent for a release that has three");
    assert_eq!(desk.releases(), ["desk@1", "desk@2"]);
    desk.node_gets("desk", "2", &large);
}

#[test]
fn garbage_is_collected_while_publishers_are_kept_out() {
    let Some(desk) = Desk::new("cloud-gc") else { return };
    let disks = [9, 10, 11].map(|seed| desk.noise(&format!("{seed}.img"), seed, 2 << 20));
    desk.publish("desk", "1", &disks[0]).expect_ok();
    desk.publish("desk", "2", &disks[1]).expect_ok();
    let url = desk.s3.url();
    desk.cli(&["repo", "remove", "desk@1", "--repo", &url, "--keys", &desk.keys()]).expect_ok();
    let is_old = || {
        let told = run(desk.caring(&["gc", "--grace", "1s", "--dry-run"]).arg("--json"), LIMIT).expect_ok();
        let told: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        (told["packs"]["files"] == 1).then_some(())
    };
    wait::until(LIMIT, is_old).expect("the removed release's pack does not grow old");

    desk.s3.gateway.hold_next(|request| request.lists("packs"));
    let log = desk.world.path().join("gc.log");
    let mut gc = Process::start("gc", &desk.caring(&["gc", "--grace", "1s"]), &log);
    wait::until(LIMIT, || desk.s3.gateway.is_holding().then_some(())).expect("gc does not look at the packs");
    let refused = desk.publish("desk", "3", &disks[2]).expect_refusal();
    refused.expect_words(&["repo gc", "is at work", "try again"]);
    desk.s3.gateway.let_through();
    let ended = gc.wait(LIMIT).expect("gc did not end");
    assert!(ended.success(), "{}", gc.tail());
    assert!(gc.log().contains("packs"), "{}", gc.log());

    desk.publish("desk", "3", &disks[2]).expect_ok();
    assert_eq!(desk.releases(), ["desk@2", "desk@3"]);
    run(&mut desk.caring(&["verify"]), LIMIT).expect_ok();
    desk.node_gets("desk", "3", &disks[2]);
}

#[test]
fn a_server_that_restarts_meanwhile_is_waited_for() {
    let Some(desk) = Desk::new("cloud-restart") else { return };
    let disk = desk.noise("disk.img", 6, 6 << 20);
    desk.s3.gateway.hold_next(|request| request.puts("/packs/"));
    let log = desk.world.path().join("publish.log");
    let mut publisher = Process::start("publish", &desk.publishing("desk", "1", &disk), &log);
    wait::until(LIMIT, || desk.s3.gateway.is_holding().then_some(())).expect("there was no pack");
    desk.s3.gateway.break_off(4);
    desk.s3.gateway.let_through();
    let ended = publisher.wait(LIMIT).expect("it did not end");
    assert!(ended.success(), "{}", publisher.tail());
    assert_eq!(desk.s3.gateway.still_to_break(), 0, "no connection was broken off");
    desk.node_gets("desk", "1", &disk);
}

#[test]
fn a_server_that_stays_away_is_named_and_the_same_command_goes_on_later() {
    let Some(desk) = Desk::new("cloud-away") else { return };
    let disk = desk.noise("disk.img", 7, 2 << 20);
    desk.s3.gateway.break_off(u32::MAX);
    let failed = run(&mut desk.publishing("desk", "1", &disk), LIMIT).expect_refusal();
    failed.expect_words(&["s3://images/team/repo", "cannot be reached"]);
    desk.s3.gateway.break_off(0);
    desk.publish("desk", "1", &disk).expect_ok();
}

#[test]
fn a_server_that_ignores_conditions_is_not_published_to() {
    let Some(desk) = Desk::new("cloud-conditions") else { return };
    let disk = desk.noise("disk.img", 8, 1 << 20);
    desk.publish("desk", "1", &disk).expect_ok();
    desk.s3.gateway.ignore_conditions();
    let refused = desk.publish("desk", "2", &disk).expect_refusal();
    refused.expect_words(&["conditional writes", "If-Match"]);
    assert_eq!(desk.releases(), ["desk@1"]);
}
