//! What updates cost: states of one real system, each upgraded from the one before, and a client that follows them.
//! Counted at the web server, beside casync with the state before as its seed.
//!
//! Where ext4 puts an upgraded file is luck, and with it how many blocks a change touches: one update alone may come
//! out a percent better or worse for either. The claim is about their sum.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    casync::{self, ChunkStore},
    claims::{Claims, Figure},
    free_address::free_address,
    images,
    loopback::{IMAGE, Loopback},
    nginx::{self, Manner, Nginx, PackTraffic},
    place::Place,
    skip::{Need, have_all},
    system_image::{self, SystemImage},
};
use std::{fs, path::PathBuf, time::Duration};

/// The machine's own files beside the system: what an upgrade leaves alone.
const DATA_BYTES: u64 = 256 << 20;
/// What comes with each update besides the upgrades that there are.
const UPDATES: [&[&str]; 2] = [&[], &["ca-certificates", "curl", "less"]];
/// A client has its release within this time: nothing is thin here.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn upgrades_of_a_real_system_cost_no_more_than_with_casync() {
    let test = "bytes of updates";
    let needs = [&system_image::NEEDS[..], &[Need::Program("nginx"), casync::NEED]].concat();
    if !have_all(test, &needs) {
        return;
    }
    let world = Loopback::new("update-bytes");
    let mut states = vec![SystemImage::install(&folder(&world, "1"), DATA_BYTES)];
    for packages in UPDATES {
        let next =
            states[states.len() - 1].upgraded(&folder(&world, &format!("{}", states.len() + 1)), packages);
        states.push(next);
    }
    let casync = casync_updates(&world, &states);
    let ours = our_updates(&world, &states);

    let mut claims = Claims::of(test);
    let mut whole_index = 0;
    for (number, (casync, ours)) in casync.iter().zip(&ours).enumerate() {
        let releases = [format!("{IMAGE}@{}", number + 1), format!("{IMAGE}@{}", number + 2)];
        let predicted = fetch_bytes(&world, &[&releases[0], &releases[1]]);
        let sent = ours.blocks + ours.index;
        claims.at_most(
            "blocks and index, against `diff`",
            Figure::bytes(sent),
            Figure::bytes(predicted.total),
        );
        // Later on, the client holds more than the one release that `diff` was told of.
        if number == 0 {
            let words = format!("{sent} bytes sent, {} predicted", predicted.total);
            claims.holds("`diff` is exact for a client with one release", sent == predicted.total, &words);
        }
        claims.note("of these, the index", Figure::bytes(ours.index));
        claims.note("casync", Figure::bytes(*casync));
        whole_index += fetch_bytes(&world, &[&releases[1]]).index;
    }
    let sum = |bytes: fn(&Sent) -> u64| Figure::bytes(ours.iter().map(bytes).sum());
    claims.at_most(
        "all that was sent to the client, metadata too, against casync",
        sum(|sent| sent.all),
        Figure::bytes(casync.iter().sum()),
    );
    claims.at_most(
        "index, against half of whole ones",
        sum(|sent| sent.index),
        Figure::bytes(whole_index).times(0.5),
    );
    claims.settle();
}

/// What a web server sent for an update.
struct Sent {
    all: u64,
    blocks: u64,
    index: u64,
}

/// What a web server sends to a client that follows the states.
fn our_updates(world: &Loopback, states: &[SystemImage]) -> Vec<Sent> {
    let origin = world.serve(Manner::Proper);
    let mut node = world.node("pc-01", &[origin.url()]);
    let mut updates = Vec::new();
    for (release, state) in (1..).map(|number: u32| number.to_string()).zip(states) {
        // The node is stopped, so that all it asks for from here on is the update.
        let seen = origin.accesses().len();
        world.hq.publish(IMAGE, &release, &[&state.raw]);
        node.start();
        node.wait_complete(IMAGE, &release, LIMIT);
        node.stop();
        assert_eq!(node.wrong_files(IMAGE, &release, &[&state.raw]), [""; 0], "release {release}");
        let accesses = &origin.accesses()[seen..];
        let index = accesses.iter().filter(|access| access.path.starts_with("/indexes/"));
        updates.push(Sent {
            all: nginx::body_bytes(accesses),
            blocks: PackTraffic::of(accesses).sent,
            index: nginx::body_bytes(index),
        });
    }
    updates.split_off(1)
}

/// What a web server sends to casync for each state, chunks and index, with the state before as its seed.
fn casync_updates(world: &Loopback, states: &[SystemImage]) -> Vec<u64> {
    let store = ChunkStore::new(&world.path().join("casync"));
    let folder = world.path().join("casync-nginx");
    let server = Nginx::start(&Place::Here, free_address(), store.folder(), &folder, Manner::Proper);
    let copy = world.path().join("casync-copy.img");
    store.make("1", &states[0].raw);
    let mut updates = Vec::new();
    for (release, pair) in (2..).map(|number: u32| number.to_string()).zip(states.windows(2)) {
        store.make(&release, &pair[1].raw);
        let seen = server.accesses().len();
        ChunkStore::extract(server.url(), &release, &pair[0].raw, &copy);
        assert!(images::same_content(&pair[1].raw, &copy), "casync made another file");
        fs::remove_file(&copy).unwrap();
        let accesses = &server.accesses()[seen..];
        let missed: Vec<_> = accesses.iter().filter(|access| access.status != 200).collect();
        assert!(missed.is_empty(), "the server did not have {missed:?}");
        updates.push(nginx::body_bytes(accesses));
    }
    updates
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

fn folder(world: &Loopback, name: &str) -> PathBuf {
    let folder = world.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
