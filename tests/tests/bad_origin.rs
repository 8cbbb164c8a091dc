//! Bad input from an origin: each kind is named, nothing wrong is believed, and when the origin is well again, the
//! node finishes without help.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    free_address::free_address,
    hq::{files_below, flip_bit},
    loopback::{IMAGE, Loopback},
    nginx::{Manner, Nginx},
    node::Node,
};
use std::{fs, path::PathBuf, time::Duration};

/// Some packs' worth would be slower and show no more.
const BYTES: u64 = 6 << 20;
/// A node complains within this time: it listens before it touches the WAN, and tries more than once.
const COMPLAINT_LIMIT: Duration = Duration::from_secs(30);
/// A node notices within this time that the origin is well again: its back-off is then some tens of seconds.
const RECOVERY_LIMIT: Duration = Duration::from_secs(90);

/// A published release, and a node that is about to take it from an origin with a fault.
struct Desk {
    world: Loopback,
    source: PathBuf,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        let (world, source) = Loopback::with_nginx(test, BYTES)?;
        Some(Self { world, source })
    }

    /// Starts a node, and waits until it complains with all of `words`.
    #[track_caller]
    fn node_complains(&self, origin: &str, words: &[&str]) -> Node {
        let mut node = self.world.node("pc-01", &[origin]);
        node.start();
        node.wait_for(&format!("complaining of {words:?}"), COMPLAINT_LIMIT, |status| {
            let complaints = status.complaints().to_lowercase();
            words.iter().all(|word| complaints.contains(&word.to_lowercase()))
        });
        assert!(!node.release_folder(IMAGE, "1").exists(), "files are in place in spite of it");
        node
    }

    #[track_caller]
    fn node_recovers(&self, mut node: Node) {
        node.wait_complete(IMAGE, "1", RECOVERY_LIMIT);
        let wrong = node.wrong_files(IMAGE, "1", &[&self.source]);
        assert!(wrong.is_empty(), "wrong: {wrong:?}");
    }

    /// Spoils files of the repository below `folder`, and lets a node meet them.
    #[track_caller]
    fn damage(&self, folder: &str, words: &[&str]) {
        let files = files_below(&self.world.hq.repository().join(folder));
        let intact: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        files.iter().for_each(|file| flip_bit(file));
        let nginx = self.world.serve(Manner::Proper);
        let node = self.node_complains(nginx.url(), words);
        for (file, bytes) in files.iter().zip(intact) {
            fs::write(file, bytes).unwrap();
        }
        self.node_recovers(node);
    }

    /// Lets a node meet a server with a fault, and puts a good one into its place.
    #[track_caller]
    fn bad_server(&self, manner: Manner, words: &[&str]) {
        let address = free_address();
        let bad: Nginx = self.world.serve_at(address, manner);
        let node = self.node_complains(bad.url(), words);
        drop(bad);
        let _good = self.world.serve_at(address, Manner::Proper);
        self.node_recovers(node);
    }
}

#[test]
fn an_origin_that_cannot_be_reached() {
    let Some(desk) = Desk::new("origin-unreachable") else { return };
    let address = free_address();
    let url = format!("http://{address}");
    let node = desk.node_complains(&url, &[&url, "cannot be reached", "refused"]);
    let _nginx = desk.world.serve_at(address, Manner::Proper);
    desk.node_recovers(node);
}

#[test]
fn an_origin_without_a_repository() {
    let Some(desk) = Desk::new("origin-404") else { return };
    let nginx = desk.world.serve(Manner::Proper);
    desk.node_complains(
        &format!("{}/no/such/place", nginx.url()),
        &["/no/such/place", "is missing", "is there a repository"],
    );
}

#[test]
fn an_origin_without_the_packs() {
    let Some(desk) = Desk::new("packs-404") else { return };
    let packs = desk.world.hq.repository().join("packs");
    let away = desk.world.path().join("away");
    fs::rename(&packs, &away).unwrap();
    let nginx = desk.world.serve(Manner::Proper);
    let node = desk.node_complains(nginx.url(), &["/packs/", ".pack", "does not exist"]);
    fs::rename(&away, &packs).unwrap();
    desk.node_recovers(node);
}

#[test]
fn a_login_page_instead_of_a_pack() {
    let Some(desk) = Desk::new("login-page") else { return };
    desk.bad_server(Manner::LoginPage, &["text/html", "/packs/"]);
}

#[test]
fn a_server_without_range_support() {
    let Some(desk) = Desk::new("no-ranges") else { return };
    desk.bad_server(Manner::NoRanges, &["does not support range requests", "/packs/"]);
}

#[test]
fn a_flipped_bit_in_a_pack() {
    let Some(desk) = Desk::new("bit-pack") else { return };
    desk.damage("packs", &["/packs/", "damaged block"]);
}

#[test]
fn a_flipped_bit_in_the_index() {
    let Some(desk) = Desk::new("bit-index") else { return };
    desk.damage("indexes", &["/indexes/", "damaged"]);
}

#[test]
fn a_flipped_bit_in_the_metadata() {
    let Some(desk) = Desk::new("bit-metadata") else { return };
    desk.damage("metadata", &["metadata"]);
}
