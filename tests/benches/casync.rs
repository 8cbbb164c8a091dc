//! `branchmesh publish` beside `casync make` on the same real image, in one run, on an idle machine, as root:
//!
//! ```text
//! cargo bench -p branchmesh-tests --bench casync               # all of it, some ten minutes
//! cargo bench -p branchmesh-tests --bench casync -- holes      # one of: image, holes, huge
//! ```
//!
//! Programs take turns, so that what disturbs the machine disturbs all of them; shown is the run in the middle of
//! three. The exit code is not 0 if a claim does not hold.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed benchmark")]

use branchmesh_tests::{
    casync::{self, ChunkStore},
    claims::{Claims, Figure},
    figures::measure_chosen,
    hq::Headquarters,
    loopback::IMAGE,
    measure::Cost,
    scratch::Scratch,
    skip::have_all,
    system_image::{self, SystemImage},
    turn::Turn,
};
use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The machine's files beside the system on the image: as many as there are, up to this.
const DATA_BYTES: u64 = 5 * GIB;
/// The image must be a real one: not much smaller than what branches get.
const IMAGE_MIN: u64 = 2 * GIB;
/// What the second state of the image has more than the first, upgrades apart.
const PACKAGES: [&str; 4] = ["ca-certificates", "curl", "less", "openssh-client"];
/// Runs of each program.
const ROUNDS: usize = 3;
/// Most memory of a publisher, for an image of any size.
const MEMORY_MAX: u64 = 256 * MIB;

/// What is measured, by the words that choose it.
const FIGURES: [(&str, fn()); 3] = [("image", image), ("holes", holes), ("huge", huge)];

fn main() -> ExitCode {
    measure_chosen(&FIGURES)
}

/// A program with its options.
#[derive(Clone, Copy)]
enum Contender {
    Casync,
    Publish(&'static [&'static str]),
}

const CONTENDERS: [(&str, Contender); 5] = [
    ("casync make", Contender::Casync),
    ("publish", Contender::Publish(&[])),
    ("publish --zstd-level 1", Contender::Publish(&["--zstd-level", "1"])),
    ("publish --zstd-level 9", Contender::Publish(&["--zstd-level", "9"])),
    ("publish --group finance", Contender::Publish(&["--group", "finance"])),
];
const CASYNC: usize = 0;
const PUBLISH: usize = 1;
const GROUP: usize = 4;

/// What the runs of one contender came to.
#[derive(Default)]
struct Outcome {
    runs: Vec<Cost>,
    /// Bytes of all that was stored for the first state.
    stored: u64,
}

fn image() {
    if !have_all("publish beside casync", &[&system_image::NEEDS[..], &[casync::NEED]].concat()) {
        return;
    }
    let _turn = Turn::take();
    let scratch = Scratch::new("bench-casync");
    let old = SystemImage::install(&folder(&scratch, "old"), DATA_BYTES);
    let bytes = fs::metadata(&old.raw).unwrap().len();
    assert!(bytes >= IMAGE_MIN, "this machine has too few files for an image of 2 GiB: it has {bytes} bytes");

    let mut outcomes: [Outcome; CONTENDERS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for ((name, contender), outcome) in CONTENDERS.iter().zip(&mut outcomes) {
            let (cost, stored) = contender.run(name, &scratch, &old.raw);
            eprintln!("{name}: {:.2} s", cost.seconds);
            outcome.runs.push(cost);
            outcome.stored = stored;
        }
    }
    let medians = outcomes.each_ref().map(|outcome| Cost::median(outcome.runs.clone()));
    print_head();
    for (((name, _), outcome), cost) in CONTENDERS.iter().zip(&outcomes).zip(&medians) {
        print_row(name, cost, bytes, outcome.stored);
    }

    let mut claims = Claims::of("publish beside casync make");
    claims.note("the image", Figure::bytes(bytes));
    claims.at_least(
        "throughput, times that of casync",
        Figure::ratio(medians[CASYNC].seconds / medians[PUBLISH].seconds),
        Figure::ratio(4.0),
    );
    claims.at_most(
        "stored bytes",
        Figure::bytes(outcomes[PUBLISH].stored),
        Figure::bytes(outcomes[CASYNC].stored),
    );
    let peak =
        outcomes.iter().skip(PUBLISH).flat_map(|outcome| &outcome.runs).map(|run| run.peak_memory).max();
    claims.at_most(
        "peak memory of a publisher",
        Figure::bytes(peak.unwrap_or_default()),
        Figure::bytes(MEMORY_MAX),
    );
    claims.note(
        "time for a group / time for all",
        Figure::ratio(medians[GROUP].seconds / medians[PUBLISH].seconds),
    );
    compare_update(&mut claims, &scratch, &old);
    claims.settle();
}

