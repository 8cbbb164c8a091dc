//! A node's disk: which blocks are here, and the files that they become.
//!
//! The store has the shape of the repository: a pack is a file with the same offsets as at the origin, and holes
//! where blocks are missing. Which ranges are present is kept in `presence.redb`, in this order and never in
//! another: data written, data synced, range recorded. After a crash nothing is claimed that is not on disk, and
//! nothing needs to be hashed to find that out.
//!
//! Everything that enters is a [`VerifiedBlock`](branchmesh_image::VerifiedBlock), and everything that leaves was
//! hashed again on its way out: a disk may lie, and a node must never pass that on.
//!
//! ```text
//! <data_dir>/store/lock                            held while the store is open
//! <data_dir>/store/presence.redb                   ledger: ranges present, what is known of releases and images
//! <data_dir>/store/harvest.redb                    where pieces of this machine's files lie; may be removed
//! <data_dir>/store/packs/ab/<64 hex>.pack          packs with holes
//! <data_dir>/store/indexes/ab/<64 hex>             encoded index parts
//! <data_dir>/store/tmp/                            index parts that are being written
//! <data_dir>/images/<image>/<release>/<files>      assembled releases
//! <data_dir>/images/<image>/current                names the active release
//! ```
//!
//! The power may go at any moment, and any call of the system may fail. Afterwards the store opens, what was committed
//! is there, and each release folder and `current` are the old or the new one, whole; at most what was written since
//! the last commit is fetched again. After an error, which names the file and what happened to it, the store goes on in
//! the same process as soon as the disk works. All that it does to a disk passes through one trait, so that
//! tests cut the power after every single operation and let every one fail (`every_operation`).
//!
//! All calls block; an async caller gives them to blocking threads.

mod assemble;
mod assembly;
mod database;
mod dead_blocks;
mod disk;
mod error;
#[cfg(test)]
mod every_operation;
mod files;
mod fill;
mod harvest;
mod health;
mod image_record;
mod images;
mod inspect;
mod layout;
mod ledger;
mod packs;
mod partial;
mod parts;
#[cfg(test)]
mod power_cut;
mod presence;
mod releases;
mod retention;
mod runs;
#[cfg(test)]
mod simulated_disk;
mod space;
mod store;
mod system_disk;
mod unix_time;
mod unsynced;

use branchmesh_image::extents;

pub use assemble::AssembleError;
pub use assembly::Assembly;
pub use dead_blocks::LiveBlocks;
pub use error::{ReadError, StoreError};
pub use harvest::{Harvest, HarvestError, Harvested, Scan};
pub use health::ScrubState;
pub use image_record::{Hold, ImageRecord};
pub use inspect::{ChangedFile, FileChange, Inspection};
pub use releases::{ReleaseRecord, SOURCES_MAX};
pub use space::{Floor, Usage};
pub use store::Store;
