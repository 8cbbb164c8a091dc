//! What an update costs: two states of one real system, before and after its upgrade, and a client that holds the
//! first. Counted at the web server, beside casync with the same old image as its seed.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    casync::{self, ChunkStore},
    claims::{Claims, Figure},
    images,
    loopback::{IMAGE, Loopback},
    nginx::{self, Manner, Nginx, PackTraffic},
    node::free_address,
    place::Place,
    skip::{Need, have_all},
    system_image::{self, SystemImage},
};
use std::{fs, path::PathBuf, time::Duration};

/// The machine's own files beside the system: what an upgrade leaves alone.
const DATA_BYTES: u64 = 256 << 20;
/// What is installed besides the upgrades.
const PACKAGES: [&str; 3] = ["ca-certificates", "curl", "less"];
/// A client has its release within this time: nothing is thin here.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn an_upgrade_of_a_real_system_costs_no_more_than_with_casync() {
    let test = "bytes of an update";
    let needs = [&system_image::NEEDS[..], &[Need::Program("nginx"), casync::NEED]].concat();
    if !have_all(test, &needs) {
        return;
    }
    let world = Loopback::new("update-bytes");
    let old = SystemImage::install(&folder(&world, "old"), DATA_BYTES);
    let new = old.upgraded(&folder(&world, "new"), &PACKAGES);
    let mut claims = Claims::of(test);

    let casync = casync_update(&world, &old, &new);
    claims.note("casync: bytes sent", Figure::bytes(casync));

    world.hq.publish(IMAGE, "1", &[&old.raw]);
    let origin = world.serve(Manner::Proper);
    let mut node = world.node("pc-01", &[origin.url()]);
    node.start();
    node.wait_complete(IMAGE, "1", LIMIT);
    // Stopped, so that all it asks for from here on is the update.
    node.stop();
    let seen = origin.accesses().len();
    world.hq.publish(IMAGE, "2", &[&new.raw]);
    node.start();
    node.wait_complete(IMAGE, "2", LIMIT);
    node.stop();
    let wrong = node.wrong_files(IMAGE, "2", &[&new.raw]);
    claims.holds("the client's file equals the source", wrong.is_empty(), &format!("wrong: {wrong:?}"));

    let accesses = &origin.accesses()[seen..];
    let blocks = PackTraffic::of(accesses).sent;
    let index = nginx::body_bytes(accesses.iter().filter(|access| access.path.starts_with("/indexes/")));
    claims.at_most(
        "all that was sent to the client, metadata too",
        Figure::bytes(nginx::body_bytes(accesses)),
        Figure::bytes(casync),
    );
    let predicted = fetch_bytes(&world, &["desk@1", "desk@2"]);
    let words =
        format!("{} sent, {} predicted", Figure::bytes(blocks + index), Figure::bytes(predicted.total));
    claims.holds("`diff` predicts blocks and index to the byte", blocks + index == predicted.total, &words);
    let whole = fetch_bytes(&world, &["desk@2"]);
    claims.at_most(
        "index, against half of a whole one",
        Figure::bytes(index),
        Figure::bytes(whole.index).times(0.5),
    );
    claims.at_most(
        "blocks, against half of the image",
        Figure::bytes(blocks),
        Figure::bytes(whole.total).times(0.5),
    );
    claims.note("requests", Figure::count(accesses.len()));
    claims.settle();
}

/// What `diff` says that a client has to fetch.
struct Predicted {
    total: u64,
    index: u64,
}

fn fetch_bytes(world: &Loopback, releases: &[&str]) -> Predicted {
    let answer = world.hq.query("diff", releases, &world.folder_origin());
    let number = |path: &str| answer.pointer(path).and_then(serde_json::Value::as_u64).unwrap();
    Predicted { total: number("/fetch_bytes"), index: number("/index/new_bytes") }
}

/// What a web server sends to casync for the new image, chunks and index.
fn casync_update(world: &Loopback, old: &SystemImage, new: &SystemImage) -> u64 {
    let store = ChunkStore::new(&world.path().join("casync"));
    store.make("1", &old.raw);
    store.make("2", &new.raw);
    let folder = world.path().join("casync-nginx");
    let server = Nginx::start(&Place::Here, free_address(), store.folder(), &folder, Manner::Proper);
    let copy = world.path().join("casync-copy.img");
    ChunkStore::extract(server.url(), "2", &old.raw, &copy);
    assert!(images::same_content(&new.raw, &copy), "casync made another file");
    let accesses = server.accesses();
    let missed: Vec<_> = accesses.iter().filter(|access| access.status != 200).collect();
    assert!(missed.is_empty(), "the server did not have {missed:?}");
    nginx::body_bytes(&accesses)
}

fn folder(world: &Loopback, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
