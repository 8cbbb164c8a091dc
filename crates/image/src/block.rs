//! Blocks: encoded when published, verified wherever they enter, decoded when a file is put together.
//!
//! An encoded block is one method byte and its payload (raw or one zstd frame), sealed by the image's
//! [`Cipher`]. Index pieces are encoded in the same way and referred to by the same [`BlobRef`].

use crate::{
    chunk::BLOCK_PLAIN_MAX,
    crypt::{Cipher, CryptError, SEAL_OVERHEAD},
    hash::{BlockId, PlainHash},
};
use bincode::{Decode, Encode};
use bytes::Bytes;
use std::io;

/// Most bytes that an encoded block may have: an incompressible block, its method byte and its seal.
pub const BLOCK_ENCODED_MAX: usize = BLOCK_PLAIN_MAX + 1 + SEAL_OVERHEAD;

/// zstd level that `publish` uses unless told otherwise: the fastest that still halves system files.
pub const ZSTD_LEVEL_DEFAULT: i32 = 3;

const METHOD_RAW: u8 = 0;
const METHOD_ZSTD: u8 = 1;

/// All that is needed to check and decode one encoded blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub struct BlobRef {
    /// Hash of the encoded bytes.
    pub id: BlockId,
    /// Hash of the plaintext.
    pub plain: PlainHash,
    /// Encoded bytes.
    pub encoded_len: u32,
    /// Bytes of plaintext.
    pub plain_len: u32,
}

/// Why bytes are not the block that they were said to be.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The bytes do not hash to the id: damaged, or somebody lies. Ask somebody else.
    #[error("block {expected} does not match its hash: {bytes} bytes that hash to {found}")]
    IdMismatch {
        /// The id that was asked for.
        expected: BlockId,
        /// The id of what came.
        found: BlockId,
        /// How much came.
        bytes: usize,
    },
    /// The group's key does not open it.
    #[error(transparent)]
    Crypt(#[from] CryptError),
    /// Signed and intact, but not an encoding that this version knows.
    #[error("the block has encoding method {0}, which this version of branchmesh does not know; update it")]
    UnknownMethod(u8),
    /// Signed and intact, but the publisher encoded something else than the index says.
    #[error("the block does not decode to what its index says: {0}")]
    PlainMismatch(String),
    /// zstd cannot work (memory).
    #[error("zstd failed: {0}")]
    Zstd(#[source] io::Error),
}

/// Encoded bytes that hash to their id. There is no other way to make one than to hash.
#[derive(Clone, Debug)]
pub struct VerifiedBlock {
    id: BlockId,
    bytes: Bytes,
}

impl VerifiedBlock {
    /// Hashes `bytes` and compares with `id`.
    pub fn verify(id: &BlockId, bytes: impl Into<Bytes>) -> Result<Self, BlockError> {
        let bytes = bytes.into();
        let found = BlockId::of(&bytes);
        if found != *id {
            return Err(BlockError::IdMismatch { expected: *id, found, bytes: bytes.len() });
        }
        Ok(Self { id: found, bytes })
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &BlockId {
        &self.id
    }

    /// Its encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Plaintext and its hash. There is no other way to make one than to hash.
#[derive(Clone, Debug)]
pub struct PlainBlock {
    hash: PlainHash,
    bytes: Vec<u8>,
}

impl PlainBlock {
    /// Hashes `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { hash: PlainHash::of(&bytes), bytes }
    }

    /// Its hash.
    #[must_use]
    pub fn hash(&self) -> &PlainHash {
        &self.hash
    }

    /// The plaintext.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Encodes plaintext; keeps its compression context between blocks.
pub struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    /// What the compressor writes to, kept because its worst case is larger than what is kept of it.
    compressed: Vec<u8>,
    cipher: Cipher,
}

impl Encoder {
    /// An encoder for one image at one zstd level.
    pub fn new(level: i32, cipher: Cipher) -> Result<Self, BlockError> {
        let zstd = zstd::bulk::Compressor::new(level).map_err(BlockError::Zstd)?;
        Ok(Self { zstd, compressed: Vec::new(), cipher })
    }

    /// Compresses (where that saves anything) and seals `plain`.
    ///
    /// # Panics
    /// If `plain` has 4 GiB or more; blocks end at [`BLOCK_PLAIN_MAX`], index roots far below that.
    pub fn encode(&mut self, plain: &[u8]) -> Result<(BlobRef, VerifiedBlock), BlockError> {
        self.encode_hashed(PlainHash::of(plain), plain)
    }

    /// The same for a block whose hash is known: hashing is a good part of the work.
    ///
    /// # Panics
    /// As [`encode`](Self::encode).
    pub fn encode_block(&mut self, plain: &PlainBlock) -> Result<(BlobRef, VerifiedBlock), BlockError> {
        self.encode_hashed(plain.hash, &plain.bytes)
    }

    fn encode_hashed(
        &mut self,
        hash: PlainHash,
        plain: &[u8],
    ) -> Result<(BlobRef, VerifiedBlock), BlockError> {
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(plain.len()));
        self.zstd.compress_to_buffer(plain, &mut self.compressed).map_err(BlockError::Zstd)?;
        let (method, body) = if self.compressed.len() < plain.len() {
            (METHOD_ZSTD, &self.compressed[..])
        } else {
            (METHOD_RAW, plain)
        };
        let mut payload = Vec::with_capacity(body.len() + 1);
        payload.push(method);
        payload.extend_from_slice(body);
        let bytes = Bytes::from(self.cipher.seal(&hash, payload));
        let id = BlockId::of(&bytes);
        let length = |bytes: usize| u32::try_from(bytes).expect("blobs are far smaller than 4 GiB");
        let blob =
            BlobRef { id, plain: hash, encoded_len: length(bytes.len()), plain_len: length(plain.len()) };
        Ok((blob, VerifiedBlock { id, bytes }))
    }
}

/// Decodes verified blocks; keeps its decompression context between blocks.
pub struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    cipher: Cipher,
}

