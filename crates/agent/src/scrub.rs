//! Scrubbing: all blocks on the disk are read and verified again every two weeks, when nobody else wants the machine.
//! One that has rotted is forgotten and fetched again; a disk that goes on rotting serves nobody.

use crate::{
    happening::Happening,
    idle,
    shared::{Held, Shared},
};
use branchmesh_image::{BlockId, IndexId, Location, PackId};
use branchmesh_store::{ReadError, ScrubState, StoreError};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tracing::{error, info, warn};

/// A scrub begins or goes on so long after the agent's start: until then the machine has other work, and not all
/// releases are known yet.
const START_AFTER: Duration = Duration::from_secs(10 * 60);
/// Between two looks whether it is time, or whether the agent stops.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Packs after which it is written down how far the scrub has come: half a gigabyte.
const PACKS_BETWEEN_MARKS: usize = 16;

/// So many rotten blocks within [`ROT_SPAN`] are no accident: the disk is failing.
pub(crate) const ROT_MAX: usize = 3;
/// See [`ROT_MAX`].
pub(crate) const ROT_SPAN: Duration = Duration::from_secs(24 * 60 * 60);

/// Starts the thread. It ends soon after the agent does.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let stop = Arc::clone(&shared.stopping);
    let (begun, start_after) = (Instant::now(), START_AFTER.min(shared.settings.scrub));
    // The thread must not keep the store open that it looks after.
    let shared = Arc::downgrade(shared);
    idle::spawn("scrub", move || {
        while begun.elapsed() < start_after && awake(&shared, &stop).is_some() {
            std::thread::sleep(LOOK_EVERY);
        }
        while let Some(working) = awake(&shared, &stop) {
            if let Err(error) = scrub_some(&working, &stop) {
                error!(error = crate::in_words(&error), "the disk is not looked through");
            }
            drop(working);
            std::thread::sleep(LOOK_EVERY);
        }
    })
    .map(drop)
}

fn awake(shared: &Weak<Shared>, stop: &AtomicBool) -> Option<Arc<Shared>> {
    shared.upgrade().filter(|_| !stop.load(Ordering::Relaxed))
}

/// Goes on with the scrub that is due, for some packs.
fn scrub_some(shared: &Shared, stop: &AtomicBool) -> Result<(), StoreError> {
    let mut state = shared.store.scrub_state()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // A clock that was in the future once must not put it off for years.
    let is_due = state.begun.saturating_add(shared.settings.scrub.as_secs()) <= now || state.begun > now;
    let held = shared.all_held();
    if held.is_empty() || (state.finished && !is_due) {
        return Ok(());
    }
    if state.finished || state.begun == 0 {
        state = ScrubState { begun: now, done_to: None, finished: false };
    }
    let packs: Vec<PackId> = shared
        .store
        .pack_ids()
        .into_iter()
        .filter(|pack| state.done_to.is_none_or(|done| pack.0 > done))
        .collect();
    let (some, rest) = packs.split_at(packs.len().min(PACKS_BETWEEN_MARKS));
    let blocks = blocks_of(&some.iter().copied().collect(), &held);
    for (pack, blocks) in &blocks {
        for (at, block) in blocks {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            match shared.store.read(at, &block.id) {
                Ok(_) | Err(ReadError::NotHere(_)) => {}
                Err(ReadError::Rotten { .. }) => {
                    for (release, number) in &block.uses {
                        shared.tell_blocking(Happening::Lost(*release, vec![*number]));
                    }
                }
                Err(ReadError::Io(error)) => {
                    warn!(%pack, error = crate::in_words(&error), "a block cannot be read");
                }
            }
        }
    }
    state.done_to = some.last().map(|pack| pack.0).or(state.done_to);
    state.finished = rest.is_empty();
    shared.store.set_scrub_state(&state)?;
    if state.finished {
        info!("everything on the disk was looked through");
    }
    Ok(())
}

/// A block, and the releases that it belongs to.
struct Used {
    id: BlockId,
    uses: Vec<(IndexId, u32)>,
}

/// The blocks of these packs, in the order in which they lie, as far as an index names them.
fn blocks_of(packs: &BTreeSet<PackId>, held: &[Arc<Held>]) -> BTreeMap<PackId, BTreeMap<Location, Used>> {
    let mut blocks: BTreeMap<PackId, BTreeMap<Location, Used>> = BTreeMap::new();
    for release in held {
        for (number, entry) in (0u32..).zip(release.index.blocks()) {
            if packs.contains(&entry.pack) {
                let of_pack = blocks.entry(entry.pack).or_default();
                let used = of_pack
                    .entry(entry.location())
                    .or_insert_with(|| Used { id: entry.blob.id, uses: Vec::new() });
                used.uses.push((release.entry.id(), number));
            }
        }
    }
    blocks
}
