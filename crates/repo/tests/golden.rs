//! A repository that version 1 of the format made, committed as it was: today's code reads it file by file, so that
//! no change of the code becomes a change of the format unnoticed.
//!
//! `golden/README.md` says what is in it and when it may be made anew.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_image::{BlockId, BlockSize, Cipher};
use branchmesh_repo::{
    Address, Catalog, CatalogEntry, ContentKeys, Keys, Origin, PublishOptions, RoleName, init_with,
    load_index, promote, publish, read_catalog, rotate,
};
use common::{files_of, noise, whole_release};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The group of the release that is encrypted.
const GROUP: &str = "finance";

/// What is expected of the repository, as `expected.json` has it: releases by name.
type Expected = BTreeMap<String, ExpectedRelease>;

/// What is expected of one release.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ExpectedRelease {
    group: Option<String>,
    channels: Vec<String>,
    labels: BTreeMap<String, String>,
    requires: Vec<String>,
    block_size: u32,
    /// The id of its index root.
    id: String,
    blocks: u32,
    /// By path.
    files: BTreeMap<String, ExpectedFile>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ExpectedFile {
    size: u64,
    mode: u32,
    blake3: String,
}

#[tokio::test]
async fn the_golden_repository_reads_as_it_did_when_it_was_made() {
    let expected: Expected = serde_json::from_slice(&fs::read(golden("expected.json")).unwrap()).unwrap();
    assert_eq!(read(&golden("")).await, expected);
}

#[tokio::test]
async fn without_its_key_the_group_stays_sealed_and_the_rest_reads() {
    let catalog = catalog(&golden(""), &ContentKeys::default()).await;
    let names: Vec<String> = catalog.releases.iter().map(CatalogEntry::name).collect();
    assert_eq!(names, ["xp@1", "xp@2"]);
    assert_eq!((catalog.sealed.len(), catalog.sealed[0].group.as_str()), (1, GROUP));
}

#[test]
fn no_bytes_of_the_group_are_in_clear() {
    let secrets = ["ledger", "account", "booking"];
    for (path, bytes) in files_of(&golden("repo")) {
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret), "{} holds {secret:?}", path.display());
        }
    }
}

