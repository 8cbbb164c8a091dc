//! Looking after a repository from the command line: what the commands say, to whom, and with which exit code.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    hq::{COMMAND_LIMIT, Headquarters, files_below, flip_bit},
    run::{Finished, run},
    scratch::Scratch,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A repository with two public releases and one of a group.
struct World {
    hq: Headquarters,
    scratch: Scratch,
}

impl World {
    fn new(test: &str) -> Self {
        let scratch = Scratch::new(test);
        let world = Self { hq: Headquarters::new(&scratch.path().join("hq")), scratch };
        let label = ["--label", "ticket=4711", "--requires", "virtualization-engine >= 6.1"];
        world.publish("desk", "1", &[&["--channel", "stable"][..], &label].concat());
        world.publish("desk", "2", &["--channel", "pilot"]);
        world.publish("bank", "1", &["--group", "finance"]);
        world
    }

    fn publish(&self, image: &str, release: &str, options: &[&str]) {
        let (disk, settings) = (self.path("disk.img"), self.path("vm.xml"));
        fs::write(&disk, format!("{image}@{release} ").repeat(100_000)).unwrap();
        fs::write(&settings, format!("<vm of=\"{image}@{release}\"/>")).unwrap();
        let mut command = self.hq.publish_command(image, release, &[&disk, &settings]);
        run(command.args(options), COMMAND_LIMIT).expect_ok();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn repository(&self) -> String {
        self.hq.repository().to_str().unwrap().to_owned()
    }

    /// A command about the repository, without any key.
    fn without_keys(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(branchmesh());
        command.args(["repo", arguments[0]]).arg(self.repository()).args(&arguments[1..]);
        run(&mut command, COMMAND_LIMIT)
    }

    fn change(&self, words: &str) -> Finished {
        let mut command = Command::new(branchmesh());
        command.args(words.split(' ')).args(["--repo", &self.repository()]).arg("--keys").arg(self.hq.keys());
        run(&mut command, COMMAND_LIMIT)
    }

    fn query(&self, command: &str, arguments: &[&str]) -> Value {
        self.hq.query(command, arguments, &self.repository())
    }
}

fn names(list: &Value) -> Vec<String> {
    let releases = list["releases"].as_array().unwrap();
    releases.iter().map(|entry| format!("{}@{}", text(&entry["image"]), text(&entry["release"]))).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

#[test]
fn releases_are_listed_with_all_that_an_administrator_gave_them() {
    let world = World::new("care-list");
    let list = world.query("repo list", &[]);
    assert_eq!(names(&list), ["desk@1", "desk@2", "bank@1"]);
    let first = &list["releases"][0];
    assert_eq!(first["channels"], serde_json::json!(["stable"]));
    assert_eq!(first["labels"], serde_json::json!({"ticket": "4711"}));
    assert_eq!(first["requires"], serde_json::json!(["virtualization-engine >= 6.1"]));
    assert!(text(&first["published"]).ends_with('Z') && first["group"].is_null(), "{first}");
    assert_eq!(names(&world.query("repo list", &["bank"])), ["bank@1"]);

    let one = world.query("repo list", &["desk@stable"]);
    let files: Vec<&str> = one["files"].as_array().unwrap().iter().map(|file| text(&file["path"])).collect();
    assert_eq!((text(&one["release"]), &files[..]), ("1", &["disk.img", "vm.xml"][..]));
    assert_eq!(one["files"][1]["size"], "<vm of=\"desk@1\"/>".len());

    let closed =
        world.without_keys(&["list"]).expect_ok().expect_words(&["finance", "--content-key finance=FILE"]);
    assert!(closed.stdout.contains("desk@2") && !closed.stdout.contains("bank"), "{}", closed.describe());
    world.without_keys(&["list", "desk@9"]).expect_refusal().expect_words(&["desk@9"]);
}

#[test]
fn damage_is_named_with_what_it_breaks_and_ends_with_exit_code_1() {
    let world = World::new("care-verify");
    let whole = world.query("repo verify", &[]);
    assert_eq!((&whole["ok"], &whole["releases"]), (&Value::Bool(true), &Value::from(3)));
    world.without_keys(&["verify"]).expect_ok().expect_words(&["finance", "not checked"]);

    let packs = files_below(&world.hq.repository().join("packs"));
    flip_bit(&packs[0]);
    let mut command = world.hq.query_command("repo verify", &[], &world.repository());
    let found = run(&mut command, COMMAND_LIMIT)
        .expect_refusal()
        .expect_words(&["backup", "publish the same content"]);
    assert_eq!(found.code, Some(1), "{}", found.describe());
    let report: Value = serde_json::from_str(&found.stdout).unwrap();
    let [damage] = &report["damages"].as_array().unwrap()[..] else { panic!("{report}") };
    assert!(packs[0].ends_with(Path::new(text(&damage["path"]))), "{damage}");
    assert_eq!(damage["releases"].as_array().unwrap().len(), 1, "{damage}");
}

#[test]
fn what_is_taken_back_goes_when_nothing_holds_it() {
    let world = World::new("care-gc");
    world.change("repo remove desk@1").expect_refusal().expect_words(&["stable", "demote"]);
    world.change("demote desk@1 stable").expect_refusal().expect_words(&["--to", "(there is: 2)"]);
    world.change("demote desk@2 stable --to 1").expect_refusal().expect_words(&["desk@1"]);
    world.change("demote desk@1 stable --to 2").expect_ok();
    world.change("repo remove desk@1").expect_ok();
    assert_eq!(names(&world.query("repo list", &[])), ["desk@2", "bank@1"]);

    let before = world.hq.size();
    let early = world.query("repo gc", &[]);
    assert_eq!((&early["packs"]["files"], &early["stuck"]), (&Value::from(0), &serde_json::json!({})));
    assert_eq!(world.hq.size(), before, "clients may still be fetching it");
    let foreseen = world.query("repo gc", &["--grace", "1ms", "--dry-run"]);
    assert_eq!((&foreseen["packs"]["files"], world.hq.size()), (&Value::from(1), before));
    let done = world.query("repo gc", &["--grace", "1ms"]);
    let gone = done["packs"]["bytes"].as_u64().unwrap() + done["index_parts"]["bytes"].as_u64().unwrap();
    assert_eq!(before.total() - world.hq.size().total(), gone);
    assert_eq!(world.query("repo verify", &[])["ok"], Value::Bool(true));

    fs::rename(world.hq.keys().join("groups"), world.path("groups")).unwrap();
    let mut command = world.hq.query_command("repo gc", &["--grace", "1ms"], &world.repository());
    run(&mut command, COMMAND_LIMIT).expect_refusal().expect_words(&["finance", "nothing was removed"]);
}