impl Decoder {
    /// A decoder for one image.
    pub fn new(cipher: Cipher) -> Result<Self, BlockError> {
        Ok(Self { zstd: zstd::bulk::Decompressor::new().map_err(BlockError::Zstd)?, cipher })
    }

    /// The plaintext that `blob` promises. Allocates at most `blob.plain_len` beside a copy of the block.
    pub fn decode(&mut self, blob: &BlobRef, block: &VerifiedBlock) -> Result<Vec<u8>, BlockError> {
        let payload = self.cipher.open(&blob.plain, block.bytes())?;
        let mismatch = |what: String| BlockError::PlainMismatch(what);
        let Some((&method, body)) = payload.split_first() else {
            return Err(mismatch("it is empty".into()));
        };
        let expected = blob.plain_len as usize;
        let plain = match method {
            METHOD_RAW if body.len() == expected => body.to_vec(),
            METHOD_RAW => return Err(mismatch(format!("{} bytes instead of {expected}", body.len()))),
            METHOD_ZSTD => {
                self.zstd.decompress(body, expected).map_err(|error| mismatch(format!("zstd: {error}")))?
            }
            other => return Err(BlockError::UnknownMethod(other)),
        };
        if plain.len() != expected {
            return Err(mismatch(format!("{} bytes instead of {expected}", plain.len())));
        }
        if PlainHash::of(&plain) != blob.plain {
            return Err(mismatch("its plaintext has another hash".into()));
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypt::GroupKey;
    use proptest::prelude::*;

    fn ciphers() -> [Cipher; 2] {
        [Cipher::None, Cipher::Group(GroupKey::generate().unwrap())]
    }

    #[test]
    fn text_shrinks_noise_stays_raw_and_both_round_trip() {
        let noise: Vec<u8> =
            (0u32..20_000).flat_map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
        for plain in [&b"the same words again ".repeat(1000)[..], &noise[..BLOCK_PLAIN_MAX], b"x", b""] {
            for cipher in ciphers() {
                let (blob, block) =
                    Encoder::new(ZSTD_LEVEL_DEFAULT, cipher.clone()).unwrap().encode(plain).unwrap();
                assert_eq!(Decoder::new(cipher).unwrap().decode(&blob, &block).unwrap(), plain);
                assert!(block.bytes().len() <= plain.len() + 1 + SEAL_OVERHEAD);
                assert_eq!(block.bytes().len(), blob.encoded_len as usize);
            }
        }
    }

    #[test]
    fn a_frame_that_claims_more_than_the_index_allows_is_refused() {
        let mut encoder = Encoder::new(1, Cipher::None).unwrap();
        let (mut blob, block) = encoder.encode(&vec![7; 100_000]).unwrap();
        blob.plain_len = 1000;
        let refused = Decoder::new(Cipher::None).unwrap().decode(&blob, &block);
        assert!(matches!(refused, Err(BlockError::PlainMismatch(_))));
    }

    #[test]
    fn the_key_of_another_group_is_named_as_the_cause() {
        let [_, mine] = ciphers();
        let [_, other] = ciphers();
        let (blob, block) = Encoder::new(1, mine).unwrap().encode(b"secret").unwrap();
        let refused = Decoder::new(other).unwrap().decode(&blob, &block);
        assert!(matches!(refused, Err(BlockError::Crypt(CryptError::WrongKey))));
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(plain in prop::collection::vec(any::<u8>(), 1..2000), at: usize, bit in 0..8) {
            let (blob, block) = Encoder::new(1, Cipher::None).unwrap().encode(&plain).unwrap();
            let mut bytes = block.bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1u8 << bit;
            prop_assert!(VerifiedBlock::verify(&blob.id, bytes).is_err());
        }

        #[test]
        fn decoding_hostile_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000), plain_len in 0u32..300_000) {
            let id = BlockId::of(&bytes);
            let block = VerifiedBlock::verify(&id, bytes.clone()).unwrap();
            let encoded_len = u32::try_from(bytes.len()).unwrap();
            let blob = BlobRef { id, plain: PlainHash::of(b""), encoded_len, plain_len };
            for cipher in ciphers() {
                let _ = Decoder::new(cipher).unwrap().decode(&blob, &block);
            }
            // And as the body of a zstd frame.
            let framed = [&[METHOD_ZSTD][..], &[0x28, 0xb5, 0x2f, 0xfd], &bytes].concat();
            let id = BlockId::of(&framed);
            let block = VerifiedBlock::verify(&id, framed).unwrap();
            let decoded = Decoder::new(Cipher::None).unwrap().decode(&BlobRef { id, ..blob }, &block);
            prop_assert!(decoded.is_err());
        }
    }
}
