//! What the agents of the world do: carry out actions, answer requests, and report what came of it.

use super::*;

impl World {
    pub(super) fn serve(
        &mut self,
        asker: NodeId,
        server: NodeId,
        epoch: u32,
        transfer: TransferId,
        release: IndexId,
        blocks: &[u32],
    ) {
        let now = self.now;
        if !self.reaches(asker, server) || self.nodes[&server].nature == Nature::Liar {
            return;
        }
        let rate = self.lan_rate;
        let from = (server, self.nodes[&server].epoch);
        for block in blocks {
            let held = self.nodes[&server].disk.get(&release).is_some_and(|held| held.contains(*block));
            let kind = match (self.nodes[&server].nature, held) {
                (Nature::Poisoner, _) => Kind::Bad,
                (_, true) => Kind::Good,
                (_, false) => Kind::Missing,
            };
            let bytes = u64::from(self.published[&release].segments.block_len(*block).unwrap());
            let bytes = if kind == Kind::Missing { 4 } else { bytes };
            let sent = self.nodes.get_mut(&server).unwrap().up.pass(now, bytes, rate);
            let got = self.nodes.get_mut(&asker).unwrap().down.pass(sent + LAN_DELAY, bytes, rate);
            let event = Event::Block { to: asker, epoch, from, transfer, block: *block, kind };
            self.at(got.since(now), event);
        }
        let done = self.nodes[&asker].down;
        let end = { done }.pass(now, 0, rate).since(now);
        self.at(end, Event::Ended { to: asker, epoch, transfer, outcome: Outcome::Done });
    }

    pub(super) fn deliver(&mut self, node: NodeId, transfer: TransferId, block: u32, kind: Kind) {
        let now = self.now;
        if self.nodes[&node].cancelled.contains(&transfer) {
            return;
        }
        if self.nodes[&node].nature == Nature::DiskFull {
            let outcome = Outcome::Failed(Failure::Local);
            self.with(node, |exchange| exchange.handle_transfer_ended(now, transfer, outcome));
            return;
        }
        match kind {
            Kind::Bad => self.with(node, |exchange| exchange.handle_block_bad(now, transfer, block)),
            Kind::Missing => self.with(node, |exchange| exchange.handle_block_missing(now, transfer, block)),
            Kind::Good => self.with(node, |exchange| exchange.handle_block_stored(now, transfer, block)),
        }
    }

    pub(super) fn open_stream(&mut self, stream: Stream) {
        let now = self.now;
        let (node, transfer) = (stream.node, stream.transfer);
        if !self.is_alive(node, stream.epoch) || self.nodes[&node].cancelled.contains(&transfer) {
            return;
        }
        if !self.origin_up {
            let outcome = Outcome::Failed(Failure::Unreachable);
            self.with(node, |exchange| exchange.handle_transfer_ended(now, transfer, outcome));
            return;
        }
        self.wan.streams.push_back(stream);
        self.feed_wan();
    }

    pub(super) fn feed_wan(&mut self) {
        if self.wan.busy {
            return;
        }
        if let Some((node, epoch, transfer, release, block, last)) = self.wan.next() {
            self.wan.busy = true;
            let bytes = u64::from(self.published[&release].segments.block_len(block).unwrap());
            let event = Event::WanBlock { node, epoch, transfer, release, block, last };
            self.at(duration(bytes, self.wan_rate), event);
        }
    }

    pub(super) fn cross(
        &mut self,
        node: NodeId,
        epoch: u32,
        transfer: TransferId,
        release: IndexId,
        block: u32,
        last: bool,
    ) {
        *self.crossed.entry((release, block)).or_default() += 1;
        self.last_crossing = self.now;
        if !self.is_alive(node, epoch) || self.nodes[&node].cancelled.contains(&transfer) {
            return;
        }
        let bad = self.origin_bad.contains(&block);
        self.deliver(node, transfer, block, if bad { Kind::Bad } else { Kind::Good });
        if last {
            self.at(Duration::ZERO, Event::Ended { to: node, epoch, transfer, outcome: Outcome::Done });
        }
    }

    pub(super) fn answer_poll(&mut self, node: NodeId, epoch: u32) {
        if !self.is_alive(node, epoch) {
            return;
        }
        let (now, up) = (self.now, self.origin_up);
        if up {
            self.learn(node, self.order.len() as u64);
        }
        self.with(node, |exchange| exchange.handle_origin_poll(now, up));
    }

    pub(super) fn answer_metadata(&mut self, node: NodeId, epoch: u32, from: NodeId) {
        if !self.is_alive(node, epoch) {
            return;
        }
        let now = self.now;
        let ok = self.reaches(node, from) && self.nodes[&from].nature != Nature::Liar;
        if ok {
            self.learn(node, self.nodes[&from].version);
        }
        self.with(node, |exchange| exchange.handle_metadata(now, from, ok));
    }

    /// A node has verified metadata of this version.
    pub(super) fn learn(&mut self, node: NodeId, version: u64) {
        let now = self.now;
        let one = self.nodes.get_mut(&node).unwrap();
        let (before, epoch) = (one.version, one.epoch);
        if version <= before {
            return;
        }
        one.version = version;
        let news: Vec<IndexId> = self.order[before as usize..version as usize].into();
        for release in news {
            self.at(INDEX_DELAY, Event::Release { node, epoch, release });
        }
        self.with(node, |exchange| exchange.set_metadata_version(now, version));
    }