/// What the second state costs: new blocks and new parts of the index, or new chunks and the new index.
fn compare_update(claims: &mut Claims, scratch: &Scratch, old: &SystemImage) {
    let new = old.upgraded(&folder(scratch, "new"), &PACKAGES);
    let store = ChunkStore::new(&folder(scratch, "casync"));
    store.make("1", &old.raw);
    let first = store.stored_bytes();
    store.make("2", &new.raw);
    let hq = Headquarters::new(&folder(scratch, "hq"));
    hq.publish(IMAGE, "1", &[&old.raw]);
    let whole_index = hq.size().indexes;
    let added = hq.publish(IMAGE, "2", &[&new.raw]);
    claims.at_most(
        "update: new blocks and index parts",
        Figure::bytes(added.total()),
        Figure::bytes(store.stored_bytes() - first),
    );
    claims.at_most(
        "update: index parts, against half of a whole index",
        Figure::bytes(added.indexes),
        Figure::bytes(whole_index).times(0.5),
    );
}

impl Contender {
    /// Stores an image anew: what that cost, and how many bytes were stored.
    fn run(self, name: &str, scratch: &Scratch, raw: &Path) -> (Cost, u64) {
        let place = folder(scratch, "run");
        let log = scratch.path().join("run.log");
        let result = match self {
            Self::Casync => {
                let store = ChunkStore::new(&place);
                let cost = Cost::of(name, &store.make_command("1", raw), &log);
                (cost, store.stored_bytes())
            }
            Self::Publish(options) => {
                let hq = Headquarters::new(&place);
                let cost = Cost::of(name, hq.publish_command(IMAGE, "1", &[raw]).args(options), &log);
                (cost, hq.size().total())
            }
        };
        fs::remove_dir_all(&place).unwrap();
        result
    }
}

/// Zeros, as a hole of the file system and as written ones, beside what it takes only to read them.
fn holes() {
    let _turn = Turn::take();
    let scratch = Scratch::new("bench-holes");
    let mut claims = Claims::of("holes");
    let (sparse, written) = (scratch.path().join("sparse.img"), scratch.path().join("written.img"));
    File::create(&sparse).unwrap().set_len(16 * GIB).unwrap();
    let mut file = File::create(&written).unwrap();
    (0..4096).for_each(|_| file.write_all(&vec![0; MIB as usize]).unwrap());
    drop(file);
    print_head();
    for (name, path) in [("a hole of 16 GiB", &sparse), ("4 GiB of written zeros", &written)] {
        let bytes = fs::metadata(path).unwrap().len();
        let (mut reads, mut publications, mut stored) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            reads.push(Cost::of("dd", &read_command(path), &scratch.path().join("dd.log")));
            let (cost, size) = Contender::Publish(&[]).run("publish", &scratch, path);
            publications.push(cost);
            stored = size;
        }
        let (read, publish) = (Cost::median(reads), Cost::median(publications));
        print_row(&format!("dd, {name}"), &read, bytes, 0);
        print_row(&format!("publish, {name}"), &publish, bytes, stored);
        let rates = [publish, read].map(|cost| Figure::ratio(cost.mib_per_second(bytes)));
        // Reading copies each byte once. Looking at it as well may take as long again, not more.
        claims.at_least(&format!("{name}: MiB/s, against half of dd's"), rates[0], rates[1].times(0.5));
        claims.at_most(&format!("{name}: stored"), Figure::bytes(stored), Figure::bytes(4096));
    }
    claims.settle();
}

fn read_command(path: &Path) -> Command {
    let mut command = Command::new("dd");
    command.args(["bs=1M", "of=/dev/null", "status=none"]).arg(format!("if={}", path.display()));
    command
}

/// The memory of a publisher whose image is far larger than all memory: 256 GiB, of which 1 GiB is data.
fn huge() {
    let _turn = Turn::take();
    let scratch = Scratch::new("bench-huge");
    let path = scratch.path().join("huge.img");
    let mut file = File::create(&path).unwrap();
    file.set_len(256 * GIB).unwrap();
    let mut noise = File::open("/dev/urandom").unwrap();
    let mut buffer = vec![0; 4 * MIB as usize];
    for gib in 0..256 {
        noise.read_exact(&mut buffer).unwrap();
        file.seek(SeekFrom::Start(gib * GIB)).unwrap();
        file.write_all(&buffer).unwrap();
    }
    drop(file);
    let (cost, stored) = Contender::Publish(&[]).run("publish", &scratch, &path);
    print_head();
    print_row("publish, 256 GiB, sparse", &cost, 256 * GIB, stored);
    let mut claims = Claims::of("a huge image");
    claims.at_most("peak memory", Figure::bytes(cost.peak_memory), Figure::bytes(MEMORY_MAX));
    claims.settle();
}

fn print_head() {
    println!("\n{:<34}{:>10}{:>10}{:>10}{:>14}{:>14}", "", "time", "CPU", "MiB/s", "stored", "peak memory");
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
fn print_row(name: &str, cost: &Cost, bytes: u64, stored: u64) {
    println!(
        "{name:<34}{:>8.2} s{:>8.2} s{:>10.0}{:>11.1} MB{:>11.1} MB",
        cost.seconds,
        cost.cpu_seconds,
        cost.mib_per_second(bytes),
        stored as f64 / 1e6,
        cost.peak_memory as f64 / 1e6
    );
}

fn folder(scratch: &Scratch, name: &str) -> PathBuf {
    let folder = scratch.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
