//! Why a repository cannot be written, told apart by what the publisher should do.

use crate::origin::OriginError;
use std::{io, path::PathBuf};

/// Why a repository cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It can only be read.
    #[error(
        "{0} can only be read: publish into the folder that the web server serves, or into s3://…, gs://… or az://…"
    )]
    ReadOnly(String),
    /// There is none.
    #[error("{0} holds no repository; make one with `branchmesh repo init`")]
    NoRepository(PathBuf),
    /// Its address makes no sense, or its access is not set up.
    #[error(transparent)]
    Address(#[from] OriginError),
    /// Somebody else publishes.
    #[error("another publisher is at work in {path} ({owner}); try again when it is done")]
    Locked {
        /// The repository.
        path: PathBuf,
        /// What is known about it.
        owner: String,
    },
    /// Somebody else published while this publisher was at work, and was first.
    #[error(
        "another publisher put version {version} in force meanwhile; nothing is lost: publish again, the blocks that were uploaded are used"
    )]
    Overtaken {
        /// Version of the timestamp that is in force.
        version: String,
    },
    /// gc keeps publishers out of a cloud.
    #[error(
        "`branchmesh repo gc` ({holder}) is at work in this repository; try again when it is done, or after {until} if it was killed"
    )]
    Leased {
        /// Who it is.
        holder: String,
        /// When publishers are let in again in any case.
        until: jiff::Timestamp,
    },
    /// The server cannot keep two publishers apart.
    #[error(
        "{url} does not support conditional writes (If-None-Match and If-Match), without which two publishers could undo each other's releases; use a newer server, or publish into a folder and copy that"
    )]
    NoConditions {
        /// The repository.
        url: String,
    },
    /// The folder itself cannot be used.
    #[error("the folder {path} cannot be used")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program is ending.
    #[error("writing to the repository was interrupted")]
    Interrupted,
    /// A file of a folder cannot be written or looked at.
    #[error("{path} cannot be written to the repository")]
    Write {
        /// Path inside the repository.
        path: String,
        /// Why.
        #[source]
        source: object_store::Error,
    },
    /// The network or the cloud did not do its part, after several tries.
    #[error(
        "the repository cannot be written now; run the same command again: what has arrived is kept and used"
    )]
    Upload(#[source] OriginError),
}
