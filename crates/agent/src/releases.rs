//! The releases that this node knows, and each one's way from its index to files in place.

use crate::{
    assembly::{self, Assembling},
    happening::{Assembled, Indexed},
    rollout,
    run::Loop,
    shared::Held,
    sources, versions,
};
use branchmesh_exchange::{Exchange, NewRelease};
use branchmesh_repo::{Catalog, CatalogEntry};
use branchmesh_store::ReleaseRecord;
use branchmesh_wire::{IndexId, Status};
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{debug, error, info, warn};

/// After putting files in place failed, how long until it is tried again.
const ASSEMBLE_RETRY: Duration = Duration::from_secs(30);

/// All releases that this node has to do with.
#[derive(Default)]
pub(crate) struct Releases {
    pub all: BTreeMap<IndexId, Release>,
    pub catalog: Option<Arc<Catalog>>,
}

/// One of them.
pub(crate) struct Release {
    pub entry: CatalogEntry,
    pub phase: Phase,
    /// Whether its blocks are fetched, not only served.
    pub wanted: bool,
    /// Whether the repository has it no longer.
    pub withdrawn: bool,
    /// Whether an earlier run had put its files in place.
    pub was_complete: bool,
    /// Whether its index is fetched to tell what it would cost.
    pub appraised: bool,
    /// Its files, from its index on until they are in place.
    pub assembling: Option<Assembling>,
}

/// Where a release stands on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Known from the catalog, not asked for.
    Announced,
    /// Not for this machine: what it requires is not met, in words.
    Unsuitable(String),
    /// Its index is on its way.
    Indexing,
    /// Its blocks are exchanged.
    Exchanging,
    /// Its files are put in place.
    Assembling,
    /// Its files are in place.
    Complete(PathBuf),
    /// And it is the current one.
    Active(PathBuf),
    /// It cannot go on, in words.
    Failed(String),
}

impl Releases {
    pub fn iter(&self) -> impl Iterator<Item = (&IndexId, &Release)> {
        self.all.iter()
    }

    pub fn get(&self, id: &IndexId) -> Option<&Release> {
        self.all.get(id)
    }

    /// A release by its name: the one that the repository has, if there are two.
    pub fn find(&self, image: &str, release: &str) -> Option<(&IndexId, &Release)> {
        let named =
            |(_, known): &(&IndexId, &Release)| known.entry.image == image && known.entry.release == release;
        self.all.iter().filter(named).min_by_key(|(_, known)| known.withdrawn)
    }

    /// Whether a release's files are in place.
    pub fn is_complete(&self, id: &IndexId) -> bool {
        self.all.get(id).is_some_and(Release::is_complete)
    }

    /// A release cannot go on.
    fn fail(&mut self, id: &IndexId, words: String) {
        if let Some(release) = self.all.get_mut(id) {
            release.phase = Phase::Failed(words);
        }
    }

    /// A complete release has become the current one of its image.
    pub fn show_active(&mut self, id: IndexId, image: &str) {
        for (other, release) in self.all.iter_mut().filter(|(_, release)| release.entry.image == image) {
            release.phase = match (&release.phase, *other == id) {
                (Phase::Complete(path), true) => Phase::Active(path.clone()),
                (Phase::Active(path), false) => Phase::Complete(path.clone()),
                _ => continue,
            };
        }
    }

    /// Those whose blocks arrive, to be put in place.
    pub fn arriving(&self) -> impl Iterator<Item = Assembling> {
        let arrives = |release: &&Release| release.wanted && release.phase == Phase::Exchanging;
        self.all.values().filter(arrives).filter_map(|release| release.assembling.clone())
    }

    /// Whether somebody has the index of a release that this node is looking for.
    pub fn is_awaited(&self, status: &Status) -> bool {
        let awaited = |id: &IndexId| self.all.get(id).is_some_and(Release::awaits_its_index);
        status.releases.iter().any(|release| awaited(&release.release))
    }

    /// A release's image and name; its id in place of the name if it is not known.
    pub fn name(&self, id: &IndexId) -> (String, String) {
        let known = self.catalog.iter().flat_map(|catalog| &catalog.releases).find(|entry| entry.id() == *id);
        match known {
            Some(entry) => (entry.image.clone(), entry.release.clone()),
            None => (String::new(), id.to_string()),
        }
    }

