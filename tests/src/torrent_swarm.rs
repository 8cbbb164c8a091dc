//! Rivals as a [`Swarm`]: BitTorrent clients from Debian's packages that find each other by local discovery.

use crate::{
    images,
    lan::{Lan, Swarm},
    place::Place,
    process::Process,
    python,
    run::run,
    skip::Need,
    wait,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Where the scripts of the rivals are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals");
const PAYLOAD: &str = "disk.img";
/// A holder has read and hashed its file within this time; a torrent is made within it, too.
const HOLDER_LIMIT: Duration = Duration::from_secs(120);
/// Random content is the same in each run.
const SEED: u64 = 7;

/// A program that speaks BitTorrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torrent {
    /// libtorrent 2.0 as it comes.
    Libtorrent,
    /// libtorrent with the settings that suit a LAN with one holder.
    LibtorrentTuned,
    /// aria2.
    Aria2,
}

impl Torrent {
    /// What must be installed for it.
    #[must_use]
    pub fn needs(self) -> &'static [Need] {
        match self {
            Self::Libtorrent | Self::LibtorrentTuned => &[Need::Python(&["libtorrent"])],
            Self::Aria2 => &[Need::Program("aria2c"), Need::Python(&["hashlib"])],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Libtorrent => "libtorrent",
            Self::LibtorrentTuned => "libtorrent, tuned",
            Self::Aria2 => "aria2",
        }
    }
}

/// The holder and its clients, in this order.
#[derive(Debug)]
pub struct TorrentSwarm {
    program: Torrent,
    python: PathBuf,
    folder: PathBuf,
    bytes: u64,
    peers: Vec<Process>,
}

impl TorrentSwarm {
    /// Makes a file of `bytes` that nothing makes smaller, and a torrent of it.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn new(lan: &Lan, program: Torrent, bytes: u64) -> Self {
        let modules: &[&str] = if program == Torrent::Aria2 { &["hashlib"] } else { &["libtorrent"] };
        let python = python::with_modules(modules).expect("the caller has asked for it (`skip::have_all`)");
        let swarm = Self { program, python, folder: lan.path().join("torrent"), bytes, peers: Vec::new() };
        let source = swarm.payload_of(0);
        make_folder(&swarm.peer_folder(0));
        images::make_noise(&source, SEED, bytes);
        let mut make = swarm.script(&Place::Here, "make_torrent.py");
        run(make.arg(&source).arg(swarm.torrent()), HOLDER_LIMIT).expect_ok();
        swarm
    }

    fn start(&mut self, place: &Place) {
        let number = self.peers.len();
        make_folder(&self.peer_folder(number));
        let command = match self.program {
            Torrent::Aria2 => self.aria2(place, number),
            Torrent::Libtorrent | Torrent::LibtorrentTuned => self.libtorrent(place, number),
        };
        let log = self.folder.join(format!("peer-{number}.log"));
        self.peers.push(Process::start(&format!("peer-{number}"), &command, &log));
    }

    fn libtorrent(&self, place: &Place, number: usize) -> Command {
        let mut command = self.script(place, "libtorrent_peer.py");
        command.arg(self.torrent()).arg(self.peer_folder(number)).arg(self.done_file(number));
        command.args((self.program == Torrent::LibtorrentTuned).then_some("--tuned"));
        command.args((number == 0).then_some("--holder"));
        command
    }

    fn aria2(&self, place: &Place, number: usize) -> Command {
        let mut command = place.command("aria2c");
        command.args(["--no-conf", "--bt-enable-lpd=true", "--enable-dht=false", "--disable-ipv6=true"]);
        command.args(["--listen-port=6881", "--seed-ratio=0.0", "--file-allocation=none"]);
        // Its readout is the only sign that the holder has read its file.
        command.args(["--check-integrity=true", "--summary-interval=1"]);
        command.arg("--dir").arg(self.peer_folder(number));
        command.arg("--on-bt-download-complete").arg(Path::new(SCRIPTS).join("aria2_done.sh"));
        command.env("DONE", self.done_file(number)).arg(self.torrent());
        command
    }

    fn script(&self, place: &Place, name: &str) -> Command {
        let mut command = place.command(&self.python);
        command.arg(Path::new(SCRIPTS).join(name));
        command
    }

    fn torrent(&self) -> PathBuf {
        self.folder.join("disk.torrent")
    }

    fn peer_folder(&self, number: usize) -> PathBuf {
        self.folder.join(format!("peer-{number}"))
    }

    fn payload_of(&self, number: usize) -> PathBuf {
        self.peer_folder(number).join(PAYLOAD)
    }

    fn done_file(&self, number: usize) -> PathBuf {
        self.folder.join(format!("done-{number}"))
    }

    fn expect_running(&mut self, number: usize) {
        let peer = &mut self.peers[number];
        assert!(peer.is_running(), "{} has ended\n{}", self.program.name(), peer.tail());
    }
}

impl Swarm for TorrentSwarm {
    fn name(&self) -> &str {
        self.program.name()
    }

    fn payload(&self) -> u64 {
        self.bytes
    }

    fn start_holder(&mut self, place: &Place) {
        self.start(place);
        let ready = wait::until(HOLDER_LIMIT, || {
            self.expect_running(0);
            let is_ready = match self.program {
                Torrent::Aria2 => self.peers[0].log().contains("SEED("),
                Torrent::Libtorrent | Torrent::LibtorrentTuned => self.done_file(0).exists(),
            };
            is_ready.then_some(())
        });
        assert!(ready.is_some(), "the holder is not ready within {HOLDER_LIMIT:?}\n{}", self.peers[0].tail());
    }

    fn start_client(&mut self, place: &Place) {
        self.start(place);
    }

    fn is_done(&mut self, client: usize) -> bool {
        self.expect_running(0);
        self.expect_running(client + 1);
        self.done_file(client + 1).exists()
    }

    fn processes(&mut self) -> Vec<u32> {
        self.peers.iter().map(Process::id).collect()
    }

    fn wrong(&self) -> Vec<String> {
        let source = self.payload_of(0);
        let copies = (1..self.peers.len()).map(|number| self.payload_of(number));
        let wrong = copies.filter(|copy| !copy.is_file() || !images::same_content(&source, copy));
        wrong.map(|copy| copy.display().to_string()).collect()
    }
}

fn make_folder(folder: &Path) {
    fs::create_dir_all(folder).unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
}
