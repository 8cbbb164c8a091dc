//! What a node's disk costs with the image of a real system, on an idle machine, as root:
//!
//! ```text
//! cargo bench -p branchmesh-tests --bench store                    # all of it, some minutes
//! cargo bench -p branchmesh-tests --bench store -- receive         # one of: receive, serve, assemble, open
//! BRANCHMESH_TEST_DIR=/var/tmp cargo bench …                       # on that disk instead of in memory
//! ```
//!
//! The store works in this process, without network and agent. The exit code is not 0 if a claim does not hold.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed benchmark")]

use branchmesh_image::{BlockId, Cipher, Decoder, Index, Location, PackId, VerifiedBlock, index::PACK_MAX};
use branchmesh_repo::{Address, ContentKeys, Origin, load_release, read_catalog};
use branchmesh_store::Store;
use branchmesh_tests::{
    casync::{self, ChunkStore},
    claims::{Claims, Figure},
    counters,
    figures::measure_chosen,
    hq::Headquarters,
    loopback::IMAGE,
    measure::Cost,
    scratch::Scratch,
    skip::have_all,
    system_image::{self, SystemImage},
    turn::Turn,
};
use futures::StreamExt;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// The machine's files beside the system on the image.
const DATA_BYTES: u64 = 5 * GIB;
/// Runs of each figure; shown is the one in the middle.
const ROUNDS: usize = 3;
/// What an agent waits for before it commits.
const COMMIT_BYTES: u64 = 64 * MIB;
/// A node with two large images.
const STORE_BYTES: u64 = 60 * GIB;

const FIGURES: [(&str, fn()); 4] =
    [("receive", receive), ("serve", serve), ("assemble", assemble), ("open", open)];

fn main() -> ExitCode {
    measure_chosen(&FIGURES)
}

/// A published release, its encoded blocks in memory.
struct Release {
    scratch: Scratch,
    raw: PathBuf,
    index: Arc<Index>,
    blocks: Vec<VerifiedBlock>,
}

impl Release {
    /// `None`, and said aloud, where the machine cannot make the image.
    fn new(test: &str, needs: &[branchmesh_tests::skip::Need]) -> Option<Self> {
        have_all(test, &[&system_image::NEEDS[..], needs].concat()).then(|| {
            let scratch = Scratch::new(test);
            let raw = SystemImage::install(&folder(&scratch, "image"), DATA_BYTES).raw;
            let hq = Headquarters::new(&folder(&scratch, "hq"));
            hq.publish(IMAGE, "1", &[&raw]);
            let (index, blocks) = read(&hq.repository());
            fs::remove_dir_all(hq.repository()).unwrap();
            Self { scratch, raw, index: Arc::new(index), blocks }
        })
    }

    fn at(&self, number: usize) -> Location {
        self.index.blocks()[number].location()
    }

    /// Bytes of its files.
    fn plain_bytes(&self) -> u64 {
        self.index.files().iter().map(|file| file.size).sum()
    }

    /// A store that has all blocks.
    fn stored(&self, name: &str) -> Store {
        let store = Store::open(&folder(&self.scratch, name)).unwrap();
        for (number, block) in self.blocks.iter().enumerate() {
            store.write(&self.at(number), block).unwrap();
        }
        store.commit().unwrap();
        store
    }
}

fn read(repository: &Path) -> (Index, Vec<VerifiedBlock>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let origin = Origin::open(Address::from(repository)).unwrap();
        let catalog = read_catalog(&origin, None, &ContentKeys::default()).await.unwrap();
        let index = load_release(&catalog.releases[0], Cipher::None, &origin).await.unwrap();
        let wanted =
            (0u32..).zip(index.blocks()).map(|(number, block)| (number, block.location(), block.blob.id));
        let blocks: Vec<_> = origin.blocks(wanted.collect()).collect().await;
        let mut blocks: Vec<_> = blocks.into_iter().map(Result::unwrap).collect();
        blocks.sort_by_key(|(number, _)| *number);
        (index, blocks.into_iter().map(|(_, block)| block).collect())
    })
}

/// Processor time of a download, without the network: every block is verified, stored, committed and put into files as
/// it comes. Beside it, what nobody can do without: hashing each block and decoding it.
fn receive() {
    let Some(release) = Release::new("bench-receive", &[]) else { return };
    let _turn = Turn::take();
    let mut claims = Claims::of("receiving an image");
    claims.note("the image", Figure::bytes(release.plain_bytes()));
    let (mut bare, mut stored, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(cpu_seconds(|| {
            let mut decoder = Decoder::new(Cipher::None).unwrap();
            for (entry, block) in release.index.blocks().iter().zip(&release.blocks) {
                let block = VerifiedBlock::verify(&entry.blob.id, block.bytes().clone()).unwrap();
                decoder.decode(&entry.blob, &block).unwrap();
            }
        }));
        stored.push(cpu_seconds(|| download(&release, false)));
        whole.push(cpu_seconds(|| download(&release, true)));
    }
    let [bare, stored, whole] = [bare, stored, whole].map(median);
    claims.note("hashing and decoding, CPU", Figure::seconds(bare));
    claims.note("verifying and storing, CPU", Figure::seconds(stored));
    claims.note("verifying, storing and putting into files, CPU", Figure::seconds(whole));
    claims.at_most(
        "storing beside hashing and decoding",
        Figure::ratio((bare + stored) / bare),
        Figure::ratio(1.3),
    );
    claims.note("all, with the files, beside hashing and decoding", Figure::ratio(whole / bare));
    claims.settle();
}

