//! Processes that are killed with no chance to clean up, at moments that nobody chose, again and again.
//!
//! The tests start their own program once more as the victim. What only a power cut can show is in the crate's
//! own tests, on a disk that loses what was not synced.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use branchmesh_image::Cipher;
use branchmesh_store::{Store, StoreError};
use common::{Sample, noise};
use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

/// Tells the victim its folder; without it the victims' tests do nothing.
const DATA_DIR: &str = "BRANCHMESH_TEST_CRASH_DATA_DIR";
/// How often each victim is killed.
const KILLS: u64 = 25;
/// Blocks between two commits of the victim.
const BATCH: usize = 4;

fn sample() -> Sample {
    Sample::new("xp", "7", &[("disk.img", noise(5, 24 << 20)), ("more/data.img", noise(6, 2 << 20))])
}

/// A copy of this program that runs the test `name` in `data_dir` and tells its progress in lines.
struct Victim {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Victim {
    fn start(name: &str, data_dir: &Path) -> Self {
        let mut process = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(DATA_DIR, data_dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line that the victim (and not the test harness) wrote; `None` at its end.
    fn next(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.rsplit_once("victim: ").map(|(_, said)| said.to_owned()))
    }

    /// Kills it; gives what it had said that nobody had read yet.
    fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.process.kill();
    }
}

fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout();
    writeln!(out, "victim: {what}").unwrap();
    out.flush().unwrap();
}

fn data_dir_of_victim() -> Option<PathBuf> {
    env::var_os(DATA_DIR).map(PathBuf::from)
}

/// A moment later, of a length that differs between kills: up to some half a millisecond of work.
fn dawdle(seed: u64) {
    std::hint::black_box(noise(seed, (seed * 7919 % 97) as usize * 10_000));
}

#[test]
fn victim_that_writes() {
    let Some(data_dir) = data_dir_of_victim() else { return };
    let sample = sample();
    let store = Store::open(&data_dir).unwrap();
    let missing: Vec<usize> =
        (0..sample.blocks.len()).filter(|number| !store.has(&sample.at(*number))).collect();
    say("open");
    // From the back, so that packs have holes at all times.
    for batch in missing.rchunks(BATCH) {
        for number in batch {
            store.write(&sample.at(*number), &sample.blocks[*number]).unwrap();
        }
        store.commit().unwrap();
        batch.iter().for_each(say);
    }
    say("done");
    // Killed here, or at once asked again.
    for number in (0..sample.blocks.len()).cycle() {
        store.forget(&[sample.at(number)]).unwrap();
        store.write(&sample.at(number), &sample.blocks[number]).unwrap();
        if number % BATCH == 0 {
            store.commit().unwrap();
            say("again");
        }
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_it_committed_and_claims_nothing_else() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    let mut committed = BTreeSet::new();
    for kill in 0..KILLS {
        let mut victim = Victim::start("victim_that_writes", data_dir.path());
        let mut said: Vec<String> = Vec::new();
        for _ in 0..kill * 3 % 11 {
            said.extend(victim.next().filter(|line| line != "done"));
        }
        dawdle(kill);
        said.extend(victim.kill());
        let finished = said.iter().any(|line| line == "done");
        committed.extend(said.iter().filter_map(|line| line.parse::<usize>().ok()));

        let store = Store::open(data_dir.path()).unwrap();
        for number in 0..sample.blocks.len() {
            if store.has(&sample.at(number)) {
                let read = store.read(&sample.at(number), sample.id(number)).unwrap();
                assert_eq!(read.bytes(), sample.blocks[number].bytes());
            } else {
                assert!(finished || !committed.contains(&number), "block {number} was committed and is gone");
                committed.remove(&number);
            }
        }
    }
    assert!(!committed.is_empty(), "no victim lived long enough to commit anything");
    let store = Store::open(data_dir.path()).unwrap();
    sample.store(&store);
    sample.assert_is_in(&sample.assemble(&store).unwrap());
}

#[test]
fn victim_that_assembles() {
    let Some(data_dir) = data_dir_of_victim() else { return };
    let sample = sample();
    let store = Store::open(&data_dir).unwrap();
    let index = Arc::new(sample.index.clone());
    say("open");
    loop {
        let mut assembly = store.begin_assembly(Arc::clone(&index), Cipher::None).unwrap();
        assembly.advance().unwrap();
        say("advanced");
        assembly.finish(&|_| ()).unwrap();
        store.put_release(&sample.record(true)).unwrap();
        say("assembled");
        store.retire("xp", "7").unwrap();
        say("retired");
    }
}

#[test]
fn a_killed_assembly_leaves_a_whole_folder_or_none() {
    let data_dir = tempfile::tempdir().unwrap();
    let sample = sample();
    sample.store(&Store::open(data_dir.path()).unwrap());
    let (mut whole, mut none) = (0, 0);
    for kill in 0..KILLS {
        let mut victim = Victim::start("victim_that_assembles", data_dir.path());
        for _ in 0..=kill % 4 {
            victim.next().unwrap();
        }
        dawdle(kill);
        victim.kill();

        let store = Store::open(data_dir.path()).unwrap();
        let image = data_dir.path().join("images/xp");
        let names: Vec<String> = image
            .read_dir()
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        if names.is_empty() {
            none += 1;
            assert!(matches!(store.activate("xp", "7"), Err(StoreError::NotAssembled { .. })));
        } else {
            whole += 1;
            assert_eq!(names, ["7"]);
            sample.assert_is_in(&image.join("7"));
        }
        assert_eq!(store.usage().pack_bytes, sample.index.encoded_bytes());
    }
    eprintln!("{whole} times a whole folder, {none} times none");
}
