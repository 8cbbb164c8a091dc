//! Reading a whole repository again: an intact one is found to be so, and whatever is spoiled is named with what
//! it breaks.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_repo::{ContentKeys, Damage, DamageKind, Verification, VerifyError, publish, verify};
use common::{Fixture, Manner, Server, noise};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Two public releases that share most blocks, and one of a group.
async fn repository() -> Fixture {
    let fixture = Fixture::new().await;
    let disk = noise(1, 40 << 20);
    fixture.write("disk.img", &disk);
    fixture.publish("xp", "1").await.unwrap();
    let changed = [&disk[..9 << 20], &noise(2, 300_000), &disk[9 << 20..]].concat();
    fixture.write("disk.img", &changed);
    fixture.publish("xp", "2").await.unwrap();
    fixture.write("disk.img", &noise(3, 1 << 20));
    let mut options = fixture.options("bank", "1");
    options.group = Some("finance".into());
    publish(options, &()).await.unwrap();
    fixture
}

async fn check(fixture: &Fixture) -> Verification {
    let root = fixture.root_json();
    verify(&fixture.repo.as_path().into(), Some(&root), &fixture.content_keys(), &()).await.unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().replace('\\', "/")
}

fn names(releases: &[&str]) -> BTreeSet<String> {
    releases.iter().copied().map(String::from).collect()
}

