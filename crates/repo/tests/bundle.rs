//! Bundles hold exactly what the sites lack, add up, heal, and refuse what they should not touch.

#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use branchmesh_image::{BlockEntry, Index};
use branchmesh_repo::{
    ContentsError, ExcerptHead, ExportError, ExportOptions, Exported, Holdings, Origin, OriginError,
    PlaceError, export, read_catalog,
};
use common::{Fixture, Manner, Server, files_of, noise, whole_release};
use futures::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Two releases of an image of which the second changes the middle of a file and has one of its own.
async fn published() -> Fixture {
    let fixture = Fixture::new().await;
    let mut disk = noise(1, 3_000_000);
    fixture.write("disk.img", &disk);
    fixture.publish("xp", "1").await.unwrap();
    disk[1_000_000..1_400_000].copy_from_slice(&noise(2, 400_000));
    fixture.write("disk.img", &disk);
    fixture.write("more.img", &noise(3, 500_000));
    fixture.publish("xp", "2").await.unwrap();
    fixture
}

fn options(fixture: &Fixture, release: &str, lacking: Vec<Holdings>) -> ExportOptions {
    ExportOptions {
        repo: fixture.repo.as_path().into(),
        root: Some(fixture.root_json()),
        keys: fixture.content_keys(),
        releases: vec![release.parse().unwrap()],
        to: fixture.dir.path().join("stick"),
        lacking,
    }
}

async fn exported(fixture: &Fixture, release: &str, lacking: Vec<Holdings>) -> Exported {
    export(options(fixture, release, lacking), &()).await.unwrap()
}

fn stick(fixture: &Fixture) -> PathBuf {
    fixture.dir.path().join("stick")
}

fn holding<'a>(blocks: impl IntoIterator<Item = &'a BlockEntry>) -> Holdings {
    let mut holdings = Holdings::new("lyon", "pc-01", 1);
    blocks.into_iter().for_each(|block| holdings.insert(&block.location()));
    // As the file carries it.
    Holdings::from_bytes(&holdings.to_bytes()).unwrap()
}

/// The numbers of the blocks that an origin gives.
async fn given(origin: &Origin, index: &Index) -> BTreeSet<u32> {
    let wanted = (0u32..).zip(index.blocks()).map(|(at, block)| (at, block.location(), block.blob.id));
    let came: Vec<_> = origin.blocks(wanted.collect()).collect().await;
    came.into_iter().filter_map(Result::ok).map(|(number, _)| number).collect()
}

/// Bytes of a bundle's blocks, and of the heads of its excerpts.
fn pack_bytes(files: &BTreeMap<PathBuf, Vec<u8>>) -> (u64, u64) {
    let (mut blocks, mut heads) = (0, 0);
    for (path, bytes) in files.iter().filter(|(path, _)| path.starts_with("packs")) {
        let length = bytes.len() as u64;
        if path.extension().is_some_and(|kind| kind == "excerpt") {
            let held = ExcerptHead::from_bytes(bytes).unwrap().extents().bytes();
            (blocks, heads) = (blocks + held, heads + length - held);
        } else {
            blocks += length;
        }
    }
    (blocks, heads)
}

