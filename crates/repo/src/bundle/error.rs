//! Why a bundle cannot be made, told apart by what the administrator should do.

use crate::{
    catalog::SealedGroup, contents::ContentsError, origin::OriginError, place::PlaceError,
    source::SourceError, tuf::TrustError,
};
use std::{
    error::Error,
    fmt::Write,
    io,
    path::{Path, PathBuf},
};

/// Why an export ended early. What was written stays, and exporting again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The repository's metadata is not to be believed, or has expired.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The repository cannot be read, or holds damaged blocks.
    #[error("the repository cannot be read; export again: what is in the folder is kept and used")]
    Origin(#[from] OriginError),
    /// An index part cannot be read.
    #[error("the repository cannot be read; export again: what is in the folder is kept and used")]
    Part(#[from] SourceError),
    /// The index of a release cannot be read, for example because the group's key is not here.
    #[error(transparent)]
    Contents(Box<ContentsError>),
    /// The folder cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The repository shows no such release.
    #[error("{name} is not in {repo}; `branchmesh repo list` shows what is{}", sealed_words(.sealed))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The repository.
        repo: String,
        /// What cannot be opened there.
        sealed: Vec<SealedGroup>,
    },
    /// Something else is in the folder.
    #[error("{0} holds a bundle of another repository; empty it, or name another folder")]
    OtherRepository(String),
    /// The folder is ahead of the repository.
    #[error(
        "{folder} holds metadata of version {found}, and the repository is at version {version}: it may be an old copy; \
         export from one that is up to date, or into another folder"
    )]
    Behind {
        /// The folder.
        folder: String,
        /// The version in it.
        found: u64,
        /// The repository's.
        version: u64,
    },
    /// There is too little space for the whole bundle. Nothing was written.
    #[error(
        "{path} has too little space: the bundle needs {needed} bytes more there, and {free} are free; \
         name the files of `branchmesh have` with --lacking to leave out what the sites hold, or take a larger stick"
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Bytes that are still to be written, as the file system counts them.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The space that was there is gone.
    #[error("{path} is full: somebody else writes there, too; free some space and export again")]
    Full {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: PlaceError,
    },
}

impl From<ContentsError> for ExportError {
    fn from(error: ContentsError) -> Self {
        Self::Contents(Box::new(error))
    }
}

/// Names a disk that became full.
pub(super) fn name_full_disk(error: ExportError, path: &Path) -> ExportError {
    if let ExportError::Place(source) = error {
        return if is_full(&source) {
            ExportError::Full { path: path.into(), source }
        } else {
            ExportError::Place(source)
        };
    }
    error
}

fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn sealed_words(groups: &[SealedGroup]) -> String {
    let mut words = String::new();
    for group in groups {
        write!(
            words,
            "; {} releases of the group {} are sealed: {}",
            group.releases,
            group.group,
            group.advice()
        )
        .expect("writing to a string does not fail");
    }
    words
}
