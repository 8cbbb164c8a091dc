//! Changing the signed metadata: a publisher's side of TUF.
//!
//! Three roles sign each change: targets (what the releases are), snapshot (which targets are current),
//! timestamp (that this is still so). A release's target keeps its hash for ever; channels move by changing
//! the targets' custom fields.

use crate::{
    catalog::{Catalog, CatalogEntry},
    content_keys::ContentKeys,
    keys::{KeyError, Keys, PUBLISHING_ROLES, ROLES},
    layout::{self, METADATA_MAX, ROOT, TIMESTAMP},
    place::{Place, PlaceError},
    trust::load_once,
    tuf::TrustError,
};
use aws_lc_rs::{digest, rand::SystemRandom};
use branchmesh_image::VerifiedBlock;
use bytes::Bytes;
use jiff::Timestamp;
use std::{collections::HashMap, num::NonZeroU64};
use tough::{
    TargetName,
    editor::signed::SignedRole,
    key_source::KeySource,
    schema::{
        Hashes, KeyHolder, Metafile, Role, RoleKeys, RoleType, Root, Snapshot, Target, Targets,
        Timestamp as TimestampRole,
    },
};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// The root of trust: it changes when keys do.
const ROOT_DAYS: i64 = 365;
/// The list of releases.
const TARGETS_DAYS: i64 = 365;
/// Which list is current.
const SNAPSHOT_DAYS: i64 = 90;
/// How long an attacker who holds back new releases goes unnoticed. The publisher must publish or renew within
/// this time; it will become shorter when renewing runs by itself.
const TIMESTAMP_DAYS: i64 = 30;

const SPEC_VERSION: &str = "1.0.0";

/// Why metadata cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The repository's present metadata cannot be read or believed.
    #[error("the repository's present metadata cannot be used")]
    Trust(#[from] TrustError),
    /// A key is missing.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It cannot be written.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A key does not belong to this repository, or tough cannot sign.
    #[error("the metadata cannot be signed; are these the keys of this repository?")]
    Sign(#[source] Box<tough::error::Error>),
    /// A key of another repository, or an old one.
    #[error("{role}.key is not a key of this repository: its root of trust names another one")]
    ForeignKey {
        /// Which key.
        role: RoleType,
    },
    /// A key has no id.
    #[error("a key cannot be named")]
    KeyId(#[source] Box<tough::schema::Error>),
    /// The list of releases has outgrown what nodes accept.
    #[error(
        "the repository has too many releases: its metadata would have {0} bytes, and nodes accept {METADATA_MAX}"
    )]
    TooLarge(usize),
}

/// The metadata of a repository, to be changed and signed anew.
pub(crate) struct Metadata {
    root: Root,
    catalog: Catalog,
    targets: HashMap<TargetName, Target>,
    versions: Versions,
    /// Read and checked before any work is done, since the signing comes last.
    signers: Vec<Box<dyn KeySource>>,
}

#[derive(Clone, Copy)]
struct Versions {
    targets: NonZeroU64,
    snapshot: NonZeroU64,
    timestamp: NonZeroU64,
}

impl Metadata {
    /// Makes the root of trust of a new repository, and its first, empty metadata.
    pub(crate) async fn create(keys: &Keys) -> Result<(Bytes, Self), MetadataError> {
        let root = new_root(keys)?;
        let signer: [Box<dyn KeySource>; 1] = [Box::new(keys.signing(RoleType::Root)?)];
        let signed = sign(root.clone(), &KeyHolder::Root(root.clone()), &signer).await?;
        let first = NonZeroU64::MIN;
        let metadata = Self {
            signers: signers_for(&root, keys)?,
            root,
            catalog: Catalog { version: 0, expires: 0, expired: false, releases: Vec::new() },
            targets: HashMap::new(),
            versions: Versions { targets: first, snapshot: first, timestamp: first },
        };
        Ok((Bytes::from(signed.buffer().clone()), metadata))
    }

    /// Reads and verifies what is in the repository, to be replaced by the next version. Expired metadata is
    /// accepted: this is how it is renewed.
    pub(crate) async fn load(place: &Place, keys: &Keys) -> Result<Self, MetadataError> {
        let verified = load_once(&keys.read_root_json()?, place.origin()).await?;
        let repository = &verified.repository;
        let next = |version: NonZeroU64| version.saturating_add(1);
        let versions = Versions {
            targets: next(repository.targets().signed.version),
            snapshot: next(repository.snapshot().signed.version),
            timestamp: next(repository.timestamp().signed.version),
        };
        Ok(Self {
            signers: signers_for(&repository.root().signed, keys)?,
            root: repository.root().signed.clone(),
            catalog: verified.catalog(Timestamp::now(), &ContentKeys::default())?,
            targets: repository.targets().signed.targets.clone(),
            versions,
        })
    }

