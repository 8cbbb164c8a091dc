//! A repository's metadata in memory, signed with keys that everybody knows, so that hostile content can be put
//! behind valid signatures. The same at every run.

use crate::sample;
use async_trait::async_trait;
use aws_lc_rs::{
    digest,
    signature::{Ed25519KeyPair, KeyPair},
};
use branchmesh_image::{BlockId, PlainHash};
use branchmesh_repo::{Catalog, ContentKeys, MetadataSource, SourceError, read_catalog};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::OnceLock};
use tokio::runtime::{Builder, Runtime};
use tough::schema::{Role, Root, Snapshot, Targets, Timestamp};

/// The group of the world.
pub const GROUP: &str = "finance";
/// Everything in the world expires then, long after the program.
const EXPIRES: &str = "2099-01-01T00:00:00Z";
/// One key for all roles: what separates roles is tested elsewhere, with keys of their own.
const KEY_SEED: [u8; 32] = [7; 32];

/// Metadata files by name.
pub type Files = BTreeMap<String, Bytes>;

/// What the roles say, each as the JSON that is signed.
#[derive(Clone, Debug)]
pub struct World {
    /// The first root of trust.
    pub root: Value,
    /// The second one, which the first leads to.
    pub next_root: Value,
    /// The public releases and the group.
    pub targets: Value,
    /// The group's releases.
    pub group: Value,
    /// Which of them are current. Its `meta` is filled in when it is signed.
    pub snapshot: Value,
    /// That this is still so. Its `meta` is filled in, too.
    pub timestamp: Value,
}

/// Gives files from memory.
#[derive(Debug)]
pub struct Memory<'a>(pub &'a Files);

#[async_trait]
impl MetadataSource for Memory<'_> {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.get(name).filter(|bytes| bytes.len() <= max).cloned())
    }
}

impl World {
    /// A good one: two public releases and one of a group.
    #[must_use]
    pub fn good() -> Self {
        let keys = json!({ key_id(): public_key() });
        let signers = json!({ "keyids": [key_id()], "threshold": 1 });
        let roles = json!({ "root": signers, "targets": signers, "snapshot": signers, "timestamp": signers });
        let root = |version: u64| {
            let mut root = role("root", version);
            root["consistent_snapshot"] = true.into();
            root["keys"] = keys.clone();
            root["roles"] = roles.clone();
            root
        };
        let mut targets = role("targets", 5);
        targets["targets"] = json!({ "xp@1": public_release("1", 1), "xp@2": public_release("2", 2) });
        let group_role = json!({
            "name": GROUP, "keyids": [key_id()], "threshold": 1, "paths": [format!("{GROUP}/*")], "terminating": true,
        });
        targets["delegations"] = json!({ "keys": keys, "roles": [group_role] });
        let mut group = role("targets", 3);
        let (name, release) = group_release();
        group["targets"] = json!({ name: release });
        Self {
            root: root(1),
            next_root: root(2),
            targets,
            group,
            snapshot: role("snapshot", 4),
            timestamp: role("timestamp", 6),
        }
    }

    /// The files of a repository that says this, signed; `None` if a role cannot even be signed, because it is none.
    #[must_use]
    pub fn files(&self) -> Option<Files> {
        let mut files = Files::new();
        let mut put = |name: String, bytes: Bytes| {
            files.insert(name, bytes.clone());
            bytes
        };
        put("1.root.json".into(), signed::<Root>(&self.root)?);
        put("2.root.json".into(), signed::<Root>(&self.next_root)?);
        let version = |role: &Value| role["version"].as_u64();
        let targets =
            put(format!("{}.targets.json", version(&self.targets)?), signed::<Targets>(&self.targets)?);
        let group = put(format!("{}.{GROUP}.json", version(&self.group)?), signed::<Targets>(&self.group)?);
        let mut snapshot = self.snapshot.clone();
        fill(&mut snapshot, "targets.json", || described(&targets, &self.targets));
        fill(&mut snapshot, &format!("{GROUP}.json"), || described(&group, &self.group));
        let bytes = put(format!("{}.snapshot.json", version(&snapshot)?), signed::<Snapshot>(&snapshot)?);
        let mut timestamp = self.timestamp.clone();
        fill(&mut timestamp, "snapshot.json", || described(&bytes, &snapshot));
        put("timestamp.json".into(), signed::<Timestamp>(&timestamp)?);
        Some(files)
    }

