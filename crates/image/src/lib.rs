//! What a release is: how files are cut into blocks, how a block is encoded, and the index that lists them.
//!
//! Everything here is a pure function over bytes: no files, no sockets, no clock. Whatever enters from outside
//! is decoded under a fixed byte limit, and the only way to a [`VerifiedBlock`] is the function that hashed it.
//!
//! A block's way through this crate: [`chunk`] cuts it out of a file, [`block`] compresses it and encrypts it
//! with the keys of [`crypt`], [`index`] says where it lies; a node does the same backwards.

pub mod block;
pub mod block_size;
pub mod chunk;
pub mod codec;
pub mod crypt;
pub mod extents;
pub mod hash;
pub mod index;
pub mod path;
pub mod piece;
pub mod segment;

pub use block::{BlobRef, BlockError, Decoder, Encoder, PlainBlock, VerifiedBlock};
pub use block_size::{BlockSize, BlockSizeError};
pub use chunk::{Chunker, Cut, Source};
pub use crypt::{Cipher, GroupKey};
pub use extents::{Extents, ExtentsError};
pub use hash::{BlockId, IndexId, PackId, PlainHash};
pub use index::{BlockEntry, Extent, FileEntry, Index, IndexError, IndexRoot, Location};
pub use piece::{IndexPiece, PieceCutter};
pub use segment::{Segment, Segments};
