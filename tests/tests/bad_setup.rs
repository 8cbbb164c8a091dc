//! A node that cannot work says so at its start: what is wrong, where, and with an exit code that is not 0.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    binary::branchmesh,
    loopback::Loopback,
    node::Node,
    run::{Finished, run},
    skip,
};
use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::Path,
    process::Command,
    time::Duration,
};

/// An agent that cannot work ends within this time.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_port_that_is_taken_is_named() {
    let world = Loopback::new("port-taken");
    let mut node = world.node("pc-01", &[]);
    let listen = node.settings.listen;
    let tcp = TcpListener::bind(listen).unwrap();
    agent(&node).expect_refusal().expect_words(&[&listen.to_string(), "is taken"]);
    drop(tcp);
    let udp = UdpSocket::bind(listen).unwrap();
    agent(&node).expect_refusal().expect_words(&[&listen.to_string(), "is taken"]);
    drop(udp);
    let http = TcpListener::bind(node.settings.http).unwrap();
    agent(&node).expect_refusal().expect_words(&[&node.settings.http.to_string(), "setting http"]);
    drop(http);
    node.start();
    node.wait_for("up", LIMIT, |_| true);
}

#[test]
fn a_data_dir_that_cannot_be_made_is_named() {
    let world = Loopback::new("data-dir-file");
    let mut node = world.node("pc-01", &[]);
    let file = world.path().join("a-file");
    fs::write(&file, "in the way").unwrap();
    node.settings.data_dir = file.join("data");
    agent(&node).expect_refusal().expect_words(&[&node.settings.data_dir.display().to_string()]);
}

#[test]
fn a_data_dir_without_permission_is_named() {
    let world = Loopback::new("data-dir-mode");
    let node = world.node("pc-01", &[]);
    fs::create_dir_all(&node.settings.data_dir).unwrap();
    let config = node.write_config();
    let mut command = if skip::is_root() {
        // Nothing is forbidden to root: somebody else tries, who may read the files and not write the folder.
        everybody_may_read(world.path());
        let binary = world.path().join("branchmesh");
        fs::copy(branchmesh(), &binary).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(binary);
        command
    } else {
        run(Command::new("chmod").arg("500").arg(&node.settings.data_dir), LIMIT).expect_ok();
        Command::new(branchmesh())
    };
    let refused = run(command.arg("agent").arg("--config").arg(config), LIMIT).expect_refusal();
    refused.expect_words(&[&node.settings.data_dir.display().to_string(), "not allowed"]);
}

#[test]
fn two_agents_do_not_share_a_data_dir() {
    let world = Loopback::new("data-dir-shared");
    let mut first = world.node("pc-01", &[]);
    first.start();
    first.wait_for("up", LIMIT, |_| true);
    let mut second = world.node("pc-02", &[]);
    second.settings.data_dir.clone_from(&first.settings.data_dir);
    agent(&second).expect_refusal().expect_words(&[&first.settings.data_dir.display().to_string()]);
    first.wait_for("still up", LIMIT, |_| true);
}

#[test]
fn a_typo_in_the_configuration_is_named_with_its_line() {
    let world = Loopback::new("typo");
    let node = world.node("pc-01", &[]);
    let spoiled = [
        ("subscribe = ", "subscrbe = ", "subscrbe"),
        ("role = \"client\"", "role = \"boss\"", "boss"),
        ("poll = \"2s\"", "poll = \"soon\"", "soon"),
        ("[identity]", "[identiy]", "identiy"),
        ("site = \"desk\"", "site = \"desk", "site"),
    ];
    for (right, wrong, word) in spoiled {
        let config = node.write_config();
        let text = fs::read_to_string(&config).unwrap();
        let line = 1 + text.lines().position(|line| line.starts_with(right)).unwrap();
        fs::write(&config, text.replace(right, wrong)).unwrap();
        let refused = start(&config);
        assert_eq!(refused.code, Some(2), "{}", refused.describe());
        refused.expect_words(&[&config.display().to_string(), &format!("line {line}"), word]);
    }
}

#[test]
fn a_missing_file_of_the_identity_or_of_the_trust_is_named() {
    let world = Loopback::new("missing-files");
    let node = world.node("pc-01", &[]);
    let config = node.write_config();
    let identity = &node.settings.identity;
    for file in [&identity.ca, &identity.cert, &identity.key, &node.settings.trust.root] {
        let away = file.with_extension("away");
        fs::rename(file, &away).unwrap();
        start(&config).expect_refusal().expect_words(&[&file.display().to_string()]);
        fs::rename(&away, file).unwrap();
    }
}

#[test]
fn the_example_configuration_is_understood() {
    let example = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/branchmesh.toml"));
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(branchmesh());
    command.arg("agent").arg("--config").arg(example).arg("--data-dir").arg(folder.path().join("data"));
    // All that it complains of is that the certificates, which come next, are not there.
    run(&mut command, LIMIT).expect_refusal().expect_words(&["/etc/branchmesh/"]);
}

fn agent(node: &Node) -> Finished {
    start(&node.write_config())
}

fn start(config: &Path) -> Finished {
    run(Command::new(branchmesh()).arg("agent").arg("--config").arg(config), LIMIT)
}

fn everybody_may_read(folder: &Path) {
    run(Command::new("chmod").args(["-R", "a+rX"]).arg(folder), LIMIT).expect_ok();
}
