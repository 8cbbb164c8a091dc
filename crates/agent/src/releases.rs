//! The releases that this node knows, and each one's way from the catalog to files in place.

use crate::{
    assembly::{self, Assembling},
    config::Update,
    happening::{Assembled, GetAnswer, GetError, Indexed, MetadataFrom},
    problems::Problem,
    rollout,
    run::Loop,
    sources,
};
use branchmesh_exchange::{Exchange, NewRelease};
use branchmesh_image::BlockEntry;
use branchmesh_repo::{Catalog, CatalogEntry, Subscription};
use branchmesh_store::{LiveBlocks, ReleaseRecord};
use branchmesh_wire::{IndexId, Status};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tracing::{error, info, warn};

/// After putting files in place failed, how long until it is tried again.
const ASSEMBLE_RETRY: Duration = Duration::from_secs(30);

/// How long a failure to get metadata is shown, beside two polls: the longest pause between two attempts.
const METADATA_NEWS: Duration = Duration::from_secs(300);

/// All releases that this node has to do with.
#[derive(Default)]
pub(crate) struct Releases {
    all: BTreeMap<IndexId, Release>,
    catalog: Option<Arc<Catalog>>,
    /// Asked for by `get`, whatever the subscriptions say.
    asked: BTreeSet<IndexId>,
}

/// One of them.
pub(crate) struct Release {
    pub entry: CatalogEntry,
    pub phase: Phase,
    /// Whether its blocks are fetched, not only served.
    pub wanted: bool,
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

    /// Those whose blocks arrive, to be put in place.
    pub fn arriving(&self) -> impl Iterator<Item = Assembling> {
        let arrives = |release: &&Release| release.wanted && release.phase == Phase::Exchanging;
        self.all.values().filter(arrives).filter_map(|release| release.assembling.clone())
    }

    /// Whether somebody has the index of a release that this node is looking for.
    pub fn is_awaited(&self, status: &Status) -> bool {
        let indexing =
            |id: &IndexId| self.all.get(id).is_some_and(|release| release.phase == Phase::Indexing);
        status.releases.iter().any(|release| indexing(&release.release))
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

    /// What was asked for with `get`.
    pub fn asked(&self) -> &BTreeSet<IndexId> {
        &self.asked
    }

    /// Whether the metadata that all this comes from has expired.
    pub fn expired(&self) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| catalog.expired || is_past(catalog.expires))
    }

    /// Whether the metadata that `entry` comes from has expired: all of it, or that of its group.
    pub fn has_expired(&self, entry: &CatalogEntry) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| has_expired(catalog, entry))
    }

    /// What the store should remember of the releases whose blocks are here.
    pub fn records(&self, exchange: &Exchange) -> Vec<ReleaseRecord> {
        let known = self.all.iter().filter_map(|(id, release)| {
            let sources = exchange.sources(id)?;
            Some(record(&release.entry, sources::pack(sources), release.is_complete()))
        });
        known.collect()
    }
}

impl Release {
    fn new(entry: &CatalogEntry, phase: Phase, wanted: bool) -> Self {
        Self { entry: entry.clone(), phase, wanted, assembling: None }
    }

    pub fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete(_) | Phase::Active(_))
    }
}

