//! Harvesting: a thread that looks through the files of the setting `harvest` when nobody else wants the machine, and
//! takes from them what releases need.
//!
//! A release waits for it before anything is fetched, because what lies here need not cross the WAN; but not for ever,
//! because a busy machine may give the thread no time. What it finds later counts as well.

use crate::{
    happening::Happening,
    idle,
    shared::{Held, Shared},
    status::HarvestView,
};
use branchmesh_image::BlockSize;
use branchmesh_store::{Harvest, HarvestError, Scan};
use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// How long a release waits for its blocks to be looked for.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);
/// Files are looked at again for a release if the last look is older.
const SCAN_AGE_MAX: Duration = Duration::from_secs(60 * 60);
/// Files are looked at again so often without a release, so that a release finds most of the work done.
const SCAN_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// Between two looks whether the agent stops.
const STOP_LOOK: Duration = Duration::from_secs(1);

/// The way to the thread.
pub(crate) struct Harvesting {
    places: Vec<PathBuf>,
    jobs: mpsc::Sender<Job>,
    view: Arc<Mutex<HarvestView>>,
}

/// A release whose blocks are to be looked for.
struct Job {
    held: Arc<Held>,
    done: oneshot::Sender<()>,
}

/// The thread's end of the way, until it starts.
pub(crate) struct Harvester {
    places: Vec<PathBuf>,
    jobs: mpsc::Receiver<Job>,
    stop: Arc<AtomicBool>,
    view: Arc<Mutex<HarvestView>>,
    scans: BTreeMap<BlockSize, Instant>,
}

/// Both ends. The thread ends soon after `stop` is set.
pub(crate) fn prepare(places: Vec<PathBuf>, stop: Arc<AtomicBool>) -> (Harvesting, Harvester) {
    let (sender, jobs) = mpsc::channel();
    let view = Arc::<Mutex<HarvestView>>::default();
    let harvesting = Harvesting { places: places.clone(), jobs: sender, view: Arc::clone(&view) };
    (harvesting, Harvester { places, jobs, stop, view, scans: BTreeMap::new() })
}

impl Harvesting {
    /// Looks for the blocks of a release and puts those that are found into the store. Waits for that, within limits.
    /// Says whether there was anything to look through.
    pub async fn look_for(&self, held: &Arc<Held>) -> bool {
        if self.places.is_empty() {
            return false;
        }
        let (done, looked) = oneshot::channel();
        if self.jobs.send(Job { held: Arc::clone(held), done }).is_ok()
            && tokio::time::timeout(WAIT_MAX, looked).await.is_err()
        {
            info!(release = held.entry.name(), "harvesting takes long; the exchange begins meanwhile");
        }
        true
    }

    /// What was found so far, and what that cost; `None` if nothing is to be harvested.
    pub fn view(&self) -> Option<HarvestView> {
        (!self.places.is_empty()).then(|| lock(&self.view).clone())
    }
}

impl Harvester {
    /// Starts the thread, if there is anything to look through.
    pub fn start(mut self, shared: &Arc<Shared>) -> io::Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        // The thread must not keep the store open that it works for.
        let shared = Arc::downgrade(shared);
        idle::spawn("harvest", move || {
            if let Some(harvest) = shared.upgrade().map(|shared| Harvest::new(&shared.store)) {
                self.work(&harvest, &shared);
            }
        })
        .map(drop)
    }

    fn work(&mut self, harvest: &Harvest, shared: &Weak<Shared>) {
        let scanned = self.scan(harvest, BlockSize::default());
        self.tell(scanned);
        while !self.stop.load(Ordering::Relaxed) {
            match self.jobs.recv_timeout(STOP_LOOK) {
                Ok(job) => {
                    let Some(shared) = shared.upgrade() else { break };
                    let looked = self.look_for(harvest, &shared, &job.held);
                    self.tell(looked);
                    // Whoever waited may have given up.
                    let _ = job.done.send(());
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    for size in BlockSize::ALL {
                        if self.scans.get(&size).is_some_and(|last| last.elapsed() >= SCAN_EVERY) {
                            let scanned = self.scan(harvest, size);
                            self.tell(scanned);
                        }
                    }
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    }

    /// Looks for a release's blocks, in the files as they are now.
    fn look_for(&mut self, harvest: &Harvest, shared: &Shared, held: &Held) -> Result<(), HarvestError> {
        // Sizes that came up later than this program are none of ours.
        let Some(size) = BlockSize::of_average(held.entry.block_size) else { return Ok(()) };
        if self.scans.get(&size).is_none_or(|last| last.elapsed() >= SCAN_AGE_MAX) {
            self.scan(harvest, size)?;
        }
        self.take(harvest, shared, held)
    }

    /// Shows what went wrong, until something goes well: a disk that was full may have space again.
    fn tell(&self, outcome: Result<(), HarvestError>) {
        let problem = outcome.err().map(|error| crate::in_words(&error));
        if let Some(error) = &problem {
            error!(error, "nothing is harvested now; everything is fetched");
        }
        lock(&self.view).problem = problem;
    }

    fn scan(&mut self, harvest: &Harvest, size: BlockSize) -> Result<(), HarvestError> {
        // One that fails is tried again with the next release that needs it, and not before.
        self.scans.remove(&size);
        lock(&self.view).scanning = true;
        let scanned = harvest.scan(&self.places, size, &self.stop);
        lock(&self.view).scanning = false;
        let scan = scanned?;
        info!(
            files = scan.files,
            bytes = scan.bytes,
            unchanged = scan.unchanged,
            "looked through files to harvest"
        );
        for (path, reason) in &scan.unreadable {
            warn!(path = %path.display(), reason, "a file to harvest cannot be read");
        }
        lock(&self.view).add_scan(&scan);
        self.scans.insert(size, Instant::now());
        Ok(())
    }

    fn take(&self, harvest: &Harvest, shared: &Shared, held: &Held) -> Result<(), HarvestError> {
        let release = held.entry.id();
        let mut tell = |found: &[u32]| {
            if !found.is_empty() {
                shared.tell_blocking(Happening::Found(release, found.to_vec()));
            }
        };
        let harvested = match harvest.take(&shared.store, (&held.index, &held.cipher), &self.stop, &mut tell)
        {
            Err(HarvestError::Store(error)) => {
                // A full disk gets space again; the exchange fetches what is lacking then.
                shared.tell_blocking(Happening::DiskFailed(crate::in_words(&error)));
                return Ok(());
            }
            other => other?,
        };
        info!(
            release = held.entry.name(),
            blocks = harvested.blocks,
            bytes = harvested.bytes,
            changed = harvested.changed,
            foreign = harvested.foreign,
            "harvested"
        );
        let mut view = lock(&self.view);
        view.blocks += harvested.blocks;
        view.bytes_saved += harvested.bytes;
        view.foreign_blocks += harvested.foreign;
        view.bytes_read += harvested.read_bytes;
        view.seconds += harvested.took.as_secs_f64();
        Ok(())
    }
}

impl HarvestView {
    fn add_scan(&mut self, scan: &Scan) {
        self.files += scan.files;
        self.bytes_read += scan.bytes;
        self.seconds += scan.took.as_secs_f64();
        let shown = |(path, reason): &(PathBuf, String)| format!("{}: {reason}", path.display());
        self.unreadable = scan.unreadable.iter().map(shown).collect();
    }
}

fn lock(view: &Mutex<HarvestView>) -> MutexGuard<'_, HarvestView> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}
