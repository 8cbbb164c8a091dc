//! Why keys cannot be made or used.

use branchmesh_image::crypt::CryptError;
use std::{io, path::PathBuf};

/// Why keys cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A key file cannot be read or written.
    #[error("the key file {path} cannot be used")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Without the root of trust nothing in the repository can be believed.
    #[error(
        "{} holds no root.json: name the folder that `branchmesh repo init` made, or copy root.json from there",
        folder.display()
    )]
    NoRoot {
        /// The folder.
        folder: PathBuf,
    },
    /// A key is there already, and might be in use.
    #[error(
        "{path} exists already; keys are never overwritten, so choose another folder, or move the old keys away"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file that should hold a signing key holds something else.
    #[error("{path} holds no signing key: an Ed25519 key as PKCS #8 in PEM is expected")]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// A key store other than a folder failed.
    #[error("the key store failed")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key has no name in the metadata.
    #[error("a public key cannot be named")]
    KeyId(#[source] Box<tough::schema::Error>),
    /// A file that should hold a group's key holds something else, or no key can be made.
    #[error("the content key {path} cannot be used")]
    Group {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CryptError,
    },
    /// Releases of the group exist, its key doesn't: a new key would split the group.
    #[error(
        "the group {group:?} has releases, but its key {path} is missing; copy it there from where they were published"
    )]
    GroupKeyMissing {
        /// The group.
        group: String,
        /// Where the key should be.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("the system's random generator failed")]
    NoRandomness,
}
