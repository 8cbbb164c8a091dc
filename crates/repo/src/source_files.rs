//! The files that make up a release: found, named, and read without missing that they change meanwhile.

use crate::file_content::Content;
use branchmesh_image::path::{self, NameError};
use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Unix permission bits of a file that comes from a system without them.
#[cfg(not(unix))]
const MODE_DEFAULT: u32 = 0o644;

/// Why a file cannot be part of a release. The repository stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody writes to it.
    #[error("{path} changed while it was read; stop what writes to it, or publish a copy")]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A symbolic link, device, socket or pipe.
    #[error("{path} is {what}; a release holds regular files only, so give the file itself or leave it out")]
    Special {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Two files would have the same name in the release.
    #[error("{first} and {second} would both be {name:?} in the release (capitals do not tell files apart)")]
    SameName {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Its name doesn't work everywhere.
    #[error("{path} cannot be published under its name")]
    Name {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: NameError,
    },
    /// Its name is not Unicode.
    #[error("{path} has a name that is not Unicode, which other systems cannot write; rename it")]
    NotUnicode {
        /// The file.
        path: PathBuf,
    },
    /// More data than an index describes.
    #[error(
        "the files have more than {} blocks, which is more than a release can have",
        crate::INDEX_BLOCKS_MAX
    )]
    TooManyBlocks,
    /// More holes than an index describes.
    #[error(
        "the files have more than {0} holes and stretches of data, which is more than a release can have"
    )]
    TooManyExtents(usize),
    /// Nobody wants the result any more.
    #[error("reading the files was stopped")]
    Stopped,
    /// There is nothing to publish.
    #[error("there are no files to publish: the given paths are empty folders, or none were given")]
    NoFiles,
}

/// A file of the release to be.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Where it lies.
    pub(crate) disk: PathBuf,
    /// Its path in the release.
    pub(crate) path: String,
    /// Bytes when it was found.
    pub(crate) size: u64,
}

/// A file that is open for reading, and how it was when it was opened.
pub(crate) struct OpenFile {
    disk: PathBuf,
    file: File,
    before: Metadata,
}

/// Finds all files that `paths` mean: a file under its name, a folder's files under their paths inside of it.
/// Sorted by path. Each is opened once, so that an unreadable one is known before any work is done.
pub(crate) fn find(paths: &[PathBuf]) -> Result<Vec<SourceFile>, FileError> {
    let mut files = Vec::new();
    for path in paths {
        let meta = look_at(path)?;
        if meta.is_dir() {
            find_in_folder(path, &mut files)?;
        } else {
            let absolute = std::path::absolute(path)
                .map_err(|source| FileError::Unreadable { path: path.clone(), source })?;
            let name = absolute.file_name().map(Path::new).unwrap_or(path);
            files.push(source_file(path, name, &meta)?);
        }
    }
    if files.is_empty() {
        return Err(FileError::NoFiles);
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    check_names(&files)?;
    for file in &files {
        OpenFile::open(file)?;
    }
    Ok(files)
}

impl OpenFile {
    pub(crate) fn open(file: &SourceFile) -> Result<Self, FileError> {
        let unreadable = |source| FileError::Unreadable { path: file.disk.clone(), source };
        let handle = File::open(&file.disk).map_err(unreadable)?;
        let before = handle.metadata().map_err(unreadable)?;
        Ok(Self { disk: file.disk.clone(), file: handle, before })
    }

    /// Its size when it was opened.
    pub(crate) fn size(&self) -> u64 {
        self.before.len()
    }

    /// Its Unix permission bits.
    pub(crate) fn mode(&self) -> u32 {
        mode(&self.before)
    }

    /// Its content, and one byte more if it has grown: a file that grows for ever must not be read for ever.
    pub(crate) fn content(&self) -> Content<'_> {
        Content::new(&self.file, self.size().saturating_add(1))
    }

    /// Fails if the `read` bytes cannot be the file as it was when it was opened.
    pub(crate) fn check_unchanged(&self, read: u64) -> Result<(), FileError> {
        let unreadable = |source| FileError::Unreadable { path: self.disk.clone(), source };
        let after = self.file.metadata().map_err(unreadable)?;
        let is_same =
            read == self.size() && after.len() == self.size() && modified(&after) == modified(&self.before);
        if is_same { Ok(()) } else { Err(FileError::Changed { path: self.disk.clone() }) }
    }
}

