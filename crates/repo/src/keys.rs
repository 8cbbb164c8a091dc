//! The folder with a publisher's keys: what signs the repository's metadata, and what encrypts its images.
//!
//! ```text
//! root.key targets.key snapshot.key timestamp.key   Ed25519, PKCS #8 in PEM
//! root.json                                         the root of trust, to be handed to nodes
//! groups/NAME.key                                   content key of a group, to be handed to its members
//! ```
//!
//! `root.key` is used once, to sign the root of trust, and belongs into a safe afterwards; the others are needed
//! to publish.

use crate::disk;
use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use branchmesh_image::{GroupKey, crypt::CryptError};
use std::{
    error::Error,
    fmt, fs, io,
    path::{Path, PathBuf},
};
use tough::{
    key_source::KeySource,
    schema::{RoleType, key::Key},
    sign::Sign,
};
use zeroize::Zeroizing;

/// The roles that have a key of their own.
pub(crate) const ROLES: [RoleType; 4] =
    [RoleType::Root, RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
/// The roles that sign a publication.
pub(crate) const PUBLISHING_ROLES: [RoleType; 3] =
    [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];

const PEM_TAG: &str = "PRIVATE KEY";

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

/// A folder with keys.
#[derive(Clone, Debug)]
pub struct Keys {
    folder: PathBuf,
}

/// A signing key in memory. Never printed, wiped when dropped.
pub(crate) struct SigningKey {
    path: PathBuf,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl Keys {
    /// The keys in `folder`. Nothing is read yet.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Fails if the folder holds any key that [`create`](Self::create) would make.
    pub(crate) fn check_absent(&self) -> Result<(), KeyError> {
        let files = ROLES.into_iter().map(|role| self.role_file(role)).chain([self.root_json()]);
        match files.into_iter().find(|path| path.exists()) {
            Some(path) => Err(KeyError::Exists { path }),
            None => Ok(()),
        }
    }

    /// Makes the signing keys.
    pub(crate) fn create(&self) -> Result<(), KeyError> {
        disk::create_secret_folder(&self.folder).map_err(|source| failed(&self.folder, source))?;
        for role in ROLES {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
                .map_err(|_| KeyError::NoRandomness)?;
            let text = Zeroizing::new(pem::encode(&pem::Pem::new(PEM_TAG, pkcs8.as_ref())));
            Self::write_new(&self.role_file(role), text.as_bytes())?;
        }
        Ok(())
    }

    /// Keeps the root of trust beside the keys, to be handed to nodes.
    pub(crate) fn write_root_json(&self, root: &[u8]) -> Result<(), KeyError> {
        let path = self.root_json();
        disk::write_atomically(&path, root).map_err(|source| failed(&path, source))
    }

    /// The root of trust.
    pub(crate) fn read_root_json(&self) -> Result<Vec<u8>, KeyError> {
        let path = self.root_json();
        fs::read(&path).map_err(|source| failed(&path, source))
    }

    /// The signing key of `role`.
    pub(crate) fn signing(&self, role: RoleType) -> Result<SigningKey, KeyError> {
        let path = self.role_file(role);
        let text = Zeroizing::new(fs::read(&path).map_err(|source| failed(&path, source))?);
        let not_a_key = || KeyError::NotAKey { path: path.clone() };
        let pem = pem::parse(&*text).map_err(|_| not_a_key())?;
        let key = SigningKey { path: path.clone(), pkcs8: Zeroizing::new(pem.into_contents()) };
        key.pair().map_err(|_| not_a_key())?;
        Ok(key)
    }

    /// The content key of `group`. The first publication for a group makes its key; later ones
    /// (`has_releases`) need it to be there.
    pub(crate) fn group(&self, group: &str, has_releases: bool) -> Result<GroupKey, KeyError> {
        let folder = self.folder.join("groups");
        let path = folder.join(format!("{group}.key"));
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(line) => line.parse().map_err(|source| KeyError::Group { path, source }),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, error)),
            Err(_) if has_releases => Err(KeyError::GroupKeyMissing { group: group.into(), path }),
            Err(_) => {
                disk::create_secret_folder(&folder).map_err(|source| failed(&folder, source))?;
                let key =
                    GroupKey::generate().map_err(|source| KeyError::Group { path: path.clone(), source })?;
                Self::write_new(&path, key.to_line().as_bytes())?;
                Ok(key)
            }
        }
    }

    fn write_new(path: &Path, bytes: &[u8]) -> Result<(), KeyError> {
        disk::write_secret(path, bytes).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                return KeyError::Exists { path: path.into() };
            }
            failed(path, source)
        })
    }

    fn role_file(&self, role: RoleType) -> PathBuf {
        self.folder.join(format!("{role}.key"))
    }

    fn root_json(&self) -> PathBuf {
        self.folder.join("root.json")
    }
}

impl SigningKey {
    /// Its public half, as metadata names it.
    pub(crate) fn public(&self) -> Result<Key, KeyError> {
        self.pair().map(|pair| pair.tuf_key()).map_err(|_| KeyError::NotAKey { path: self.path.clone() })
    }

    fn pair(&self) -> Result<Ed25519KeyPair, aws_lc_rs::error::KeyRejected> {
        Ed25519KeyPair::from_pkcs8(&self.pkcs8)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

#[async_trait]
impl KeySource for SigningKey {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn Error + Send + Sync + 'static>> {
        Ok(Box::new(self.pair()?))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        Err("signing keys are made by `repo init` only".into())
    }
}

fn failed(path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_private_usable_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(&dir.path().join("keys"));
        assert!(keys.check_absent().is_ok());
        keys.create().unwrap();
        assert!(matches!(keys.check_absent(), Err(KeyError::Exists { .. })));
        assert!(matches!(keys.create(), Err(KeyError::Exists { .. })));
        for role in ROLES {
            let key = keys.signing(role).unwrap();
            assert_eq!(format!("{key:?}"), "SigningKey(..)");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(keys.role_file(RoleType::Targets)), 0o600);
            assert_eq!(mode(keys.folder), 0o700);
        }
    }

    #[test]
    fn a_group_key_is_made_once_and_missed_when_it_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        assert!(matches!(keys.group("finance", true), Err(KeyError::GroupKeyMissing { .. })));
        let made = keys.group("finance", false).unwrap();
        let read = keys.group("finance", true).unwrap();
        assert_eq!(*made.to_line(), *read.to_line());
    }

    #[test]
    fn other_files_are_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::at(dir.path());
        for text in ["", "hello", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            fs::write(dir.path().join("targets.key"), text).unwrap();
            assert!(matches!(keys.signing(RoleType::Targets), Err(KeyError::NotAKey { .. })), "{text:?}");
        }
        assert!(matches!(keys.signing(RoleType::Snapshot), Err(KeyError::Io { .. })));
    }
}
