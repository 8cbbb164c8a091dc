//! What the standard library offers per system only: positioned reads and writes, folders that survive a power
//! cut, Unix permission bits. Each function exists for Unix and for Windows.

use std::{fs, io, path::Path};

/// Writes a small file so that its old or its new content is there after a crash, never a mixture.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new().prefix(".").suffix(".partial").tempfile_in(folder)?;
    temporary.write_all(content)?;
    set_mode(temporary.as_file(), 0o644)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_dir(folder)
}

/// Removes a file or a folder with all that it holds; it may be gone already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(unix)]
mod system {
    use std::{
        fs, io,
        os::unix::fs::{FileExt, PermissionsExt},
        path::Path,
    };

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read_exact_at(file: &fs::File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        file.read_exact_at(buffer, offset)
    }

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_all_at(file: &fs::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Makes new, renamed and removed names in a folder survive a power cut.
    pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    /// Sets the lowest nine permission bits.
    pub(crate) fn set_mode(file: &fs::File, mode: u32) -> io::Result<()> {
        file.set_permissions(fs::Permissions::from_mode(mode & 0o777))
    }
}

#[cfg(windows)]
mod system {
    use std::{fs, io, os::windows::fs::FileExt, path::Path};

    /// Fills `buffer` from `offset` on.
    pub(crate) fn read_exact_at(file: &fs::File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
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

    /// Writes all of `bytes` at `offset`.
    pub(crate) fn write_all_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
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
    pub(crate) fn sync_dir(_path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Windows has no permission bits.
    pub(crate) fn set_mode(_file: &fs::File, _mode: u32) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) use system::{read_exact_at, set_mode, sync_dir, write_all_at};