    /// What the signed metadata says, if any came yet.
    pub fn catalog(&self) -> Option<&Catalog> {
        self.catalog.as_deref()
    }

    /// Whether the metadata that all this comes from has expired.
    pub fn expired(&self) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| catalog.expired || is_past(catalog.expires))
    }

    /// Whether the metadata that `entry` comes from has expired: all of it, or that of its group.
    pub fn has_expired(&self, entry: &CatalogEntry) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| has_expired(catalog, entry))
    }

    /// What the store should remember of the releases whose blocks are here. What is only announced is not begun.
    pub fn records(&self, exchange: &Exchange) -> Vec<ReleaseRecord> {
        let known = self.all.iter().filter(|(_, release)| release.phase != Phase::Announced);
        let known = known.filter_map(|(id, release)| {
            let sources = exchange.sources(id)?;
            Some(record(&release.entry, sources::pack(sources), release.is_complete()))
        });
        known.collect()
    }
}

impl Release {
    pub fn new(entry: &CatalogEntry, phase: Phase, wanted: bool) -> Self {
        Self {
            entry: entry.clone(),
            phase,
            wanted,
            withdrawn: false,
            was_complete: false,
            appraised: false,
            assembling: None,
        }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete(_) | Phase::Active(_))
    }

    /// Whether it was begun, and is not only known.
    pub fn is_begun(&self) -> bool {
        !matches!(self.phase, Phase::Announced | Phase::Unsuitable(_))
    }

    /// Whether its index is on its way.
    fn awaits_its_index(&self) -> bool {
        self.phase == Phase::Indexing || (self.phase == Phase::Announced && self.appraised)
    }

    /// Number of its publication; 0 if the repository has it no longer.
    pub fn sequence(&self) -> u64 {
        if self.withdrawn { 0 } else { self.entry.sequence }
    }
}

/// Whether what is signed about a release is too old to begin it.
pub(crate) fn has_expired(catalog: &Catalog, entry: &CatalogEntry) -> bool {
    catalog.expired || is_past(catalog.expires.min(entry.expires))
}

/// Whether a moment, in Unix seconds, is over.
fn is_past(moment: u64) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment <= now.as_secs()
}

fn record(entry: &CatalogEntry, sources: Vec<u8>, complete: bool) -> ReleaseRecord {
    ReleaseRecord {
        image: entry.image.clone(),
        release: entry.release.clone(),
        group: entry.group.clone(),
        root: entry.root,
        complete,
        sources,
    }
}

impl Loop {
    pub(crate) fn on_indexed(&mut self, entry: &CatalogEntry, indexed: Result<Indexed, String>) {
        let (id, now) = (entry.id(), self.now());
        let Some(release) = self.releases.all.get_mut(&id).filter(|release| release.awaits_its_index())
        else {
            return;
        };
        let Indexed { held, have, record, wanted } = match indexed {
            Ok(indexed) => indexed,
            Err(words) => {
                error!(release = %id, error = words, "a release cannot be fetched");
                release.phase = Phase::Failed(words);
                self.tell_hooks();
                return;
            }
        };
        if release.phase == Phase::Indexing && !wanted && release.wanted {
            // Accepted while its cost was found out: local origins were not asked yet.
            tokio::spawn(rollout::index_release(Arc::clone(&self.shared), entry.clone(), true, record));
            return;
        }
        debug!(release = %id, have = have.len(), blocks = have.capacity(), "the index is here");
        let was_complete = record.as_ref().is_some_and(|record| record.complete);
        let blocks = held.index.blocks().len();
        let sources = record.map(|record| sources::unpack(&record.sources, blocks)).unwrap_or_default();
        let is_full = have.is_full();
        let new = NewRelease {
            release: id,
            segments: held.index.segments(),
            have,
            sources,
            wanted: release.wanted,
        };
        if let Err(words) = self.hold(id, &held, was_complete) {
            error!(release = %id, error = words, "a release cannot be put in place");
        } else if let Err(error) = self.exchange.add_release(now, new) {
            error!(release = %id, error = crate::in_words(&error), "a release cannot be exchanged");
            self.shared.let_go(&id);
            self.releases.fail(&id, crate::in_words(&error));
        } else if was_complete && is_full {
            // An earlier run put it in place; the exchange tells only of releases that are wanted.
            self.on_all_blocks_here(id);
        }
        self.tell_hooks();
    }

