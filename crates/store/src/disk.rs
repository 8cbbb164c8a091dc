//! The disk as the store sees it: files that are read and written by position, names in folders, and what has to be
//! synced before either may be believed.
//!
//! Everything that the store does to a disk passes through here, what its databases do included. Only the files that
//! are harvested do not: they are other people's, on any file system or none, they are read and never written, and
//! what is found in them is hashed before it is used. A trait, because the promise of the store is about power cuts and
//! failing disks, and only a disk that can be cut and made to fail proves it.
//! [`SystemDisk`](crate::system_disk::SystemDisk) is the one of the operating system; [`Files`](crate::files::Files)
//! gives its errors names.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Names, and the files behind them. All calls may come from several threads at once.
pub(crate) trait Disk: Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a folder, and those above it that are not there. It may be there already.
    fn create_folder(&self, path: &Path) -> io::Result<()>;
    /// Gives a file or a folder another name on the same file system. A file takes the place of a file of that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, or a folder with all that it holds. It may be gone already.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The paths of what is in a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;
    /// What has this name.
    fn examine(&self, path: &Path) -> io::Result<Found>;
    /// Makes new, renamed and removed names in a folder survive a power cut.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a new file `to` with the content of `from`, with which it shares its space until either is written to.
    /// Any error where the system or the file system cannot do that; `to` may be there then.
    fn clone_file(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The space of the file system that holds `folder`.
    fn space(&self, folder: &Path) -> io::Result<DiskSpace>;
}

/// An open file. All calls may come from several threads at once; none moves a position that others see.
pub(crate) trait DiskFile: Send + Sync {
    /// Its length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Cuts it, or lengthens it by a hole.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
    /// Fills `buffer` from `offset` on; an error if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Gives the space of whole pages back; they read as zeros from then on, and the length stays. An error of the
    /// kind `Unsupported` where the system or the file system cannot do that.
    fn punch(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Takes the space for a part of the file that is a hole. An error of the kind `Unsupported` where the system or
    /// the file system cannot do that.
    fn reserve(&self, _offset: u64, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets the lowest nine permission bits, where the system has them.
    fn set_mode(&self, mode: u32) -> io::Result<()>;
    /// Makes everything that was written, and the length, survive a power cut.
    fn sync_data(&self) -> io::Result<()>;
    /// As [`sync_data`](Self::sync_data), and the mode too.
    fn sync_all(&self) -> io::Result<()>;
    /// Locks the file for this process, as long as it is open. Waits a moment for one that is just letting go.
    fn try_lock(&self) -> Result<(), fs::TryLockError>;
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// One that is there, for reading.
    Read,
    /// One that is there, for reading and writing.
    Write,
    /// For reading and writing; makes it and its folder if they are not there.
    Create,
    /// For reading and writing; makes it, and its folder if that is not there. An error if the file is.
    CreateNew,
}

impl Open {
    /// Whether it may make a file.
    pub(crate) fn makes(self) -> bool {
        match self {
            Self::Read | Self::Write => false,
            Self::Create | Self::CreateNew => true,
        }
    }
}

/// What has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A file of so many bytes.
    File(u64),
    /// A folder.
    Folder,
}

/// How much room a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskSpace {
    /// Bytes that the agent's user may still write.
    pub(crate) free: u64,
    /// Bytes of the whole file system.
    pub(crate) total: u64,
}
