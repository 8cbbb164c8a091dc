//! branchmesh beside what else brings one file to many machines of a site, in the same networks of namespaces, by the
//! same clock and the same counters, with the same incompressible file:
//!
//! ```text
//! cargo bench -p branchmesh-tests --bench rivals                            # all of it, some fifteen minutes
//! cargo bench -p branchmesh-tests --bench rivals -- branchmesh aria2       # on a LAN without a way out
//! cargo bench -p branchmesh-tests --bench rivals -- site-cache             # behind a thin WAN
//! ```
//!
//! As root, on an idle machine, with Debian's packages aria2, curl, nginx-light, python3-libtorrent and squid; what lacks
//! its package is skipped, and says so. Nothing is claimed here: the rows are for people.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed benchmark")]

use branchmesh_tests::{
    branch::{Branch, IMAGE, Mark},
    figures::measure_chosen,
    images,
    lan::{Lan, Swarm},
    lan_run::{FRAME_OVER_PAYLOAD, LanRun},
    mesh_swarm::MeshSwarm,
    netns::{Links, ORIGIN_ADDRESS},
    process::Process,
    run::run,
    site_cache::SiteCache,
    skip::{Need, have_all},
    torrent_swarm::{Torrent, TorrentSwarm},
};
use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

const MIB: u64 = 1 << 20;
/// On the LAN: 22 s of 100 Mbit/s.
const LAN_BYTES: u64 = 256 * MIB;
/// Clients and the rate of each link, in Mbit/s.
const LAN_SIZES: [(usize, u32); 4] = [(2, 100), (4, 100), (8, 100), (8, 200)];
/// Over the WAN: 54 s of 20 Mbit/s.
const WAN_BYTES: u64 = 128 * MIB;
const WAN_CLIENTS: usize = 8;
const WAN_LINKS: Links = Links { wan_mbit: 20, lan_mbit: 200 };
/// Random content is the same in each run.
const SEED: u64 = 7;
/// After so long a run has failed.
const PATIENCE: Duration = Duration::from_secs(600);

/// What is measured, by the words that choose it.
const RIVALS: [(&str, fn()); 5] = [
    ("branchmesh", || on_lan(&[], |lan| Box::new(MeshSwarm::new(lan, LAN_BYTES)))),
    ("libtorrent", || torrent(Torrent::Libtorrent)),
    ("libtorrent-tuned", || torrent(Torrent::LibtorrentTuned)),
    ("aria2", || torrent(Torrent::Aria2)),
    ("site-cache", site_cache),
];

fn main() -> ExitCode {
    measure_chosen(&RIVALS)
}

fn torrent(program: Torrent) {
    on_lan(program.needs(), |lan| Box::new(TorrentSwarm::new(lan, program, LAN_BYTES)));
}

fn on_lan(needs: &[Need], swarm: impl Fn(&Lan) -> Box<dyn Swarm>) {
    if !have_all("a rival on a LAN", &[&[Need::Namespaces], needs].concat()) {
        return;
    }
    println!(
        "\n{:<18}{:>8}{:>7}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}{:>7}",
        "",
        "clients",
        "Mbit/s",
        "before",
        "first",
        "last",
        "bound",
        "first/b",
        "last/b",
        "wire/p",
        "CPU/GiB",
        "cores"
    );
    for (clients, mbit) in LAN_SIZES {
        let lan = Lan::new("bench-rivals", clients, mbit);
        let mut swarm = swarm(&lan);
        print_row(&lan.spread(swarm.as_mut(), PATIENCE));
    }
}

fn print_row(run: &LanRun) {
    println!(
        "{:<18}{:>8}{:>7}{:>8.1}{:>8.1}{:>8.1}{:>8.1}{:>8.2}{:>8.2}{:>8.3}{:>8.1}{:>7.2}",
        run.swarm,
        run.done.len(),
        run.mbit,
        run.begun,
        run.first() * run.bound(),
        run.last() * run.bound(),
        run.bound(),
        run.first(),
        run.last(),
        run.wire_over_payload(),
        run.cpu_per_gib(),
        run.cores_busy,
    );
    eprintln!("{}", run.course);
}

/// The same file to eight clients behind a thin WAN: with branchmesh, and with squid and curl.
fn site_cache() {
    let needs = [Need::Namespaces, Need::Program("nginx"), Need::Program("squid"), Need::Program("curl")];
    if !have_all("a site cache", &needs) {
        return;
    }
    println!(
        "\n{:<18}{:>8}{:>12}{:>10}{:>8}{:>8}{:>8}",
        "", "clients", "WAN bytes", "WAN/file", "last", "bound", "last/b"
    );
    with_branchmesh();
    with_squid();
}

fn with_branchmesh() {
    let mut branch = Branch::new("bench-wan", WAN_LINKS, WAN_CLIENTS);
    let file = branch.folder("file").join("disk.img");
    images::make_noise(&file, SEED, WAN_BYTES);
    branch.hq.publish(IMAGE, "1", &[&file]);
    let everyone: Vec<usize> = (0..WAN_CLIENTS).collect();
    let before = branch.mark();
    branch.start(everyone.iter().copied());
    let spread = branch.follow(&everyone, "1", PATIENCE, &before);
    print_wan_row("branchmesh", &branch, &before, spread.last().expect("every client gets the file"));
}

fn with_squid() {
    let mut branch = Branch::new("bench-cache", WAN_LINKS, WAN_CLIENTS);
    // nginx serves what is below this folder, and tells caches that it never changes.
    let packs = branch.hq.repository().join("packs");
    fs::create_dir_all(&packs).unwrap();
    let file = packs.join("disk.img");
    images::make_noise(&file, SEED, WAN_BYTES);
    let number = branch.add_client();
    let folder = branch.folder("squid");
    run(Command::new("chmod").arg("711").arg(folder.parent().unwrap()), PATIENCE).expect_ok();
    let cache = SiteCache::start(branch.nodes[number].place(), number, &folder);

    let url = format!("http://{ORIGIN_ADDRESS}/packs/disk.img");
    let copies: Vec<_> =
        (0..WAN_CLIENTS).map(|client| branch.folder("copies").join(client.to_string())).collect();
    let (before, start) = (branch.mark(), Instant::now());
    let mut downloads: Vec<Process> = Vec::new();
    for (node, copy) in branch.nodes.iter().zip(&copies) {
        let command = cache.download(node.place(), &url, copy);
        downloads.push(Process::start("curl", &command, &folder.join("curl.log")));
    }
    for download in &mut downloads {
        let status = download.wait(PATIENCE.saturating_sub(start.elapsed()));
        assert!(status.is_some_and(|status| status.success()), "{status:?}\n{}", download.tail());
    }
    let last = start.elapsed().as_secs_f64();
    assert!(copies.iter().all(|copy| images::same_content(&file, copy)), "the copies are not the file");
    print_wan_row("squid and curl", &branch, &before, last);
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
fn print_wan_row(name: &str, branch: &Branch, before: &Mark, last: f64) {
    let crossed = branch.wan_bytes_since(before);
    let bound = WAN_LINKS.wan_seconds(WAN_BYTES) * FRAME_OVER_PAYLOAD;
    println!(
        "{name:<18}{WAN_CLIENTS:>8}{:>9.1} MB{:>10.3}{last:>8.1}{bound:>8.1}{:>8.3}",
        crossed as f64 / 1e6,
        crossed as f64 / WAN_BYTES as f64,
        last / bound,
    );
}