    /// The files of the good one.
    ///
    /// # Panics
    /// Never: it can be signed.
    #[must_use]
    pub fn good_files() -> &'static Files {
        static FILES: OnceLock<Files> = OnceLock::new();
        FILES.get_or_init(|| Self::good().files().expect("the good world can be signed"))
    }

    /// What the good one means.
    ///
    /// # Panics
    /// If a reader does not accept it.
    #[must_use]
    pub fn good_catalog() -> &'static Catalog {
        static CATALOG: OnceLock<Catalog> = OnceLock::new();
        CATALOG.get_or_init(|| {
            let files = Self::good_files();
            let catalog = wait(read_catalog(&Memory(files), Some(&files["1.root.json"]), &content_keys()));
            let catalog = catalog.expect("the good world is accepted");
            assert_eq!((catalog.releases.len(), catalog.sealed.len()), (3, 0), "{catalog:?}");
            catalog
        })
    }
}

/// The keys of all groups of the world.
#[must_use]
pub fn content_keys() -> ContentKeys {
    [(GROUP.to_owned(), sample::group_key())].into_iter().collect()
}

/// Runs what a reader does.
///
/// # Panics
/// If the system gives no runtime.
pub fn wait<F: Future>(work: F) -> F::Output {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    runtime.block_on(work)
}

/// A role's file: `content` as it is, with a valid signature of what tough reads in it.
#[must_use]
pub fn signed<R: Role + serde::de::DeserializeOwned>(content: &Value) -> Option<Bytes> {
    let role: R = serde_json::from_value(content.clone()).ok()?;
    let signature = key().sign(&role.canonical_form().ok()?);
    let file = json!({
        "signed": content,
        "signatures": [{ "keyid": key_id(), "sig": hex(signature.as_ref()) }],
    });
    serde_json::to_vec(&file).map(Bytes::from).ok()
}

fn role(kind: &str, version: u64) -> Value {
    json!({ "_type": kind, "spec_version": "1.0.0", "version": version, "expires": EXPIRES })
}

fn public_release(release: &str, sequence: u64) -> Value {
    let (id, mut facts) = release_facts("xp", release, sequence);
    facts["encryption"] = "none".into();
    facts["version"] = 1.into();
    facts["root"] = json!({ "id": id, "encoded_len": 100 });
    target(&facts)
}

fn group_release() -> (String, Value) {
    let (id, description) = release_facts("ledger", "2026-01", 1);
    let name = format!("{GROUP}/{}", &id[..32]);
    let sealed = sample::group_key().seal_description(name.as_bytes(), description.to_string().as_bytes());
    let root = json!({ "id": id, "encoded_len": 100 });
    let facts =
        json!({ "version": 1, "encryption": "group", "group": GROUP, "sealed": hex(&sealed), "root": root });
    (name, target(&facts))
}

/// The id of a release's index root, and what is said of the release.
fn release_facts(image: &str, release: &str, sequence: u64) -> (String, Value) {
    let name = format!("{image}@{release}");
    let facts = json!({
        "image": image,
        "release": release,
        "root_plain": PlainHash::of(name.as_bytes()).to_string(),
        "root_plain_len": 200,
        "channels": ["stable"],
        "labels": { "ticket": "OPS-1" },
        "requires": ["engine >= 6.1"],
        "block_size": 65536,
        "sequence": sequence,
        "published": 1_700_000_000 + sequence,
        "encoded_bytes": 5000,
        "plain_bytes": 9000,
        "blocks": 3,
    });
    (BlockId::of(name.as_bytes()).to_string(), facts)
}

fn target(facts: &Value) -> Value {
    json!({ "length": 100, "hashes": { "sha256": "00".repeat(32) }, "custom": { "branchmesh": facts } })
}

/// Fills in an entry of `meta` that is not there.
fn fill(role: &mut Value, file: &str, entry: impl FnOnce() -> Value) {
    let Some(role) = role.as_object_mut() else { return };
    let meta = role.entry("meta").or_insert_with(|| json!({}));
    if let Some(meta) = meta.as_object_mut() {
        meta.entry(file).or_insert_with(entry);
    }
}

fn described(bytes: &Bytes, role: &Value) -> Value {
    let sha256 = digest::digest(&digest::SHA256, bytes);
    json!({ "length": bytes.len(), "hashes": { "sha256": hex(sha256.as_ref()) }, "version": role["version"] })
}

fn key() -> &'static Ed25519KeyPair {
    static KEY: OnceLock<Ed25519KeyPair> = OnceLock::new();
    KEY.get_or_init(|| Ed25519KeyPair::from_seed_unchecked(&KEY_SEED).expect("32 bytes are a seed"))
}

fn public_key() -> Value {
    let public = hex(key().public_key().as_ref());
    json!({ "keytype": "ed25519", "scheme": "ed25519", "keyval": { "public": public } })
}

fn key_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    // serde_json writes members in the order of their names and nothing between them: that is canonical here.
    ID.get_or_init(|| hex(digest::digest(&digest::SHA256, public_key().to_string().as_bytes()).as_ref()))
        .clone()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
