//! Two releases of one image, small, with everything that real ones have: files, a hole, several packs, blocks that
//! both have, index parts, and pieces that lie in files of the machine.

use branchmesh_image::{
    BlobRef, BlockEntry, BlockId, Cipher, Encoder, Extent, FileEntry, Index, IndexPiece, IndexRoot, Location,
    PackId, VerifiedBlock, index::INDEX_VERSION,
};
use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::PathBuf,
    sync::Arc,
};
use tempfile::TempDir;

pub(super) const IMAGE: &str = "xp";
/// Blocks of a pack.
const PACK_BLOCKS: usize = 4;
/// The number of the large piece; only the older release has it.
const LARGE: u8 = 6;
/// Pieces from this number on lie in files of the machine too, one in each.
const AT_HAND: u8 = 40;
/// Bytes of the hole in the large file.
const HOLE: usize = 9000;

/// A block, where it lies.
pub(super) type Placed = (Location, VerifiedBlock);

/// A release and all that it is made of.
pub(super) struct Release {
    pub name: &'static str,
    pub index: Arc<Index>,
    /// In the order of the index.
    pub blocks: Vec<Placed>,
    pub parts: Vec<VerifiedBlock>,
    pub root: BlobRef,
    /// Each file's path and content.
    pub files: Vec<(&'static str, Vec<u8>)>,
    pub at_hand: AtHand,
}

/// Files of the machine that hold pieces of a release, on a real disk.
pub(super) struct AtHand {
    folder: TempDir,
    blocks: Vec<Location>,
}

/// The older release and the newer, which has most of its blocks from the older.
pub(super) fn releases() -> [Release; 2] {
    let mut publisher = Publisher::default();
    let old = publisher.publish("6", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 30);
    let new = publisher.publish("7", &[0, 1, 40, 3, 4, 5, 20, 41, 7, 21], 30);
    [old, new]
}

/// Two releases that have one name, and files of the same sizes.
pub(super) fn releases_of_one_name() -> [Release; 2] {
    let mut publisher = Publisher::default();
    [publisher.publish("6", &[0, 1, 2, 3], 30), publisher.publish("6", &[1, 0, 3, 2], 30)]
}

impl Release {
    pub(super) fn packs(&self) -> HashSet<PackId> {
        self.blocks.iter().map(|(at, _)| at.pack).collect()
    }

    pub(super) fn part_ids(&self) -> HashSet<BlockId> {
        self.parts.iter().map(|part| *part.id()).collect()
    }
}

impl AtHand {
    fn new(pieces: impl IntoIterator<Item = (u8, Location)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let put = |(number, at): (u8, Location)| {
            fs::write(folder.path().join(format!("{number}.old")), content(number)).unwrap();
            at
        };
        Self { blocks: pieces.into_iter().map(put).collect(), folder }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().to_path_buf()
    }

    /// The blocks that need not be fetched.
    pub(super) fn blocks(&self) -> &[Location] {
        &self.blocks
    }
}

/// Publishes releases one after the other; what an earlier one has is used again.
#[derive(Default)]
struct Publisher {
    known: BTreeMap<u8, (BlockEntry, VerifiedBlock)>,
}

impl Publisher {
    /// A release of a large file and a small one, made of numbered pieces of content.
    fn publish(&mut self, name: &'static str, disk: &[u8], settings: u8) -> Release {
        let mut encoder = Encoder::new(1, Cipher::None).unwrap();
        let numbers: Vec<u8> = disk.iter().copied().chain([settings]).collect();
        self.pack(&mut encoder, &numbers);
        let placed: Vec<_> = numbers.iter().map(|number| self.known[number].clone()).collect();

        let half = disk.len() / 2;
        let count = |blocks: usize| u32::try_from(blocks).unwrap();
        let join = |numbers: &[u8]| numbers.iter().flat_map(|number| content(*number)).collect::<Vec<u8>>();
        let image = [join(&disk[..half]), vec![0; HOLE], join(&disk[half..])].concat();
        let files = vec![("disk.img", image), ("more/settings.cfg", content(settings))];
        let extents = [
            vec![
                Extent::Blocks { first: 0, count: count(half) },
                Extent::Hole(HOLE as u64),
                Extent::Blocks { first: count(half), count: count(disk.len() - half) },
            ],
            vec![Extent::Blocks { first: count(disk.len()), count: 1 }],
        ];
        let at_hand = numbers.iter().zip(&placed).filter(|(number, _)| **number >= AT_HAND);
        let at_hand = AtHand::new(at_hand.map(|(number, (entry, _))| (*number, entry.location())));
        let entry = |((path, content), extents): (&(&str, Vec<u8>), Vec<Extent>)| FileEntry {
            path: (*path).to_owned(),
            size: content.len() as u64,
            mode: 0o640,
            extents,
        };
        let table: Vec<BlockEntry> = placed.iter().map(|(entry, _)| *entry).collect();
        let pieces: Vec<IndexPiece> = IndexPiece::cut(&table).collect();
        let encoded: Vec<_> = pieces.iter().map(|piece| encoder.encode(&piece.to_bytes()).unwrap()).collect();
        let root = IndexRoot {
            version: INDEX_VERSION,
            image: IMAGE.into(),
            release: name.into(),
            files: files.iter().zip(extents).map(entry).collect(),
            pieces: encoded.iter().map(|(blob, _)| *blob).collect(),
        };
        let (root_blob, root_part) = encoder.encode(&root.to_bytes()).unwrap();
        // Large releases have pieces in common; what parts hold is nothing to the store.
        let common = encoder.encode(b"a piece that both have").unwrap().1;
        Release {
            name,
            parts: encoded.into_iter().map(|(_, part)| part).chain([root_part, common]).collect(),
            index: Arc::new(Index::assemble(root, &pieces).unwrap()),
            blocks: placed.into_iter().map(|(entry, block)| (entry.location(), block)).collect(),
            root: root_blob,
            files,
            at_hand,
        }
    }

    /// Puts what is not known yet into new packs.
    fn pack(&mut self, encoder: &mut Encoder, numbers: &[u8]) {
        let new: Vec<u8> =
            numbers.iter().copied().filter(|number| !self.known.contains_key(number)).collect();
        for run in new.chunks(PACK_BLOCKS) {
            let (pack, mut offset) = (PackId::of(run), 0);
            for number in run {
                let (blob, block) = encoder.encode(&content(*number)).unwrap();
                self.known.insert(*number, (BlockEntry { blob, pack, offset }, block));
                offset += blob.encoded_len;
            }
        }
    }
}

/// Bytes that do not compress, of a length that is no multiple of a sector. One piece is so large that its place is worth
/// a hole when it is dead.
fn content(number: u8) -> Vec<u8> {
    let mut state = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let length = if number == LARGE { 70_001 } else { 1000 + usize::from(number) * 97 };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}
