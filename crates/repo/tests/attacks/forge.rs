//! What an attacker does with files and keys: changes what is signed, signs it with what he has, and makes the files
//! above fit, as far as his keys go.

use crate::{Dice, World, world::Files};
use aws_lc_rs::signature::Ed25519KeyPair;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::HashMap, fs, num::NonZeroU64, path::Path};
use tough::{
    schema::{Hashes, Metafile, Role, Signature, Signed, Snapshot, Targets, Timestamp},
    sign::Sign,
};

/// The names of the keys with which a file is signed anew. None leaves the signatures as they are.
pub type Stolen<'a> = &'a [&'a str];

/// A set of metadata that is being forged.
pub struct Forgery<'a> {
    world: &'a World,
    pub files: Files,
}

impl<'a> Forgery<'a> {
    /// Begins with the newest state.
    pub fn new(world: &'a World) -> Self {
        Self { world, files: world.newest().files.clone() }
    }

    /// The newest file of `role`.
    pub fn name(&self, role: &str) -> String {
        if role == "timestamp" {
            return "timestamp.json".into();
        }
        let version = |name: &String| name.strip_suffix(&format!(".{role}.json"))?.parse::<u64>().ok();
        let newest = self.files.keys().filter_map(version).max().unwrap();
        format!("{newest}.{role}.json")
    }

    pub fn read<R: DeserializeOwned>(&self, role: &str) -> Signed<R> {
        serde_json::from_slice(&self.files[&self.name(role)]).unwrap()
    }

    /// Changes a role, and signs it with the stolen keys.
    pub fn change<R: Role + Serialize + DeserializeOwned>(
        &mut self,
        role: &str,
        stolen: Stolen<'_>,
        change: impl FnOnce(&mut R),
    ) {
        let mut signed: Signed<R> = self.read(role);
        change(&mut signed.signed);
        if !stolen.is_empty() {
            signed.signatures = stolen.iter().map(|key| self.signature(key, &signed.signed)).collect();
        }
        self.write(role, &signed);
    }

    pub fn write<R: Serialize>(&mut self, role: &str, signed: &Signed<R>) {
        let bytes = Bytes::from(serde_json::to_vec_pretty(signed).unwrap());
        self.files.insert(self.name(role), bytes);
    }

    pub fn signature<R: Role>(&self, key: &str, role: &R) -> Signature {
        signature_of(&self.world.key_folder(), key, role)
    }

    /// Makes the snapshot name the present file of `role`, and the timestamp the snapshot; with the keys of
    /// snapshot and timestamp, if they are stolen.
    pub fn fit(&mut self, role: &str, stolen: Stolen<'_>) {
        let file = described(&self.files[&self.name(role)], self.version(role));
        self.change("snapshot", held(stolen, "snapshot"), |snapshot: &mut Snapshot| {
            snapshot.meta.insert(format!("{role}.json"), file);
            snapshot.version = snapshot.version.saturating_add(1);
        });
        let bytes = self.files[&self.name("snapshot")].clone();
        let signed: Signed<Snapshot> = serde_json::from_slice(&bytes).unwrap();
        self.files.insert(format!("{}.snapshot.json", signed.signed.version), bytes);
        self.fit_timestamp(stolen);
    }

    /// Makes the timestamp name the newest snapshot.
    pub fn fit_timestamp(&mut self, stolen: Stolen<'_>) {
        let snapshot: Signed<Snapshot> = self.read("snapshot");
        let file = described(&self.files[&self.name("snapshot")], snapshot.signed.version);
        self.change("timestamp", held(stolen, "timestamp"), |timestamp: &mut Timestamp| {
            timestamp.meta.insert("snapshot.json".into(), file);
            timestamp.version = timestamp.version.saturating_add(1);
        });
    }

    fn version(&self, role: &str) -> NonZeroU64 {
        self.read::<Targets>(role).signed.version
    }
}

/// Changes something that matters in the targets of a role: what a release is, where a channel points, which keys
/// count.
pub fn spoil_targets(targets: &mut Targets, dice: &mut Dice) {
    let mut names: Vec<_> = targets.targets.keys().cloned().collect();
    names.sort();
    match dice.below(4) {
        0 => drop(targets.targets.remove(dice.one_of(&names))),
        1 => targets.version = targets.version.saturating_add(dice.next() % 1000),
        2 => {
            let target = targets.targets.get_mut(dice.one_of(&names)).unwrap();
            target.length = target.length.wrapping_add(1 + dice.next() % 100);
        }
        _ => {
            let target = targets.targets.get_mut(dice.one_of(&names)).unwrap();
            let mut hash = target.hashes.sha256.to_vec();
            let at = dice.below(hash.len());
            hash[at] ^= 1 << dice.below(8);
            target.hashes = Hashes { sha256: hash.into(), _extra: HashMap::new() };
        }
    }
}

/// The key of `role`, if it is among the stolen ones.
fn held<'a>(stolen: Stolen<'a>, role: &str) -> Stolen<'a> {
    match stolen.iter().position(|key| *key == role) {
        Some(at) => &stolen[at..=at],
        None => &[],
    }
}

fn described(bytes: &[u8], version: NonZeroU64) -> Metafile {
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref().to_vec().into();
    Metafile {
        length: Some(bytes.len() as u64),
        hashes: Some(Hashes { sha256, _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    }
}

/// A timestamp whose version is `jump` ahead, signed with the key in `folder`.
pub fn jumped(timestamp: &[u8], folder: &Path, jump: u64) -> Bytes {
    let mut signed: Signed<Timestamp> = serde_json::from_slice(timestamp).unwrap();
    signed.signed.version = signed.signed.version.saturating_add(jump);
    signed.signatures = vec![signature_of(folder, "timestamp", &signed.signed)];
    serde_json::to_vec(&signed).unwrap().into()
}

fn signature_of<R: Role>(folder: &Path, key: &str, role: &R) -> Signature {
    let pem = fs::read(folder.join(format!("{key}.key"))).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pem::parse(pem).unwrap().contents()).unwrap();
    let sig = pair.sign(&role.canonical_form().unwrap()).as_ref().to_vec().into();
    Signature { keyid: Sign::tuf_key(&pair).key_id().unwrap(), sig }
}
