//! Collecting: whatever happens to a repository, each release stays whole, and what nobody needs goes.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

mod common;

use branchmesh_repo::{
    CatalogEntry, Collected, ContentKeys, Contents, GcError, GcOptions, WithdrawError, demote, gc, promote,
    publish, read_catalog, remove_release, verify,
};
use common::{Fixture, noise};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);
const GRACE: Duration = Duration::from_secs(24 * 3600);

fn options(fixture: &Fixture) -> GcOptions {
    GcOptions {
        repo: fixture.repo.as_path().into(),
        keys: fixture.keys(),
        keep: None,
        grace: GRACE,
        dry_run: false,
    }
}

/// Collects as if everything were old enough.
async fn gc_at_once(fixture: &Fixture) -> Result<Collected, GcError> {
    gc(&GcOptions { grace: Duration::ZERO, ..options(fixture) }).await
}

async fn assert_whole(fixture: &Fixture) {
    let root = fixture.root_json();
    let address = fixture.repo.as_path().into();
    let found = verify(&address, Some(&root), &fixture.content_keys(), &()).await.unwrap();
    assert!(found.is_whole() && found.unchecked.is_empty(), "{:?}", found.damages);
}

/// Lets time pass: every file is so much older.
fn age(fixture: &Fixture, by: Duration) {
    for path in fixture.snapshot().keys() {
        let file = File::options().write(true).open(fixture.repo.join(path)).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.set_modified(modified - by).unwrap();
    }
}

fn paths(fixture: &Fixture) -> BTreeSet<PathBuf> {
    fixture.snapshot().into_keys().collect()
}

