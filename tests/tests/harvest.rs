//! Harvesting: what lies in files of a machine crosses no line, not even for the others of its site.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    claims::{Claims, Figure},
    loopback::{IMAGE, Loopback},
    nginx::{Manner, Nginx, body_bytes},
    node::Node,
    run::run,
    skip::{Need, have_all},
    status::Status,
};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const BYTES: u64 = 24 << 20;
const LIMIT: Duration = Duration::from_secs(60);

/// A published release behind a web server, and an old disk that has most of it.
struct Desk {
    world: Loopback,
    source: PathBuf,
    nginx: Nginx,
    old: PathBuf,
}

impl Desk {
    fn new(test: &str) -> Option<Self> {
        let (world, source) = Loopback::with_nginx(test, BYTES)?;
        let nginx = world.serve(Manner::Proper);
        let folder = world.path().join("old");
        fs::create_dir(&folder).unwrap();
        let old = folder.join("xp.vhd");
        // Everything lies elsewhere than in the new disk, and a part in the middle is different.
        let disk = fs::read(&source).unwrap();
        let mut file = OpenOptions::new().write(true).create_new(true).open(&old).unwrap();
        file.write_all(&[b"conectix".as_slice(), &[7; 504], &disk].concat()).unwrap();
        file.seek(SeekFrom::Start(BYTES / 2)).unwrap();
        file.write_all(&b"an older system file\n".repeat(20_000)).unwrap();
        Some(Self { world, source, nginx, old })
    }

    fn node(&self, name: &str, harvest: &[&Path]) -> Node {
        let mut node = self.world.node(name, &[self.nginx.url()]);
        node.settings.harvest = harvest.iter().map(|path| path.to_path_buf()).collect();
        node
    }

    /// Waits until a node has the release, to the last byte.
    fn wait(&self, node: &mut Node) -> Status {
        let status = node.wait_complete(IMAGE, "1", LIMIT);
        assert_eq!(node.wrong_files(IMAGE, "1", &[&self.source]), [""; 0]);
        status
    }

    /// Bytes of blocks that nginx has sent so far.
    fn sent(&self) -> u64 {
        body_bytes(self.nginx.accesses().iter().filter(|access| access.is_of_pack()))
    }
}

fn encoded_bytes(status: &Status) -> u64 {
    status.release(IMAGE, "1").unwrap().bytes.total
}

#[test]
fn what_an_old_disk_holds_is_fetched_by_nobody_of_the_site() {
    let Some(desk) = Desk::new("harvest-site") else { return };
    let mut claims = Claims::of("harvesting an old disk");
    let mut first = desk.node("pc-01", &[desk.old.parent().unwrap()]);
    let mut second = desk.node("pc-02", &[]);
    second.settings.bootstrap = vec![first.settings.listen.to_string()];
    // Only the node with the old disk may use the line, so that what it harvests decides.
    second.settings.wan = "never".into();
    first.start();
    second.start();
    let status = desk.wait(&mut first);
    desk.wait(&mut second);
    let (total, harvest) = (encoded_bytes(&status), status.harvest.unwrap());
    assert_eq!((harvest.files, &*harvest.unreadable), (1, &[][..]), "{harvest:?}");
    claims.note("the release", Figure::bytes(total));
    claims.at_most(
        "blocks over the line, for two nodes",
        Figure::bytes(desk.sent()),
        Figure::bytes(total).times(0.1),
    );
    claims.holds(
        "what was saved and what was sent make up the release",
        harvest.bytes_saved + desk.sent() == total,
        &format!("{} and {} of {total}", harvest.bytes_saved, desk.sent()),
    );
    claims.settle();

    first.kill();
    first.start();
    let status = desk.wait(&mut first);
    assert_eq!(status.harvest.map(|harvest| harvest.files), Some(0), "the disk was read again");
}

#[test]
fn without_trim_nothing_is_looked_for() {
    let Some(desk) = Desk::new("harvest-off") else { return };
    let mut node = desk.node("pc-01", &[&desk.old]);
    node.settings.trim = false;
    node.start();
    let status = desk.wait(&mut node);
    assert!(status.harvest.is_none());
    assert_eq!(desk.sent(), encoded_bytes(&status));
}

#[test]
fn places_that_are_not_there_are_named_and_everything_is_fetched() {
    let Some(desk) = Desk::new("harvest-missing") else { return };
    let missing = desk.world.path().join("not-there.vhd");
    let mut node = desk.node("pc-01", &[&missing]);
    node.start();
    let status = desk.wait(&mut node);
    let harvest = status.harvest.clone().unwrap();
    assert!(harvest.unreadable.iter().any(|line| line.contains("not-there.vhd")), "{harvest:?}");
    assert_eq!((harvest.blocks, desk.sent()), (0, encoded_bytes(&status)));
}

#[test]
fn a_block_device_is_a_disk_like_any_other() {
    if !have_all("harvest a block device", &[Need::Mounts, Need::Program("losetup")]) {
        return;
    }
    let Some(desk) = Desk::new("harvest-device") else { return };
    // A device has whole sectors.
    let sectors = fs::metadata(&desk.old).unwrap().len().next_multiple_of(512);
    OpenOptions::new().write(true).open(&desk.old).unwrap().set_len(sectors).unwrap();
    let device = LoopDevice::of(&desk.old);
    let mut node = desk.node("pc-01", &[&device.0]);
    node.start();
    let status = desk.wait(&mut node);
    let total = encoded_bytes(&status);
    assert!(desk.sent() < total / 10, "{} of {total} bytes were sent", desk.sent());
}

/// A block device that is backed by a file.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn of(file: &Path) -> Self {
        let mut command = Command::new("losetup");
        let made = run(command.args(["--find", "--show", "--read-only"]).arg(file), LIMIT).expect_ok();
        Self(made.stdout.trim().into())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // A left-over device would be seen in the next `losetup --list`; the test's outcome stands.
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}
