//! The loop: one event at a time, then every action that the exchange wants.

use crate::{
    assembly::Assembling,
    happening::{Arrived, Happening},
    holdings,
    hooks::Hooks,
    hours::Allowed,
    nearby,
    news::News,
    problems::{Problem, Problems},
    releases::Releases,
    rollout, scrub, serve,
    shared::Shared,
    transfer::{self, Writer},
    versions::Versions,
    view,
};
use branchmesh_exchange::{Action, Config, Exchange, Time, TransferId};
use branchmesh_mesh::Event;
use branchmesh_wire::{IndexId, Status, WanPolicy};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

/// How often the loop looks after what no event reminds it of: commits, rates, records.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Bytes after which blocks are committed without waiting for the next housekeeping (DESIGN section 4).
const COMMIT_BYTES: u64 = 64 << 20;
/// Longest wait for the last commit when the agent stops.
const LAST_COMMIT: Duration = Duration::from_secs(30);
/// How long a failure of an origin is shown. The exchange tries again sooner, and it is said again.
const ORIGIN_NEWS: Duration = Duration::from_secs(60);
/// How long a refused device is shown: long enough that somebody sees it, who looks after a complaint.
const REFUSAL_NEWS: Duration = Duration::from_secs(600);
/// How long a refusal of the disk is shown. The exchange tries again every ten seconds, and it is said again.
const DISK_NEWS: Duration = Duration::from_secs(20);

/// How often the record of rotten blocks is looked at, beside each time that one is found.
const LOOK_AT_DISK: Duration = Duration::from_secs(60);

/// The agent's state.
pub(crate) struct Loop {
    pub shared: Arc<Shared>,
    pub exchange: Exchange,
    pub releases: Releases,
    pub versions: Versions,
    pub hooks: Hooks,
    /// What other members fetch and a seed therefore fetches too, whatever its setting `update`.
    pub site_wants: BTreeSet<IndexId>,
    pub rates: view::Rates,
    pub problems: Problems,
    pub news: News,
    /// What `wan_limit` lets pass; `None` before the clock was looked at.
    pub allowed: Option<Allowed>,
    writer: Writer,
    started: Instant,
    transfers: BTreeMap<TransferId, AbortHandle>,
    committing: Option<JoinHandle<()>>,
    assembling_ahead: Option<JoinHandle<()>>,
    pub next_look_at_disk: Time,
}

impl Loop {
    pub fn new(shared: Arc<Shared>, versions: Versions, writer: Writer) -> Self {
        let settings = &shared.settings;
        let identity = shared.mesh.identity();
        let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let config = Config {
            node: identity.node,
            name: identity.name.clone(),
            peer_id: identity.peer_id.clone(),
            role: settings.role,
            wan: if shared.origins.is_empty() { WanPolicy::Never } else { settings.wan },
            addresses: shared.mesh.listen_addresses(),
            incarnation: now_unix.as_secs(),
            fetchers: settings.fetchers as usize,
            timing: branchmesh_exchange::Timing { poll: settings.poll, ..Default::default() },
        };
        let exchange = Exchange::new(config, rand::random(), Time::ZERO);
        Self {
            exchange,
            releases: Releases::default(),
            versions,
            hooks: Hooks::default(),
            site_wants: BTreeSet::new(),
            rates: view::Rates::default(),
            problems: Problems::default(),
            allowed: None,
            writer,
            started: Instant::now(),
            transfers: BTreeMap::new(),
            committing: None,
            assembling_ahead: None,
            next_look_at_disk: Time::ZERO,
            news: News::default(),
            shared,
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Time {
        Time::ZERO + self.started.elapsed()
    }

    pub async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut happenings: mpsc::Receiver<Happening>,
        stop: CancellationToken,
    ) {
        self.follow_hours();
        self.remember().await;
        // They end with the set.
        let mut watchers = JoinSet::new();
        for place in self.shared.nearby.places() {
            watchers.spawn(nearby::watch(Arc::clone(&self.shared), place));
        }
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.drain();
            let due = self.exchange.poll_timeout().map(|(due, _reason)| due);
            let timer = tokio::time::sleep(due.map_or(HOUSEKEEPING, |due| due.since(self.now())));
            let hours = tokio::time::sleep(self.hours_left().unwrap_or(HOUSEKEEPING));
            tokio::select! {
                () = stop.cancelled() => break,
                event = events.recv() => match event {
                    Some(event) => self.on_event(event),
                    None => break,
                },
                Some(happening) = happenings.recv() => self.on_happening(happening),
                () = timer => self.exchange.handle_timeout(self.now()),
                () = hours => self.follow_hours(),
                _ = housekeeping.tick() => self.keep_house(),
            }
        }
        self.goodbye().await;
    }