fn download(release: &Release, files: bool) {
    let place = folder(&release.scratch, "node");
    let store = Store::open(&place).unwrap();
    let mut assembly = store.begin_assembly(Arc::clone(&release.index), Cipher::None).unwrap();
    for (number, (entry, block)) in release.index.blocks().iter().zip(&release.blocks).enumerate() {
        let block = VerifiedBlock::verify(&entry.blob.id, block.bytes().clone()).unwrap();
        store.write(&release.at(number), &block).unwrap();
        if store.uncommitted_bytes() >= COMMIT_BYTES {
            store.commit().unwrap();
            if files {
                assembly.advance().unwrap();
            }
        }
    }
    store.commit().unwrap();
    if files {
        assembly.finish(&|_| ()).unwrap();
    }
    drop((assembly, store));
    fs::remove_dir_all(place).unwrap();
}

/// Blocks from the store, each verified before anybody gets it, on one core.
fn serve() {
    let Some(release) = Release::new("bench-serve", &[]) else { return };
    let _turn = Turn::take();
    let store = release.stored("node");
    let bytes: u64 = release.index.encoded_bytes();
    let mut seconds = Vec::new();
    for _ in 0..=ROUNDS {
        let begin = Instant::now();
        for (number, entry) in release.index.blocks().iter().enumerate() {
            store.read(&release.at(number), &entry.blob.id).unwrap();
        }
        seconds.push(begin.elapsed().as_secs_f64());
    }
    let mut claims = Claims::of("serving blocks");
    claims.note("blocks", Figure::bytes(bytes));
    claims.at_least("MiB/s on one core", rate(bytes, median(seconds)), Figure::ratio(1024.0));
    claims.settle();
}

/// From blocks that are here to files, beside `casync extract` with all chunks here.
fn assemble() {
    let Some(release) = Release::new("bench-assemble", &[casync::NEED]) else { return };
    let _turn = Turn::take();
    let chunks = ChunkStore::new(&folder(&release.scratch, "casync"));
    chunks.make("1", &release.raw);
    let store = release.stored("node");
    let target = release.scratch.path().join("extracted.img");
    let log = release.scratch.path().join("casync.log");
    let (mut theirs, mut ours, mut ours_cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(Cost::of("casync extract", &chunks.extract_command("1", &target), &log));
        fs::remove_file(&target).unwrap();
        let begin = Instant::now();
        ours_cpu.push(cpu_seconds(|| {
            store.assemble(&release.index, &Cipher::None, &|_| ()).unwrap();
        }));
        ours.push(begin.elapsed().as_secs_f64());
        store.retire(IMAGE, "1").unwrap();
    }
    let theirs = Cost::median(theirs);
    let mut claims = Claims::of("assembling an image");
    claims.note("the image", Figure::bytes(release.plain_bytes()));
    claims.note("casync extract, CPU", Figure::seconds(theirs.cpu_seconds));
    claims.note("assembling, CPU", Figure::seconds(median(ours_cpu)));
    claims.at_most(
        "assembling, synced, against casync extract",
        Figure::seconds(median(ours)),
        Figure::seconds(theirs.seconds).times(1.5),
    );
    claims.settle();
}

/// Starting with many packs: nothing is read but the ledger and the packs' lengths.
fn open() {
    let _turn = Turn::take();
    let scratch = Scratch::new("bench-open");
    let place = folder(&scratch, "node");
    let store = Store::open(&place).unwrap();
    let bytes = vec![1; 64];
    let block = VerifiedBlock::verify(&BlockId::of(&bytes), bytes).unwrap();
    // Each pack with 250 blocks that lie apart, and its last byte: the files are as long as they would be.
    let packs = u32::try_from(STORE_BYTES / u64::from(PACK_MAX)).unwrap();
    for pack in 0..packs {
        let pack = PackId::of(&pack.to_le_bytes());
        let offsets = (0..250).map(|number| number * 128_000).chain([PACK_MAX - 64]);
        offsets.for_each(|offset| store.write(&Location { pack, offset, len: 64 }, &block).unwrap());
    }
    store.commit().unwrap();
    drop(store);
    let seconds = (0..=ROUNDS).map(|_| {
        let begin = Instant::now();
        let store = Store::open(&place).unwrap();
        let seconds = begin.elapsed().as_secs_f64();
        assert_eq!(store.usage().pack_bytes, u64::from(packs) * 251 * 64);
        seconds
    });
    let mut claims = Claims::of("opening a store");
    claims.note("packs", Figure::bytes(u64::from(packs) * u64::from(PACK_MAX)));
    claims.at_most("time", Figure::seconds(median(seconds.collect())), Figure::seconds(1.0));
    claims.settle();
}

fn cpu_seconds(work: impl FnOnce()) -> f64 {
    let used = || counters::usage(std::process::id()).unwrap().cpu_seconds;
    let before = used();
    work();
    used() - before
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "figures for people, far below 2^52 bytes")]
fn rate(bytes: u64, seconds: f64) -> Figure {
    Figure::ratio(bytes as f64 / MIB as f64 / seconds)
}

fn folder(scratch: &Scratch, name: &str) -> PathBuf {
    let folder = scratch.path().join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}