    /// The releases as they were loaded.
    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Adds a release whose encoded index root is `root`.
    pub(crate) fn add(&mut self, entry: &CatalogEntry, root: &VerifiedBlock) -> Result<(), MetadataError> {
        let sha256 = digest::digest(&digest::SHA256, root.bytes()).as_ref().to_vec();
        let target = Target {
            length: root.bytes().len() as u64,
            hashes: Hashes { sha256: sha256.into(), _extra: HashMap::new() },
            custom: entry.to_custom(),
            _extra: HashMap::new(),
        };
        let name = TargetName::new(entry.name()).map_err(|error| MetadataError::Sign(Box::new(error)))?;
        self.targets.insert(name, target);
        Ok(())
    }

    /// Lets `channel` point to the release `image@release`, and no longer to another one.
    pub(crate) fn point(&mut self, channel: &str, image: &str, release: &str) {
        for (name, target) in &mut self.targets {
            let read = CatalogEntry::from_custom(name.raw(), target.length, &target.custom);
            let Ok(Some(mut entry)) = read else { continue };
            if entry.image != image {
                continue;
            }
            entry.channels.retain(|other| other != channel);
            if entry.release == release {
                entry.channels.push(channel.into());
                entry.channels.sort();
            }
            target.custom.extend(entry.to_custom());
        }
    }

    /// Signs everything anew and puts it into the repository, in the order in which readers stay unharmed: what
    /// is put before `timestamp.json` is not looked at by anyone.
    pub(crate) async fn write(self, place: &Place) -> Result<(), MetadataError> {
        let Self {
            root,
            targets: releases,
            versions: Versions { targets, snapshot, timestamp },
            signers,
            ..
        } = self;
        let holder = KeyHolder::Root(root);

        let mut role = Targets::new(SPEC_VERSION.into(), targets, in_days(TARGETS_DAYS));
        role.targets = releases;
        role.delegations = None;
        let signed = sign(role, &holder, &signers).await?;
        if signed.buffer().len() > METADATA_MAX {
            return Err(MetadataError::TooLarge(signed.buffer().len()));
        }
        let mut role = Snapshot::new(SPEC_VERSION.into(), snapshot, in_days(SNAPSHOT_DAYS));
        role.meta.insert("targets.json".into(), described(&signed, targets));
        put(place, &format!("{targets}.targets.json"), &signed).await?;

        let signed = sign(role, &holder, &signers).await?;
        let mut role = TimestampRole::new(SPEC_VERSION.into(), timestamp, in_days(TIMESTAMP_DAYS));
        role.meta.insert("snapshot.json".into(), described(&signed, snapshot));
        put(place, &format!("{snapshot}.snapshot.json"), &signed).await?;

        let signed = sign(role, &holder, &signers).await?;
        put(place, TIMESTAMP, &signed).await
    }
}

/// Puts the root of trust into a new repository, under its two names.
pub(crate) async fn write_root(place: &Place, root: &Bytes) -> Result<(), PlaceError> {
    place.put(&layout::metadata_path(&format!("1.{ROOT}")), root.clone()).await?;
    place.put(&layout::metadata_path(ROOT), root.clone()).await
}

