//! What can go wrong with a disk, each with the path and with what the administrator can do.

use branchmesh_image::{BlockId, PackId, path::NameError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why the store could not do what was asked. Nothing that was committed before is lost by any of these.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has this folder open.
    #[error("{} is in use by another branchmesh agent; stop it, or give this one its own data_dir", .0.display())]
    InUse(PathBuf),
    /// No space, or no quota.
    #[error("cannot {what} {}: the disk is full; free space on it, or lower keep_releases", .path.display())]
    DiskFull {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Writing would take space that is reserved for others.
    #[error(
        "not storing more below {}: {free} bytes are free there and free_space_floor keeps {floor}; free space on \
         the disk, or lower free_space_floor or keep_releases",
        .path.display()
    )]
    BelowFloor {
        /// Folder whose file system was asked.
        path: PathBuf,
        /// Bytes that are free.
        free: u64,
        /// Bytes that must stay free.
        floor: u64,
    },
    /// The file system is mounted, or became, read-only.
    #[error("cannot {what} {}: its file system is read-only; check the disk and mount it for writing", .path.display())]
    ReadOnly {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// The agent's user may not.
    #[error("not allowed to {what} {}: give its folder to the user that runs the agent", .path.display())]
    Denied {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
    },
    /// Any other failure of the operating system or the disk.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// One of the store's databases cannot be believed.
    #[error(
        "{} is damaged ({reason}); stop the agent and remove this file: what it knew of will be found or fetched again",
        .path.display()
    )]
    Corrupt {
        /// The database's file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The caller's block is not as long as its place. A mistake in the program or in the index.
    #[error("block {id} has {found} bytes, its place in the pack has {expected}")]
    WrongLength {
        /// The block.
        id: BlockId,
        /// Bytes of the place.
        expected: u32,
        /// Bytes of the block.
        found: usize,
    },
    /// The place lies outside of any pack. A mistake in the program or in the index.
    #[error("{len} bytes at {offset} lie beyond the end of any pack")]
    BadLocation {
        /// First byte.
        offset: u32,
        /// Bytes.
        len: u32,
    },
    /// The blocks of a pack come in an order that leaves too many holes to remember.
    #[error("pack {0} has too many holes at once; fetch its blocks in their order")]
    TooManyHoles(PackId),
    /// Not usable as an image's or a release's name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that the store needs for itself.
    #[error(
        "{0:?} cannot name a release or image here: the store uses \"current\" and names with a dot in front"
    )]
    ReservedName(String),
    /// The files of this release are not in place.
    #[error("{image}@{release} is not assembled on this node")]
    NotAssembled {
        /// The image.
        image: String,
        /// The release.
        release: String,
    },
    /// The release was removed, or another index took its name, while its files were put together.
    #[error(
        "{image}@{release} was removed or replaced while its files were put together; begin again if it is wanted"
    )]
    Superseded {
        /// The image.
        image: String,
        /// The release.
        release: String,
    },
    /// The release is the active one, and stays.
    #[error("{image}@{release} is active; activate another release first")]
    Active {
        /// The image.
        image: String,
        /// The release.
        release: String,
    },
    /// More than the ledger takes.
    #[error(
        "the record of the image {image} would have {bytes} bytes, at most {max} are kept: unpin some releases"
    )]
    ImageRecordTooLarge {
        /// The image.
        image: String,
        /// The size that it would have.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// More than the ledger takes.
    #[error("the record of {image}@{release} has {bytes} bytes, at most {max} are kept")]
    RecordTooLarge {
        /// The image.
        image: String,
        /// The release.
        release: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
}

impl StoreError {
    /// Whether it goes away when space is freed.
    #[must_use]
    pub fn is_lack_of_space(&self) -> bool {
        matches!(self, Self::DiskFull { .. } | Self::BelowFloor { .. })
    }

    /// Gives an error of the operating system its name.
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let kind = source.kind();
        if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Self::DiskFull { what, path };
        }
        if kind == io::ErrorKind::ReadOnlyFilesystem {
            return Self::ReadOnly { what, path };
        }
        if kind == io::ErrorKind::PermissionDenied {
            return Self::Denied { what, path };
        }
        Self::Io { what, path, source }
    }
}

/// Why a block was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is not in this store.
    #[error("block {0} is not here")]
    NotHere(BlockId),
    /// It was here, but the disk gave other bytes. It has been forgotten: fetch it again.
    #[error("block {id} had rotted in pack {pack} on this disk and will be fetched again")]
    Rotten {
        /// The block.
        id: BlockId,
        /// Where it was.
        pack: PackId,
    },
    /// The disk could not be read. The block may still be there.
    #[error(transparent)]
    Io(#[from] StoreError),
}
