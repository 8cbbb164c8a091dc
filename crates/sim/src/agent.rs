//! What the agents do: carry out the actions of their exchanges, verify and store what comes, and report it.

use crate::{
    event::{Event, Life, Link, Message},
    host::HostId,
    port::{Content, Parcel},
    wan::Stream,
    world::World,
};
use branchmesh_exchange::{Action, Exchange, Failure, NewRelease, Outcome, Time, TransferId};
use branchmesh_wire::{BlockSet, IndexId, Status};
use std::{sync::Arc, time::Duration};

/// How long an agent takes from metadata to the index.
const INDEX_DELAY: Duration = Duration::from_millis(100);
/// How long a member takes to give its metadata.
const METADATA_DELAY: Duration = Duration::from_millis(5);
/// How long it takes to connect to an address that is known.
const DIAL_DELAY: Duration = Duration::from_millis(50);

impl World {
    /// One change to an exchange, and everything that follows at once.
    pub(crate) fn with(&mut self, id: HostId, change: impl FnOnce(&mut Exchange)) {
        change(&mut self.host_mut(id).exchange);
        self.settle(id);
    }

    pub(crate) fn settle(&mut self, id: HostId) {
        while let Some(action) = self.host_mut(id).exchange.poll_action() {
            self.trace.action(self.now, id, &action);
            self.act(id, action);
        }
        let timer = self.host(id).exchange.poll_timeout().map(|(at, _)| at);
        let life = (id, self.host(id).life);
        if timer != self.host(id).timer {
            self.host_mut(id).timer = timer;
            if let Some(at) = timer {
                self.checks.timer(self.now, id, at);
                self.queue.plan(at, Event::Timer(life));
            }
        }
    }

    fn act(&mut self, id: HostId, action: Action) {
        let life = (id, self.host(id).life);
        match action {
            Action::Request { transfer, node, release, blocks } => {
                self.request(id, HostId::of(&node), transfer, release, blocks);
            }
            Action::Fetch { transfer, release, blocks } => self.fetch(life, transfer, release, blocks),
            Action::Cancel { transfer } => self.cancel(id, transfer),
            Action::Note { node, note } => {
                let to = HostId::of(&node);
                let host = self.host(id);
                let note = host.spec.nature.twist_note(note, &host.disk);
                if let Some(link) = self.link(id, to) {
                    self.send(link, Message::Note(note));
                }
            }
            Action::Gossip(status) => self.gossip(id, status),
            Action::Dial { node, .. } => self.after(DIAL_DELAY, Event::Meet(id, HostId::of(&node))),
            Action::PollOrigin => {
                self.check_line(id);
                self.after(self.spec.wan_delay * 4, Event::Polled(life));
            }
            Action::FetchMetadata { node } => {
                self.after(METADATA_DELAY, Event::Metadata { host: life, from: node });
            }
            Action::Completed { release } => {
                self.check_completed(id, &release);
                let now = self.now;
                let host = self.host_mut(id);
                host.completed.entry(release).or_insert(now);
            }
        }
    }

    /// The connection from one host to another, if it thinks that there is one.
    fn link(&self, from: HostId, to: HostId) -> Option<Link> {
        let number = *self.host(from).links.get(&to)?;
        Some(Link { from, to, number })
    }

    fn request(&mut self, id: HostId, to: HostId, transfer: TransferId, release: IndexId, blocks: Vec<u32>) {
        self.check_request(id, &release, &blocks);
        let Some(link) = self.link(id, to) else { return };
        self.host_mut(id).open.insert(transfer);
        self.checks.requested(self.now, id, to, transfer);
        self.send(link, Message::Request { transfer, release, blocks });
    }

    fn fetch(&mut self, host: Life, transfer: TransferId, release: IndexId, blocks: Vec<u32>) {
        self.check_request(host.0, &release, &blocks);
        self.check_fetch(host.0, transfer, &release, &blocks);
        self.host_mut(host.0).open.insert(transfer);
        if self.host(host.0).spec.nature.fetches() {
            let stream = Stream { host, transfer, release, blocks: blocks.into() };
            self.after(self.spec.wan_delay * 2, Event::Fetch(stream));
        }
    }

    fn cancel(&mut self, id: HostId, transfer: TransferId) {
        self.host_mut(id).open.remove(&transfer);
        self.line.cancel(id, Some(transfer));
        if let Some(to) = self.checks.ended(id, transfer)
            && let Some(link) = self.link(id, to)
        {
            self.send(link, Message::Cancel(transfer));
        }
    }

    fn gossip(&mut self, id: HostId, status: Status) {
        self.checks.gossiped(self.now, id);
        if status.fetching {
            self.check_line(id);
        }
        let status = Status { wan_bytes: self.wan_bytes(id), ..status };
        let status = Arc::new(self.host(id).spec.nature.twist_status(status));
        for to in self.ids().filter(|to| *to != id).collect::<Vec<_>>() {
            if self.reaches(id, to) {
                self.after(
                    self.spec.gossip_delay,
                    Event::Gossip { from: id, to, status: Arc::clone(&status) },
                );
            }
        }
    }

