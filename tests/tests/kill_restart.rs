//! Power cuts: an agent that is killed again and again finishes, and fetches nothing twice beyond one batch each time.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    claims::{Claims, Figure},
    loopback::{IMAGE, Loopback},
    nginx::{Manner, PackTraffic},
    skip::{Need, have_all},
    status::Status,
};
use std::{thread, time::Duration};

const BYTES: u64 = 24 << 20;
const KIB: u64 = 1024;
/// Per connection: the download takes long enough to be cut several times.
const RATE_KIB: u32 = 128;
const KILLS: u32 = 4;
/// What a kill may cost: a batch of one second that was not committed, and ranges that were on their way,
/// on all connections that an agent has to an origin.
const LOST_PER_KILL: u64 = 2 * CONNECTIONS * RATE_KIB as u64 * KIB;
/// So many ranges an agent asks an origin for at a time.
const CONNECTIONS: u64 = 4;
/// The largest block. What is on its way is more often a large one than a small one.
const BLOCK_MAX: u64 = 256 * KIB;

#[test]
fn an_agent_killed_at_any_moment_goes_on_where_it_was() {
    if !have_all("kill and restart", &[Need::Program("nginx")]) {
        return;
    }
    let world = Loopback::new("kill");
    let (source, size) = world.publish(BYTES);
    let nginx = world.serve(Manner::Slow(RATE_KIB));
    let mut node = world.node("pc-01", &[nginx.url()]);

    let mut claims = Claims::of("kill and restart");
    let mut moment = 7_u64;
    let mut furthest = 0;
    for kill in 1..=KILLS {
        node.start();
        // Once it has come further, at a moment that no schedule of its own can follow.
        node.wait_for("further than before", Duration::from_secs(60), |status| have(status) > furthest);
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        thread::sleep(Duration::from_millis(200 + (moment >> 33) % 1800));
        furthest = node.status().map_or(furthest, |status| have(&status));
        node.kill();
        assert!(
            !node.release_folder(IMAGE, "1").exists(),
            "it finished before kill {kill}: the test is too quick"
        );
    }
    node.start();
    let status = node.wait_complete(IMAGE, "1", Duration::from_secs(120));
    let wrong = node.wrong_files(IMAGE, "1", &[&source]);
    claims.holds("all files equal the source", wrong.is_empty(), &format!("wrong: {wrong:?}"));
    node.stop();

    let traffic = PackTraffic::of(&nginx.accesses());
    claims.note("size of the release", Figure::bytes(size.packs));
    claims.note(
        "its own count of bytes from the WAN",
        Figure::bytes(status.release(IMAGE, "1").unwrap().bytes.wan),
    );
    claims.at_least(
        "bytes that were fetched once",
        Figure::bytes(traffic.distinct),
        Figure::bytes(size.packs),
    );
    let allowed = Figure::bytes(u64::from(KILLS) * LOST_PER_KILL);
    claims.at_most("bytes that were fetched again", Figure::bytes(traffic.repeated()), allowed);
    claims.settle();
}

#[test]
fn an_agent_that_is_stopped_properly_loses_nothing() {
    if !have_all("stop and restart", &[Need::Program("nginx")]) {
        return;
    }
    let world = Loopback::new("stop");
    let (source, size) = world.publish(BYTES / 2);
    let nginx = world.serve(Manner::Slow(RATE_KIB));
    let mut node = world.node("pc-01", &[nginx.url()]);
    node.start();
    let half = size.packs / 2;
    node.wait_for("half done", Duration::from_secs(60), |status| have(status) > half);
    let status = node.stop();
    assert_eq!(status.code(), Some(0), "SIGTERM is a clean stop");

    node.start();
    node.wait_complete(IMAGE, "1", Duration::from_secs(120));
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
    node.stop();
    let traffic = PackTraffic::of(&nginx.accesses());
    let mut claims = Claims::of("stop and restart");
    // What was on its way: one block of each connection.
    let on_the_way = Figure::bytes(CONNECTIONS * BLOCK_MAX);
    claims.at_most("bytes that were fetched again", Figure::bytes(traffic.repeated()), on_the_way);
    claims.settle();
}

fn have(status: &Status) -> u64 {
    status.release(IMAGE, "1").map_or(0, |release| release.bytes.have)
}
