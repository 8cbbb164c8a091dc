//! Where signing keys live: the one interface behind which a folder, or a hardware security module, stands.
//!
//! A module plugs in with two types. Its [`SigningKey`] holds a handle of one private key and asks the module to
//! sign; the message is given whole, so that Ed25519 (which cannot sign a digest) works as well as ECDSA on P-256
//! and RSA-PSS, the other two schemes that readers verify. Its [`KeyStore`] lists those handles: keys are chosen by
//! their public halves, so it needs no table of roles, and may list keys of other repositories too. Give the
//! store to [`Keys::with_store`](super::Keys::with_store): content keys and `root.json` stay files in the folder.
//! Where the module's own tools make the keys, [`KeyStore::create`] gives back the key that they made under the
//! name, or an error that says how to make it.

use super::KeyError;
use async_trait::async_trait;
use std::{fmt, sync::Arc};

/// The public half of a signing key, in the form that the metadata names it in (TUF section 4.2).
pub use tough::schema::key::Key as PublicKey;

/// A private key that signs, wherever it is.
#[async_trait]
pub trait SigningKey: Send + Sync {
    /// Its public half.
    fn public(&self) -> PublicKey;

    /// The signature of `message` under the scheme that the public half names.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError>;
}

/// A place with signing keys.
pub trait KeyStore: fmt::Debug + Send + Sync {
    /// The keys that can sign now, in any order.
    fn signing_keys(&self) -> Result<Vec<Arc<dyn SigningKey>>, KeyError>;

    /// The key `name`, such as `targets-2`; `None` if there is none.
    fn get(&self, name: &str) -> Result<Option<Arc<dyn SigningKey>>, KeyError>;

    /// Makes the key `name`. Fails if there is one: keys are never replaced.
    fn create(&self, name: &str) -> Result<Arc<dyn SigningKey>, KeyError>;
}