    /// Takes up what an earlier run left: verified metadata, and the releases that it names.
    async fn remember(&mut self) {
        let mut trust = self.shared.trust.lock().await;
        let kept = trust.load_local().await;
        self.shared.set_metadata(trust.files().clone());
        drop(trust);
        match kept {
            Ok(Some(catalog)) => self.on_catalog(&catalog),
            Ok(None) => {}
            Err(error) => {
                warn!(error = crate::in_words(&error), "the metadata of an earlier run cannot be used");
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Connected { identity, address } => {
                info!(peer = %identity.node, "connected");
                debug!(name = identity.name, %address, "connected to");
                self.exchange.handle_connected(now, identity.node, &identity.name);
            }
            Event::Disconnected { node, reason } => {
                info!(peer = %node, reason, "disconnected");
                self.exchange.handle_disconnected(now, node);
            }
            Event::Status { status } => {
                let is_awaited = self.releases.is_awaited(&status);
                self.exchange.handle_status(now, status);
                if is_awaited {
                    self.shared.set_holders(view::holders(&self.exchange, now));
                }
            }
            Event::Note { from, note } => {
                if let Err(misbehaviour) = self.exchange.handle_note(now, from, note) {
                    warn!(peer = %from, error = crate::in_words(&misbehaviour), "a neighbour misbehaves");
                    self.shared.mesh.disconnect(from);
                }
            }
            Event::Request { from, request, reply } => {
                tokio::spawn(serve::answer(Arc::clone(&self.shared), from, request, reply));
            }
            Event::Refused { address, reason } => {
                let until = now + REFUSAL_NEWS;
                self.problems.set(Problem::Refused, format!("refused {address}: {reason}"), until);
            }
        }
    }

    fn on_happening(&mut self, happening: Happening) {
        let now = self.now();
        match happening {
            Happening::Blocks(arrivals) => {
                for arrival in arrivals {
                    let (transfer, block) = (arrival.transfer, arrival.block);
                    match arrival.result {
                        Arrived::Stored => self.exchange.handle_block_stored(now, transfer, block),
                        Arrived::NotThere => self.exchange.handle_block_missing(now, transfer, block),
                        Arrived::Bad => self.exchange.handle_block_bad(now, transfer, block),
                    }
                }
                if self.shared.store.uncommitted_bytes() >= COMMIT_BYTES {
                    self.commit();
                }
            }
            Happening::TransferEnded(transfer, outcome) => {
                self.transfers.remove(&transfer);
                self.exchange.handle_transfer_ended(now, transfer, outcome);
            }
            Happening::OriginFailed(words) => {
                let until = now + ORIGIN_NEWS;
                self.problems.set(Problem::Origin, words, until);
            }
            Happening::Lost(release, blocks) => {
                self.exchange.handle_blocks_lost(now, release, &blocks);
                self.next_look_at_disk = now;
            }
            Happening::Found(release, blocks) => {
                self.exchange.handle_blocks_found(now, release, &blocks);
                if self.shared.store.uncommitted_bytes() >= COMMIT_BYTES {
                    self.commit();
                }
            }
            Happening::DiskFailed(words) => self.on_disk_failed(words),
            Happening::Metadata(from, result) => self.on_metadata(from, result),
            Happening::Indexed(entry, indexed) => self.on_indexed(&entry, indexed),
            Happening::Assembled(release, assembled) => self.on_assembled(release, assembled),
            Happening::Status(answer) => {
                // The asker may have gone away.
                let _ = answer.send(view::status(self));
            }
            Happening::Wanted(answer) => {
                let _ = answer.send(nearby::wanted_by(self));
            }
            Happening::SiteMaps(answer) => {
                let _ = answer.send(holdings::site_maps(self));
            }
            Happening::Asked(verb, about, answer) => {
                let _ = answer.send(self.comply(verb, &about));
            }
            Happening::Told(notice, result) => {
                self.on_told(&notice, &result);
                self.tell_hooks();
            }
        }
    }

    /// Carries out everything that the exchange wants: one mutation, then drain.
    fn drain(&mut self) {
        while let Some(action) = self.exchange.poll_action() {
            self.act(action);
        }
        self.shared.set_fetcher(self.exchange.is_fetcher());
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Request { transfer, node, release, blocks } => {
                let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
                let task = transfer::from_neighbour(shared, writer, transfer, node, release, blocks);
                self.transfers.insert(transfer, tokio::spawn(task).abort_handle());
            }
            Action::Fetch { transfer, release, blocks } => {
                let (shared, writer) = (Arc::clone(&self.shared), self.writer.clone());
                let task = transfer::from_origins(shared, writer, transfer, release, blocks);
                self.transfers.insert(transfer, tokio::spawn(task).abort_handle());
            }
            Action::Cancel { transfer } => {
                if let Some(task) = self.transfers.remove(&transfer) {
                    task.abort();
                }
            }
            Action::Note { node, note } => {
                if let Err(error) = self.shared.mesh.note(node, note) {
                    debug!(peer = %node, error = crate::in_words(&error), "a note was not sent");
                }
            }
            Action::Gossip(status) => self.shared.mesh.gossip(self.with_wan_bytes(status)),
            Action::Dial { node, addresses } => self.shared.mesh.dial(addresses, node),
            Action::PollOrigin => drop(tokio::spawn(rollout::refresh_wan(Arc::clone(&self.shared)))),
            Action::FetchMetadata { node } => {
                tokio::spawn(rollout::refresh_member(Arc::clone(&self.shared), node));
            }
            Action::Completed { release } => self.on_all_blocks_here(release),
        }
    }

