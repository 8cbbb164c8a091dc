//! The figures of `docs/benchmarks.md`, on an idle machine, as root:
//!
//! ```text
//! cargo bench -p branchmesh-tests --bench figures                      # all of them, some eight minutes
//! cargo bench -p branchmesh-tests --bench figures -- publishing 8      # publishing, and the spread to 8 clients
//! cargo bench -p branchmesh-tests --bench figures -- lan               # spreads on a LAN without a way out
//! cargo bench -p branchmesh-tests --bench figures -- lan-8x100         # only to 8 clients, each with 100 Mbit/s
//! ```

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed benchmark")]

use branchmesh_tests::{
    branch::Branch,
    claims::{Claims, Figure},
    counters::Usage,
    figures::measure_chosen,
    images::DiskImage,
    lan::Lan,
    loopback::{IMAGE, Loopback},
    measure::Cost,
    mesh_swarm::MeshSwarm,
    netns::Links,
    skip::{Need, have_all},
    turn::Turn,
};
use std::{fs, process::ExitCode, time::Duration};

const MIB: u64 = 1 << 20;
const GIB: f64 = (1_u64 << 30) as f64;
const LINKS: Links = Links { wan_mbit: 20, lan_mbit: 200 };
/// Files in the image that spreads, as in the test of the branch office.
const SPREAD_BYTES: u64 = 320 * MIB;
/// Files in the image that is published: enough that the first second does not count.
const PUBLISH_BYTES: u64 = 700 * MIB;

/// What spreads on a LAN alone: 22 s of 100 Mbit/s.
const LAN_BYTES: u64 = 256 * MIB;

/// What is measured, by the words that choose it. On a LAN alone: how many times the bound the last client may take; at
/// 200 Mbit/s the processors, which are all nodes and the network, may become the limit.
const FIGURES: [(&str, fn()); 8] = [
    ("publishing", publishing),
    ("2", || spread(2)),
    ("4", || spread(4)),
    ("8", || spread(8)),
    ("lan-2x100", || lan(2, 100, 1.10)),
    ("lan-4x100", || lan(4, 100, 1.10)),
    ("lan-8x100", || lan(8, 100, 1.10)),
    ("lan-8x200", || lan(8, 200, 1.30)),
];

fn main() -> ExitCode {
    measure_chosen(&FIGURES)
}

fn publishing() {
    if !have_all("publishing", &[Need::Program("mkfs.ext4"), Need::Program("qemu-img")]) {
        return;
    }
    let _turn = Turn::take();
    let world = Loopback::new("bench-publish");
    let folder = world.path().join("image");
    fs::create_dir_all(&folder).unwrap();
    let image = DiskImage::make(&folder, PUBLISH_BYTES);
    for (release, paths) in [("raw", vec![image.raw.as_path()]), ("raw-and-qcow2", image.paths().to_vec())] {
        let plain: u64 = paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        let before = world.hq.size();
        let command = world.hq.publish_command(IMAGE, release, &paths);
        let cost = Cost::of("publish", &command, &world.path().join("publish.log"));
        let mut figures = Claims::of(&format!("publishing {release}"));
        figures.note("files", Figure::bytes(plain));
        figures.note("new in the repository", Figure::bytes(world.hq.size().since(before).total()));
        cost.note(&mut figures, plain);
        figures.settle();
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
fn spread(clients: usize) {
    let test = format!("a spread to {clients} clients");
    let needs =
        [Need::Namespaces, Need::Program("nginx"), Need::Program("mkfs.ext4"), Need::Program("qemu-img")];
    if !have_all(&test, &needs) {
        return;
    }
    let mut branch = Branch::new("bench", LINKS, clients);
    let (image, size) = branch.publish_first(SPREAD_BYTES);
    let everyone: Vec<usize> = (0..clients).collect();
    let before = branch.mark();
    branch.start(everyone.iter().copied());
    let spread = branch.follow(&everyone, "1", Duration::from_secs(600), &before);
    let last = spread.last().expect("every client gets the image");
    assert_eq!(branch.wrong_files(&everyone, "1", &image), [""; 0]);
    let used: Vec<Usage> = everyone.iter().map(|node| branch.usage(*node)).collect();
    let cpu: f64 = used.iter().map(|usage| usage.cpu_seconds).sum();
    let delivered = size.packs as f64 * clients as f64 / GIB;

    let mut figures = Claims::of(&test);
    let bound = LINKS.wan_seconds(size.total());
    figures.note("encoded size", Figure::bytes(size.total()));
    figures.note("amplification (bytes of packs that the origin sent / in the repository)", {
        Figure::ratio(spread.packs.sent as f64 / size.packs as f64)
    });
    figures.note("bytes on the WAN, with headers / encoded size", {
        Figure::ratio(spread.wan_bytes as f64 / size.total() as f64)
    });
    figures.note("time of the WAN alone", Figure::seconds(bound));
    figures.note("last client done", Figure::seconds(last));
    figures.note("time / bound", Figure::ratio(last / bound));
    figures.note("CPU seconds of all agents per GiB delivered (encoded)", Figure::ratio(cpu / delivered));
    let peak = used.iter().map(|usage| usage.peak_memory).max().unwrap_or_default();
    figures.note("peak memory of the largest agent", Figure::bytes(peak));
    figures.settle();
}

fn lan(clients: usize, mbit: u32, limit: f64) {
    let test = "a LAN without a way out";
    if !have_all(test, &[Need::Namespaces]) {
        return;
    }
    let mut figures = Claims::of(test);
    let lan = Lan::new("bench-lan", clients, mbit);
    let mut swarm = MeshSwarm::new(&lan, LAN_BYTES);
    lan.spread(&mut swarm, Duration::from_secs(600)).claim(&mut figures, limit);
    figures.settle();
}
