//! Local origins: a prestage folder, a stick, a mirror on a share. They cost no WAN, and what they give is offered to
//! the site.
//!
//! They come and go. One that is not there is no problem; one that appears is used at once ([`watch()`]); one that
//! is pulled out while it is read has given what it gave, and the rest comes from elsewhere. What is damaged in one
//! is named once, by file, and taken from elsewhere, too.

mod watch;

pub(crate) use watch::{take_missing, wanted, wanted_by, watch};

use crate::{
    happening::Happening,
    shared::{Held, Shared},
};
use branchmesh_image::{BlockId, IndexId, VerifiedBlock};
use branchmesh_repo::{Origin, OriginError};
use branchmesh_wire::BlockSet;
use futures::StreamExt;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};
use tracing::{info, warn};

/// Blocks that are read before they are written together.
const BATCH_BLOCKS: usize = 64;
/// Folders that may be imported at the same time: a person has two hands.
const PLUGGED_MAX: usize = 4;
/// Files that the log names as damaged, for each origin.
const TOLD_MAX: usize = 100;

/// All of them, nearest first.
pub(crate) struct Nearby {
    places: RwLock<Vec<Arc<Place>>>,
    /// Releases whose index some local origin was asked for and none has whole.
    without_index: Mutex<BTreeSet<IndexId>>,
}

/// One of them.
pub(crate) struct Place {
    pub origin: Origin,
    is_plugged: bool,
    account: Mutex<Account>,
}

/// What a place gave and did not give.
#[derive(Default)]
struct Account {
    releases: BTreeMap<IndexId, Given>,
    /// Files that were named as damaged.
    told: BTreeSet<String>,
}

/// What a place gave of one release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    /// Blocks that were written.
    pub blocks: u64,
    /// Their encoded bytes.
    pub bytes: u64,
    /// What was damaged when it was read last, by file. No blocks: a part of the index.
    pub damaged: BTreeMap<String, BTreeSet<BlockId>>,
}

/// A folder that is an origin as long as this lives.
pub(crate) struct Plugged {
    shared: Arc<Shared>,
    pub place: Arc<Place>,
}

/// Whether a place is worth another question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    GoOn,
    /// It is gone, or does not answer.
    GiveUp,
}

impl Nearby {
    pub fn new(origins: Vec<Origin>) -> Self {
        let places = origins.into_iter().map(|origin| Arc::new(Place::new(origin, false))).collect();
        Self { places: RwLock::new(places), without_index: Mutex::default() }
    }

    pub fn places(&self) -> Vec<Arc<Place>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes that a part of a release's index must come from elsewhere.
    pub fn index_is_elsewhere(&self, release: IndexId) {
        self.without_index().insert(release);
    }

    /// Whether a release's index must come from elsewhere.
    pub fn lacks_index(&self, release: &IndexId) -> bool {
        self.without_index().contains(release)
    }

    /// A local origin may have what none had before.
    pub fn forget_lacks(&self) {
        self.without_index().clear();
    }

    fn without_index(&self) -> MutexGuard<'_, BTreeSet<IndexId>> {
        self.without_index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plugged {
    /// Makes a folder the nearest origin of all; `None` if there are too many such folders.
    pub fn new(shared: &Arc<Shared>, origin: Origin) -> Option<Self> {
        let mut places = shared.nearby.places.write().unwrap_or_else(PoisonError::into_inner);
        if places.iter().filter(|place| place.is_plugged).count() >= PLUGGED_MAX {
            return None;
        }
        let place = Arc::new(Place::new(origin, true));
        places.insert(0, Arc::clone(&place));
        Some(Self { shared: Arc::clone(shared), place })
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        let mut places = self.shared.nearby.places.write().unwrap_or_else(PoisonError::into_inner);
        places.retain(|place| !Arc::ptr_eq(place, &self.place));
    }
}

impl Place {
    fn new(origin: Origin, is_plugged: bool) -> Self {
        Self { origin, is_plugged, account: Mutex::default() }
    }

    /// What it gave of a release.
    pub fn given(&self, release: &IndexId) -> Given {
        self.account().releases.get(release).cloned().unwrap_or_default()
    }

    /// What it gave of all releases.
    pub fn all_given(&self) -> BTreeMap<IndexId, Given> {
        self.account().releases.clone()
    }

