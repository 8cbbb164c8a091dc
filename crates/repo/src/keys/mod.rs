//! A publisher's keys: what signs the repository's metadata, and what encrypts its images.
//!
//! ```text
//! root.key targets.key snapshot.key timestamp.key   signing keys: Ed25519, PKCS #8 in PEM
//! targets-2.key targets-3.key group-NAME.key …      further keys of a role, and keys of groups' roles
//! root.json                                         the root of trust, to be handed to nodes
//! groups/NAME.key                                   content key of a group, to be handed to its members
//! ```
//!
//! Which role a signing key belongs to says the metadata, not its file's name: a folder may hold any subset. The
//! keys of root belong into safes, one each; publishing needs those of targets (or of the group), snapshot and
//! timestamp; whoever has only some of a role's keys leaves the rest to others (`branchmesh repo sign`).

mod error;
mod folder;
mod store;

pub use error::KeyError;
pub use store::{KeyStore, PublicKey, SigningKey};

use crate::{disk, role::RoleName};
use branchmesh_image::GroupKey;
use folder::KeyFolder;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tough::schema::decoded::{Decoded, Hex};
use zeroize::Zeroizing;

/// The folder of content keys.
const GROUPS: &str = "groups";

/// A public key's name in the metadata: the SHA-256 of its canonical form (TUF section 4.2).
pub(crate) type KeyId = Decoded<Hex>;

/// A folder with keys, and what signs with them.
#[derive(Clone, Debug)]
pub struct Keys {
    folder: PathBuf,
    store: Arc<dyn KeyStore>,
}

/// The keys that can sign now, by their names in the metadata.
pub(crate) type Signers = HashMap<KeyId, Arc<dyn SigningKey>>;

impl Keys {
    /// The keys in `folder`. Nothing is read yet.
    #[must_use]
    pub fn at(folder: &Path) -> Self {
        Self::with_store(folder, Arc::new(KeyFolder(folder.into())))
    }

    /// The content keys and the root of trust in `folder`, and the signing keys in `store`.
    #[must_use]
    pub fn with_store(folder: &Path, store: Arc<dyn KeyStore>) -> Self {
        Self { folder: folder.into(), store }
    }

    /// Where they are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The root of trust.
    pub fn read_root_json(&self) -> Result<Vec<u8>, KeyError> {
        let path = self.root_json();
        fs::read(&path).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return KeyError::NoRoot { folder: self.folder.clone() };
            }
            failed(&path, source)
        })
    }

    /// Keeps the root of trust beside the keys, to be handed to nodes.
    pub(crate) fn write_root_json(&self, root: &[u8]) -> Result<(), KeyError> {
        let path = self.root_json();
        disk::create_secret_folder(&self.folder).map_err(|source| failed(&self.folder, source))?;
        disk::write_atomically(&path, root).map_err(|source| failed(&path, source))
    }

    /// Keeps the root of trust beside the keys, unless there is one.
    pub(crate) fn add_root_json(&self, root: &[u8]) -> Result<(), KeyError> {
        if self.root_json().exists() { Ok(()) } else { self.write_root_json(root) }
    }

    /// Fails if there is a root of trust, or any of the `count` keys of `role`, that would be overwritten.
    pub(crate) fn check_absent(&self, role: &RoleName, count: u64) -> Result<(), KeyError> {
        if self.root_json().exists() {
            return Err(KeyError::Exists { path: self.root_json() });
        }
        for number in 1..=count {
            let name = role.key_name(number);
            if self.store.get(&name)?.is_some() {
                return Err(KeyError::Exists { path: self.folder.join(format!("{name}.key")) });
            }
        }
        Ok(())
    }

    /// The `count` keys of `role` by their names; makes those that are missing.
    pub(crate) fn role_keys(
        &self,
        role: &RoleName,
        count: u64,
    ) -> Result<Vec<Arc<dyn SigningKey>>, KeyError> {
        let key = |number| {
            let name = role.key_name(number);
            self.store.get(&name)?.map_or_else(|| self.store.create(&name), Ok)
        };
        (1..=count).map(key).collect()
    }

    /// `count` keys of `role` that are made now, beside those that are there.
    pub(crate) fn more_role_keys(
        &self,
        role: &RoleName,
        count: u64,
    ) -> Result<Vec<Arc<dyn SigningKey>>, KeyError> {
        let mut keys = Vec::new();
        for name in (1..).map(|number| role.key_name(number)) {
            if keys.len() as u64 == count {
                break;
            }
            if self.store.get(&name)?.is_none() {
                keys.push(self.store.create(&name)?);
            }
        }
        Ok(keys)
    }

    /// The keys that can sign now.
    pub(crate) fn signers(&self) -> Result<Signers, KeyError> {
        let keys = self.store.signing_keys()?.into_iter();
        keys.map(|key| Ok((key_id(&key.public())?, key))).collect()
    }

    /// The content key of `group`. The first publication for a group makes its key; later ones
    /// (`has_releases`) need it to be there.
    pub(crate) fn group(&self, group: &str, has_releases: bool) -> Result<GroupKey, KeyError> {
        let folder = self.folder.join(GROUPS);
        let path = folder.join(format!("{group}.key"));
        match read_content_key(&path)? {
            Some(key) => Ok(key),
            None if has_releases => Err(KeyError::GroupKeyMissing { group: group.into(), path }),
            None => {
                disk::create_secret_folder(&folder).map_err(|source| failed(&folder, source))?;
                let key =
                    GroupKey::generate().map_err(|source| KeyError::Group { path: path.clone(), source })?;
                write_new(&path, key.to_line().as_bytes())?;
                Ok(key)
            }
        }
    }

    fn root_json(&self) -> PathBuf {
        self.folder.join("root.json")
    }
}

/// The name of a public key in the metadata.
pub(crate) fn key_id(key: &PublicKey) -> Result<KeyId, KeyError> {
    key.key_id().map_err(|error| KeyError::KeyId(Box::new(error)))
}

/// The content key in the file at `path`; `None` if there is no file.
fn read_content_key(path: &Path) -> Result<Option<GroupKey>, KeyError> {
    match fs::read_to_string(path).map(Zeroizing::new) {
        Ok(line) => {
            let key = line.parse().map_err(|source| KeyError::Group { path: path.into(), source })?;
            Ok(Some(key))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
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
        for role in RoleName::TOP {
            keys.check_absent(&role, 2).unwrap();
            let made = keys.role_keys(&role, 2).unwrap();
            assert!(matches!(keys.check_absent(&role, 2), Err(KeyError::Exists { .. })));
            assert!(matches!(keys.store.create(&role.key_name(2)), Err(KeyError::Exists { .. })));
            let again = keys.role_keys(&role, 2).unwrap();
            assert!(made.iter().zip(&again).all(|(made, again)| made.public() == again.public()));
            assert_ne!(made[0].public(), made[1].public());
        }
        assert_eq!(keys.signers().unwrap().len(), 8);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&keys.folder.join("targets-2.key")), 0o600);
            assert_eq!(mode(&keys.folder), 0o700);
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
            assert!(matches!(keys.signers(), Err(KeyError::NotAKey { .. })), "{text:?}");
        }
        assert!(matches!(Keys::at(&dir.path().join("none")).signers(), Err(KeyError::Io { .. })));
    }
}