    /// Completes a status with what only the origins know: the bytes that they sent.
    pub fn with_wan_bytes(&self, mut status: Status) -> Status {
        status.wan_bytes = self.shared.origins.iter().map(branchmesh_repo::Origin::wan_bytes).sum();
        for release in &mut status.releases {
            if let Some(held) = self.shared.held(&release.release) {
                // What an earlier run took is known from the blocks alone.
                release.bytes_crossed = release.bytes_crossed.max(held.crossed.load(Ordering::Relaxed));
            }
        }
        status
    }

    fn keep_house(&mut self) {
        self.follow_hours();
        let now = self.now();
        self.problems.forget_old(now);
        self.rates.sample(&self.exchange, now);
        self.shared.set_holders(view::holders(&self.exchange, now));
        self.exchange.set_addresses(now, self.shared.mesh.listen_addresses());
        self.tell_held_back();
        self.look_at_disk(now);
        if self.notice_site_wants() {
            self.reconsider();
        }
        self.commit();
        self.assemble_ahead();
    }

    /// Serves nobody from a disk that fails. What is said stands until it has kept its blocks for a day.
    fn look_at_disk(&mut self, now: Time) {
        if self.shared.disk_fails.load(Ordering::Relaxed) {
            let words = format!(
                "{} or more blocks rotted on this disk within a day: it serves no other node until a day has passed \
                 without; check the disk, and replace it",
                scrub::ROT_MAX
            );
            self.problems.set(Problem::Rot, words, now + DISK_NEWS);
        }
        if now < self.next_look_at_disk {
            return;
        }
        self.next_look_at_disk = now + LOOK_AT_DISK;
        // What stayed because others were fetching it may go now.
        self.retire_surplus();
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || match shared.store.rotten_within(scrub::ROT_SPAN) {
            Ok(rotten) => shared.disk_fails.store(rotten >= scrub::ROT_MAX, Ordering::Relaxed),
            Err(error) => {
                warn!(error = crate::in_words(&error), "the record of rotten blocks cannot be read");
            }
        });
    }

    /// Writes what has arrived into the files that it belongs to, so that little is left to do after the last block;
    /// one release at a time, on a thread of its own.
    fn assemble_ahead(&mut self) {
        if self.assembling_ahead.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let arriving: Vec<Assembling> = self.releases.arriving().collect();
        if !arriving.is_empty() {
            let shared = Arc::clone(&self.shared);
            self.assembling_ahead = Some(tokio::task::spawn_blocking(move || {
                arriving.iter().for_each(|assembling| assembling.advance(&shared));
            }));
        }
    }

    /// Makes what was received durable, on a thread of its own; one at a time.
    fn commit(&mut self) {
        let busy = self.committing.as_ref().is_some_and(|task| !task.is_finished());
        if busy || self.shared.store.uncommitted_bytes() == 0 {
            return;
        }
        let records = self.releases.records(&self.exchange);
        let shared = Arc::clone(&self.shared);
        self.committing = Some(tokio::task::spawn_blocking(move || {
            let mut committed = shared.store.commit();
            for record in &records {
                committed = committed.and_then(|()| shared.store.put_release(record));
            }
            let Err(error) = committed else { return };
            error!(error = crate::in_words(&error), "received blocks could not be made durable");
            shared.tell_blocking(Happening::DiskFailed(crate::in_words(&error)));
            // What was received since the last good commit is forgotten; the exchange must know.
            for held in shared.all_held() {
                let blocks = (0u32..).zip(held.index.blocks());
                let lost: Vec<u32> = blocks
                    .filter(|(_, block)| !shared.store.has(&block.location()))
                    .map(|(number, _)| number)
                    .collect();
                shared.tell_blocking(Happening::Lost(held.entry.id(), lost));
            }
        }));
    }

    fn on_disk_failed(&mut self, words: String) {
        if self.problems.get(Problem::Disk).is_none() {
            error!(error = words, "the disk does not take blocks");
        }
        let until = self.now() + DISK_NEWS;
        self.problems.set(Problem::Disk, words, until);
        if !self.shared.store.has_space_for(COMMIT_BYTES) {
            self.make_room();
        }
    }

    async fn goodbye(mut self) {
        info!("the agent stops");
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.exchange.leave(self.now());
        self.drain();
        for task in self.transfers.values() {
            task.abort();
        }
        if let Some(running) = self.committing.take() {
            let _ = tokio::time::timeout(LAST_COMMIT, running).await;
        }
        self.commit();
        if let Some(last) = self.committing.take()
            && tokio::time::timeout(LAST_COMMIT, last).await.is_err()
        {
            warn!("the disk is too slow for a last commit: some blocks will be fetched again");
        }
        self.shared.mesh.shutdown().await;
    }
}
