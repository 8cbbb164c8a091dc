//! Collecting what no release needs any more: packs, index parts, superseded metadata, and what killed publishers
//! left behind.
//!
//! **What stays.** Whatever a release refers to that is named by metadata which somebody may still go by:
//!
//! * the metadata in force, and changes that wait for signatures (`staged/`);
//! * every older version that was in force within the grace period: a node that read it may still be fetching a
//!   release that has been removed since;
//! * and any file younger than the grace period, whoever needs it.
//!
//! A pack stays whole as long as a release refers to one of its blocks.
//!
//! **Publishers at work.** A publisher writes packs and index parts that nothing refers to yet, and uses again what
//! it finds: blocks of releases in force, and packs of an upload that was interrupted. In a folder the publishers' lock
//! keeps gc out meanwhile, and publishers out while gc runs, so that neither sees the other half done. A cloud has no
//! lock; there, a [`Lease`] does the same: while gc holds it no publisher begins, and those who began before cannot
//! come into force any more.
//!
//! **Crashes.** First the metadata changes (releases beyond `keep`), then superseded metadata goes, then what only it
//! referred to. Stopped anywhere, the repository is whole, and the next run finishes the work: it decides from what
//! is there, and remembers nothing.
//!
//! If a single release cannot be read (its group's key is not here, or its index is damaged), nobody knows what it
//! refers to, and nothing is collected at all.

mod history;
mod live;
#[cfg(test)]
mod races;

use crate::{
    address::Address,
    catalog::{Catalog, CatalogEntry},
    contents::ContentsError,
    keys::Keys,
    layout,
    metadata::{Metadata, MetadataError, Missing},
    place::{Lease, Listed, Place, PlaceError},
    verify::FileCount,
};
use futures::{StreamExt, stream};
use history::History;
use live::references;
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    time::Duration,
};

/// Files that are removed at once: clouds answer slowly, and many requests side by side.
const REMOVALS_IN_FLIGHT: usize = 16;
/// Files that are removed between two looks at the clock.
const REMOVALS_BETWEEN_LOOKS: usize = 256;
/// How often gc tries to come before publishers who are about to finish.
const OVERTAKING_MAX: usize = 10;

/// What to collect.
#[derive(Clone, Debug)]
pub struct GcOptions {
    /// The repository.
    pub repo: Address,
    /// Keys: content keys of all groups, and where releases are to be removed, those that sign.
    pub keys: Keys,
    /// Before anything else, remove the releases of each image but the newest so many. Those that a channel points to
    /// stay in any case.
    pub keep: Option<NonZeroUsize>,
    /// What is younger stays.
    pub grace: Duration,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was collected, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Releases that were removed because newer ones are to be kept.
    pub removed: Vec<String>,
    /// Signatures that their removal waits for: it has not happened yet then.
    pub waiting: Vec<Missing>,
    /// Superseded versions of metadata.
    pub metadata: FileCount,
    /// Index parts.
    pub parts: FileCount,
    /// Packs.
    pub packs: FileCount,
    /// Files that killed publishers did not finish.
    pub unfinished: FileCount,
    /// What nothing refers to, and is too young to be removed.
    pub young: FileCount,
    /// Files that could not be removed, and why: Windows keeps what a web server has open. The next run tries again.
    pub stuck: BTreeMap<String, String>,
    /// Whether there was more to do than there was time for: a cloud keeps publishers out for an hour at most.
    pub is_cut_short: bool,
}

