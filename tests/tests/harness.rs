//! The harness itself: that the network is as thin as it says, the counters count, and the images are real.
//! What the other tests claim is worth as much as this.

use branchmesh_tests::{
    claims::{Claims, Figure},
    images::{self, DiskImage},
    netns::{Links, ORIGIN_ADDRESS, Site},
    nginx::{Manner, Nginx, PackTraffic},
    process::Process,
    run::run,
    scratch::Scratch,
    skip::{Need, have_all},
    turn::Turn,
};
use std::{
    fs,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

const BYTES: u64 = 5_000_000;

#[test]
fn an_office_is_as_thin_as_it_says_and_its_counters_count() {
    let needs = [Need::Namespaces, Need::Program("nginx"), Need::Program("curl")];
    if !have_all("an office's network", &needs) {
        return;
    }
    let _turn = Turn::take();
    let scratch = Scratch::new("harness");
    let mut site = Site::new(Links { wan_mbit: 20, lan_mbit: 200 });
    let clients = [site.add_client(), site.add_client()];
    let repository = scratch.path().join("repo");
    fs::create_dir_all(repository.join("packs/ab")).unwrap();
    images::make_blob(&repository.join("packs/ab/x.pack"), BYTES);
    let size = fs::metadata(repository.join("packs/ab/x.pack")).unwrap().len();
    let address = SocketAddr::new(ORIGIN_ADDRESS.parse().unwrap(), 80);
    let nginx =
        Nginx::start(&site.origin(), address, &repository, &scratch.path().join("nginx"), Manner::Proper);

    let mut claims = Claims::of("an office's network");
    let (before, start) = (site.wan_bytes(), Instant::now());
    let url = format!("{}/packs/ab/x.pack", nginx.url());
    let got = run(clients[0].command("curl").args(["-sS", "-o", "/dev/null", &url]), Duration::from_secs(30));
    let (seconds, crossed) = (start.elapsed().as_secs_f64(), site.wan_bytes() - before);
    got.expect_ok();
    let alone = site.links().wan_seconds(size);
    claims.at_least("time of a download", Figure::seconds(seconds), Figure::seconds(alone));
    claims.at_most("time of a download", Figure::seconds(seconds), Figure::seconds(alone).times(1.15));
    claims.at_least("bytes over the WAN", Figure::bytes(crossed), Figure::bytes(size).times(1.044));
    claims.at_most("bytes over the WAN", Figure::bytes(crossed), Figure::bytes(size).times(1.050));
    let traffic = PackTraffic::of(&nginx.accesses());
    claims.holds("nginx's log", traffic.sent == size && traffic.repeated() == 0, &format!("{traffic:?}"));

    let address: SocketAddr = "10.78.0.12:80".parse().unwrap();
    let folder = scratch.path().join("nginx-inside");
    let inside = Nginx::start(&clients[1], address, &repository, &folder, Manner::Proper);
    let (before, start) = (site.wan_bytes(), Instant::now());
    let url = format!("{}/packs/ab/x.pack", inside.url());
    run(clients[0].command("curl").args(["-sS", "-o", "/dev/null", &url]), Duration::from_secs(30))
        .expect_ok();
    let alone = Links { wan_mbit: 200, lan_mbit: 200 }.wan_seconds(size);
    claims.at_least(
        "time of a download inside the site",
        Figure::seconds(start.elapsed().as_secs_f64()),
        Figure::seconds(alone),
    );
    let crossed = site.wan_bytes() - before;
    claims.at_most(
        "bytes over the WAN of a download inside the site",
        Figure::bytes(crossed),
        Figure::bytes(200),
    );
    claims.settle();
}

#[test]
fn images_are_real_file_systems_and_an_update_changes_little() {
    let needs = ["mkfs.ext4", "debugfs", "e2fsck", "qemu-img"].map(Need::Program);
    if !have_all("real images", &needs) {
        return;
    }
    let scratch = Scratch::new("images");
    let (one, two) = (scratch.path().join("1"), scratch.path().join("2"));
    fs::create_dir_all(&one).unwrap();
    fs::create_dir_all(&two).unwrap();
    let first = DiskImage::make(&one, 24 << 20);
    let second = first.updated(&two, 2 << 20);
    assert_eq!(fs::metadata(&first.raw).unwrap().len(), fs::metadata(&second.raw).unwrap().len());
    let (old, new) = (fs::read(&first.raw).unwrap(), fs::read(&second.raw).unwrap());
    let changed = old.chunks(4096).zip(new.chunks(4096)).filter(|(old, new)| old != new).count() * 4096;
    assert!((1 << 20..6 << 20).contains(&changed), "an update of 2 MiB changed {changed} bytes");
    for image in [&first, &second] {
        let check = run(Command::new("e2fsck").args(["-f", "-n"]).arg(&image.raw), Duration::from_secs(60));
        check.expect_ok();
        let mut compare = Command::new("qemu-img");
        compare.args(["compare", "-f", "raw", "-F", "qcow2"]).args(image.paths());
        run(&mut compare, Duration::from_secs(60)).expect_ok();
    }
}

#[test]
fn a_process_dies_with_its_owner() {
    let scratch = Scratch::new("process");
    let mut command = Command::new("sleep");
    command.arg("600");
    let mut process = Process::start("sleep", &command, &scratch.path().join("log"));
    assert!(process.is_running());
    let id = process.id().to_string();
    drop(process);
    let alive = run(Command::new("kill").args(["-0", &id]), Duration::from_secs(5));
    assert!(!alive.ok(), "the process {id} outlived its owner");
}
