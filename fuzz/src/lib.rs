//! Fuzz targets: one for every decoder that meets bytes from a network, a disk or a file.
//!
//! A target is a function that takes any bytes and panics if the decoder breaks a promise. Not to crash is the
//! least of it: what decodes must mean the same when it is encoded again, what is decoded under a limit must
//! stay below it, and what is accepted must be what was proved. libFuzzer calls the functions through
//! `fuzz_targets/`; `cargo test` calls them with the committed corpus, on a stable toolchain, and also measures
//! how much memory each takes.
//!
//! [`sample`] makes the real encodings that seeds and mutations begin with, [`mutate`] spoils them.

pub mod address;
pub mod block;
pub mod description;
pub mod excerpt;
pub mod group_key;
pub mod holdings;
pub mod index;
pub mod index_piece;
pub mod index_root;
pub mod input;
pub mod kept_metadata;
pub mod message;
pub mod metadata;
pub mod mutate;
pub mod requirement;
pub mod root;
pub mod sample;
pub mod signed_metadata;
pub mod subscription;
pub mod world;

use branchmesh_image::{
    block::BLOCK_ENCODED_MAX, extents::EXTENTS_ENCODED_MAX, index::ROOT_PLAIN_MAX, piece::PIECE_PLAIN_MAX,
};
use branchmesh_repo::HOLDINGS_MAX;

/// A function to be called with any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of the module, of the libFuzzer program and of the folder in `corpus`.
    pub name: &'static str,
    /// Panics if the decoder breaks a promise.
    pub run: fn(&[u8]),
    /// Bytes that it may have allocated at one time, beside [`SLACK`] and a few copies of the input.
    pub memory_max: usize,
}

/// What any target may allocate: contexts of zstd, and small things.
pub const SLACK: usize = 4 << 20;
/// What small metadata files may come to as values.
const METADATA_FILES: usize = 4 << 20;
/// How often an input may be in memory at one time.
pub const COPIES: usize = 16;

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "address", run: address::run, memory_max: 0 },
    Target { name: "block", run: block::run, memory_max: 8 * BLOCK_ENCODED_MAX },
    Target { name: "description", run: description::run, memory_max: 0 },
    Target { name: "excerpt", run: excerpt::run, memory_max: 4 * EXTENTS_ENCODED_MAX },
    Target { name: "group_key", run: group_key::run, memory_max: 0 },
    Target { name: "holdings", run: holdings::run, memory_max: HOLDINGS_MAX },
    Target { name: "index", run: index::run, memory_max: ROOT_PLAIN_MAX + 2 * PIECE_PLAIN_MAX },
    Target { name: "index_piece", run: index_piece::run, memory_max: 2 * PIECE_PLAIN_MAX },
    Target { name: "index_root", run: index_root::run, memory_max: ROOT_PLAIN_MAX },
    Target { name: "kept_metadata", run: kept_metadata::run, memory_max: METADATA_FILES },
    Target { name: "message", run: message::run, memory_max: 2 * branchmesh_wire::limits::NOTE_MAX },
    Target { name: "metadata", run: metadata::run, memory_max: METADATA_FILES },
    Target { name: "requirement", run: requirement::run, memory_max: 0 },
    Target { name: "root", run: root::run, memory_max: METADATA_FILES },
    Target { name: "signed_metadata", run: signed_metadata::run, memory_max: METADATA_FILES },
    Target { name: "subscription", run: subscription::run, memory_max: 0 },
];