    /// A release's index is here.
    fn hold(&mut self, id: IndexId, held: &Arc<Held>, was_complete: bool) -> Result<(), String> {
        let Some(release) = self.releases.all.get_mut(&id) else { return Ok(()) };
        release.was_complete |= was_complete;
        if release.phase == Phase::Indexing {
            match Assembling::begin(&self.shared.store, held) {
                Ok(assembling) => release.assembling = Some(assembling),
                Err(error) => {
                    let words = crate::in_words(&error);
                    release.phase = Phase::Failed(words.clone());
                    return Err(words);
                }
            }
            release.phase = Phase::Exchanging;
        }
        self.shared.hold(Arc::clone(held));
        Ok(())
    }

    /// All blocks are here: put the files in place.
    pub(crate) fn on_all_blocks_here(&mut self, id: IndexId) {
        let now = self.now();
        let Some(release) = self.releases.all.get_mut(&id) else { return };
        match (&release.phase, &release.assembling) {
            (Phase::Exchanging, Some(assembling)) => {
                let finish = assembly::finish(Arc::clone(&self.shared), assembling.clone());
                release.phase = Phase::Assembling;
                tokio::spawn(finish);
            }
            // Blocks that had rotted are back; the files never went away.
            (Phase::Complete(_) | Phase::Active(_), _) => self.exchange.set_complete(now, id),
            _ => {}
        }
    }

    pub(crate) fn on_assembled(&mut self, id: IndexId, assembled: Assembled) {
        let now = self.now();
        let Some(release) = self.releases.all.get_mut(&id) else { return };
        let lacks_space = matches!(assembled, Assembled::NoSpace(_));
        match assembled {
            Assembled::InPlace(path) => {
                info!(release = %id, "a release is complete");
                let (image, name) = (release.entry.image.clone(), release.entry.release.clone());
                let is_new = !std::mem::replace(&mut release.was_complete, true);
                release.phase = match self.versions.is_current(&image, &name) {
                    true => Phase::Active(path),
                    false => Phase::Complete(path),
                };
                release.assembling = None;
                self.exchange.set_complete(now, id);
                self.write_records();
                if is_new {
                    self.fulfil(&image, &name);
                }
                self.reconsider();
            }
            Assembled::Lacking(blocks) => {
                warn!(release = %id, blocks = blocks.len(), "blocks turned out to be missing; fetching them again");
                release.phase = Phase::Exchanging;
                self.exchange.handle_blocks_lost(now, id, &blocks);
            }
            Assembled::NoSpace(words) | Assembled::Failed(words) => {
                error!(release = %id, error = words, "the files of a release cannot be put in place");
                release.phase = Phase::Failed(words);
                let (shared, assembling) = (Arc::clone(&self.shared), release.assembling.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(ASSEMBLE_RETRY).await;
                    if let Some(assembling) = assembling {
                        assembly::finish(shared, assembling).await;
                    }
                });
                self.tell_hooks();
            }
        }
        if lacks_space {
            self.make_room();
        }
    }

    fn write_records(&self) {
        for record in self.releases.records(&self.exchange) {
            if let Err(error) = self.shared.store.put_release(&record) {
                error!(error = crate::in_words(&error), "a release's record cannot be written");
            }
        }
    }

    /// Another release of an image is complete: what was asked for before is treated like others from now on.
    fn fulfil(&mut self, image: &str, arrived: &str) {
        let releases = &self.releases;
        let is_complete =
            |release: &str| releases.find(image, release).is_some_and(|(_, known)| known.is_complete());
        let noted = self.versions.decide(&self.shared.store, image, |record| {
            versions::fulfil(record, arrived, is_complete);
        });
        if let Err(error) = noted {
            error!(error = crate::in_words(&error), "what was asked for cannot be written down");
        }
    }
}
