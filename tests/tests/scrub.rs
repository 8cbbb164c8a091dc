//! Blocks that rot on a node's disk: found without anybody asking for them, and fetched again from the site.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    hq::{files_below, flip_bit},
    loopback::{IMAGE, Loopback},
    nginx::Manner,
    node::Node,
    wait,
};
use std::{fs, path::PathBuf, thread, time::Duration};

const BYTES: u64 = 6 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// Many times what a healthy node of this machine needs to send the whole release.
const QUIET: Duration = Duration::from_secs(5);
const PROBLEM: &str = "rotted on this disk";

/// Two nodes that have a release, and no origin any more.
struct Site {
    world: Loopback,
    healthy: Node,
    rotting: Node,
    pack: PathBuf,
    content: Vec<u8>,
}

impl Site {
    fn new(test: &str) -> Option<Self> {
        let (world, _) = Loopback::with_nginx(test, BYTES)?;
        let nginx = world.serve(Manner::Proper);
        let mut healthy = world.node("healthy", &[nginx.url()]);
        let mut rotting = world.node("rotting", &[nginx.url()]);
        rotting.settings.scrub = "1s".into();
        rotting.settings.bootstrap = vec![healthy.settings.listen.to_string()];
        for node in [&mut healthy, &mut rotting] {
            node.start();
        }
        for node in [&mut healthy, &mut rotting] {
            node.wait_complete(IMAGE, "1", LIMIT);
        }
        let packs = files_below(&rotting.settings.data_dir.join("store/packs"));
        let pack = packs.into_iter().next().unwrap();
        let content = fs::read(&pack).unwrap();
        Some(Self { world, healthy, rotting, pack, content })
    }

    /// Lets a block rot, and waits until it is whole again.
    fn rot_and_heal(&self) {
        flip_bit(&self.pack);
        let is_whole = || (fs::read(&self.pack).unwrap() == self.content).then_some(());
        wait::until(LIMIT, is_whole).expect("the rotten block stays");
    }
}

#[test]
fn a_block_that_rots_is_found_and_comes_back_from_the_site() {
    let Some(mut site) = Site::new("scrub-heals") else { return };
    site.rot_and_heal();
    let status = site.rotting.wait_complete(IMAGE, "1", LIMIT);
    assert!(!status.complaints().contains(PROBLEM), "{}", status.complaints());
}

#[test]
fn a_disk_that_goes_on_rotting_serves_nobody_and_says_so_even_after_a_restart() {
    let Some(mut site) = Site::new("scrub-fails") else { return };
    (0..3).for_each(|_| site.rot_and_heal());
    let says_so = |node: &mut Node| {
        node.wait_for("saying that its disk fails", LIMIT, |status| status.complaints().contains(PROBLEM));
    };
    says_so(&mut site.rotting);
    site.rotting.kill();
    site.healthy.stop();
    site.rotting.start();
    says_so(&mut site.rotting);

    let mut asking = site.world.node("asking", &[]);
    asking.settings.bootstrap = vec![site.rotting.settings.listen.to_string()];
    asking.start();
    asking.wait_for("knowing the release", LIMIT, |status| status.release(IMAGE, "1").is_some());
    thread::sleep(QUIET);
    let status = asking.status().unwrap();
    assert_eq!(status.release(IMAGE, "1").unwrap().blocks.have, 0, "the failing disk serves");

    site.healthy.settings.bootstrap = asking.settings.bootstrap.clone();
    site.healthy.start();
    asking.wait_complete(IMAGE, "1", LIMIT);
}
