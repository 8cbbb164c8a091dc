//! Signing keys as files: Ed25519, PKCS #8 in PEM, readable by their owner only.

use super::{
    KeyError, failed,
    store::{KeyStore, PublicKey, SigningKey},
    write_new,
};
use crate::disk;
use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use tough::sign::Sign;
use zeroize::Zeroizing;

const PEM_TAG: &str = "PRIVATE KEY";
/// What a key file's name ends with.
const SUFFIX: &str = "key";
/// Most bytes of a key file that are read: an Ed25519 key has 120.
const KEY_FILE_MAX: u64 = 16 << 10;
/// Most keys in a folder: all that a large organisation has, and no mistaken `--keys /`.
const KEYS_MAX: usize = 1024;

/// A folder of `*.key` files.
#[derive(Debug)]
pub(super) struct KeyFolder(pub(super) PathBuf);

impl KeyStore for KeyFolder {
    fn signing_keys(&self) -> Result<Vec<Arc<dyn SigningKey>>, KeyError> {
        let unreadable = |source| failed(&self.0, source);
        let mut paths = Vec::new();
        for file in fs::read_dir(&self.0).map_err(unreadable)? {
            let path = file.map_err(unreadable)?.path();
            if path.extension().is_some_and(|kind| kind == SUFFIX) && path.is_file() {
                paths.push(path);
            }
            if paths.len() > KEYS_MAX {
                return Err(unreadable(io::Error::other("it holds too many keys to be a keys folder")));
            }
        }
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    fn get(&self, name: &str) -> Result<Option<Arc<dyn SigningKey>>, KeyError> {
        let path = self.file(name);
        if path.exists() { read(&path).map(Some) } else { Ok(None) }
    }

    fn create(&self, name: &str) -> Result<Arc<dyn SigningKey>, KeyError> {
        disk::create_secret_folder(&self.0).map_err(|source| failed(&self.0, source))?;
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new())
            .map_err(|_| KeyError::NoRandomness)?;
        let text = Zeroizing::new(pem::encode(&pem::Pem::new(PEM_TAG, pkcs8.as_ref())));
        let path = self.file(name);
        write_new(&path, text.as_bytes())?;
        read(&path)
    }
}

impl KeyFolder {
    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.{SUFFIX}"))
    }
}

fn read(path: &Path) -> Result<Arc<dyn SigningKey>, KeyError> {
    let not_a_key = || KeyError::NotAKey { path: path.into() };
    let mut text = Zeroizing::new(Vec::new());
    let file = fs::File::open(path).map_err(|source| failed(path, source))?;
    file.take(KEY_FILE_MAX).read_to_end(&mut text).map_err(|source| failed(path, source))?;
    let pkcs8 = pem::parse(&*text).map_err(|_| not_a_key())?.into_contents();
    let pair = Ed25519KeyPair::from_pkcs8(&Zeroizing::new(pkcs8)).map_err(|_| not_a_key())?;
    Ok(Arc::new(pair))
}

/// aws-lc wipes the key when it is dropped.
#[async_trait]
impl SigningKey for Ed25519KeyPair {
    fn public(&self) -> PublicKey {
        self.tuf_key()
    }

    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        Ok(Ed25519KeyPair::sign(self, message).as_ref().to_vec())
    }
}