#[tokio::test]
async fn what_is_published_today_from_the_same_files_reads_alike() {
    let sources = tempfile::tempdir().unwrap();
    if std::env::var_os(REMAKE).is_some() {
        return remake(sources.path()).await;
    }
    let folder = tempfile::tempdir().unwrap();
    make(folder.path(), sources.path()).await;
    // Where blocks end, and so the ids, is the writer's choice; a group's key is a new one each time.
    let uncut = |releases: Expected| -> Expected {
        let uncut = |mut release: ExpectedRelease| {
            if cfg!(not(unix)) {
                // The system that publishes has no modes to publish.
                release.files.values_mut().for_each(|file| file.mode = 0);
            }
            ExpectedRelease { id: String::new(), blocks: 0, ..release }
        };
        releases.into_iter().map(|(name, release)| (name, uncut(release))).collect()
    };
    let expected = fs::read_to_string(golden("expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&expected).unwrap();
    assert_eq!(uncut(read(folder.path()).await), uncut(expected));
}

/// Set, the golden repository is made anew: `BRANCHMESH_REMAKE_GOLDEN=1 cargo test -p branchmesh-repo --test golden`. Only
/// before the format is released; later a new version gets a folder of its own beside this one.
const REMAKE: &str = "BRANCHMESH_REMAKE_GOLDEN";

async fn remake(sources: &Path) {
    let folder = golden("");
    for name in ["repo", "keys"] {
        let _ = fs::remove_dir_all(folder.join(name));
    }
    make(&folder, sources).await;
    fs::remove_file(folder.join("repo/publish.lock")).unwrap();
    let expected = serde_json::to_string_pretty(&read(&folder).await).unwrap();
    fs::write(folder.join("expected.json"), expected + "\n").unwrap();
}

async fn make(folder: &Path, sources: &Path) {
    let (repo, keys) = (Address::from(folder.join("repo").as_path()), Keys::at(&folder.join("keys")));
    let two_of_three = BTreeMap::from([(RoleName::Targets, "2/3".parse().unwrap())]);
    init_with(&repo, &keys, &two_of_three).await.unwrap();
    let publish_files = async |image: &str, release: &str, group: Option<&str>, files: Files| {
        let source = sources.join(image).join(release);
        files.into_iter().for_each(|(path, mode, bytes)| write(&source.join(path), mode, &bytes));
        let options = PublishOptions::new(repo.clone(), keys.clone(), image, release, vec![source]);
        let options = PublishOptions {
            group: group.map(Into::into),
            channels: vec!["stable".into()],
            labels: BTreeMap::from([("ticket".into(), format!("OPS-{release}"))]),
            requires: vec!["virtualization-engine >= 6.1".parse().unwrap()],
            block_size: Some(BlockSize::KiB16),
            ..options
        };
        publish(options, &()).await.unwrap();
    };
    let settings = b"<vm><memory>512</memory></vm>\n".to_vec();
    let first = vec![
        ("disk.img", 0o644, disk("drawer", 1)),
        ("settings/vm.xml", 0o600, settings.clone()),
        ("start.sh", 0o755, b"#!/bin/sh\nexec vm settings/vm.xml\n".to_vec()),
        ("empty", 0o644, Vec::new()),
    ];
    publish_files("xp", "1", None, first).await;
    let books = vec![("accounts.db", 0o640, disk("account", 7)), ("booking.txt", 0o644, noise(8, 300))];
    publish_files("ledger", "2026-01", Some(GROUP), books).await;
    publish_files(
        "xp",
        "2",
        None,
        vec![("disk.img", 0o644, disk("drawer", 2)), ("settings/vm.xml", 0o600, settings)],
    )
    .await;
    promote(&repo, &keys, "xp", "1", "fallback").await.unwrap();
    // The old key of the timestamp goes; trust then goes on through the second root.
    rotate(&repo, &keys, &RoleName::Timestamp, &keys, None).await.unwrap();
}

/// Path, mode and content.
type Files<'a> = Vec<(&'a str, u32, Vec<u8>)>;

/// Text that shrinks, in several blocks, noise that doesn't, and two holes.
fn disk(word: &str, number: u64) -> Vec<u8> {
    let line = |at: u64| format!("{word} {:04} holds {} coins\n", at % 256, (at / 64) % 23);
    let mut bytes: Vec<u8> = (0..1600).flat_map(|at| line(at).into_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(4096) + (64 << 10), 0);
    bytes.extend((0..500).flat_map(|at| line(at * number).into_bytes()));
    bytes.extend(noise(number, 600));
    bytes.resize(bytes.len().next_multiple_of(4096) + (1 << 20), 0);
    bytes
}

fn write(path: &Path, mode: u32, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    #[cfg(not(unix))]
    let _ = mode;
}

/// Everything that the repository in `folder` holds, read through the doors that nodes use.
async fn read(folder: &Path) -> Expected {
    let line = fs::read_to_string(folder.join("keys/groups").join(format!("{GROUP}.key"))).unwrap();
    let keys = ContentKeys::from_iter([(GROUP.to_owned(), line.parse().unwrap())]);
    let mut releases = Expected::new();
    for entry in catalog(folder, &keys).await.releases {
        let cipher = keys.cipher(entry.group.as_deref()).unwrap();
        releases.insert(entry.name(), read_release(&origin(folder), &entry, cipher).await);
    }
    releases
}

async fn read_release(origin: &Origin, entry: &CatalogEntry, cipher: Cipher) -> ExpectedRelease {
    let index = load_index(&entry.root, cipher.clone(), origin).await.unwrap();
    assert_eq!((&index.root().image, &index.root().release), (&entry.image, &entry.release));
    let contents = whole_release(origin, &index, cipher).await;
    let file = |file: &branchmesh_image::FileEntry| {
        let content = &contents[Path::new(&file.path)];
        // Any BLAKE3 will do; this one is at hand.
        let blake3 = BlockId::of(content).to_string();
        (file.path.clone(), ExpectedFile { size: content.len() as u64, mode: file.mode, blake3 })
    };
    ExpectedRelease {
        group: entry.group.clone(),
        channels: entry.channels.clone(),
        labels: entry.labels.clone(),
        requires: entry.requires.iter().map(ToString::to_string).collect(),
        block_size: entry.block_size,
        id: entry.id().to_string(),
        blocks: entry.blocks,
        files: index.files().iter().map(file).collect(),
    }
}

/// Reads the catalog in spite of its age: the signatures expire, the format does not.
async fn catalog(folder: &Path, keys: &ContentKeys) -> Catalog {
    let root = fs::read(folder.join("keys/root.json")).unwrap();
    read_catalog(&origin(folder), Some(&root), keys).await.unwrap()
}

fn origin(folder: &Path) -> Origin {
    Origin::open(folder.join("repo").as_path()).unwrap()
}

fn golden(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1").join(path)
}