fn find_in_folder(folder: &Path, files: &mut Vec<SourceFile>) -> Result<(), FileError> {
    for entry in walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| FileError::Unreadable {
            path: error.path().unwrap_or(folder).to_owned(),
            source: error.into(),
        })?;
        let meta = look_at(entry.path())?;
        if meta.is_dir() {
            continue;
        }
        let name = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        files.push(source_file(entry.path(), name, &meta)?);
    }
    Ok(())
}

/// What is at `path`, if it is a regular file or a folder.
fn look_at(path: &Path) -> Result<Metadata, FileError> {
    let meta =
        fs::symlink_metadata(path).map_err(|source| FileError::Unreadable { path: path.into(), source })?;
    let special = |what| Err(FileError::Special { path: path.into(), what });
    if meta.is_symlink() {
        return special("a symbolic link");
    }
    if !meta.is_file() && !meta.is_dir() {
        return special("a device, socket or pipe");
    }
    Ok(meta)
}

fn source_file(disk: &Path, name: &Path, meta: &Metadata) -> Result<SourceFile, FileError> {
    let components: Option<Vec<&str>> = name.iter().map(std::ffi::OsStr::to_str).collect();
    let Some(components) = components else {
        return Err(FileError::NotUnicode { path: disk.into() });
    };
    let path = components.join("/");
    path::check_path(&path).map_err(|source| FileError::Name { path: disk.into(), source })?;
    Ok(SourceFile { disk: disk.into(), path, size: meta.len() })
}

fn check_names(files: &[SourceFile]) -> Result<(), FileError> {
    let mut seen: HashMap<String, &SourceFile> = HashMap::new();
    for file in files {
        if let Some(first) = seen.insert(file.path.to_lowercase(), file) {
            return Err(FileError::SameName {
                name: file.path.clone(),
                first: first.disk.clone(),
                second: file.disk.clone(),
            });
        }
    }
    Ok(())
}

/// `None` on systems that don't know: there, only sizes tell.
fn modified(meta: &Metadata) -> Option<SystemTime> {
    meta.modified().ok()
}

#[cfg(unix)]
fn mode(meta: &Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777
}

#[cfg(not(unix))]
fn mode(_: &Metadata) -> u32 {
    MODE_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn names(paths: &[PathBuf]) -> Vec<String> {
        find(paths).unwrap().into_iter().map(|file| file.path).collect()
    }

    #[test]
    fn folders_give_their_files_under_relative_paths() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("vm/disks")).unwrap();
        fs::write(dir.path().join("vm/b.cfg"), "b").unwrap();
        fs::write(dir.path().join("vm/disks/a.img"), "a").unwrap();
        fs::write(dir.path().join("readme.txt"), "r").unwrap();
        let paths = [dir.path().join("vm"), dir.path().join("readme.txt")];
        assert_eq!(names(&paths), ["b.cfg", "disks/a.img", "readme.txt"]);
    }

    #[test]
    fn what_cannot_be_published_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, name).unwrap();
            path
        };
        let (first, second) = (file("one/Disk.img"), file("two/disk.img"));
        assert!(matches!(find(&[first.clone(), second]), Err(FileError::SameName { .. })));
        assert!(matches!(find(&[first.clone(), first]), Err(FileError::SameName { .. })));
        assert!(matches!(find(&[dir.path().join("none")]), Err(FileError::Unreadable { .. })));
        assert!(matches!(find(&[]), Err(FileError::NoFiles)));
        assert!(matches!(find(&[file("nul.txt")]), Err(FileError::Name { .. })));
        #[cfg(unix)]
        {
            let link = dir.path().join("link");
            std::os::unix::fs::symlink(file("target"), &link).unwrap();
            assert!(matches!(find(&[link]), Err(FileError::Special { .. })));
            let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
            assert!(matches!(find(&[dir.path().join("socket")]), Err(FileError::Special { .. })));
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_while_it_is_read_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "12345").unwrap();
        let file = &find(std::slice::from_ref(&path)).unwrap()[0];
        let read = |open: &OpenFile| {
            let mut bytes = Vec::new();
            open.content().read_to_end(&mut bytes).unwrap() as u64
        };

        let open = OpenFile::open(file).unwrap();
        assert!(open.check_unchanged(read(&open)).is_ok());

        let open = OpenFile::open(file).unwrap();
        fs::write(&path, "12345 and much more").unwrap();
        let bytes = read(&open);
        assert_eq!(bytes, 6);
        assert!(matches!(open.check_unchanged(bytes), Err(FileError::Changed { .. })));

        let open = OpenFile::open(file).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(open.check_unchanged(read(&open)), Err(FileError::Changed { .. })));
    }
}
