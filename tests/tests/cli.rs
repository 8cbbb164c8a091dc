//! The command line: help, exit codes, where data and talk go, and the newcomer's way through it.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    free_address::free_address,
    hq::COMMAND_LIMIT,
    images,
    loopback::{IMAGE, Loopback},
    run::{Finished, run},
};
use std::{fs, path::Path, process::Command, time::Duration};

const BYTES: u64 = 4 << 20;

fn cli(arguments: &[&str]) -> Finished {
    run(Command::new(branchmesh()).args(arguments), COMMAND_LIMIT)
}

#[test]
fn help_names_every_command_and_goes_to_stdout() {
    let help = cli(&["--help"]).expect_ok();
    for command in ["demo", "repo", "publish", "agent", "status", "get", "ca"] {
        assert!(help.stdout.contains(command), "--help does not name {command}\n{}", help.describe());
        let own = cli(&[command, "--help"]).expect_ok();
        assert!(own.stdout.contains("Usage"), "{}", own.describe());
    }
    assert!(cli(&["--version"]).expect_ok().stdout.contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_stdout_stays_empty() {
    for arguments in [&["frobnicate"][..], &["publish"], &["status", "--jsn"], &["agent", "--config"]] {
        let refused = cli(arguments);
        assert_eq!(refused.code, Some(2), "{}", refused.describe());
        assert!(refused.stdout.is_empty() && !refused.stderr.is_empty(), "{}", refused.describe());
    }
}

#[test]
fn an_agent_that_does_not_run_is_named() {
    let address = free_address().to_string();
    let refused = cli(&["status", "--json", "--http", &address]).expect_refusal().expect_words(&[&address]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(3), ""), "{}", refused.describe());
}

#[test]
fn nothing_that_exists_is_overwritten() {
    let world = Loopback::new("overwrite");
    let key = fs::read(world.hq.ca().join("ca.key")).unwrap();
    cli(&["ca", "init", "--dir", text(&world.hq.ca())])
        .expect_refusal()
        .expect_words(&[text(&world.hq.ca()), "exists"]);
    assert_eq!(fs::read(world.hq.ca().join("ca.key")).unwrap(), key);
    let repository = world.hq.repository();
    cli(&["repo", "init", text(&repository), "--keys", text(&world.path().join("new-keys"))])
        .expect_refusal()
        .expect_words(&[text(&repository)]);
    cli(&["repo", "init", text(&world.path().join("new-repo")), "--keys", text(&world.hq.keys())])
        .expect_refusal()
        .expect_words(&[text(&world.hq.keys())]);
}

#[test]
fn an_administrator_publishes_and_a_node_shows_gets_and_serves_it() {
    let world = Loopback::new("admin");
    let (source, _) = world.publish(BYTES);
    let mut node = world.node("pc-01", &[&world.folder_origin()]);
    node.settings.subscribe = Vec::new();
    node.start();
    node.wait_for("up", Duration::from_secs(20), |status| {
        status.node.name == "pc-01" && status.node.site == "desk"
    });

    let http = node.settings.http.to_string();
    let here = cli(&["status", "--http", &http]).expect_ok();
    assert!((here.stdout.clone() + &here.stderr).contains("pc-01"), "{}", here.describe());
    let json = cli(&["status", "--json", "--http", &http]).expect_ok();
    serde_json::from_str::<serde_json::Value>(&json.stdout).unwrap_or_else(|error| {
        panic!("stdout is not JSON alone: {error}\n{}", json.describe());
    });

    let out = world.path().join("out");
    cli(&["get", IMAGE, "--output", text(&out), "--http", &http]).expect_ok();
    let copy = out.join(source.file_name().unwrap());
    assert!(images::same_content(&source, &copy), "`get` put another file there");
    cli(&["get", "no-such-image", "--output", text(&out), "--http", &http])
        .expect_refusal()
        .expect_words(&["no-such-image"]);

    let status = node.wait_complete(IMAGE, "1", Duration::from_secs(30));
    assert_eq!(status.site.members, 1);
    assert_eq!(node.stop().code(), Some(0), "SIGTERM is a clean stop");
}

#[test]
fn the_demo_runs_the_main_job_and_verifies_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("small.img");
    images::make_blob(&image, 2 * BYTES);
    let mut command = Command::new(branchmesh());
    command.args(["demo", "--clients", "3", "--image"]).arg(&image);
    let demo = run(&mut command, Duration::from_secs(90)).expect_ok();
    let said = demo.stdout.clone() + &demo.stderr;
    for words in ["all files verified", "amplification", "site lag"] {
        assert!(said.to_lowercase().contains(words), "the demo does not say {words:?}\n{}", demo.describe());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