fn new_root(keys: &Keys) -> Result<Root, MetadataError> {
    let mut root = Root {
        spec_version: SPEC_VERSION.into(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: in_days(ROOT_DAYS),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for role in ROLES {
        let key = keys.signing(role)?.public()?;
        let id = key.key_id().map_err(|error| MetadataError::KeyId(Box::new(error)))?;
        root.keys.insert(id.clone(), key);
        let keys = RoleKeys { keyids: vec![id], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
        root.roles.insert(role, keys);
    }
    Ok(root)
}

/// The keys that sign a publication; each must be one that `root` names for its role.
fn signers_for(root: &Root, keys: &Keys) -> Result<Vec<Box<dyn KeySource>>, MetadataError> {
    let mut signers: Vec<Box<dyn KeySource>> = Vec::new();
    for role in PUBLISHING_ROLES {
        let key = keys.signing(role)?;
        let public = key.public()?;
        if !root.keys(role).any(|named| *named == public) {
            return Err(MetadataError::ForeignKey { role });
        }
        signers.push(Box::new(key));
    }
    Ok(signers)
}

async fn sign<R: Role + serde::Serialize>(
    role: R,
    holder: &KeyHolder,
    signers: &[Box<dyn KeySource>],
) -> Result<SignedRole<R>, MetadataError> {
    let signed = SignedRole::new(role, holder, signers, &SystemRandom::new()).await;
    signed.map_err(|error| MetadataError::Sign(Box::new(error)))
}

fn described<R: Role + serde::Serialize>(signed: &SignedRole<R>, version: NonZeroU64) -> Metafile {
    Metafile {
        length: Some(*signed.length()),
        hashes: Some(Hashes { sha256: signed.sha256().to_vec().into(), _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    }
}

async fn put<R: Role + serde::Serialize>(
    place: &Place,
    name: &str,
    signed: &SignedRole<R>,
) -> Result<(), MetadataError> {
    Ok(place.put(&layout::metadata_path(name), Bytes::from(signed.buffer().clone())).await?)
}

fn in_days(days: i64) -> Timestamp {
    let expiry = Timestamp::now().as_second() + days * DAY_SECONDS;
    // Whole seconds: TUF's dates have no fractions. Only a clock near the year 9999 exceeds the range.
    Timestamp::from_second(expiry).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Trust, address::Address, init, renew};
    use std::{fs, path::Path};

    /// Puts a second root of trust beside the first: signed by the root keys of both, naming only the new keys.
    async fn rotate(place: &Place, old: &Keys, new: &Keys) {
        new.create().unwrap();
        new.write_root_json(&old.read_root_json().unwrap()).unwrap();
        let holder_of = |root: &Root| KeyHolder::Root(root.clone());
        let signer =
            |keys: &Keys| -> [Box<dyn KeySource>; 1] { [Box::new(keys.signing(RoleType::Root).unwrap())] };
        let first: tough::schema::Signed<Root> =
            serde_json::from_slice(&old.read_root_json().unwrap()).unwrap();
        let second = Root { version: NonZeroU64::new(2).unwrap(), ..new_root(new).unwrap() };
        let by_old = sign(second.clone(), &holder_of(&first.signed), &signer(old)).await.unwrap();
        let by_new = sign(second.clone(), &holder_of(&second), &signer(new)).await.unwrap();
        let by_both = by_new.add_old_signatures(by_old.signed().signatures.clone()).unwrap();
        let mut metadata = Metadata::load(place, old).await.unwrap();
        metadata.signers = signers_for(&second, new).unwrap();
        metadata.root = second;
        put(place, "2.root.json", &by_both).await.unwrap();
        metadata.write(place).await.unwrap();
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to.join("metadata")).unwrap();
        for file in fs::read_dir(from.join("metadata")).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), to.join("metadata").join(file.file_name())).unwrap();
        }
    }

    #[tokio::test]
    async fn a_node_follows_new_keys_and_keeps_its_guard_against_rollback() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let repo = Address::from(path("repo").as_path());
        init(&repo, &Keys::at(&path("keys"))).await.unwrap();
        let place = Place::open(&repo).unwrap();
        let (old, new) = (Keys::at(&path("keys")), Keys::at(&path("new-keys")));
        let root = old.read_root_json().unwrap();
        let mut node = Trust::open(&root, &path("node"), ContentKeys::default()).unwrap();
        node.refresh(place.origin()).await.unwrap();
        copy(&path("repo"), &path("before"));

        rotate(&place, &old, &new).await;
        assert_eq!(node.refresh(place.origin()).await.unwrap().version, 2);
        assert!(node.file("2.root.json").is_some(), "neighbours with the first root need the second");
        let stale = renew(&repo, &Keys::at(&path("keys"))).await;
        assert!(stale.is_err(), "the old keys still sign");
        copy(&path("repo"), &path("rotated"));
        renew(&repo, &Keys::at(&path("new-keys"))).await.unwrap();
        assert_eq!(node.refresh(place.origin()).await.unwrap().version, 3);

        let restarted = Trust::open(&root, &path("node"), ContentKeys::default()).unwrap();
        for mut node in [node, restarted] {
            let before = Place::open(&path("before").as_path().into()).unwrap();
            let refused = node.refresh(before.origin()).await;
            assert!(matches!(refused, Err(TrustError::BadSignature { .. })), "{refused:?}");
            let rotated = Place::open(&path("rotated").as_path().into()).unwrap();
            let refused = node.refresh(rotated.origin()).await;
            assert!(matches!(refused, Err(TrustError::Rollback { .. })), "{refused:?}");
            assert!(node.file("2.root.json").is_some());
            assert_eq!(node.catalog().unwrap().version, 3);
        }
    }
}