/// The packs and index parts of a release.
async fn files_of_release(fixture: &Fixture, image: &str, release: &str) -> BTreeSet<PathBuf> {
    let entry = fixture.entry(image, release).await;
    let contents = Contents::load(&entry, &fixture.content_keys(), &fixture.origin()).await.unwrap();
    let packs = contents.blocks().iter().map(|block| block.pack.to_string());
    let packs: BTreeSet<String> = packs.collect();
    let packs = packs.iter().map(|pack| format!("packs/{}/{pack}.pack", &pack[..2]));
    let parts = contents.parts().map(|part| part.id.to_string());
    let parts = parts.map(|part| format!("indexes/{}/{part}", &part[..2]));
    packs.chain(parts).map(PathBuf::from).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_release_stays_for_the_grace_period_and_then_goes() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    for release in ["1", "2"] {
        fixture.write("disk.img", &noise(release.parse().unwrap(), 1 << 20));
        fixture.publish("xp", release).await.unwrap();
    }
    let of_one = files_of_release(&fixture, "xp", "1").await;
    age(&fixture, 100 * HOUR);
    remove_release(&repo, &fixture.keys(), "xp", "1").await.unwrap();

    // A node that read the metadata a moment ago may still be fetching the release.
    let early = gc(&options(&fixture)).await.unwrap();
    assert_eq!((early.packs.files, early.parts.files), (0, 0), "{early:?}");
    assert!(of_one.is_subset(&paths(&fixture)));

    age(&fixture, 25 * HOUR);
    let foreseen = gc(&GcOptions { dry_run: true, ..options(&fixture) }).await.unwrap();
    let before = paths(&fixture);
    assert!(of_one.is_subset(&before), "a dry run removes nothing");
    let late = gc(&options(&fixture)).await.unwrap();
    assert_eq!(late, foreseen);
    assert_eq!((late.packs.files, late.parts.files), (1, 2), "{late:?}");
    let left = paths(&fixture);
    assert!(of_one.is_disjoint(&left));
    assert!(files_of_release(&fixture, "xp", "2").await.is_subset(&left));
    assert_whole(&fixture).await;
    assert_eq!(gc(&options(&fixture)).await.unwrap(), Collected::default(), "there is nothing left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_killed_publishers_left_goes_when_it_is_old() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(1, 1 << 20));
    fixture.publish("xp", "1").await.unwrap();
    let before = paths(&fixture);
    killed_publish(&fixture, "xp", "2", 2).await;
    let unfinished = format!("{}#1", fixture.packs()[0].display());
    fs::write(fixture.repo.join(&unfinished), b"half a pack").unwrap();

    let young = gc(&options(&fixture)).await.unwrap();
    assert_eq!((young.packs.files, young.unfinished.files), (0, 0));
    assert!(young.young.files >= 3, "{young:?}");
    age(&fixture, 25 * HOUR);
    let old = gc(&options(&fixture)).await.unwrap();
    assert_eq!((old.packs.files, old.parts.files, old.unfinished.files), (1, 2, 1), "{old:?}");
    assert_eq!(paths(&fixture), before.into_iter().filter(|path| fixture.repo.join(path).exists()).collect());
    assert_whole(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_releases_go_but_none_that_a_channel_points_to() {
    let fixture = Fixture::new().await;
    let repo = fixture.repo.as_path().into();
    for release in ["1", "2", "3", "4", "5"] {
        fixture.write("disk.img", &noise(release.parse().unwrap(), 300_000));
        fixture.publish("xp", release).await.unwrap();
    }
    fixture.publish("kiosk", "1").await.unwrap();
    promote(&repo, &fixture.keys(), "xp", "2", "stable").await.unwrap();
    let keep = GcOptions { keep: NonZeroUsize::new(2), ..options(&fixture) };
    let collected = gc(&keep).await.unwrap();
    assert_eq!(collected.removed, ["xp@1", "xp@3"]);
    let catalog = read_catalog(&fixture.origin(), None, &ContentKeys::default()).await.unwrap();
    let names: Vec<String> = catalog.releases.iter().map(CatalogEntry::name).collect();
    assert_eq!(names, ["xp@2", "xp@4", "xp@5", "kiosk@1"]);
    assert_eq!(gc(&keep).await.unwrap().removed, [""; 0]);

    let last = fixture.snapshot().len();
    gc_at_once(&fixture).await.unwrap();
    assert!(fixture.snapshot().len() < last);
    assert_whole(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_while_a_release_cannot_be_read() {
    let fixture = Fixture::new().await;
    fixture.write("disk.img", &noise(1, 300_000));
    fixture.publish("xp", "1").await.unwrap();
    let mut secret = fixture.options("bank", "1");
    secret.group = Some("finance".into());
    publish(secret, &()).await.unwrap();
    killed_publish(&fixture, "xp", "2", 2).await;

    let key = fixture.keys.join("groups/finance.key");
    let away = fixture.dir.path().join("finance.key");
    fs::rename(&key, &away).unwrap();
    let before = paths(&fixture);
    let refused = gc_at_once(&fixture).await.unwrap_err();
    assert!(matches!(&refused, GcError::Sealed { groups } if groups.contains("finance")), "{refused:?}");
    assert!(refused.to_string().contains("finance"), "{refused}");
    fs::rename(&away, &key).unwrap();

    let parts: Vec<PathBuf> = files_of_release(&fixture, "bank", "1").await.into_iter().collect();
    let part = parts.iter().find(|path| path.starts_with("indexes")).unwrap();
    let bytes = fs::read(fixture.repo.join(part)).unwrap();
    fixture.flip(part);
    let refused = gc_at_once(&fixture).await.unwrap_err();
    assert!(matches!(refused, GcError::Damaged(_)), "{refused:?}");
    fs::write(fixture.repo.join(part), bytes).unwrap();
    assert_eq!(paths(&fixture), before);
    assert!(gc_at_once(&fixture).await.unwrap().packs.files > 0);
    assert_whole(&fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_was_stopped_anywhere_is_finished_by_the_next() {
    let whole = Fixture::new().await;
    let repo = whole.repo.as_path().into();
    for release in ["1", "2", "3"] {
        whole.write("disk.img", &noise(release.parse().unwrap(), 300_000));
        whole.publish("xp", release).await.unwrap();
    }
    remove_release(&repo, &whole.keys(), "xp", "2").await.unwrap();
    let before = whole.snapshot();
    gc_at_once(&whole).await.unwrap();
    let after = paths(&whole);
    let gone: Vec<&PathBuf> = before.keys().filter(|path| !after.contains(*path)).collect();
    assert!(gone.len() > 6, "{gone:?}");
    // Any of them may be gone when it stops: many are removed at once.
    for stop in 0..gone.len() {
        for (path, bytes) in &before {
            fs::write(whole.repo.join(path), bytes).unwrap();
        }
        for path in gone.iter().cycle().skip(stop).take(gone.len() / 2) {
            fs::remove_file(whole.repo.join(path)).unwrap();
        }
        gc_at_once(&whole).await.unwrap();
        assert_eq!(paths(&whole), after, "stopped at {stop}");
        assert_whole(&whole).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn releases_and_channels_are_taken_back_with_care() {
    let fixture = Fixture::new().await;
    let (repo, keys) = (fixture.repo.as_path().into(), fixture.keys());
    for release in ["1", "2"] {
        fixture.publish_noise("xp", release).await;
    }
    for channel in ["stable", "pilot"] {
        promote(&repo, &keys, "xp", "2", channel).await.unwrap();
    }
    let refused = remove_release(&repo, &keys, "xp", "2").await.unwrap_err();
    assert!(
        matches!(&refused, WithdrawError::OnChannel { channels, .. } if *channels == ["pilot", "stable"])
    );
    let wrong = demote(&repo, &keys, "xp", "1", "stable", None).await.unwrap_err();
    assert!(
        matches!(&wrong, WithdrawError::NotPointing { points_to: Some(now), .. } if now == "xp@2"),
        "{wrong}"
    );
    let unsaid = demote(&repo, &keys, "xp", "2", "stable", None).await.unwrap_err();
    assert!(matches!(&unsaid, WithdrawError::NeedsSuccessor { others, .. } if *others == ["1"]), "{unsaid}");

    demote(&repo, &keys, "xp", "2", "pilot", None).await.unwrap();
    demote(&repo, &keys, "xp", "2", "stable", Some("1")).await.unwrap();
    assert_eq!(fixture.entry("xp", "1").await.channels, ["stable"]);
    assert_eq!(fixture.entry("xp", "2").await.channels, [""; 0]);
    remove_release(&repo, &keys, "xp", "2").await.unwrap();
    let gone = remove_release(&repo, &keys, "xp", "2").await.unwrap_err();
    assert!(matches!(gone, WithdrawError::NotPublished(_)));
}

/// Publishes, and goes back to the metadata of before: as if the publisher had been killed before the last write.
async fn killed_publish(fixture: &Fixture, image: &str, release: &str, seed: u64) {
    let is_metadata = |path: &Path| path.starts_with("metadata");
    let before: BTreeMap<PathBuf, Vec<u8>> =
        fixture.snapshot().into_iter().filter(|(path, _)| is_metadata(path)).collect();
    fixture.write("disk.img", &noise(seed, 400_000));
    fixture.publish(image, release).await.unwrap();
    for path in fixture.snapshot().into_keys().filter(|path| is_metadata(path)) {
        match before.get(&path) {
            Some(bytes) if *bytes != fs::read(fixture.repo.join(&path)).unwrap() => {
                fs::write(fixture.repo.join(&path), bytes).unwrap();
            }
            Some(_) => {}
            None => fs::remove_file(fixture.repo.join(&path)).unwrap(),
        }
    }
}

/// What may happen to a repository.
#[derive(Clone, Debug)]
enum Step {
    /// A release whose content is like one before, or partly so.
    Publish {
        image: u8,
        content: u8,
        grouped: bool,
    },
    /// A publisher dies before its last write.
    Killed {
        content: u8,
    },
    /// The release is taken out, if no channel points to it.
    Remove {
        which: u8,
    },
    Promote {
        which: u8,
    },
    Wait {
        hours: u8,
    },
    Collect {
        keep: Option<u8>,
        at_once: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2u8, 0..6u8, any::<bool>())
            .prop_map(|(image, content, grouped)| Step::Publish { image, content, grouped }),
        1 => (6..9u8).prop_map(|content| Step::Killed { content }),
        3 => any::<u8>().prop_map(|which| Step::Remove { which }),
        1 => any::<u8>().prop_map(|which| Step::Promote { which }),
        // Less than the grace period, or more.
        4 => prop_oneof![1..12u8, 25..40u8].prop_map(|hours| Step::Wait { hours }),
        3 => (proptest::option::of(1..3u8), any::<bool>())
            .prop_map(|(keep, at_once)| Step::Collect { keep, at_once }),
    ]
}

/// A repository, and what should be in it.
struct Model {
    fixture: Fixture,
    hours: u64,
    published: u32,
    /// The releases, with their files.
    releases: BTreeMap<(String, String), BTreeSet<PathBuf>>,
    /// When releases were removed, with their files.
    removed: Vec<(u64, BTreeSet<PathBuf>)>,
}

impl Model {
    async fn new() -> Self {
        let fixture = Fixture::new().await;
        Self { fixture, hours: 0, published: 0, releases: BTreeMap::new(), removed: Vec::new() }
    }

    async fn take(&mut self, step: &Step) {
        let (repo, keys) = (self.fixture.repo.as_path().into(), self.fixture.keys());
        match *step {
            Step::Publish { image, content, grouped } => {
                // An image belongs to one group, or to the public.
                let image = format!("image-{image}-{grouped}");
                let release = self.next_release();
                let content = u64::from(content);
                self.fixture
                    .write("disk.img", &[noise(content % 3, 300_000), noise(content, 200_000)].concat());
                let mut options = self.fixture.options(&image, &release);
                options.group = grouped.then(|| "finance".to_owned());
                publish(options, &()).await.unwrap();
                let files = files_of_release(&self.fixture, &image, &release).await;
                self.releases.insert((image, release), files);
            }
            Step::Killed { content } => {
                let release = self.next_release();
                killed_publish(&self.fixture, "killed", &release, u64::from(content)).await;
            }
            Step::Remove { which } => {
                let Some((image, release)) = self.choose(which) else { return };
                match remove_release(&repo, &keys, &image, &release).await {
                    Ok(_) => self.note_removed(&(image, release)),
                    Err(WithdrawError::OnChannel { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Promote { which } => {
                let Some((image, release)) = self.choose(which) else { return };
                promote(&repo, &keys, &image, &release, "stable").await.unwrap();
            }
            Step::Wait { hours } => {
                self.hours += u64::from(hours);
                age(&self.fixture, u32::from(hours) * HOUR);
            }
            Step::Collect { keep, at_once } => {
                let keep = keep.and_then(|keep| NonZeroUsize::new(keep.into()));
                let grace = if at_once { Duration::ZERO } else { GRACE };
                let collected = gc(&GcOptions { keep, grace, ..options(&self.fixture) }).await.unwrap();
                assert!(collected.is_done() && collected.waiting.is_empty(), "{collected:?}");
                for name in &collected.removed {
                    let (image, release) = name.split_once('@').unwrap();
                    self.note_removed(&(image.into(), release.into()));
                }
                if at_once {
                    // They have no grace period any more.
                    self.removed.clear();
                }
                self.assert_collected(grace);
            }
        }
    }

    /// What must be there is there, and nothing else that is older than the grace period.
    fn assert_collected(&self, grace: Duration) {
        let grace_hours = grace.as_secs() / 3600;
        let live: BTreeSet<&PathBuf> = self.releases.values().flatten().collect();
        let recent = self.removed.iter().filter(|(at, _)| self.hours - at < grace_hours);
        let recent: BTreeSet<&PathBuf> = recent.flat_map(|(_, files)| files).collect();
        let present = paths(&self.fixture);
        for file in live.iter().chain(&recent) {
            assert!(present.contains(*file), "{} is gone", file.display());
        }
        for file in present.iter().filter(|file| !file.starts_with("metadata")) {
            let modified = self.fixture.repo.join(file).metadata().unwrap().modified().unwrap();
            let is_old = modified.elapsed().unwrap_or_default() > grace + HOUR / 2;
            let is_needed = live.contains(file) || recent.contains(file);
            assert!(is_needed || !is_old, "{} is left", file.display());
        }
    }

    async fn assert_whole(&self) {
        assert_whole(&self.fixture).await;
        let keys = self.fixture.content_keys();
        let catalog = read_catalog(&self.fixture.origin(), None, &keys).await.unwrap();
        let names: BTreeSet<(String, String)> =
            catalog.releases.into_iter().map(|entry| (entry.image, entry.release)).collect();
        assert_eq!(names, self.releases.keys().cloned().collect());
    }

    fn next_release(&mut self) -> String {
        self.published += 1;
        self.published.to_string()
    }

    fn choose(&self, which: u8) -> Option<(String, String)> {
        let count = self.releases.len().max(1);
        self.releases.keys().nth(usize::from(which) % count).cloned()
    }

    fn note_removed(&mut self, name: &(String, String)) {
        let files = self.releases.remove(name).unwrap();
        self.removed.push((self.hours, files));
    }
}

/// Histories that are tried out: as many as `PROPTEST_CASES` says, or a few.
fn histories() -> ProptestConfig {
    let usual = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => usual,
        None => ProptestConfig { cases: 8, ..usual },
    }
}

proptest! {
    #![proptest_config(histories())]

    #[test]
    fn whatever_happens_releases_stay_whole_and_what_nobody_needs_goes(
        steps in prop::collection::vec(step(), 8..24)
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut model = Model::new().await;
            for step in &steps {
                model.take(step).await;
                model.assert_whole().await;
            }
        });
    }
}