/// The one damage of a repository.
fn only(verification: &Verification) -> &Damage {
    let [damage] = &verification.damages[..] else { panic!("{:?}", verification.damages) };
    damage
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intact_repository_is_read_to_its_last_byte() {
    let fixture = repository().await;
    let files = fixture.snapshot();
    let bytes = |folder: &str| -> u64 {
        files.iter().filter(|(path, _)| path.starts_with(folder)).map(|(_, bytes)| bytes.len() as u64).sum()
    };
    let server = Server::start(&fixture.repo, Manner::Good).await;
    for address in [fixture.repo.as_path().into(), server.url.as_str().into()] {
        let root = fixture.root_json();
        let found = verify(&address, Some(&root), &fixture.content_keys(), &()).await.unwrap();
        assert!(found.is_whole() && found.damages.is_empty() && found.unchecked.is_empty(), "{found:?}");
        assert_eq!(found.releases, 3);
        assert_eq!((found.packs.files, found.packs.bytes), (fixture.packs().len() as u64, bytes("packs")));
        assert_eq!(found.parts.bytes, bytes("indexes"));
        let unreferenced = found.unreferenced.map(|count| count.files);
        assert_eq!(unreferenced, if address.url.starts_with("http") { None } else { Some(0) });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_spoiled_pack_is_named_with_the_releases_that_it_breaks() {
    let fixture = repository().await;
    let intact = fixture.snapshot();
    // Which pack breaks what: found by looking at the indexes.
    let (one, two) = (fixture.index("xp", "1").await, fixture.index("xp", "2").await);
    let uses = |index: &branchmesh_image::Index, pack: &str| {
        index.blocks().iter().any(|block| pack.contains(&block.pack.to_string()))
    };
    for pack in fixture.packs() {
        let path = text(&pack);
        let (in_one, in_two) = (uses(&one, &path), uses(&two, &path));
        let all = match (in_one, in_two) {
            (true, true) => names(&["xp@1", "xp@2"]),
            (true, false) => names(&["xp@1"]),
            (false, true) => names(&["xp@2"]),
            (false, false) => names(&["bank@1"]),
        };
        let whole = &intact[&pack];

        fs::remove_file(fixture.repo.join(&pack)).unwrap();
        let found = check(&fixture).await;
        let damage = only(&found);
        assert_eq!((&damage.path, &damage.kind, &damage.releases), (&path, &DamageKind::Missing, &all));

        fs::write(fixture.repo.join(&pack), &whole[..whole.len() - 1]).unwrap();
        let found = check(&fixture).await;
        let damage = only(&found);
        assert_eq!((&damage.kind, damage.blocks), (&DamageKind::Short, Some(1)));
        assert!(damage.releases.is_subset(&all) && !damage.releases.is_empty(), "{damage:?}");

        fs::write(fixture.repo.join(&pack), whole).unwrap();
        fixture.flip(&pack);
        let found = check(&fixture).await;
        let damage = only(&found);
        assert_eq!((&damage.path, &damage.kind, damage.blocks), (&path, &DamageKind::Damaged, Some(1)));
        assert!(damage.releases.is_subset(&all) && !damage.releases.is_empty(), "{damage:?}");
        fs::write(fixture.repo.join(&pack), whole).unwrap();
    }
    assert!(check(&fixture).await.is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_spoiled_index_part_is_named_and_hides_nothing_else() {
    let fixture = repository().await;
    let intact = fixture.snapshot();
    let parts: Vec<&PathBuf> = intact.keys().filter(|path| path.starts_with("indexes")).collect();
    assert!(parts.len() >= 4, "{parts:?}");
    for part in &parts {
        fs::remove_file(fixture.repo.join(part)).unwrap();
        let found = check(&fixture).await;
        let damage = only(&found);
        assert_eq!((&damage.path, &damage.kind, damage.blocks), (&text(part), &DamageKind::Missing, None));
        assert!(!damage.releases.is_empty());
        assert_eq!(found.releases, 3 - damage.releases.len() as u64);
        assert_eq!(found.unreferenced, None, "what the unreadable index refers to is not known");
        fs::write(fixture.repo.join(part), &intact[*part]).unwrap();
    }
    for part in &parts {
        fixture.flip(part);
    }
    let found = check(&fixture).await;
    let paths: Vec<&str> = found.damages.iter().map(|damage| damage.path.as_str()).collect();
    // Which pieces an index has is known only from its root, so that the roots are all that can be named.
    assert_eq!((found.releases, paths.len()), (0, 3), "{paths:?}");
    assert!(found.damages.iter().all(|damage| damage.kind == DamageKind::Damaged));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_server_shows_the_same_damage_as_the_folder_behind_it() {
    let fixture = repository().await;
    let packs = fixture.packs();
    fixture.flip(&packs[0]);
    let whole = fs::read(fixture.repo.join(&packs[1])).unwrap();
    fs::write(fixture.repo.join(&packs[1]), &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(fixture.repo.join(&packs[2])).unwrap();
    let here = check(&fixture).await;
    let kinds: Vec<&DamageKind> = here.damages.iter().map(|damage| &damage.kind).collect();
    assert_eq!(kinds.len(), 3);
    for kind in [DamageKind::Damaged, DamageKind::Short, DamageKind::Missing] {
        assert!(kinds.contains(&&kind), "{kinds:?}");
    }
    let server = Server::start(&fixture.repo, Manner::Good).await;
    let root = fixture.root_json();
    let there = verify(&server.url.as_str().into(), Some(&root), &fixture.content_keys(), &()).await.unwrap();
    assert_eq!(there.damages, here.damages);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_publishing_again_heals_is_whole_again() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(4, 40 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let pack = &fixture.packs()[0];
    fixture.flip(pack);
    assert!(!check(&fixture).await.is_whole());

    // As the message says: the damaged file goes, the same content is published under another name.
    fs::remove_file(fixture.repo.join(pack)).unwrap();
    let again = fixture.publish("xp", "1-again").await.unwrap();
    assert!(again.new_blocks > 0);
    let found = check(&fixture).await;
    assert!(found.is_whole(), "{:?}", found.damages);
    assert_eq!(found.releases, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_release_refers_to_is_counted() {
    let fixture = repository().await;
    let stray = |folder: &str, name: &str| {
        let folder = fixture.repo.join(folder).join(&name[..2]);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), b"left over").unwrap();
    };
    stray("packs", &format!("{}.pack", "ab".repeat(32)));
    stray("indexes", &"cd".repeat(32));
    let found = check(&fixture).await;
    assert!(found.is_whole());
    let count = found.unreferenced.unwrap();
    assert_eq!((count.files, count.bytes), (2, 18));
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_whose_key_is_not_here_are_said_to_be_unchecked() {
    let fixture = repository().await;
    let root = fixture.root_json();
    let address = fixture.repo.as_path().into();
    let found = verify(&address, Some(&root), &ContentKeys::default(), &()).await.unwrap();
    assert_eq!((found.releases, found.unreferenced), (2, None));
    let [unchecked] = &found.unchecked[..] else { panic!("{:?}", found.unchecked) };
    assert_eq!((unchecked.group.as_str(), unchecked.releases), ("finance", 1));
    assert!(unchecked.advice().contains("--content-key finance=FILE"), "{unchecked:?}");
    assert!(found.is_whole(), "not knowing is no damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_is_not_to_be_believed_and_a_silent_server_end_it() {
    let fixture = repository().await;
    let stranger = Fixture::new().await;
    let address = fixture.repo.as_path().into();
    let foreign = verify(&address, Some(&stranger.root_json()), &ContentKeys::default(), &()).await;
    assert!(matches!(foreign, Err(VerifyError::Trust(_))), "{foreign:?}");

    let server = Server::start(&fixture.repo, Manner::LoginPage).await;
    let root = fixture.root_json();
    let page = verify(&server.url.as_str().into(), Some(&root), &fixture.content_keys(), &()).await;
    assert!(
        matches!(&page, Err(VerifyError::Origin(error)) if error.to_string().contains("login page")),
        "{page:?}"
    );
}
