//! The setting `wan_limit` by the hours: while it closes the line, the origin hears nothing and what is on the site still
//! spreads; when it opens, the rest comes from the origin, no faster than it may.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    loopback::{IMAGE, Loopback},
    nginx::Manner,
    node::Node,
};
use std::time::{Duration, Instant, SystemTime};

const BYTES: u64 = 12 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// What the holder sends to others: the test stops it before it has sent everything.
const LAN_LIMIT: &str = "400kB/s";
/// Bytes a second that the origin may be asked for, where the test is about a rate.
const WAN_LIMIT: u64 = 500_000;

#[test]
fn a_closed_line_leaves_the_lan_and_an_open_one_brings_the_rest() {
    let Some((world, source)) = Loopback::with_nginx("wan-hours", BYTES) else { return };
    let nginx = world.serve(Manner::Proper);
    let mut holder = world.node("pc-01", &[&world.folder_origin()]);
    holder.settings.lan_limit = LAN_LIMIT.into();
    holder.start();
    holder.wait_complete(IMAGE, "1", LIMIT);

    let mut node = world.node("pc-02", &[nginx.url()]);
    node.settings.bootstrap = vec![holder.settings.listen.to_string()];
    allow(&mut node, "off", "0");
    node.start();
    let status = node.wait_for("given blocks by the holder", LIMIT, |status| {
        status.release(IMAGE, "1").is_some_and(|release| release.bytes.lan > 0)
    });
    assert!(status.node.line.closed && status.node.line.limit.is_none(), "{:?}", status.node.line);
    holder.kill();
    let status = node.wait_for("waiting for the hour", LIMIT, |status| {
        let release = status.release(IMAGE, "1");
        let reason = release.filter(|release| release.state == "waiting").and_then(|one| one.reason.as_ref());
        reason.is_some_and(|reason| reason.contains("wan_limit keeps the WAN closed until"))
    });
    let before = status.release(IMAGE, "1").unwrap().bytes;
    assert!(before.have < before.total && before.wan == 0, "{before:?}");
    assert_eq!(nginx.accesses(), [], "not even a question for news");

    assert_eq!(node.stop().code(), Some(0));
    allow(&mut node, "0", "off");
    node.start();
    let status = node.wait_complete(IMAGE, "1", LIMIT);
    let after = status.release(IMAGE, "1").unwrap().bytes;
    assert!(after.lan >= before.lan && after.wan > 0, "{after:?}");
    assert!(!nginx.accesses().is_empty());
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn the_rate_of_the_hour_holds() {
    let Some((world, _)) = Loopback::with_nginx("wan-rate", BYTES) else { return };
    let nginx = world.serve(Manner::Proper);
    let mut node = world.node("pc-01", &[nginx.url()]);
    allow(&mut node, &format!("{WAN_LIMIT}B/s"), "off");
    let begun = Instant::now();
    node.start();
    let status = node.wait_complete(IMAGE, "1", LIMIT);
    let took = begun.elapsed();
    assert_eq!(status.node.line.limit, Some(WAN_LIMIT));
    let bytes: u64 = nginx.accesses().iter().map(|access| access.body_bytes).sum();
    // A slow machine takes longer; nobody may be faster.
    let least = Duration::from_secs(bytes / WAN_LIMIT);
    assert!(took >= least, "{bytes} bytes in {took:?}, at least {least:?} were due");
}

/// Has `now` hold in the hours around now, and `else_` at all other times. The clock is that of UTC, so that the test
/// knows what it shows.
fn allow(node: &mut Node, now: &str, else_: &str) {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let hour = unix.as_secs() / 3600 % 24;
    let (from, to) = ((hour + 23) % 24, (hour + 3) % 24);
    node.settings.wan_limit = format!("{from:02}:00-{to:02}:00 {now}, {else_}");
    node.environment = vec![("TZ".into(), "UTC".into())];
}
