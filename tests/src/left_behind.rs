//! What an agent that was killed has left in its folder, looked at with the store's own code: nobody else knows what
//! it claims to have, and there is no process to ask.

use branchmesh_image::{BlobRef, Cipher, Decoder, Index, IndexPiece, IndexRoot};
use branchmesh_store::{ReleaseRecord, Store};
use std::path::Path;

/// What is there.
#[derive(Debug)]
pub struct LeftBehind {
    /// Bytes of blocks that the store claims to have.
    pub claimed_bytes: u64,
    /// Of these, bytes of blocks of releases whose index is here; each was read and hashed.
    pub proved_bytes: u64,
    /// The release that is active.
    pub current: Option<String>,
    /// The releases that are said to be complete.
    pub complete: Vec<String>,
}

impl LeftBehind {
    /// Opens the store in `data_dir`, and proves whatever it claims to have of public releases of `image`.
    ///
    /// # Panics
    /// If the store does not open, claims a block that is not there, or says of a release that it is complete and
    /// lacks blocks.
    #[must_use]
    pub fn examine(data_dir: &Path, image: &str) -> Self {
        let store = Store::open(data_dir).unwrap_or_else(|error| panic!("a kill broke the store: {error}"));
        let records = store.releases().unwrap_or_else(|error| panic!("a kill broke the records: {error}"));
        let proved_bytes = records.iter().map(|record| prove(&store, record)).sum();
        let complete = records.into_iter().filter(|record| record.complete && record.image == image);
        Self {
            claimed_bytes: store.usage().pack_bytes,
            proved_bytes,
            current: store.current(image).unwrap_or_else(|error| panic!("a kill broke `current`: {error}")),
            complete: complete.map(|record| record.release).collect(),
        }
    }
}

/// Reads every block of a release that the store says it has; gives their bytes.
fn prove(store: &Store, record: &ReleaseRecord) -> u64 {
    let Some(index) = index(store, record) else {
        assert!(!record.complete, "{} is said to be complete and lacks its index", record.release);
        return 0;
    };
    let mut bytes = 0;
    for entry in index.blocks() {
        if !store.has(&entry.location()) {
            assert!(!record.complete, "{} is said to be complete and lacks blocks", record.release);
            continue;
        }
        let read = store.read(&entry.location(), &entry.blob.id);
        read.unwrap_or_else(|error| panic!("a block is claimed that is not there: {error}"));
        bytes += u64::from(entry.blob.encoded_len);
    }
    bytes
}

/// A public release's index, if all its parts are here.
fn index(store: &Store, record: &ReleaseRecord) -> Option<Index> {
    let mut decoder = Decoder::new(Cipher::None).expect("there is memory for a decoder");
    let mut plain = |blob: &BlobRef| {
        let part =
            store.part(&blob.id).unwrap_or_else(|error| panic!("an index part cannot be read: {error}"))?;
        Some(decoder.decode(blob, &part).expect("a part with the right hash is what was published"))
    };
    let root = IndexRoot::from_bytes(&plain(&record.root)?).expect("a published root");
    let pieces: Option<Vec<IndexPiece>> = root
        .pieces
        .iter()
        .map(|blob| Some(IndexPiece::from_bytes(&plain(blob)?).expect("a published piece")))
        .collect();
    Some(Index::assemble(root, &pieces?).expect("a published index"))
}
