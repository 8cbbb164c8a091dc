//! Signing roles, in part or in whole, and counting who has signed.

use super::MetadataError;
use crate::{
    keys::{KeyId, PublicKey, Signers},
    role::{RoleName, Threshold},
};
use aws_lc_rs::digest;
use bytes::Bytes;
use serde::Serialize;
use std::{collections::HashMap, fmt, num::NonZeroU64};
use tough::schema::{Delegations, Hashes, Metafile, Role, RoleKeys, RoleType, Root, Signature, Signed};

/// Digits of a key's id that people are shown.
const ID_SHOWN: usize = 12;

/// Whose signatures a role needs: some of these keys.
#[derive(Clone, Debug)]
pub(crate) struct KeySet {
    keys: HashMap<KeyId, PublicKey>,
    pub(crate) needed: NonZeroU64,
}

/// Signatures that a role still needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The role.
    pub role: RoleName,
    /// How many keys have signed.
    pub signed: u64,
    /// How many must.
    pub needed: u64,
    /// The keys that have not, by their ids in the metadata.
    pub absent: Vec<String>,
}

impl KeySet {
    /// The keys of `role`, one of TUF's four.
    pub(crate) fn of_root(root: &Root, role: &RoleName) -> Option<Self> {
        let keys = root.roles.get(&role.kind())?;
        Some(Self::new(&root.keys, &keys.keyids, keys.threshold))
    }

    /// The keys of `group`.
    pub(crate) fn of_group(delegations: &Delegations, group: &str) -> Option<Self> {
        let role = delegations.roles.iter().find(|role| role.name == group)?;
        Some(Self::new(&delegations.keys, &role.keyids, role.threshold))
    }

    fn new(keys: &HashMap<KeyId, PublicKey>, ids: &[KeyId], needed: NonZeroU64) -> Self {
        let named = ids.iter().filter_map(|id| Some((id.clone(), keys.get(id)?.clone())));
        Self { keys: named.collect(), needed }
    }

    /// How many keys there are, and how many must sign.
    pub(crate) fn threshold(&self) -> Threshold {
        Threshold::of(self.needed, self.keys.len() as u64)
    }

    /// The ids of its keys, sorted.
    pub(crate) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.keys.keys().map(hex).collect();
        ids.sort();
        ids
    }

    /// Whether any of its keys can sign now.
    pub(crate) fn has_signer(&self, signers: &Signers) -> bool {
        self.keys.keys().any(|id| signers.contains_key(id))
    }

    /// Whether enough of its keys can sign now.
    pub(crate) fn is_met_by(&self, signers: &Signers) -> bool {
        let here = self.keys.keys().filter(|id| signers.contains_key(*id)).count();
        here as u64 >= self.needed.get()
    }

    /// Adds the signatures of those of its keys that can sign now and have not yet.
    pub(crate) async fn sign<R: Role>(
        &self,
        role: &mut Signed<R>,
        signers: &Signers,
    ) -> Result<(), MetadataError> {
        let message = canonical(&role.signed)?;
        let has_signed = self.valid_signers(role);
        for (id, signer) in signers.iter().filter(|(id, _)| self.keys.contains_key(*id)) {
            if has_signed.contains(&id) {
                continue;
            }
            role.signatures.retain(|signature| signature.keyid != *id);
            let sig = signer.sign(&message).await?.into();
            role.signatures.push(Signature { keyid: id.clone(), sig });
        }
        // Equal states are equal bytes.
        role.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }

    /// Whether enough of its keys have signed.
    pub(crate) fn is_met<R: Role>(&self, role: &Signed<R>) -> bool {
        self.valid_signers(role).len() as u64 >= self.needed.get()
    }

    /// What `role`, called `name`, lacks; `None` if it lacks nothing.
    pub(crate) fn missing<R: Role>(&self, name: &RoleName, role: &Signed<R>) -> Option<Missing> {
        let signed = self.valid_signers(role);
        if signed.len() as u64 >= self.needed.get() {
            return None;
        }
        let mut absent: Vec<String> = self.keys.keys().filter(|id| !signed.contains(id)).map(hex).collect();
        absent.sort();
        Some(Missing { role: name.clone(), signed: signed.len() as u64, needed: self.needed.get(), absent })
    }

    /// What `role` lacks if it is signed here and now; `None` if it lacks nothing.
    pub(crate) fn missing_here(&self, role: &RoleName, signers: &Signers) -> Option<Missing> {
        let (here, absent): (Vec<&KeyId>, Vec<&KeyId>) =
            self.keys.keys().partition(|id| signers.contains_key(*id));
        if here.len() as u64 >= self.needed.get() {
            return None;
        }
        let mut absent: Vec<String> = absent.into_iter().map(hex).collect();
        absent.sort();
        Some(Missing { role: role.clone(), signed: here.len() as u64, needed: self.needed.get(), absent })
    }

    /// Which of its keys have signed. tough verifies: against a root that names one key at a time.
    fn valid_signers<R: Role>(&self, role: &Signed<R>) -> Vec<&KeyId> {
        let mut valid = Vec::new();
        for (id, key) in &self.keys {
            let Some(signature) = role.signatures.iter().find(|signature| signature.keyid == *id) else {
                continue;
            };
            if verifies::<R>(id, key, &role.signed, signature) {
                valid.push(id);
            }
        }
        valid
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, signed, needed, absent } = self;
        write!(f, "{role} has {signed} of {needed} signatures; who has not signed: {}", list(absent))
    }
}