    /// Notes what went wrong with a file; says it aloud the first time.
    pub fn note(&self, release: IndexId, error: &OriginError) -> bool {
        let mut account = self.account();
        let (url, block) = match error {
            OriginError::Damaged { url, block, .. } => (url, Some(*block)),
            OriginError::Excerpt { url, .. }
            | OriginError::TooLarge { url, .. }
            | OriginError::Truncated { url, .. }
            | OriginError::Io { url, .. } => (url, None),
            // A bundle lacks what the site is thought to hold, and a stick comes and goes.
            OriginError::NotFound { .. } | OriginError::Unreachable { .. } => return false,
            OriginError::BadUrl { .. }
            | OriginError::Access { .. }
            | OriginError::Untrusted { .. }
            | OriginError::NoCredentials { .. }
            | OriginError::Cloud { .. }
            | OriginError::Stalled { .. }
            | OriginError::Denied { .. }
            | OriginError::WebPage { .. }
            | OriginError::NoRanges { .. }
            | OriginError::WrongRange { .. }
            | OriginError::Status { .. } => {
                warn!(origin = self.origin.url(), error = crate::in_words(error), "a local origin failed");
                return true;
            }
        };
        account.releases.entry(release).or_default().damaged.entry(url.clone()).or_default().extend(block);
        let is_news = account.told.len() < TOLD_MAX && account.told.insert(url.clone());
        if is_news {
            warn!(
                origin = self.origin.url(),
                error = crate::in_words(error),
                "a file near by cannot be used"
            );
        }
        true
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is damaged is found out anew.
    fn begin(&self, release: IndexId) {
        if let Some(given) = self.account().releases.get_mut(&release) {
            given.damaged.retain(|_, blocks| blocks.is_empty());
        }
    }

    fn gave(&self, release: IndexId, blocks: u64, bytes: u64) {
        let mut account = self.account();
        let given = account.releases.entry(release).or_default();
        given.blocks += blocks;
        given.bytes += bytes;
    }
}

/// Takes from all local origins whatever they have of a release that is not exchanged yet; adds it to `have`.
pub(crate) async fn take_all(shared: &Arc<Shared>, held: &Arc<Held>, have: &mut BlockSet) {
    for place in shared.nearby.places() {
        take(shared, held, &place, have, false).await;
    }
}

/// Takes from a local origin whatever it has that is not in `have` yet, writes it, and adds it to `have`. The loop is
/// told block by block if the release is exchanged already.
pub(crate) async fn take(
    shared: &Arc<Shared>,
    held: &Arc<Held>,
    place: &Place,
    have: &mut BlockSet,
    is_exchanged: bool,
) {
    let release = held.entry.id();
    let missing = (0u32..).zip(held.index.blocks()).filter(|(number, _)| !have.contains(*number));
    let wanted: Vec<_> = missing.map(|(number, block)| (number, block.location(), block.blob.id)).collect();
    if wanted.is_empty() {
        return;
    }
    place.begin(release);
    let (mut count, mut problems) = (0, 0u64);
    let mut batches = std::pin::pin!(place.origin.blocks(wanted).ready_chunks(BATCH_BLOCKS));
    'reading: while let Some(batch) = batches.next().await {
        let (mut good, mut verdict) = (Vec::with_capacity(batch.len()), Verdict::GoOn);
        for block in batch {
            match block {
                Ok(block) => good.push(block),
                Err(error) => {
                    problems += u64::from(place.note(release, &error));
                    if is_gone(&error) {
                        verdict = Verdict::GiveUp;
                    }
                }
            }
        }
        let came = good.len();
        let bytes: u64 = good.iter().map(|(_, block)| block.bytes().len() as u64).sum();
        let written = write_batch(shared, held, good).await;
        let is_stuck = written.len() < came;
        if !is_stuck {
            place.gave(release, came as u64, bytes);
        }
        count += written.len();
        written.iter().for_each(|block| {
            have.insert(*block);
        });
        if is_exchanged && !written.is_empty() {
            shared.tell(Happening::Found(release, written)).await;
        }
        if is_stuck || verdict == Verdict::GiveUp {
            break 'reading;
        }
    }
    if count > 0 {
        info!(origin = place.origin.url(), %release, blocks = count, "blocks came from near by");
    }
    if problems > 0 {
        let files = place.given(&release).damaged.len();
        let words = format!(
            "{}: {files} files are damaged (see the log); what they lack comes from elsewhere",
            place.origin.url()
        );
        shared.tell(Happening::OriginFailed(words)).await;
    }
}

/// Whether the whole origin is gone, or so slow that everything else is nearer.
fn is_gone(error: &OriginError) -> bool {
    matches!(error, OriginError::Unreachable { .. } | OriginError::Stalled { .. })
}

async fn write_batch(shared: &Arc<Shared>, held: &Arc<Held>, blocks: Vec<(u32, VerifiedBlock)>) -> Vec<u32> {
    let (writer, release) = (Arc::clone(shared), Arc::clone(held));
    let written = tokio::task::spawn_blocking(move || {
        let mut written = Vec::with_capacity(blocks.len());
        for (number, data) in blocks {
            let Some(entry) = release.block(number) else { continue };
            match writer.store.write(&entry.location(), &data) {
                Ok(()) => written.push(number),
                Err(error) => return (written, Some(crate::in_words(&error))),
            }
        }
        (written, None)
    });
    let (written, failed) = written.await.unwrap_or_default();
    if let Some(error) = failed {
        shared.tell(Happening::DiskFailed(error)).await;
    }
    written
}
