//! Group keys: who may open a block.
//!
//! A block is sealed with AES-256-GCM under a key that is derived from the group's key and the hash of the
//! block's plaintext. Equal blocks of two releases therefore stay equal inside a group, and nobody without the
//! group's key can guess a block from its plaintext (convergent encryption with a secret).
//!
//! The nonce is derived from the bytes that are sealed, and stored in front of them: the same plaintext that was
//! compressed in two ways (another zstd level or version) has one key, and must not meet one nonce twice
//! (NIST SP 800-38D section 8).
//!
//! What the signed metadata says of a group's release is sealed in the same way, under a key that is derived
//! from the place where it stands instead of a plaintext hash: nobody without the group's key learns a name.

use crate::hash::PlainHash;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use std::{borrow::Cow, fmt, str::FromStr};
use zeroize::Zeroizing;

/// Bytes that sealing adds to a block or a description: nonce and tag.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + 16;

/// What every sealed block is bound to beside its key, so that a block cannot pass for anything else.
const BLOCK: &[u8] = b"branchmesh block v1";
/// The same for descriptions; the place where a description stands follows.
const DESCRIPTION: &[u8] = b"branchmesh description v1";

/// First characters of a key file's line; the version of the derivation.
const KEY_PREFIX: &str = "branchmesh-group-key-v1:";

/// The content key of a group, 256 bits. Wiped from memory when dropped, never printed.
#[derive(Clone)]
pub struct GroupKey(Zeroizing<[u8; 32]>);

/// How the blocks of an image are sealed.
#[derive(Clone, Debug)]
pub enum Cipher {
    /// Not at all: a public image.
    None,
    /// For the members of one group.
    Group(GroupKey),
}

/// Why a sealed block was not opened, or a key not read.
#[derive(Debug, thiserror::Error)]
pub enum CryptError {
    /// The operating system gave no random bytes.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// Not the text of a group key.
    #[error("this is not a group key: it should be one line that begins with {KEY_PREFIX:?}")]
    NotAKey,
    /// Wrong key, or not something sealed. The two cannot be told apart.
    #[error(
        "it does not open with this group's key: the key file belongs to another group, or is an old one"
    )]
    WrongKey,
}

impl GroupKey {
    /// A new random key.
    pub fn generate() -> Result<Self, CryptError> {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| CryptError::NoRandomness)?;
        Ok(Self(key))
    }

    /// The line that a key file holds.
    #[must_use]
    pub fn to_line(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{KEY_PREFIX}{}\n", hex::encode(self.0.as_slice())))
    }

    /// Seals what the metadata says of a release under the name `context` (the TUF target): it opens there
    /// only. Equal input gives equal output, so that metadata that did not change stays the same bytes.
    #[must_use]
    pub fn seal_description(&self, context: &[u8], json: &[u8]) -> Vec<u8> {
        let key = self.derive(DESCRIPTION, b"key", context);
        seal(&key, &self.nonce(DESCRIPTION, json), &description_aad(context), json)
    }

    /// Opens what [`seal_description`](Self::seal_description) made for `context`.
    pub fn open_description(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptError> {
        let key = self.derive(DESCRIPTION, b"key", context);
        open(&key, &description_aad(context), sealed)
    }

    fn nonce(&self, kind: &[u8], payload: &[u8]) -> [u8; NONCE_LEN] {
        let hash = self.derive(kind, b"nonce", payload);
        *hash.first_chunk().expect("a hash is longer than a nonce")
    }

    /// A secret of this group for one `purpose`. Neither `kind` nor `purpose` holds a `/`, so no two inputs meet.
    fn derive(&self, kind: &[u8], purpose: &[u8], input: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(kind).update(b"/").update(purpose).update(b"/").update(input);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }
}

impl FromStr for GroupKey {
    type Err = CryptError;

    fn from_str(line: &str) -> Result<Self, CryptError> {
        let digits = line.trim().strip_prefix(KEY_PREFIX).ok_or(CryptError::NotAKey)?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(digits, &mut *key).map_err(|_| CryptError::NotAKey)?;
        Ok(Self(key))
    }
}

impl fmt::Debug for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GroupKey(..)")
    }
}

impl Cipher {
    /// Seals `payload`, the compressed form of the plaintext that `plain` names.
    #[must_use]
    pub fn seal(&self, plain: &PlainHash, payload: Vec<u8>) -> Vec<u8> {
        let Self::Group(group) = self else { return payload };
        let key = group.derive(BLOCK, b"key", &plain.0);
        seal(&key, &group.nonce(BLOCK, &payload), BLOCK, &payload)
    }