    /// A block of a member's answer has come.
    pub(crate) fn receive(&mut self, parcel: &Parcel) {
        let id = parcel.link.to;
        if !self.host(id).open.contains(&parcel.transfer) {
            return;
        }
        if parcel.is_last {
            // The exchange may ask for more at once.
            self.checks.ended(id, parcel.transfer);
        }
        self.take(id, parcel.transfer, parcel.release, parcel.block, parcel.content);
        if parcel.is_last {
            self.end_after_writes(id, parcel.transfer);
        }
    }

    /// All blocks of a transfer have come: it is over when they are written.
    pub(crate) fn end_after_writes(&mut self, id: HostId, transfer: TransferId) {
        let at = self.host(id).writes.free_at().max(self.now);
        let host = (id, self.host(id).life);
        self.queue.plan(at, Event::Ended { host, transfer, outcome: Outcome::Done });
    }

    /// The agent has all bytes of a block: it verifies them, and writes them if they are right.
    pub(crate) fn take(
        &mut self,
        id: HostId,
        transfer: TransferId,
        release: IndexId,
        block: u32,
        content: Content,
    ) {
        let now = self.now;
        match content {
            Content::Bad => self.with(id, |exchange| exchange.handle_block_bad(now, transfer, block)),
            Content::Missing => self.with(id, |exchange| exchange.handle_block_missing(now, transfer, block)),
            Content::Good if self.host(id).disk_full => {
                self.end_transfer((id, self.host(id).life), transfer, Outcome::Failed(Failure::Local));
            }
            Content::Good => match self.host(id).spec.disk {
                None => self.store(id, transfer, release, block),
                Some(rate) => {
                    let bytes = self.bytes_of(&release, block);
                    let at = self.host_mut(id).writes.pass(now, bytes, rate);
                    let host = (id, self.host(id).life);
                    self.queue.plan(at, Event::Written { host, transfer, release, block });
                }
            },
        }
    }

    pub(crate) fn store(&mut self, id: HostId, transfer: TransferId, release: IndexId, block: u32) {
        let now = self.now;
        let host = self.host_mut(id);
        if host.disk.get_mut(&release).is_some_and(|disk| disk.insert(block)) {
            host.progress_at = now;
        }
        self.with(id, |exchange| exchange.handle_block_stored(now, transfer, block));
    }

    pub(crate) fn end_transfer(&mut self, host: Life, transfer: TransferId, outcome: Outcome) {
        if !self.is_life(host) || !self.host_mut(host.0).open.remove(&transfer) {
            return;
        }
        self.checks.ended(host.0, transfer);
        // Whoever ended it: the agent reads no more of it.
        self.line.cancel(host.0, Some(transfer));
        let now = self.now;
        self.with(host.0, |exchange| exchange.handle_transfer_ended(now, transfer, outcome));
    }

    pub(crate) fn answer_metadata(&mut self, host: Life, from: HostId) {
        if !self.is_life(host) {
            return;
        }
        let now = self.now;
        let ok = self.reaches(host.0, from) && self.host(from).spec.nature.gives_metadata();
        if ok {
            self.learn(host.0, self.host(from).version);
        }
        self.with(host.0, |exchange| exchange.handle_metadata(now, from.node(), ok));
    }

    /// A host has verified metadata of this version: so many releases are in it.
    pub(crate) fn learn(&mut self, id: HostId, version: u64) {
        let now = self.now;
        let host = self.host_mut(id);
        let (before, life) = (host.version, (id, host.life));
        if version <= before {
            return;
        }
        (host.version, host.progress_at) = (version, now);
        for number in before..version {
            if let Some(release) = self.releases.get(usize::try_from(number).unwrap_or(usize::MAX)) {
                let event = Event::Index { host: life, release: release.id };
                self.queue.plan(now + INDEX_DELAY, event);
            }
        }
        self.with(id, |exchange| exchange.set_metadata_version(now, version));
    }

    /// A host has a release's index: it says what it holds of it, and fetches the rest.
    pub(crate) fn begin(&mut self, id: HostId, release: IndexId) {
        let now = self.now;
        let Some(published) = self.release(&release) else { return };
        let segments = published.segments.clone();
        let have = self.host(id).disk.get(&release).cloned().unwrap_or_else(|| self.trimmed(id, &release));
        if self.host(id).life == 0 && !self.host(id).known.contains_key(&release) {
            self.checks.holds_at_first(release, &have);
        }
        let host = self.host_mut(id);
        host.disk.insert(release, have.clone());
        host.known.entry(release).or_insert(now);
        host.progress_at = now;
        let wanted = host.spec.wanted;
        let new = NewRelease { release, segments, have, sources: Vec::new(), wanted };
        let mut added = Ok(());
        self.with(id, |exchange| added = exchange.add_release(now, new));
        self.checks.added(now, added);
    }

    /// What a host's older releases give of a new one.
    fn trimmed(&self, id: HostId, release: &IndexId) -> BlockSet {
        let Some(release) = self.release(release) else { return BlockSet::empty(0) };
        let base = release.base.as_ref().and_then(|(number, _)| self.releases.get(*number));
        match base.and_then(|base| self.host(id).disk.get(&base.id)) {
            Some(held) => release.trimmed_by(held),
            None => BlockSet::empty(release.segments.block_count()),
        }
    }

    /// It is the time that a host's exchange named.
    pub(crate) fn wake(&mut self, host: Life, at: Time) {
        if self.is_life(host) && self.host(host.0).timer == Some(at) {
            self.with(host.0, |exchange| exchange.handle_timeout(at));
        }
    }
}