/// Why nothing is collected.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// The metadata cannot be read or changed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The repository cannot be written or listed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Releases cannot be opened.
    #[error(
        "releases of {} cannot be opened, so that nobody knows what they need, and nothing was removed: put the right content keys into the keys folder, as groups/NAME.key",
        .groups.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    )]
    Sealed {
        /// Their groups.
        groups: BTreeSet<String>,
    },
    /// A release is written in a way that this program does not know.
    #[error(
        "{target} was published by a later version of branchmesh; nothing was removed: update this program"
    )]
    Later {
        /// Its name in the metadata.
        target: String,
    },
    /// An index is damaged.
    #[error(
        "a release cannot be read, so that nobody knows what it needs, and nothing was removed: `branchmesh repo verify` says what is damaged; restore that, or take the release out with `branchmesh repo remove`"
    )]
    Damaged(#[source] ContentsError),
    /// A metadata file that counts is none.
    #[error("the metadata file {path} cannot be read; nothing was removed")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// Removes what no release needs.
pub async fn gc(options: &GcOptions) -> Result<Collected, GcError> {
    let place = Place::open(&options.repo)?;
    let _lock = place.lock()?;
    let lease = if options.dry_run { None } else { place.lease().await? };
    let Some(lease) = lease else { return collect(&place, None, options).await };
    let collected = async {
        overtake_publishers(lease.place(), &options.keys).await?;
        collect(lease.place(), Some(&lease), options).await
    };
    let collected = collected.await;
    lease.end().await?;
    collected
}

/// Signs `timestamp.json` anew, so that no publisher who began before comes into force any more.
async fn overtake_publishers(place: &Place, keys: &Keys) -> Result<(), GcError> {
    for _ in 1..OVERTAKING_MAX {
        match Metadata::load(place, keys).await?.commit_here().await {
            // Somebody was just about to finish. Nobody new begins, so that there are fewer each time.
            Err(MetadataError::Place(PlaceError::Overtaken { .. })) => {}
            result => return Ok(result.map(drop)?),
        }
    }
    Ok(Metadata::load(place, keys).await?.commit_here().await.map(drop)?)
}

async fn collect(place: &Place, lease: Option<&Lease>, options: &GcOptions) -> Result<Collected, GcError> {
    let mut collected = Collected::default();
    let mut metadata = Metadata::load(place, &options.keys).await?;
    if let Some(keep) = options.keep {
        let surplus = surplus(metadata.catalog(), keep);
        collected.removed = surplus.iter().map(CatalogEntry::name).collect();
        if !surplus.is_empty() && !options.dry_run {
            collected.waiting = remove_all(metadata, &surplus).await?;
            metadata = Metadata::load(place, &options.keys).await?;
        }
    }
    let now = if options.dry_run { local_now() } else { place.now().await? };
    let cutoff = now.saturating_sub(options.grace.as_secs());
    // What is listed before the metadata is read cannot have come after it.
    let mut files = place.list(layout::PACKS).await?;
    files.extend(place.list(layout::INDEXES).await?);
    let unfinished = place.unfinished()?;
    let history = History::of(place.list(layout::METADATA).await?, &metadata.versions(), cutoff);
    let needed = references(place, &metadata, &history).await?;

    let unneeded = files.into_iter().filter(|file| needed.has(&file.path) == Some(false));
    let (young, old): (Vec<Listed>, Vec<Listed>) =
        unneeded.chain(unfinished).partition(|file| file.modified > cutoff);
    young.iter().for_each(|file| collected.young.add(file.size));
    for files in [history.superseded, old] {
        let mut files = files.into_iter().peekable();
        while files.peek().is_some() {
            if lease.is_some_and(Lease::is_ending) {
                collected.is_cut_short = true;
                break;
            }
            let batch = files.by_ref().take(REMOVALS_BETWEEN_LOOKS).collect();
            collected.remove(place, batch, options.dry_run).await;
        }
    }
    let total = collected.packs.bytes + collected.parts.bytes;
    tracing::info!(bytes = total, dry_run = options.dry_run, "collected what no release needs");
    Ok(collected)
}

/// The releases beyond the newest `keep` of each image, except those that a channel points to.
fn surplus(catalog: &Catalog, keep: NonZeroUsize) -> Vec<CatalogEntry> {
    let of_image = |image| catalog.releases.iter().filter(move |entry| entry.image == image);
    let older = catalog.images().flat_map(|image| {
        let releases: Vec<&CatalogEntry> = of_image(image).collect();
        let surplus = releases.len().saturating_sub(keep.get());
        releases.into_iter().take(surplus).filter(|entry| entry.channels.is_empty())
    });
    older.cloned().collect()
}

/// Takes releases out of the metadata; the signatures that this waits for.
async fn remove_all(mut metadata: Metadata, releases: &[CatalogEntry]) -> Result<Vec<Missing>, GcError> {
    for entry in releases {
        metadata.remove(entry)?;
    }
    Ok(metadata.commit().await?.missing)
}

/// A dry run writes nothing, and so cannot ask for the repository's own clock.
fn local_now() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0)
}

impl Collected {
    /// Whether everything that was to be removed is gone.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.stuck.is_empty() && !self.is_cut_short
    }

    async fn remove(&mut self, place: &Place, files: Vec<Listed>, dry_run: bool) {
        let mut removals = stream::iter(files)
            .map(|file| async move {
                let removed = if dry_run { Ok(()) } else { place.remove(&file.path).await };
                (file, removed)
            })
            .buffer_unordered(REMOVALS_IN_FLIGHT);
        while let Some((file, removed)) = removals.next().await {
            if let Err(error) = removed {
                tracing::warn!(path = file.path, error = &error as &dyn std::error::Error, "not removed");
                self.stuck.insert(file.path, crate::origin::root_cause(&error));
                continue;
            }
            let count = if layout::pack_of(&file.path).is_some() {
                &mut self.packs
            } else if layout::part_of(&file.path).is_some() {
                &mut self.parts
            } else if layout::is_unfinished(&file.path) {
                &mut self.unfinished
            } else {
                &mut self.metadata
            };
            count.add(file.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::entry;

    #[test]
    fn the_newest_releases_stay_and_those_on_a_channel() {
        let releases = vec![
            entry("xp", "1", 1, &["stable"]),
            entry("xp", "2", 2, &[]),
            entry("kiosk", "1", 3, &[]),
            entry("xp", "3", 4, &[]),
            entry("xp", "4", 5, &["pilot"]),
            entry("xp", "5", 6, &[]),
        ];
        let catalog = Catalog { releases, ..Catalog::default() };
        let names = |keep| -> Vec<String> {
            surplus(&catalog, NonZeroUsize::new(keep).unwrap()).iter().map(CatalogEntry::name).collect()
        };
        assert_eq!(names(1), ["xp@2", "xp@3"]);
        assert_eq!(names(3), ["xp@2"]);
        assert_eq!(names(5), [""; 0]);
    }
}