/// Keys' ids for people: the first digits are enough to tell keys apart.
pub(super) fn list(ids: &[String]) -> String {
    let short = ids.iter().map(|id| id.get(..ID_SHOWN).unwrap_or(id));
    short.collect::<Vec<_>>().join(", ")
}

/// A signed role as the bytes of its file. Always the same ones, with sorted keys: what was killed while it put a file
/// must recognise it.
pub(crate) fn to_bytes<R: Serialize>(role: &Signed<R>) -> Result<Bytes, MetadataError> {
    let sorted = serde_json::to_value(role).map_err(MetadataError::Json)?;
    let mut bytes = serde_json::to_vec_pretty(&sorted).map_err(MetadataError::Json)?;
    bytes.push(b'\n');
    Ok(bytes.into())
}

/// How a snapshot or timestamp names a file.
pub(crate) fn described(bytes: &[u8], version: NonZeroU64) -> Metafile {
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256: sha256(bytes).into(), _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    }
}

/// The SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest::digest(&digest::SHA256, bytes).as_ref().to_vec()
}

/// An id as hexadecimal digits.
pub(crate) fn hex(id: &KeyId) -> String {
    ::hex::encode(&**id)
}

/// What is signed (TUF section 4.2, "canonical JSON").
fn canonical<R: Role>(role: &R) -> Result<Vec<u8>, MetadataError> {
    role.canonical_form().map_err(|error| MetadataError::Form(Box::new(error)))
}

fn verifies<R: Role>(id: &KeyId, key: &PublicKey, role: &R, signature: &Signature) -> bool {
    let keys = RoleKeys { keyids: vec![id.clone()], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
    let witness = Root {
        spec_version: String::new(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: jiff::Timestamp::MAX,
        keys: HashMap::from([(id.clone(), key.clone())]),
        roles: HashMap::from([(R::TYPE, keys)]),
        _extra: HashMap::new(),
    };
    witness.verify_role(&Signed { signed: Borrowed(role), signatures: vec![signature.clone()] }).is_ok()
}

/// tough verifies what it owns; this lets it own a loan.
struct Borrowed<'a, R>(&'a R);

impl<R: Role> Serialize for Borrowed<'_, R> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<R: Role> Role for Borrowed<'_, R> {
    const TYPE: RoleType = R::TYPE;

    fn expires(&self) -> jiff::Timestamp {
        self.0.expires()
    }

    fn version(&self) -> NonZeroU64 {
        self.0.version()
    }

    fn filename(&self, consistent_snapshot: bool) -> String {
        self.0.filename(consistent_snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::edit::empty_targets;

    #[test]
    fn equal_roles_are_equal_bytes() {
        let mut targets = empty_targets();
        for number in 0..50 {
            targets._extra.insert(number.to_string(), number.into());
        }
        let role = Signed { signed: targets, signatures: Vec::new() };
        let bytes = to_bytes(&role).unwrap();
        // Another hash map has another order.
        let again: Signed<tough::schema::Targets> = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(to_bytes(&again).unwrap(), bytes);
    }
}
