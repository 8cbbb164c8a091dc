//! Following the catalog: what it offers and people wish is begun, what they do not wish any more is not.

use crate::{
    config::Update,
    happening::MetadataFrom,
    problems::Problem,
    releases::{Phase, Release, has_expired},
    rollout,
    run::Loop,
    wishes::Wish,
};
use branchmesh_repo::{Catalog, CatalogEntry, SealedRelease};
use branchmesh_store::ReleaseRecord;
use branchmesh_wire::IndexId;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tracing::{error, info, warn};

/// How long a failure to get metadata is shown, beside two polls: the longest pause between two attempts.
const METADATA_NEWS: Duration = Duration::from_secs(300);

impl Loop {
    pub(crate) fn on_metadata(&mut self, from: MetadataFrom, result: Result<Arc<Catalog>, String>) {
        let (now, is_ok) = (self.now(), result.is_ok());
        match result {
            Ok(catalog) => {
                self.problems.clear(Problem::Metadata);
                self.note_version(from, catalog.version);
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

    /// Begins what the catalog offers and people wish.
    pub(crate) fn on_catalog(&mut self, catalog: &Arc<Catalog>) {
        self.tell_version(catalog.version);
        if self.releases.catalog.as_ref() == Some(catalog) {
            return;
        }
        info!(version = catalog.version, releases = catalog.releases.len(), "the catalog is new");
        let records = self.shared.store.releases().unwrap_or_else(|error| {
            error!(error = crate::in_words(&error), "the records of earlier releases cannot be read");
            Vec::new()
        });
        self.releases.catalog = Some(Arc::clone(catalog));
        self.carry_out_wishes(catalog, &records);
        self.keep_withdrawn(catalog, &records);
        self.settle();
    }

    /// Carries out what people wish now, after something that wishes depend on has changed.
    pub(crate) fn reconsider(&mut self) {
        if let Some(catalog) = self.releases.catalog.clone() {
            self.carry_out_wishes(&catalog, &[]);
        }
        self.settle();
    }

    /// What follows from the releases that are here and the wishes.
    fn settle(&mut self) {
        self.settle_current();
        self.retire_surplus();
        self.tell_hooks();
    }

    fn carry_out_wishes(&mut self, catalog: &Catalog, records: &[ReleaseRecord]) {
        let wishes = self.wishes(catalog);
        for entry in &catalog.releases {
            let record = records.iter().find(|record| record.root == entry.root).cloned();
            let wish = wishes.get(&entry.id()).copied();
            let is_begun = record.is_some() || self.releases.get(&entry.id()).is_some_and(Release::is_begun);
            let is_fetched = self.is_fetched(entry, wish.unwrap_or_default(), is_begun);
            // Somebody may hide what came since: what was begun goes on, nothing new is begun.
            if is_fetched && (is_begun || !has_expired(catalog, entry)) {
                self.begin(entry, true, record);
            } else if is_begun {
                self.begin(entry, false, record);
            } else if let Some(wish) = wish {
                self.announce(catalog, entry, wish);
            }
        }
        let unsuitable = self.show_unsuitable(catalog);
        self.forget_what_nobody_wishes(&wishes, &unsuitable);
    }

    fn begin(&mut self, entry: &CatalogEntry, wanted: bool, record: Option<ReleaseRecord>) {
        let (id, now) = (entry.id(), self.now());
        if let Some(release) = self.releases.all.get_mut(&id) {
            release.withdrawn = false;
            if release.is_begun() {
                release.entry = entry.clone();
                if release.wanted == wanted {
                    return;
                }
                release.wanted = wanted;
                if wanted && release.phase == Phase::Exchanging {
                    // What is near was not looked through as long as nobody wanted it.
                    release.phase = Phase::Indexing;
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(rollout::index_release(shared, entry.clone(), true, None));
                } else {
                    self.exchange.set_wanted(now, id, wanted);
                }
                return;
            }
            if release.appraised && self.shared.held(&id).is_none() {
                // Its index is on its way already, and must not cross the WAN twice.
                (release.phase, release.wanted) = (Phase::Indexing, wanted);
                return;
            }
        }
        let phase = match &entry.group {
            Some(group) if !self.is_allowed(entry) => Phase::Failed(format!(
                "this node's certificate does not name the group {group}: have one issued with --group {group}"
            )),
            Some(_) | None => {
                let shared = Arc::clone(&self.shared);
                tokio::spawn(rollout::index_release(shared, entry.clone(), wanted, record));
                Phase::Indexing
            }
        };
        self.releases.all.insert(id, Release::new(entry, phase, wanted));
    }

    /// Shows a release that nobody has accepted yet. With `suggest` its index is fetched, which tells what the rest
    /// would cost.
    fn announce(&mut self, catalog: &Catalog, entry: &CatalogEntry, wish: Wish) {
        let is_suggested =
            wish.subscribed && self.shared.settings.update == Update::Suggest && self.is_allowed(entry);
        let appraise = is_suggested && !has_expired(catalog, entry);
        let announced = || Release::new(entry, Phase::Announced, false);
        let release = self.releases.all.entry(entry.id()).or_insert_with(announced);
        release.withdrawn = false;
        if release.phase == Phase::Announced && appraise && !std::mem::replace(&mut release.appraised, true) {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(rollout::index_release(shared, entry.clone(), false, None));
        }
    }

    /// A release that a channel has left is not fetched any further; what is here of it is served.
    fn forget_what_nobody_wishes(
        &mut self,
        wishes: &BTreeMap<IndexId, Wish>,
        unsuitable: &BTreeSet<IndexId>,
    ) {
        let now = self.now();
        let forgotten = self.releases.all.extract_if(.., |id, release| match release.phase {
            Phase::Announced => !wishes.contains_key(id),
            Phase::Unsuitable(_) => !unsuitable.contains(id),
            Phase::Indexing
            | Phase::Exchanging
            | Phase::Assembling
            | Phase::Complete(_)
            | Phase::Active(_)
            | Phase::Failed(_) => false,
        });
        for (id, _) in forgotten {
            self.exchange.remove_release(now, id);
            self.shared.let_go(&id);
        }
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

    /// What the repository has no longer stays as long as others of its age do, and goes before them. It is not
    /// fetched any further.
    fn keep_withdrawn(&mut self, catalog: &Catalog, records: &[ReleaseRecord]) {
        let now = self.now();
        let offered: BTreeSet<IndexId> = catalog.releases.iter().map(CatalogEntry::id).collect();
        for (id, release) in self.releases.all.iter_mut().filter(|(id, _)| !offered.contains(id)) {
            release.withdrawn = true;
            if std::mem::replace(&mut release.wanted, false) {
                self.exchange.set_wanted(now, *id, false);
            }
        }
        // Published again under its name: the name now means the other one, which takes over the folder.
        let is_replaced = |image: &str, release: &str| catalog.find(image, release).is_some();
        let replaced = self.releases.all.extract_if(.., |_, release| {
            release.withdrawn && is_replaced(&release.entry.image, &release.entry.release)
        });
        for (id, _) in replaced {
            self.exchange.remove_release(now, id);
            self.shared.let_go(&id);
        }
        let is_sealed = |id: IndexId| catalog.sealed.iter().any(|sealed: &SealedRelease| sealed.id == id);
        for record in records {
            let entry = as_remembered(record);
            let id = entry.id();
            let is_gone = is_sealed(id) || is_replaced(&record.image, &record.release);
            if !offered.contains(&id) && !is_gone && self.releases.get(&id).is_none() {
                self.begin(&entry, false, Some(record.clone()));
                if let Some(release) = self.releases.all.get_mut(&id) {
                    release.withdrawn = true;
                }
            }
        }
    }
}

/// A release of which only this node's own record is left: when it was published is not known any more.
fn as_remembered(record: &ReleaseRecord) -> CatalogEntry {
    CatalogEntry {
        image: record.image.clone(),
        release: record.release.clone(),
        group: record.group.clone(),
        root: record.root,
        channels: Vec::new(),
        labels: BTreeMap::new(),
        requires: Vec::new(),
        block_size: 0,
        sequence: 0,
        published: 0,
        expires: 0,
        encoded_bytes: 0,
        plain_bytes: 0,
        blocks: 0,
    }
}
