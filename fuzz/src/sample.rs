//! A small release in memory, made by the real encoders, and the same at every run: what seeds and mutations
//! begin with.

use branchmesh_image::{
    BlobRef, BlockEntry, BlockId, Cipher, Encoder, Extent, FileEntry, GroupKey, IndexPiece, IndexRoot,
    PackId, VerifiedBlock, index::INDEX_VERSION,
};
use std::collections::HashMap;

/// Blocks of a sample: enough for several pieces, and for a file of several extents.
const BLOCKS: u32 = 300;

/// A release that was never published, with everything that a reader of it would fetch.
#[derive(Clone, Debug)]
pub struct Sample {
    /// How it is sealed.
    pub cipher: Cipher,
    /// Its root.
    pub root: BlobRef,
    /// Encoded index parts, by their names.
    pub parts: HashMap<BlockId, VerifiedBlock>,
    /// Plaintext of the root.
    pub root_plain: Vec<u8>,
    /// Plaintexts of the pieces.
    pub piece_plains: Vec<Vec<u8>>,
    /// Its blocks, encoded.
    pub blocks: Vec<(BlobRef, VerifiedBlock)>,
}

/// The content key of all samples: no secret.
///
/// # Panics
/// Never: the line is one.
#[must_use]
pub fn group_key() -> GroupKey {
    let line = format!("branchmesh-group-key-v1:{}", "07".repeat(32));
    line.parse().expect("64 hexadecimal digits are a key")
}

/// The cipher of a sample for a group.
#[must_use]
pub fn group_cipher() -> Cipher {
    Cipher::Group(group_key())
}

impl Sample {
    /// The release `number` of an image. Two of them share most blocks.
    ///
    /// # Panics
    /// If the encoders fail, which takes a machine without memory.
    #[must_use]
    pub fn new(cipher: Cipher, number: u32) -> Self {
        let mut encoder = Encoder::new(3, cipher.clone()).expect("zstd works");
        let mut encode = |plain: &[u8]| encoder.encode(plain).expect("zstd works");
        let plains = (0..BLOCKS).map(|block| content(if block == 40 { 1000 + number } else { block }));
        let blocks: Vec<(BlobRef, VerifiedBlock)> = plains.map(|plain| encode(&plain)).collect();
        let entries = entries(&blocks);
        let piece_plains: Vec<Vec<u8>> = IndexPiece::cut(&entries).map(|piece| piece.to_bytes()).collect();
        let pieces: Vec<(BlobRef, VerifiedBlock)> = piece_plains.iter().map(|plain| encode(plain)).collect();
        let root_plain = IndexRoot {
            version: INDEX_VERSION,
            image: "xp-finance".into(),
            release: number.to_string(),
            files: files(&entries),
            pieces: pieces.iter().map(|(blob, _)| *blob).collect(),
        }
        .to_bytes();
        let (root, root_block) = encode(&root_plain);
        let parts = pieces.into_iter().map(|(_, part)| part).chain([root_block]);
        let parts = parts.map(|part| (*part.id(), part)).collect();
        Self { cipher, root, parts, root_plain, piece_plains, blocks }
    }
}

/// Bytes that never repeat, the same for a number: BLAKE3's output stream.
#[must_use]
pub fn noise(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A block's plaintext: noise, which stays raw, or text, which shrinks.
fn content(number: u32) -> Vec<u8> {
    if number.is_multiple_of(3) {
        return noise(number, 40 + number as usize);
    }
    format!("line {number} of a settings file\n").repeat(10 + number as usize % 50).into_bytes()
}

fn entries(blocks: &[(BlobRef, VerifiedBlock)]) -> Vec<BlockEntry> {
    let mut offset = 0;
    let mut entry = |(blob, _): &(BlobRef, VerifiedBlock)| {
        let entry = BlockEntry { blob: *blob, pack: PackId::of(b"sample"), offset };
        offset += blob.encoded_len;
        entry
    };
    blocks.iter().map(&mut entry).collect()
}

/// A disk with a hole and a block that comes twice, a file in a folder, and an empty one.
fn files(blocks: &[BlockEntry]) -> Vec<FileEntry> {
    let size = |extents: &[Extent]| {
        let lengths = extents.iter().map(|extent| match *extent {
            Extent::Hole(length) => length,
            Extent::Blocks { first, count } => {
                let blocks = &blocks[first as usize..(first + count) as usize];
                blocks.iter().map(|block| u64::from(block.blob.plain_len)).sum()
            }
        });
        lengths.sum()
    };
    let file = |path: &str, mode: u32, extents: Vec<Extent>| FileEntry {
        path: path.into(),
        size: size(&extents),
        mode,
        extents,
    };
    let disk = vec![
        Extent::Blocks { first: 0, count: 100 },
        Extent::Hole(1 << 20),
        Extent::Blocks { first: 100, count: BLOCKS - 101 },
        Extent::Blocks { first: 7, count: 1 },
    ];
    vec![
        file("disk.img", 0o644, disk),
        file("settings/vm.xml", 0o600, vec![Extent::Blocks { first: BLOCKS - 1, count: 1 }]),
        file("empty", 0o755, Vec::new()),
    ]
}
