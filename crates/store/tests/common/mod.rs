//! A release made of given files, as a publisher would make it, for the tests of the store.

// Each test program uses a part of this.
#![allow(dead_code)]

use branchmesh_image::{
    BlockEntry, BlockId, BlockSize, Chunker, Cipher, Cut, Encoder, Extent, FileEntry, Index, IndexPiece,
    IndexRoot, Location, PackId, VerifiedBlock, index::INDEX_VERSION,
};
use branchmesh_store::{AssembleError, ReleaseRecord, Store};
use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Blocks of a pack: few, so that small releases have several packs.
const BLOCKS_PER_PACK: usize = 8;

/// A release, its encoded blocks in the index's order, and the content that its files must have.
pub struct Sample {
    pub index: Index,
    pub blocks: Vec<VerifiedBlock>,
    pub cipher: Cipher,
    pub files: Vec<(String, Vec<u8>)>,
}

impl Sample {
    pub fn new(image: &str, release: &str, files: &[(&str, Vec<u8>)]) -> Self {
        Self::sealed(image, release, files, Cipher::None)
    }

    pub fn sealed(image: &str, release: &str, files: &[(&str, Vec<u8>)], cipher: Cipher) -> Self {
        let mut encoder = Encoder::new(1, cipher.clone()).unwrap();
        let (mut entries, mut blocks, mut known) = (Vec::new(), Vec::new(), HashMap::new());
        let mut file_entries = Vec::new();
        for (path, content) in files {
            let mut extents = Vec::new();
            for cut in Chunker::new(&content[..], BlockSize::default()) {
                let plain = match cut.unwrap() {
                    Cut::Hole(length) => {
                        extents.push(Extent::Hole(length));
                        continue;
                    }
                    Cut::Data(plain) => plain,
                };
                let (blob, block) = encoder.encode(&plain).unwrap();
                let first = *known.entry(blob.id).or_insert_with(|| {
                    blocks.push(block);
                    entries.push(blob);
                    u32::try_from(entries.len() - 1).unwrap()
                });
                extents.push(Extent::Blocks { first, count: 1 });
            }
            let size = content.len() as u64;
            file_entries.push(FileEntry {
                path: (*path).to_owned(),
                size,
                mode: 0o640,
                extents: merge(extents),
            });
        }
        let mut table = Vec::new();
        for run in entries.chunks(BLOCKS_PER_PACK) {
            let ids: Vec<u8> = run.iter().flat_map(|blob| blob.id.0).collect();
            let mut offset = 0;
            for blob in run {
                table.push(BlockEntry { blob: *blob, pack: PackId::of(&ids), offset });
                offset += blob.encoded_len;
            }
        }
        let root = IndexRoot {
            version: INDEX_VERSION,
            image: image.into(),
            release: release.into(),
            files: file_entries,
            pieces: Vec::new(),
        };
        let pieces: Vec<IndexPiece> = IndexPiece::cut(&table).collect();
        let files = files.iter().map(|(path, content)| ((*path).to_owned(), content.clone())).collect();
        Self { index: Index::assemble(root, &pieces).unwrap(), blocks, cipher, files }
    }

    pub fn at(&self, number: usize) -> Location {
        self.index.blocks()[number].location()
    }

    pub fn id(&self, number: usize) -> &BlockId {
        self.blocks[number].id()
    }

    pub fn packs(&self) -> impl Iterator<Item = PackId> + '_ {
        self.index.blocks().iter().map(|block| block.pack)
    }

    /// Puts all blocks into the store.
    pub fn store(&self, store: &Store) {
        (0..self.blocks.len())
            .for_each(|number| store.write(&self.at(number), &self.blocks[number]).unwrap());
        store.commit().unwrap();
    }

    pub fn assemble(&self, store: &Store) -> Result<PathBuf, AssembleError> {
        store.assemble(&self.index, &self.cipher, &|_| {})
    }

    /// Compares a folder with what was published, nothing more and nothing less.
    pub fn assert_is_in(&self, folder: &Path) {
        for (path, content) in &self.files {
            let found = fs::read(folder.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            assert!(found == *content, "{path} differs");
        }
        assert_eq!(count_files(folder), self.files.len());
    }

    pub fn record(&self, complete: bool) -> ReleaseRecord {
        let mut encoder = Encoder::new(1, Cipher::None).unwrap();
        ReleaseRecord {
            image: self.index.root().image.clone(),
            release: self.index.root().release.clone(),
            group: None,
            root: encoder.encode(&self.index.root().to_bytes()).unwrap().0,
            complete,
            sources: vec![1, 2, 3],
        }
    }
}

/// Where a pack lies in a data_dir.
pub fn pack_path(data_dir: &Path, pack: &PackId) -> PathBuf {
    let name = pack.to_string();
    data_dir.join("store/packs").join(&name[..2]).join(format!("{name}.pack"))
}

/// Changes one bit of a block where it lies.
pub fn rot(data_dir: &Path, at: &Location) {
    let path = pack_path(data_dir, &at.pack);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(at.offset + at.len / 2) as usize] ^= 4;
    fs::write(&path, bytes).unwrap();
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

fn merge(extents: Vec<Extent>) -> Vec<Extent> {
    let mut merged: Vec<Extent> = Vec::new();
    for extent in extents {
        if let (Some(Extent::Blocks { first, count }), Extent::Blocks { first: next, .. }) =
            (merged.last_mut(), &extent)
            && *first + *count == *next
        {
            *count += 1;
            continue;
        }
        merged.push(extent);
    }
    merged
}

fn count_files(folder: &Path) -> usize {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { count_files(&path) } else { 1 })
        .sum()
}