#[tokio::test]
async fn a_node_that_has_only_the_root_of_trust_needs_nothing_else() {
    let fixture = published().await;
    let done = exported(&fixture, "xp@2", Vec::new()).await;
    let index = fixture.index("xp", "2").await;
    assert_eq!((done.blocks, done.block_bytes), (index.blocks().len() as u64, index.encoded_bytes()));

    let origin = Origin::open(stick(&fixture).to_str().unwrap()).unwrap();
    let catalog = read_catalog(&origin, Some(&fixture.root_json()), &fixture.content_keys()).await.unwrap();
    let entry = catalog.find("xp", "2").unwrap();
    let files = whole_release(&origin, &index, fixture.cipher(entry)).await;
    assert_eq!(files, files_of(&fixture.source));

    // The first release's pack holds blocks that only it needs.
    let bundle = files_of(&stick(&fixture));
    assert_eq!(pack_bytes(&bundle).0, done.block_bytes);
    let kind = |name: &str| -> u64 {
        bundle.iter().filter(|(path, _)| path.starts_with(name)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    assert_eq!((kind("indexes"), kind("metadata")), (done.index_bytes, done.metadata_bytes));
}

#[tokio::test]
async fn all_releases_together_are_the_repository_itself() {
    let fixture = published().await;
    let releases = ["xp@1", "xp@2"].map(|release| release.parse().unwrap()).into();
    export(ExportOptions { releases, ..options(&fixture, "xp@1", Vec::new()) }, &()).await.unwrap();
    let (bundle, repository) = (files_of(&stick(&fixture)), fixture.snapshot());
    assert!(bundle.iter().all(|(path, bytes)| repository.get(path) == Some(bytes)));
    let blocks = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.keys().filter(|path| !path.starts_with("metadata")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(blocks(&bundle), blocks(&repository));
}

#[tokio::test]
async fn a_bundle_is_what_is_missing_and_index_and_metadata_to_the_byte() {
    let fixture = published().await;
    let (old, new) = (fixture.index("xp", "1").await, fixture.index("xp", "2").await);
    let held: BTreeSet<_> = old.blocks().iter().map(BlockEntry::location).collect();
    let missing: u64 = new
        .blocks()
        .iter()
        .filter(|block| !held.contains(&block.location()))
        .map(|block| u64::from(block.blob.encoded_len))
        .sum();
    assert!(0 < missing && missing < new.encoded_bytes());

    let done = exported(&fixture, "xp@2", vec![holding(old.blocks())]).await;
    assert_eq!((done.block_bytes, done.held_bytes), (missing, new.encoded_bytes() - missing));
    let files = files_of(&stick(&fixture));
    // What an update adds is in packs of its own: no excerpt is needed.
    assert_eq!(pack_bytes(&files), (missing, 0));
    let all: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!(all, missing + done.index_bytes + done.metadata_bytes);
}

#[tokio::test]
async fn whatever_sites_hold_the_rest_is_in_the_bundle_and_no_more() {
    let fixture = published().await;
    let index = fixture.index("xp", "2").await;
    for round in 0..6u64 {
        let _ = fs::remove_dir_all(stick(&fixture));
        // Two sites that hold blocks at random: left out is what both hold.
        let site = |seed: u64| -> BTreeSet<u32> {
            let luck = noise(seed, index.blocks().len());
            (0u32..).zip(luck).filter(|(_, byte)| *byte < 160).map(|(number, _)| number).collect()
        };
        let sites = [site(100 + round), site(200 + round)];
        let holdings = sites.iter().map(|site| holding(site.iter().map(|at| &index.blocks()[*at as usize])));
        exported(&fixture, "xp@2", holdings.collect()).await;
        let count = u32::try_from(index.blocks().len()).unwrap();
        let expected: BTreeSet<u32> =
            (0..count).filter(|block| !sites.iter().all(|site| site.contains(block))).collect();
        let origin = Origin::open(stick(&fixture).to_str().unwrap()).unwrap();
        assert_eq!(given(&origin, &index).await, expected, "round {round}");
        let bytes: u64 =
            expected.iter().map(|at| u64::from(index.blocks()[*at as usize].blob.encoded_len)).sum();
        let (blocks, heads) = pack_bytes(&files_of(&stick(&fixture)));
        assert_eq!(blocks, bytes, "round {round}");
        assert!(heads < 4096, "{heads} bytes say where the blocks belong");
    }
}

#[tokio::test]
async fn exports_into_one_folder_add_up_and_what_is_there_is_not_fetched_again() {
    let fixture = published().await;
    let index = fixture.index("xp", "2").await;
    let (even, odd): (Vec<_>, Vec<_>) = (0..).zip(index.blocks()).partition(|(at, _): &(u32, _)| at % 2 == 0);
    exported(&fixture, "xp@2", vec![holding(even.into_iter().map(|(_, block)| block))]).await;
    let done = exported(&fixture, "xp@2", vec![holding(odd.into_iter().map(|(_, block)| block))]).await;
    assert_eq!(done.found_bytes, 0);
    let origin = Origin::open(stick(&fixture).to_str().unwrap()).unwrap();
    assert_eq!(given(&origin, &index).await.len(), index.blocks().len());
    exported(&fixture, "xp@1", Vec::new()).await;
    assert_eq!(
        given(&origin, &fixture.index("xp", "1").await).await.len(),
        fixture.index("xp", "1").await.blocks().len()
    );

    let before = files_of(&stick(&fixture));
    let server = Server::start(&fixture.repo, Manner::Missing).await;
    let again = ExportOptions { repo: server.url.as_str().into(), ..options(&fixture, "xp@2", Vec::new()) };
    let done = export(again, &()).await.unwrap();
    assert_eq!(done.found_bytes, index.encoded_bytes());
    assert_eq!(files_of(&stick(&fixture)), before);
}

#[tokio::test]
async fn an_interrupted_export_goes_on_and_a_damaged_bundle_is_healed() {
    let fixture = published().await;
    let index = fixture.index("xp", "2").await;
    let lacking = || vec![holding(index.blocks().iter().step_by(3))];
    exported(&fixture, "xp@2", lacking()).await;
    let good = files_of(&stick(&fixture));
    // Left by an export that was killed: files without their names.
    let leftover = stick(&fixture).join("packs").join("00").join(format!("{}.pack#1", "0".repeat(64)));
    fs::create_dir_all(leftover.parent().unwrap()).unwrap();
    fs::write(&leftover, b"half").unwrap();
    for (number, (path, bytes)) in good.iter().enumerate() {
        if path.ends_with("1.root.json") {
            continue;
        }
        let path = stick(&fixture).join(path);
        match number % 3 {
            0 => fs::remove_file(&path).unwrap(),
            1 => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            _ => {
                let mut spoiled = bytes.clone();
                spoiled[bytes.len() / 2] ^= 1;
                fs::write(&path, spoiled).unwrap();
            }
        }
    }
    exported(&fixture, "xp@2", lacking()).await;
    assert_eq!(files_of(&stick(&fixture)), good);
}

#[tokio::test]
async fn without_all_of_its_blocks_a_bundle_gets_no_timestamp() {
    let fixture = published().await;
    let pack = fixture.packs().remove(0);
    fixture.flip(&pack);
    let refused = export(options(&fixture, "xp@1", Vec::new()), &()).await.unwrap_err();
    assert!(matches!(&refused, ExportError::Origin(OriginError::Damaged { .. })), "{refused:?}");
    assert!(!stick(&fixture).join("metadata").exists());
    fixture.flip(&pack);
    exported(&fixture, "xp@1", Vec::new()).await;
}

#[tokio::test]
async fn a_groups_release_needs_its_key_and_stays_sealed() {
    let fixture = Fixture::new().await;
    fixture.write("secret.txt", b"the payroll ".repeat(20_000).as_slice());
    let mut publish = fixture.options("pay", "1");
    publish.group = Some("finance".into());
    branchmesh_repo::publish(publish, &()).await.unwrap();
    let without = ExportOptions { keys: Default::default(), ..options(&fixture, "pay@1", Vec::new()) };
    let refused = export(without, &()).await.unwrap_err();
    assert!(matches!(&refused, ExportError::Unknown { sealed, .. } if sealed.len() == 1), "{refused:?}");
    assert!(refused.to_string().contains("--content-key finance="), "{refused}");

    exported(&fixture, "pay@1", Vec::new()).await;
    let repository = fixture.snapshot();
    for (path, bytes) in files_of(&stick(&fixture)) {
        assert_eq!(repository.get(&path), Some(&bytes), "{}", path.display());
        assert!(!bytes.windows(11).any(|window| window == b"the payroll"), "{}", path.display());
    }
}

#[tokio::test]
async fn folders_with_something_else_in_them_are_left_alone() {
    let fixture = published().await;
    let other = published().await;
    exported(&other, "xp@1", Vec::new()).await;
    let into_other = || ExportOptions { to: stick(&other), ..options(&fixture, "xp@1", Vec::new()) };
    let before = files_of(&stick(&other));
    let refused = export(into_other(), &()).await.unwrap_err();
    assert!(matches!(refused, ExportError::OtherRepository(_)), "{refused:?}");
    assert_eq!(files_of(&stick(&other)), before);

    // An old copy of the repository does not take a bundle back.
    let copy = fixture.dir.path().join("copy");
    copy_folder(&fixture.repo, &copy);
    fixture.publish_noise("kiosk", "1").await;
    exported(&fixture, "kiosk@1", Vec::new()).await;
    let old = ExportOptions { repo: copy.as_path().into(), ..options(&fixture, "xp@1", Vec::new()) };
    assert!(matches!(export(old, &()).await, Err(ExportError::Behind { .. })));
}

#[tokio::test]
async fn what_cannot_be_exported_is_said() {
    let fixture = published().await;
    let unknown = export(options(&fixture, "xp@9", Vec::new()), &()).await.unwrap_err();
    assert!(matches!(&unknown, ExportError::Unknown { name, .. } if name == "xp@9"), "{unknown:?}");
    let file = fixture.dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let to_file = ExportOptions { to: file.join("stick"), ..options(&fixture, "xp@1", Vec::new()) };
    let refused = export(to_file, &()).await.unwrap_err();
    assert!(matches!(refused, ExportError::Place(PlaceError::Io { .. })), "{refused:?}");
    for part in fixture.snapshot().into_keys().filter(|path| path.starts_with("indexes")) {
        fs::remove_file(fixture.repo.join(part)).unwrap();
    }
    let refused = export(options(&fixture, "xp@1", Vec::new()), &()).await.unwrap_err();
    assert!(
        matches!(&refused, ExportError::Contents(error) if matches!(**error, ContentsError::Index { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_excerpt_that_is_damaged_is_named_and_the_other_packs_are_read() {
    let fixture = published().await;
    let index = fixture.index("xp", "2").await;
    exported(&fixture, "xp@2", vec![holding(index.blocks().iter().step_by(2))]).await;
    let excerpts: Vec<PathBuf> = files_of(&stick(&fixture))
        .into_keys()
        .filter(|path| path.extension().is_some_and(|kind| kind == "excerpt"))
        .collect();
    assert!(excerpts.len() >= 2, "{excerpts:?}");
    let origin = Origin::open(stick(&fixture).to_str().unwrap()).unwrap();
    let all = given(&origin, &index).await;
    let spoiled = stick(&fixture).join(&excerpts[0]);
    let mut bytes = fs::read(&spoiled).unwrap();
    bytes[30] ^= 1;
    fs::write(&spoiled, bytes).unwrap();
    let rest = given(&origin, &index).await;
    assert!(!rest.is_empty() && rest.len() < all.len() && rest.is_subset(&all));
    let wanted = (0u32..).zip(index.blocks()).map(|(at, block)| (at, block.location(), block.blob.id));
    let errors: Vec<_> = origin.blocks(wanted.collect()).filter_map(async |item| item.err()).collect().await;
    let name = excerpts[0].file_name().unwrap().to_str().unwrap();
    let named =
        |error: &OriginError| matches!(error, OriginError::Excerpt { url, .. } if url.ends_with(name));
    assert!(errors.iter().any(named), "{errors:?}");
}

fn copy_folder(from: &Path, to: &Path) {
    for (path, bytes) in files_of(from) {
        let target = to.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
}
