//! Nodes that go away: in peace, suddenly, silently; and come back.

use crate::support::{Node, Organisation, load, status};
use std::{
    net::{SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};
use tokio::process::{Child, Command};

/// Milliseconds on an idle machine; on a busy one still well before any time-out.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Set in child processes that are a node; holds the folder of its identity and the address to bootstrap from.
const CHILD_NODE: &str = "BRANCHMESH_TEST_CHILD_NODE";

#[tokio::test]
async fn a_node_that_stops_says_goodbye() {
    let organisation = Organisation::new();
    let mut stays = organisation.start("pc-1", &[]).await;
    let mut leaves = organisation.start("pc-2", &[&stays]).await;
    stays.meet(&mut leaves).await;

    // The control connection is up when gossip arrives.
    leaves.mesh.gossip(status(&leaves, 1));
    stays.status_of(leaves.id(), 1).await;

    let mut last = status(&leaves, 99);
    last.leaving = true;
    leaves.mesh.gossip(last);
    leaves.mesh.shutdown().await;
    assert!(stays.status_of(leaves.id(), 99).await.leaving);
    assert!(stays.disconnected(leaves.id()).await.contains("the program stopped"));
}

#[tokio::test]
async fn a_node_that_is_dropped_is_noticed_at_once_and_may_return() {
    let organisation = Organisation::new();
    let files = organisation.issue("pc-2", "lyon");
    let mut stays = organisation.start("pc-1", &[]).await;
    let mut leaves = Node::start(files.load(), &[stays.address()]).await;
    stays.meet(&mut leaves).await;

    let (id, address, dropped) = (leaves.id(), leaves.address(), Instant::now());
    drop(leaves);
    stays.disconnected(id).await;
    assert!(dropped.elapsed() < AT_ONCE, "{:?}", dropped.elapsed());

    // The one that stayed dials again by itself.
    while UdpSocket::bind(address).is_err() || TcpListener::bind(address).is_err() {
        tokio::task::yield_now().await;
    }
    let mut back = Node::start_on(address, files.load(), &[]).await;
    stays.meet(&mut back).await;
}

#[tokio::test]
async fn a_certificate_that_runs_out_ends_its_connections() {
    let organisation = Organisation::new();
    let now = SystemTime::now();
    let files =
        organisation.issue_for("pc-2", "lyon", now - Duration::from_secs(60)..now + Duration::from_secs(3));
    let mut stays = organisation.start("pc-1", &[]).await;
    let mut expires = Node::start(files.load(), &[stays.address()]).await;
    stays.meet(&mut expires).await;
    assert_eq!(stays.disconnected(expires.id()).await, "the certificate ran out");
    // It dials again, and is told what is wrong.
    let (_, reason) = stays.refused().await;
    assert!(reason.starts_with("the certificate expired on "), "{reason}");
    let (_, reason) = expires.refused().await;
    assert!(reason.contains("our certificate has expired"), "{reason}");
}

#[tokio::test]
async fn a_killed_process_is_noticed_at_once() {
    let organisation = Organisation::new();
    let files = organisation.issue("pc-2", "lyon");
    let mut stays = organisation.start("pc-1", &[]).await;
    let id = files.load().identity().node;
    let mut child = spawn_node(&files.dir, stays.address());
    stays.connected(id).await;
    // Gossip runs over the control connection: it is up.
    stays.status_of(id, 1).await;

    let killed = Instant::now();
    child.kill().await.unwrap();
    let reason = stays.disconnected(id).await;
    assert!(killed.elapsed() < AT_ONCE, "after {:?}: {reason}", killed.elapsed());

    let _again = spawn_node(&files.dir, stays.address());
    stays.connected(id).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_silent_process_is_noticed_within_five_seconds() {
    let organisation = Organisation::new();
    let files = organisation.issue("pc-2", "lyon");
    let mut stays = organisation.start("pc-1", &[]).await;
    let id = files.load().identity().node;
    let child = spawn_node(&files.dir, stays.address());
    stays.connected(id).await;
    stays.status_of(id, 1).await;

    let stopped = Instant::now();
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().await.unwrap().success());
    stays.disconnected(id).await;
    let took = stopped.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");

    assert!(Command::new("kill").args(["-CONT", &pid]).status().await.unwrap().success());
    stays.connected(id).await;
}

fn spawn_node(identity: &Path, bootstrap: SocketAddr) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "liveness::child_node", "--nocapture"])
        .env(CHILD_NODE, format!("{bootstrap} {}", identity.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Not a test by itself: the other process of those above.
#[tokio::test]
async fn child_node() {
    let Ok(arguments) = std::env::var(CHILD_NODE) else { return };
    let (bootstrap, dir) = arguments.split_once(' ').unwrap();
    let node = Node::start(load(dir.as_ref(), dir.as_ref()), &[bootstrap.parse().unwrap()]).await;
    let mut sequence = 1;
    loop {
        node.mesh.gossip(status(&node, sequence));
        sequence += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