    /// Opens what [`seal`](Self::seal) made of the plaintext that `plain` names.
    pub fn open<'a>(&self, plain: &PlainHash, sealed: &'a [u8]) -> Result<Cow<'a, [u8]>, CryptError> {
        let Self::Group(group) = self else { return Ok(Cow::Borrowed(sealed)) };
        open(&group.derive(BLOCK, b"key", &plain.0), BLOCK, sealed).map(Cow::Owned)
    }
}

fn description_aad(context: &[u8]) -> Vec<u8> {
    [DESCRIPTION, b"/", context].concat()
}

/// Nonce, ciphertext, tag.
fn seal(key: &[u8; 32], nonce: &[u8; NONCE_LEN], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(payload.len() + SEAL_OVERHEAD);
    sealed.extend_from_slice(nonce);
    sealed.extend_from_slice(payload);
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let tag = aead(key)
        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut sealed[NONCE_LEN..])
        .expect("what is sealed is far below AES-GCM's length limit");
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

fn open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptError> {
    let (nonce, body) = sealed.split_first_chunk().ok_or(CryptError::WrongKey)?;
    let mut body = body.to_vec();
    let opened = aead(key)
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body)
        .map_err(|_| CryptError::WrongKey)?
        .len();
    body.truncate(opened);
    Ok(body)
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> Cipher {
        Cipher::Group(GroupKey(Zeroizing::new([byte; 32])))
    }

    #[test]
    fn a_sealed_block_opens_with_its_key_only() {
        let plain = PlainHash::of(b"plain");
        let sealed = key(1).seal(&plain, b"payload".to_vec());
        assert_eq!(sealed.len(), 7 + SEAL_OVERHEAD);
        assert_eq!(*key(1).open(&plain, &sealed).unwrap(), *b"payload");
        assert!(key(2).open(&plain, &sealed).is_err());
        assert!(key(1).open(&PlainHash::of(b"other"), &sealed).is_err());
        for position in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[position] ^= 1;
            assert!(key(1).open(&plain, &flipped).is_err(), "byte {position} is not protected");
        }
        for length in 0..sealed.len() {
            assert!(key(1).open(&plain, &sealed[..length]).is_err());
        }
    }

    #[test]
    fn sealing_is_deterministic_but_never_reuses_a_nonce_for_another_payload() {
        let plain = PlainHash::of(b"plain");
        let sealed = key(1).seal(&plain, b"zstd level 1".to_vec());
        assert_eq!(sealed, key(1).seal(&plain, b"zstd level 1".to_vec()));
        assert_ne!(sealed[..NONCE_LEN], key(1).seal(&plain, b"zstd level 3".to_vec())[..NONCE_LEN]);
    }

    #[test]
    fn a_description_opens_where_it_stands_only() {
        let Cipher::Group(mine) = key(1) else { unreachable!() };
        let Cipher::Group(other) = key(2) else { unreachable!() };
        let sealed = mine.seal_description(b"finance/00ff", b"{}");
        assert_eq!(sealed, mine.seal_description(b"finance/00ff", b"{}"));
        assert_eq!(sealed.len(), 2 + SEAL_OVERHEAD);
        assert_eq!(mine.open_description(b"finance/00ff", &sealed).unwrap(), b"{}");
        assert!(mine.open_description(b"finance/00fe", &sealed).is_err());
        assert!(other.open_description(b"finance/00ff", &sealed).is_err());
        assert!(key(1).open(&PlainHash::of(b"{}"), &sealed).is_err());
        for position in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[position] ^= 1;
            assert!(mine.open_description(b"finance/00ff", &flipped).is_err());
            assert!(mine.open_description(b"finance/00ff", &sealed[..position]).is_err());
        }
        let another = mine.seal_description(b"finance/00ff", b"[]");
        assert_ne!(sealed[..NONCE_LEN], another[..NONCE_LEN]);
    }

    #[test]
    fn a_key_line_round_trips_and_is_not_printed() {
        let key = GroupKey::generate().unwrap();
        let line = key.to_line();
        assert_eq!(*line.parse::<GroupKey>().unwrap().0, *key.0);
        assert_eq!(format!("{key:?}"), "GroupKey(..)");
        for text in ["", "secret", "branchmesh-group-key-v1:", "branchmesh-group-key-v1:00ff"] {
            assert!(text.parse::<GroupKey>().is_err());
        }
    }
}
