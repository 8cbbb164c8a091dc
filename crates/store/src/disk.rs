//! The disk as packs see it: positioned reads and writes, and what must be synced before it may be believed.
//!
//! A trait, because the promise of the store is about power cuts and failing disks, and only a disk that can be
//! cut and made to fail proves it (see the tests of [`store`](crate::store)).

use crate::files;
use std::{fs, io, path::Path, sync::Arc};

/// Opens pack files.
pub(crate) trait Disk: Send + Sync {
    /// For reading and writing; makes the file and its folder if they are not there.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn PackFile>>;
    /// For reading.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn PackFile>>;
    /// Makes names that were created in this folder survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open pack file. All calls may come from several threads at once.
pub(crate) trait PackFile: Send + Sync {
    /// Fills `buffer` from `offset` on; an error if the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes everything that was written survive a power cut.
    fn sync(&self) -> io::Result<()>;
}

/// The disk of the operating system.
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn PackFile>> {
        let open = || fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = open().or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                return Err(error);
            }
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            open()
        })?;
        Ok(Arc::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn PackFile>> {
        Ok(Arc::new(fs::File::open(path)?))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        files::sync_dir(path)
    }
}

impl PackFile for fs::File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        files::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        files::write_all_at(self, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
