//! One release: its block states, what the neighbours hold of it, and what they are told.
//!
//! `Blocks` owns the states; every transition passes through here, so that the counters of `Availability` follow.

use crate::{
    action::TransferId,
    announcer::Announcer,
    availability::Availability,
    backoff::doubled,
    blocks::{Blocks, Flight},
    config::Timing,
    time::Time,
};
use branchmesh_wire::{BlockSet, IndexId, NodeId, ReleaseStatus, Segments, Source};
use std::{collections::BTreeMap, time::Duration};

/// Releases in exchange at the same time; protects memory (a release of 60 GB takes about 4 MiB, and 150 KiB more per
/// neighbour).
pub const RELEASES_MAX: usize = 64;
/// Blocks of a release that the origin may fail to give before it counts as failing altogether; protects memory.
const DEFERRED_MAX: usize = 4096;

/// A release that the agent has the index of.
#[derive(Clone, Debug)]
pub struct NewRelease {
    /// Its name on the wire.
    pub release: IndexId,
    /// Its blocks.
    pub segments: Segments,
    /// The blocks that are here.
    pub have: BlockSet,
    /// Where each of these came from, as far as it is known; may be empty. What is not known counts as trimmed.
    pub sources: Vec<Option<Source>>,
    /// Whether the rest should be fetched.
    pub wanted: bool,
}

/// A block that the origin did not give, or gave badly.
struct Deferred {
    until: Time,
    times: u32,
}

pub(crate) struct Release {
    pub(crate) id: IndexId,
    /// Counts releases in the order in which they were added.
    pub(crate) serial: u64,
    pub(crate) added: Time,
    pub(crate) wanted: bool,
    /// Whether its files are in place.
    pub(crate) in_place: bool,
    /// Whether the site's have-maps were waited for.
    pub(crate) settled: bool,
    /// This node could not store blocks of it.
    pub(crate) paused_until: Time,
    pub(crate) completion_told: bool,
    pub(crate) blocks: Blocks,
    pub(crate) availability: Availability,
    pub(crate) announcer: Announcer,
    deferred: BTreeMap<u32, Deferred>,
}

impl Release {
    pub(crate) fn new(now: Time, serial: u64, me: NodeId, new: NewRelease) -> Self {
        let mut availability = Availability::new(me, &new.segments);
        new.have.iter().for_each(|block| availability.misses_no_more(block));
        Self {
            id: new.release,
            serial,
            added: now,
            wanted: new.wanted,
            in_place: false,
            settled: false,
            paused_until: Time::ZERO,
            completion_told: false,
            blocks: Blocks::new(new.segments, &new.have, &new.sources),
            availability,
            announcer: Announcer::default(),
            deferred: BTreeMap::new(),
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.blocks.held().is_full()
    }

    /// Whether blocks of it are to be asked for now.
    pub(crate) fn is_hungry(&self, now: Time) -> bool {
        self.wanted && now >= self.paused_until && self.blocks.missing_count() > 0
    }

    /// Whether blocks are missing that only an origin can give.
    pub(crate) fn needs_wan(&self, now: Time) -> bool {
        self.wanted && now >= self.paused_until && self.availability.rarity().unheld_total() > 0
    }

    pub(crate) fn request(&mut self, block: u32, transfer: TransferId) {
        self.blocks.request(block, transfer);
        self.availability.misses_no_more(block);
    }

    /// The block is here. Returns the flight it was in, and whether it is new.
    pub(crate) fn hold(
        &mut self,
        now: Time,
        block: u32,
        source: Source,
        timing: &Timing,
    ) -> (Option<Flight>, bool) {
        let (flight, new) = self.blocks.hold(block, source);
        self.availability.misses_no_more(block);
        self.deferred.remove(&block);
        if new {
            let holders = self.availability.rarity().holders(block);
            self.announcer.gained(now, block, holders, self.availability.neighbour_count(), timing);
        }
        (flight, new)
    }

    pub(crate) fn give_back(&mut self, block: u32, transfer: TransferId) {
        if self.blocks.give_back(block, transfer) {
            self.availability.misses(block);
        }
    }

    pub(crate) fn lose(&mut self, block: u32) -> bool {
        let lost = self.blocks.lose(block);
        if lost {
            self.availability.misses(block);
            (self.in_place, self.completion_told) = (false, false);
        }
        lost
    }

    /// The origin did not give `block`, or gave it badly: it is asked for it again only after a while, which begins
    /// with `pause` and doubles. Returns false if there are too many such blocks.
    pub(crate) fn defer(&mut self, now: Time, block: u32, pause: Duration, timing: &Timing) -> bool {
        if self.deferred.len() >= DEFERRED_MAX && !self.deferred.contains_key(&block) {
            return false;
        }
        let deferred = self.deferred.entry(block).or_insert(Deferred { until: now, times: 0 });
        deferred.until = now + doubled(pause, deferred.times, timing.origin_backoff_max);
        deferred.times = deferred.times.saturating_add(1);
        true
    }

    /// Blocks that the origin did not give, and when the first of them is asked for again.
    pub(crate) fn deferred(&self) -> (usize, Option<Time>) {
        (self.deferred.len(), self.deferred.values().map(|deferred| deferred.until).min())
    }

    pub(crate) fn next_deferred(&self, now: Time) -> Option<Time> {
        self.deferred.values().map(|deferred| deferred.until).filter(|until| *until > now).min()
    }

    /// The next blocks to fetch over the WAN, in index order, from the segments that are this node's share: about
    /// `bytes`, at least one, at most `count`.
    pub(crate) fn next_for_wan(
        &self,
        now: Time,
        bytes: u64,
        count: usize,
        is_mine: impl Fn(u32) -> bool,
    ) -> Vec<u32> {
        let mut picked = Vec::new();
        let mut picked_bytes = 0;
        for segment in self.availability.rarity().unheld_segments().filter(|segment| is_mine(*segment)) {
            for block in
                self.availability.rarity().unheld_blocks(segment).filter(|block| self.is_due(now, *block))
            {
                let length = self.blocks.length(block);
                if !picked.is_empty() && (picked_bytes + length > bytes || picked.len() >= count) {
                    return picked;
                }
                picked.push(block);
                picked_bytes += length;
            }
        }
        picked
    }

    /// How the gossip tells of it; nothing while it is neither wanted nor whole, so that a node that lists a release
    /// without holding all of it is known to want it.
    pub(crate) fn status(&self) -> Option<ReleaseStatus> {
        let bytes = self.blocks.bytes();
        (self.wanted || self.is_full()).then(|| ReleaseStatus {
            release: self.id,
            bytes_total: self.blocks.segments().bytes(),
            bytes_have: bytes.total(),
            bytes_wan: bytes.wan,
            bytes_lan: bytes.lan,
            bytes_crossed: bytes.wan,
            complete: self.in_place,
            strip: self.blocks.strip(),
        })
    }

    fn is_due(&self, now: Time, block: u32) -> bool {
        self.deferred.get(&block).is_none_or(|deferred| deferred.until <= now)
    }
}