    pub(super) fn add_release(&mut self, node: NodeId, release: IndexId) {
        let now = self.now;
        let published = &self.published[&release];
        let segments = published.segments.clone();
        let one = self.nodes.get_mut(&node).unwrap();
        let mut have = one.disk.get(&release).cloned();
        if have.is_none() {
            let mut trimmed = BlockSet::empty(segments.block_count());
            if let Some((base, equal)) = &published.base
                && let Some(held) = one.disk.get(base)
            {
                let equal = (0u32..).zip(equal).filter_map(|(block, equal)| Some((block, (*equal)?)));
                equal.filter(|(_, equal)| held.contains(*equal)).for_each(|(block, _)| {
                    trimmed.insert(block);
                });
            }
            have = Some(trimmed);
        }
        let have = have.unwrap();
        one.disk.insert(release, have.clone());
        let wanted = one.wanted;
        let new = NewRelease { release, segments, have, sources: Vec::new(), wanted };
        self.with(node, |exchange| exchange.add_release(now, new).unwrap());
    }

    /// One mutation, then everything that it leads to.
    pub(super) fn with(&mut self, node: NodeId, mutate: impl FnOnce(&mut Exchange)) {
        mutate(&mut self.nodes.get_mut(&node).unwrap().exchange);
        self.drain(node);
    }

    pub(super) fn drain(&mut self, node: NodeId) {
        while let Some(action) = self.nodes.get_mut(&node).unwrap().exchange.poll_action() {
            self.trace(node, &action);
            self.act(node, action);
        }
        self.sync_disk(node);
        let one_epoch = self.nodes[&node].epoch;
        let timer = self.nodes[&node].exchange.poll_timeout().map(|(at, _)| at);
        let one_timer = self.nodes[&node].timer;
        if timer != one_timer {
            self.nodes.get_mut(&node).unwrap().timer = timer;
            if let Some(at) = timer {
                assert!(at > self.now, "a timer in the past\n{}", self.picture());
                self.at(at.since(self.now), Event::Timer(node, one_epoch));
            }
        }
    }

    /// What the exchange holds is on the disk: the world's agent writes before it reports.
    pub(super) fn sync_disk(&mut self, node: NodeId) {
        let one = self.nodes.get_mut(&node).unwrap();
        for (release, disk) in &mut one.disk {
            if let Some(held) = one.exchange.held(release)
                && held.len() != disk.len()
            {
                disk.clone_from(held);
            }
        }
    }

    pub(super) fn act(&mut self, node: NodeId, action: Action) {
        let epoch = self.nodes[&node].epoch;
        match action {
            Action::Request { transfer, node: to, release, blocks } => {
                self.check_blocks(node, release, &blocks);
                self.nodes.get_mut(&to).unwrap().requests_sent += 1;
                let event = Event::Request { from: node, to, epoch, transfer, release, blocks };
                self.at(LAN_DELAY, event);
            }
            Action::Fetch { transfer, release, blocks } => {
                self.check_blocks(node, release, &blocks);
                assert_ne!(self.nodes[&node].config.wan, WanPolicy::Never, "may not use the WAN");
                let blocks = blocks.into();
                self.at(2 * WAN_DELAY, Event::Fetch(Stream { node, epoch, transfer, release, blocks }));
            }
            Action::Cancel { transfer } => {
                self.wan.cancel(node, Some(transfer));
                self.nodes.get_mut(&node).unwrap().cancelled.insert(transfer);
            }
            Action::Note { node: to, note } => {
                let note = self.twist(node, note);
                self.at(LAN_DELAY, Event::Note { from: node, to, note });
            }
            Action::Gossip(status) => {
                let others = self.nodes.keys().copied().filter(|to| *to != node && self.reaches(node, *to));
                for to in others.collect::<Vec<_>>() {
                    self.at(GOSSIP_DELAY, Event::Status(to, Box::new(status.clone())));
                }
            }
            Action::Dial { node: to, .. } => self.at(50 * MS, Event::Connected(node, to)),
            Action::PollOrigin => self.at(4 * WAN_DELAY, Event::Polled(node, epoch)),
            Action::FetchMetadata { node: from } => {
                self.at(5 * MS, Event::Metadata { node, epoch, from });
            }
            Action::Completed { release } => {
                let now = self.now;
                let one = self.nodes.get_mut(&node).unwrap();
                assert!(one.exchange.held(&release).unwrap().is_full());
                one.completed.insert(release, now);
            }
        }
    }

    pub(super) fn check_blocks(&self, node: NodeId, release: IndexId, blocks: &[u32]) {
        let held = self.nodes[&node].exchange.held(&release).unwrap();
        assert!(!blocks.is_empty() && blocks.is_sorted());
        assert!(blocks.iter().all(|block| !held.contains(*block)), "asks for what it holds");
    }

    /// Those who lie claim everything.
    pub(super) fn twist(&self, node: NodeId, note: Note) -> Note {
        match (self.nodes[&node].nature, &note) {
            (Nature::Liar | Nature::Poisoner, Note::Have { release, blocks }) => {
                Note::Have { release: *release, blocks: BlockSet::full(blocks.capacity()) }
            }
            (Nature::Liar | Nature::Poisoner, Note::Gained { release, .. }) => {
                let one = Runs::pack(0..1).remove(0);
                Note::Gained { release: *release, blocks: one }
            }
            _ => note,
        }
    }

    pub(super) fn trace(&mut self, node: NodeId, action: &Action) {
        let text = format!("{} {:?} {node} {action:?}", self.trace, self.now);
        let hash = IndexId::of(text.as_bytes()).0;
        self.trace = u64::from_le_bytes(hash[..8].try_into().unwrap());
    }
}
