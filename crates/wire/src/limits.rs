//! Bounds on everything that a neighbour may send; each protects the receiver's memory.

/// Version of all messages. A node that meets another version says so and hangs up.
pub const WIRE_VERSION: u16 = 1;
/// Bytes of one note: a have-map of [`RELEASE_BLOCKS_MAX`] blocks as a bitmap, and its head.
pub const NOTE_MAX: usize = RELEASE_BLOCKS_MAX as usize / 8 + 1024;
/// Bytes of one request: the runs of blocks that it asks for.
pub const REQUEST_MAX: usize = 16 << 10;
/// Bytes of the head of a response.
pub const RESPONSE_HEAD_MAX: usize = 1024;
/// Bytes of one gossiped status. gossipsub multiplies bytes, so that this is kept small.
pub const STATUS_MAX: usize = 8 << 10;
/// Blocks of a release: 256 GiB at the average block size, four times the largest image in view.
pub const RELEASE_BLOCKS_MAX: u32 = 4 << 20;
/// Blocks that one request may ask for: a segment.
pub const REQUEST_BLOCKS_MAX: u32 = 1024;
/// Runs of blocks in one request or one change of a have-map.
pub const RUNS_MAX: usize = 1024;
/// Releases in one status: what a node holds and wants, newest first.
pub const STATUS_RELEASES_MAX: usize = 32;
/// Addresses in one status.
pub const STATUS_ADDRESSES_MAX: usize = 8;
/// Bytes of a metadata file that is relayed between nodes (TUF targets of a large repository).
pub const METADATA_MAX: usize = 8 << 20;
/// Bytes of a node's name, and of other short texts.
pub const NAME_MAX: usize = 128;