/// Whether what is signed about a release is too old to begin it.
fn has_expired(catalog: &Catalog, entry: &CatalogEntry) -> bool {
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
    pub(crate) fn on_metadata(&mut self, from: MetadataFrom, result: Result<Arc<Catalog>, String>) {
        let (now, is_ok) = (self.now(), result.is_ok());
        match result {
            Ok(catalog) => {
                self.problems.clear(Problem::Metadata);
                self.on_catalog(&catalog);
            }
            Err(words) => {
                warn!(error = words, "no new metadata");
                let until = now + 2 * self.shared.settings.poll + METADATA_NEWS;
                self.problems.set(Problem::Metadata, words, until);
            }
        }
        // The exchange knows the new version by now, and does not ask for it once more.
        match from {
            MetadataFrom::Wan => self.exchange.handle_origin_poll(now, is_ok),
            MetadataFrom::Member(node) => self.exchange.handle_metadata(now, node, is_ok),
            MetadataFrom::Local => {}
        }
    }

    /// Begins what the catalog offers and the subscriptions ask for.
    pub(crate) fn on_catalog(&mut self, catalog: &Arc<Catalog>) {
        self.exchange.set_metadata_version(self.now(), catalog.version);
        if self.releases.catalog.as_ref() == Some(catalog) {
            return;
        }
        info!(version = catalog.version, releases = catalog.releases.len(), "the catalog is new");
        let records = self.shared.store.releases().unwrap_or_else(|error| {
            error!(error = crate::in_words(&error), "the records of earlier releases cannot be read");
            Vec::new()
        });
        let recorded =
            |entry: &CatalogEntry| records.iter().find(|record| record.root == entry.root).cloned();
        let desired = self.desired(catalog);
        self.releases.catalog = Some(Arc::clone(catalog));
        for entry in &catalog.releases {
            let wanted = desired.contains(&entry.id());
            let record = recorded(entry);
            // Somebody may hide what came since: what was begun goes on, nothing new is begun.
            let may_begin = record.is_some() || !has_expired(catalog, entry);
            if wanted && may_begin && self.shared.settings.update == Update::Auto {
                self.begin(entry, true, record);
            } else if record.is_some() {
                self.begin(entry, self.releases.asked.contains(&entry.id()), record);
            } else if wanted {
                let announced = Release::new(entry, Phase::Announced, false);
                self.releases.all.entry(entry.id()).or_insert(announced);
            }
        }
        let unsuitable = self.show_unsuitable(catalog);
        self.stop_wanting_all_but(&desired, &unsuitable);
        self.activate_desired();
    }

    fn begin(&mut self, entry: &CatalogEntry, wanted: bool, record: Option<ReleaseRecord>) {
        let (id, now) = (entry.id(), self.now());
        let known = self.releases.all.get_mut(&id);
        let waits = |release: &Release| matches!(release.phase, Phase::Announced | Phase::Unsuitable(_));
        if let Some(release) = known.filter(|release| !waits(release)) {
            release.entry = entry.clone();
            if release.wanted != wanted {
                release.wanted = wanted;
                self.exchange.set_wanted(now, id, wanted);
            }
            return;
        }
        let phase = match &entry.group {
            Some(group) if !self.is_allowed(entry) => Phase::Failed(format!(
                "this node's certificate does not name the group {group}: have one issued with --group {group}"
            )),
            Some(_) | None => {
                tokio::spawn(rollout::index_release(Arc::clone(&self.shared), entry.clone(), wanted, record));
                Phase::Indexing
            }
        };
        self.releases.all.insert(id, Release::new(entry, phase, wanted));
    }

    /// A release that a channel has left is not fetched any further; what is here of it is served.
    fn stop_wanting_all_but(&mut self, desired: &BTreeSet<IndexId>, unsuitable: &BTreeSet<IndexId>) {
        let now = self.now();
        for (id, release) in &mut self.releases.all {
            if release.wanted && !desired.contains(id) {
                release.wanted = false;
                self.exchange.set_wanted(now, *id, false);
            }
        }
        self.releases.all.retain(|id, release| match release.phase {
            Phase::Announced => desired.contains(id),
            Phase::Unsuitable(_) => unsuitable.contains(id),
            Phase::Indexing
            | Phase::Exchanging
            | Phase::Assembling
            | Phase::Complete(_)
            | Phase::Active(_)
            | Phase::Failed(_) => true,
        });
    }

    /// Shows the releases that the subscriptions mean and that are not for this machine, with the reason.
    fn show_unsuitable(&mut self, catalog: &Catalog) -> BTreeSet<IndexId> {
        let unsuitable = self.unsuitable(catalog);
        for (entry, unmet) in &unsuitable {
            let shown = Release::new(entry, Phase::Unsuitable(unmet.to_string()), false);
            self.releases.all.entry(entry.id()).or_insert(shown);
        }
        unsuitable.into_iter().map(|(entry, _)| entry.id()).collect()
    }

    pub(crate) fn on_indexed(&mut self, entry: &CatalogEntry, indexed: Result<Indexed, String>) {
        let (id, now) = (entry.id(), self.now());
        let Some(release) = self.releases.all.get_mut(&id) else { return };
        let Indexed { held, have, record } = match indexed {
            Ok(indexed) => indexed,
            Err(words) => {
                error!(release = %id, error = words, "a release cannot be fetched");
                release.phase = Phase::Failed(words);
                return;
            }
        };
        release.assembling = match Assembling::begin(&self.shared.store, &held) {
            Ok(assembling) => Some(assembling),
            Err(error) => {
                error!(release = %id, error = crate::in_words(&error), "a release cannot be put in place");
                release.phase = Phase::Failed(crate::in_words(&error));
                return;
            }
        };
        let was_complete = record.as_ref().is_some_and(|record| record.complete) && have.is_full();
        let blocks = held.index.blocks().len();
        let sources = record.map(|record| sources::unpack(&record.sources, blocks)).unwrap_or_default();
        release.phase = Phase::Exchanging;
        let wanted = release.wanted;
        self.shared.hold(Arc::clone(&held));
        let segments = held.index.segments();
        let new = NewRelease { release: id, segments, have, sources, wanted };
        if let Err(error) = self.exchange.add_release(now, new) {
            error!(release = %id, error = crate::in_words(&error), "a release cannot be exchanged");
            self.shared.let_go(&id);
            if let Some(release) = self.releases.all.get_mut(&id) {
                release.phase = Phase::Failed(crate::in_words(&error));
            }
        } else if was_complete {
            // An earlier run put it in place; the exchange tells only of releases that are wanted.
            self.on_all_blocks_here(id);
        }
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
        match assembled {
            Assembled::InPlace(path) => {
                info!(release = %id, "a release is complete");
                release.phase = Phase::Complete(path);
                release.assembling = None;
                self.exchange.set_complete(now, id);
                self.write_records();
                self.activate_desired();
                self.retire_oldest();
            }
            Assembled::Lacking(blocks) => {
                warn!(release = %id, blocks = blocks.len(), "blocks turned out to be missing; fetching them again");
                release.phase = Phase::Exchanging;
                self.exchange.handle_blocks_lost(now, id, &blocks);
            }
            Assembled::Failed(words) => {
                error!(release = %id, error = words, "the files of a release cannot be put in place");
                release.phase = Phase::Failed(words);
                let (shared, assembling) = (Arc::clone(&self.shared), release.assembling.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(ASSEMBLE_RETRY).await;
                    if let Some(assembling) = assembling {
                        assembly::finish(shared, assembling).await;
                    }
                });
            }
        }
    }

    fn write_records(&self) {
        for record in self.releases.records(&self.exchange) {
            if let Err(error) = self.shared.store.put_release(&record) {
                error!(error = crate::in_words(&error), "a release's record cannot be written");
            }
        }
    }

    /// Makes the complete releases that the subscriptions mean the current ones.
    fn activate_desired(&mut self) {
        let Some(catalog) = self.releases.catalog.clone() else { return };
        for id in self.to_activate(&catalog) {
            let Some(release) = self.releases.all.get_mut(&id) else { continue };
            let Phase::Complete(path) = &release.phase else { continue };
            let (image, path) = (release.entry.image.clone(), path.clone());
            match self.shared.store.activate(&image, &release.entry.release) {
                Ok(()) => release.phase = Phase::Active(path),
                Err(error) => {
                    error!(error = crate::in_words(&error), "a release cannot be made the current one");
                    continue;
                }
            }
            for (other, former) in &mut self.releases.all {
                if let (true, Phase::Active(path)) =
                    (*other != id && former.entry.image == image, &former.phase)
                {
                    former.phase = Phase::Complete(path.clone());
                }
            }
        }
    }

    /// Removes the oldest complete releases of each image beyond `keep_releases`. The current one, and those
    /// that are on their way, stay.
    fn retire_oldest(&mut self) {
        let mut complete: BTreeMap<String, Vec<(u64, IndexId)>> = BTreeMap::new();
        for (id, release) in self.releases.all.iter().filter(|(_, release)| release.is_complete()) {
            let of_image = complete.entry(release.entry.image.clone()).or_default();
            of_image.push((release.entry.sequence, *id));
        }
        let mut retired = false;
        for (_, mut releases) in complete {
            releases.sort_unstable_by(|a, b| b.cmp(a));
            for (_, id) in releases.split_off(releases.len().min(self.shared.settings.keep_releases as usize))
            {
                retired |= self.retire(id);
            }
        }
        if retired {
            self.drop_unreferenced();
        }
    }

    fn retire(&mut self, id: IndexId) -> bool {
        let now = self.now();
        let Some(release) = self.releases.all.get(&id) else { return false };
        let in_use = match release.phase {
            Phase::Active(_)
            | Phase::Indexing
            | Phase::Assembling
            | Phase::Announced
            | Phase::Unsuitable(_) => true,
            Phase::Exchanging | Phase::Complete(_) | Phase::Failed(_) => release.wanted,
        };
        if in_use {
            return false;
        }
        if let Err(error) = self.shared.store.retire(&release.entry.image, &release.entry.release) {
            error!(error = crate::in_words(&error), "an old release cannot be removed");
            return false;
        }
        info!(release = %id, "an old release was removed");
        self.exchange.remove_release(now, id);
        self.shared.let_go(&id);
        self.releases.all.remove(&id);
        true
    }

    /// Gives back the space of packs and index parts that no release here or on its way refers to.
    fn drop_unreferenced(&self) {
        if self.releases.all.values().any(|release| release.phase == Phase::Indexing) {
            // What a release needs is known only with its index; the next removal cleans up.
            return;
        }
        let held = self.shared.all_held();
        let blocks = || held.iter().flat_map(|held| held.index.blocks());
        let packs: HashSet<_> = blocks().map(|block| block.pack).collect();
        let live: LiveBlocks = blocks().map(BlockEntry::location).collect();
        let parts =
            held.iter().flat_map(|held| std::iter::once(&held.entry.root).chain(&held.index.root().pieces));
        let parts: HashSet<_> = parts.map(|part| part.id).collect();
        // The loop waits: a release that begins now must not lose what it has just stored.
        let dropped = tokio::task::block_in_place(|| {
            self.shared.store.drop_unreferenced(&packs)?;
            self.shared.store.free_dead_blocks(&live)?;
            self.shared.store.drop_unreferenced_parts(&parts)
        });
        if let Err(error) = dropped {
            error!(error = crate::in_words(&error), "space of old releases was not given back");
        }
    }

    /// Wants a release whatever the subscriptions say.
    pub(crate) fn get(&mut self, subscription: &Subscription) -> Result<GetAnswer, GetError> {
        let Subscription::Image { .. } = subscription else { return Err(GetError::NotOneImage) };
        let catalog = self.releases.catalog.clone().ok_or(GetError::NotYet)?;
        let matching = catalog.matching(subscription);
        let entry = matching.first().ok_or_else(|| GetError::Unknown(subscription.clone()))?;
        if has_expired(&catalog, entry) {
            return Err(GetError::Expired);
        }
        if let Err(unmet) = self.check_suitable(entry) {
            return Err(GetError::Unsuitable { release: entry.name(), unmet });
        }
        self.releases.asked.insert(entry.id());
        self.begin(entry, true, None);
        Ok(GetAnswer { image: entry.image.clone(), release: entry.release.clone() })
    }
}
