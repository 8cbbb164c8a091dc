//! The disk of the operating system. What the standard library offers per system only exists here for Unix and for
//! Windows: positioned reads and writes, folders that survive a power cut, permission bits.

use crate::disk::{Disk, DiskFile, DiskSpace, Found, Open};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long a lock is waited for. Who starts a program holds all of his open files twice for a moment, locks included, and
/// an agent that is started again may come while the one before it ends.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// Between two tries.
const LOCK_POLL: Duration = Duration::from_millis(10);

/// The file systems that this machine has mounted.
pub(crate) struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).write(how != Open::Read).truncate(false);
        options.create(how == Open::Create).create_new(how == Open::CreateNew);
        let opened = options.open(path).or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound || !how.makes() {
                return Err(error);
            }
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            options.open(path)
        })?;
        Ok(Arc::new(opened))
    }

    fn create_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    fn examine(&self, path: &Path) -> io::Result<Found> {
        let found = fs::metadata(path)?;
        Ok(if found.is_dir() { Found::Folder } else { Found::File(found.len()) })
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        system::sync_folder(path)
    }

    fn clone_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        reflink_copy::reflink(from, to)
    }

    fn space(&self, folder: &Path) -> io::Result<DiskSpace> {
        let stats = fs4::statvfs(folder)?;
        Ok(DiskSpace { free: stats.available_space(), total: stats.total_space() })
    }
}

impl DiskFile for fs::File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        system::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        system::write_all_at(self, bytes, offset)
    }

    #[cfg(target_os = "linux")]
    fn punch(&self, offset: u64, bytes: u64) -> io::Result<()> {
        use rustix::fs::FallocateFlags;
        fallocate(self, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, bytes)
    }

    #[cfg(target_os = "linux")]
    fn reserve(&self, offset: u64, bytes: u64) -> io::Result<()> {
        fallocate(self, rustix::fs::FallocateFlags::empty(), offset, bytes)
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        system::set_mode(self, mode)
    }

    fn sync_data(&self) -> io::Result<()> {
        fs::File::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        fs::File::sync_all(self)
    }

    fn try_lock(&self) -> Result<(), fs::TryLockError> {
        let begun = Instant::now();
        loop {
            match fs::File::try_lock(self) {
                Err(fs::TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => thread::sleep(LOCK_POLL),
                result => return result,
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn fallocate(file: &fs::File, flags: rustix::fs::FallocateFlags, offset: u64, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    rustix::fs::fallocate(file, flags, offset, bytes).map_err(|error| match error {
        // File systems say both for what they cannot do.
        Errno::OPNOTSUPP | Errno::NOSYS => io::ErrorKind::Unsupported.into(),
        other => other.into(),
    })
}

#[cfg(unix)]
mod system {
    use std::{
        fs, io,
        os::unix::fs::{FileExt, PermissionsExt},
        path::Path,
    };

    pub(super) fn read_exact_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(file, buffer, offset)
    }

    pub(super) fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(file, bytes, offset)
    }

    pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    pub(super) fn set_mode(file: &fs::File, mode: u32) -> io::Result<()> {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
    }
}

#[cfg(windows)]
mod system {
    use std::{fs, io, os::windows::fs::FileExt, path::Path};

    pub(super) fn read_exact_at(file: &fs::File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match file.seek_read(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(super) fn write_all_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match file.seek_write(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// NTFS journals names itself, and Windows has no call for it.
    pub(super) fn sync_folder(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Windows has no permission bits.
    pub(super) fn set_mode(_file: &fs::File, _mode: u32) -> io::Result<()> {
        Ok(())
    }
}
