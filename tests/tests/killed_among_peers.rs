//! An agent is killed with SIGKILL again and again, at moments that nobody chose, while it updates itself from other
//! members of its site. After each kill its folder is examined: nothing is claimed that is not there, what was there
//! before is there still, and each release folder and `current` are the old or the new one, whole.
//!
//! `BRANCHMESH_KILLS=200 cargo test -p branchmesh-tests --test killed_among_peers` kills it more often than CI does.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    claims::{Claims, Figure},
    images,
    left_behind::LeftBehind,
    loopback::{IMAGE, Loopback},
    node::{Node, is_done},
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};
use walkdir::WalkDir;

const OLD: &str = "1";
const NEW: &str = "2";
const OLD_BYTES: u64 = 4 << 20;
const NEW_BYTES: u64 = 48 << 20;
const LIMIT: Duration = Duration::from_secs(90);
/// What each of the two members sends: an update takes several lives, however quick the machine is.
const LAN_LIMIT: &str = "60 Mbit/s";
/// Longest life of an agent from its start on, and from the first sight of progress on.
const FROM_START: Duration = Duration::from_millis(1500);
const FROM_PROGRESS: Duration = Duration::from_millis(1200);

/// How often it is killed.
fn kills() -> u64 {
    env::var("BRANCHMESH_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12)
}

#[test]
fn an_agent_that_is_killed_while_members_serve_it_has_the_old_release_or_the_new_one() {
    let world = Loopback::new("killed among peers");
    let old = source(&world, OLD, OLD_BYTES);
    let new = source(&world, NEW, NEW_BYTES);
    world.hq.publish(IMAGE, OLD, &[&old]);

    let origin = world.folder_origin();
    let mut members = ["pc-01", "pc-02"].map(|name| world.node(name, &[&origin]));
    let mut victim = world.node("pc-03", &[]);
    let addresses = members.each_ref().map(|member| member.settings.listen.to_string());
    victim.settings.bootstrap = addresses.to_vec();
    victim.settings.wan = "never".into();
    members[1].settings.bootstrap = vec![addresses[0].clone()];
    members.iter_mut().for_each(|member| member.settings.lan_limit = LAN_LIMIT.into());

    // Each life begins with the old release.
    let data_dir = victim.settings.data_dir.clone();
    members.iter_mut().for_each(Node::start);
    victim.start();
    victim.wait_for("active with the old release", LIMIT, |status| {
        status.release(IMAGE, OLD).is_some_and(|release| release.state == "active")
    });
    victim.stop();
    let beginning = world.path().join("beginning");
    copy(&data_dir, &beginning);
    world.hq.publish(IMAGE, NEW, &[&new]);
    for member in &mut members {
        member.wait_complete(IMAGE, NEW, LIMIT);
    }

    let mut dice = Dice(kills());
    let (mut before, mut lives, mut partial) = (None::<LeftBehind>, 1, 0);
    for kill in 0..kills() {
        victim.start();
        if kill % 3 == 0 {
            thread::sleep(dice.below(FROM_START));
        } else {
            let had = before.as_ref().map_or(0, |before| before.claimed_bytes);
            victim.wait_for("further than before", LIMIT, |status| {
                status.release(IMAGE, NEW).is_some_and(|new| is_done(&new.state) || new.bytes.have > had)
            });
            thread::sleep(dice.below(FROM_PROGRESS));
        }
        victim.kill();

        let after = LeftBehind::examine(&data_dir, IMAGE);
        expect_whole(&victim, &after, [(OLD, &old), (NEW, &new)]);
        if let Some(before) = &before {
            assert!(
                after.claimed_bytes >= before.claimed_bytes,
                "kill {kill} lost blocks: {before:?}, {after:?}"
            );
            assert!(before.complete.iter().all(|release| after.complete.contains(release)), "{after:?}");
            assert!(
                before.current.as_deref() != Some(NEW) || after.current.as_deref() == Some(NEW),
                "{after:?}"
            );
        }
        let finished = after.current.as_deref() == Some(NEW);
        partial += u64::from(!finished && after.claimed_bytes > OLD_BYTES);
        before = Some(after);
        if finished {
            fs::remove_dir_all(&data_dir).unwrap();
            copy(&beginning, &data_dir);
            (before, lives) = (None, lives + 1);
        }
    }

    victim.start();
    victim.wait_for("active with the new release", LIMIT, |status| {
        status.release(IMAGE, NEW).is_some_and(|release| release.state == "active")
    });
    victim.stop();
    expect_whole(&victim, &LeftBehind::examine(&data_dir, IMAGE), [(OLD, &old), (NEW, &new)]);

    let mut claims = Claims::of("killed among peers");
    claims.note("kills", Figure::count(usize::try_from(kills()).unwrap()));
    claims.note("updates that these kills interrupted", Figure::count(lives));
    claims.at_least(
        "kills in the middle of a download",
        Figure::count(usize::try_from(partial).unwrap()),
        Figure::count(1),
    );
    claims.settle();
}

/// Each release is in place whole or not at all; what is active or complete is there.
fn expect_whole(node: &Node, left: &LeftBehind, releases: [(&str, &PathBuf); 2]) {
    assert!(left.proved_bytes > 0, "nothing was proved: {left:?}");
    assert!([Some(OLD), Some(NEW)].contains(&left.current.as_deref()), "{left:?}");
    for (release, source) in releases {
        let is_there = node.release_folder(IMAGE, release).exists();
        assert!(is_there || left.current.as_deref() != Some(release), "{release} is not in place: {left:?}");
        if is_there {
            assert_eq!(node.wrong_files(IMAGE, release, &[source]), [""; 0], "{left:?}");
        }
    }
    let image = node.release_folder(IMAGE, OLD).with_file_name("");
    let names = fs::read_dir(image).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let halves: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
    // What is written of the release that is on its way waits for the next start.
    let is_new_done = left.complete.iter().any(|release| release == NEW);
    let waits = |name: &String| !is_new_done && *name == format!(".{NEW}.partial");
    assert!(halves.iter().all(waits), "a half was not swept away: {halves:?}");
}

/// The image as a release has it.
fn source(world: &Loopback, release: &str, bytes: u64) -> PathBuf {
    let folder = world.path().join("states").join(release);
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("disk.img");
    images::make_blob(&file, bytes);
    file
}

fn copy(from: &Path, to: &Path) {
    for entry in WalkDir::new(from) {
        let entry = entry.unwrap();
        let target = to.join(entry.path().strip_prefix(from).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(target).unwrap();
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Random numbers that are the same in every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bound.mul_f64(((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64)
    }
}
