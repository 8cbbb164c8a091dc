//! Connected members as sources: how fast each delivers, how much is asked of it, whether it is paused.

use crate::{backoff::doubled, config::Timing, time::Time};
use branchmesh_wire::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// Neighbours that blocks are exchanged with; protects the memory for have-maps. Beyond, a connection only serves.
pub const NEIGHBOURS_MAX: usize = 512;
/// Requests in flight to one neighbour.
pub(crate) const REQUESTS_MAX: u32 = 4;
/// Bytes that may always be in flight to one neighbour: an average block.
const WINDOW_MIN: u64 = 64 << 10;
/// The most bytes in flight to one neighbour: bounds what a stalled one holds up.
const WINDOW_MAX: u64 = 4 << 20;
/// A window covers twice the delay of an idle neighbour, and so much more, for its disk and for bursts. Not more:
/// what waits in the queue of a busy neighbour could have been asked of another in the meantime, and thirty nodes
/// that each queue a quarter of a megabyte at the only holder all queue for the same blocks.
const QUEUE_TIME: Duration = Duration::from_millis(50);
/// Delay that is assumed before it was measured.
const DELAY_FIRST: Duration = Duration::from_millis(5);
/// Bytes a second that are assumed of a source before it was measured.
const RATE_FIRST: u64 = 10_000_000;
/// A rate is measured over at least so long: blocks come in bursts.
const MEASURE_MIN: Duration = Duration::from_millis(50);
/// Doublings of a pause before it becomes distrust.
const PAUSES_MAX: u32 = 6;

/// A measured rate in bytes a second: a moving average over stretches of work.
pub(crate) struct Meter {
    rate: u64,
    measured: bool,
    since: Time,
    bytes: u64,
}

impl Meter {
    pub(crate) fn new(first_guess: u64) -> Self {
        Self { rate: first_guess, measured: false, since: Time::ZERO, bytes: 0 }
    }

    /// Work begins after idling.
    pub(crate) fn start(&mut self, now: Time) {
        (self.since, self.bytes) = (now, 0);
    }

    /// Whether there was something, but too little to tell the rate.
    pub(crate) fn is_undecided(&self) -> bool {
        !self.measured && self.bytes > 0
    }

    pub(crate) fn add(&mut self, now: Time, bytes: u64) {
        self.bytes += bytes;
        let passed = now.since(self.since);
        if passed < MEASURE_MIN {
            return;
        }
        let sample = (self.bytes as f64 / passed.as_secs_f64()) as u64;
        self.rate = if self.measured { (self.rate * 7 + sample * 3) / 10 } else { sample };
        self.measured = true;
        (self.since, self.bytes) = (now, 0);
    }

    /// Bytes a second, at least one.
    pub(crate) fn rate(&self) -> u64 {
        self.rate.max(1)
    }

    /// The rate, once there has been something to measure.
    pub(crate) fn measured(&self) -> Option<u64> {
        self.measured.then(|| self.rate())
    }

    /// What so many bytes should take.
    pub(crate) fn time_for(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.rate() as f64)
    }
}

pub(crate) struct Neighbour {
    meter: Meter,
    /// The shortest time from a request to its first block while nothing else was asked.
    delay: Duration,
    pub(crate) requests: u32,
    pub(crate) bytes_in_flight: u64,
    paused_until: Time,
    /// Failures since it last delivered.
    failures: u32,
}

impl Neighbour {
    fn new() -> Self {
        Self {
            meter: Meter::new(RATE_FIRST),
            delay: DELAY_FIRST,
            requests: 0,
            bytes_in_flight: 0,
            paused_until: Time::ZERO,
            failures: 0,
        }
    }

    /// Bytes that may be asked of it now; none while it is paused or busy enough.
    pub(crate) fn room(&self, now: Time) -> u64 {
        if now < self.paused_until || self.requests >= REQUESTS_MAX {
            return 0;
        }
        let room = self.window().saturating_sub(self.bytes_in_flight);
        // A request for every block that arrives would cost more than it brings.
        if self.bytes_in_flight > 0 && room < self.window() / 4 { 0 } else { room }
    }

    /// When it would have delivered what is asked of it, and `more`.
    pub(crate) fn time_for(&self, more: u64) -> Duration {
        self.meter.time_for(self.bytes_in_flight + more)
    }

    /// Bytes a second that it delivers; `None` before it delivered anything.
    pub(crate) fn rate(&self) -> Option<u64> {
        self.meter.measured()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.requests == 0
    }

    pub(crate) fn requested(&mut self, now: Time, bytes: u64) {
        if self.requests == 0 {
            self.meter.start(now);
        }
        self.requests += 1;
        self.bytes_in_flight += bytes;
    }

    pub(crate) fn delivered(&mut self, now: Time, issued: Time, first: bool, bytes: u64) {
        if first && self.requests == 1 {
            // Forgets slowly that it was once faster.
            self.delay = (self.delay + self.delay / 16).min(now.since(issued));
        }
        self.relieve(bytes);
        self.meter.add(now, bytes);
        self.failures = 0;
    }

    pub(crate) fn request_ended(&mut self, bytes_left: u64) {
        self.requests = self.requests.saturating_sub(1);
        self.relieve(bytes_left);
    }

    /// So many bytes are not expected of it any more. More than were under way would be a fault in these books; all that follows
    /// is a window that is too large for a while.
    pub(crate) fn relieve(&mut self, bytes: u64) {
        self.bytes_in_flight = self.bytes_in_flight.checked_sub(bytes).unwrap_or_else(|| {
            tracing::error!(bytes, under_way = self.bytes_in_flight, "more bytes ended than were under way");
            0
        });
    }

    fn failed(&mut self, now: Time, timing: &Timing) -> u32 {
        self.paused_until = now + doubled(timing.pause, self.failures.min(PAUSES_MAX), timing.stall_max);
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn window(&self) -> u64 {
        let bytes = self.meter.rate() as f64 * (self.delay * 2 + QUEUE_TIME).as_secs_f64();
        (bytes as u64).clamp(WINDOW_MIN, WINDOW_MAX)
    }
}

#[derive(Default)]
pub(crate) struct Neighbours {
    entries: BTreeMap<NodeId, Neighbour>,
    /// The end of the first pause.
    pause_end: Option<Time>,
}

impl Neighbours {
    /// Returns false if there are too many already.
    pub(crate) fn connect(&mut self, node: NodeId) -> bool {
        let room = self.entries.len() < NEIGHBOURS_MAX;
        if room {
            self.entries.entry(node).or_insert_with(Neighbour::new);
        }
        room || self.entries.contains_key(&node)
    }

    pub(crate) fn disconnect(&mut self, node: &NodeId) {
        self.entries.remove(node);
    }

    pub(crate) fn contains(&self, node: &NodeId) -> bool {
        self.entries.contains_key(node)
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Neighbour> {
        self.entries.get(node)
    }

    pub(crate) fn get_mut(&mut self, node: &NodeId) -> Option<&mut Neighbour> {
        self.entries.get_mut(node)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.entries.keys().copied()
    }

    /// Those with room for a request, the one that would deliver first at the front.
    pub(crate) fn with_room(&self, now: Time) -> Vec<NodeId> {
        ranked(now, self.entries.iter().map(|(node, neighbour)| (*node, neighbour)))
    }

    /// The same, of some.
    pub(crate) fn with_room_among(&self, now: Time, some: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        ranked(now, some.into_iter().filter_map(|node| Some((node, self.entries.get(&node)?))))
    }

    /// `node` failed: it is left alone for a while. Returns how often it failed in a row; requests that fail together
    /// are one failure, and count once.
    pub(crate) fn failed(&mut self, now: Time, node: &NodeId, timing: &Timing) -> Option<u32> {
        let neighbour = self.entries.get_mut(node)?;
        if now < neighbour.paused_until {
            return Some(0);
        }
        let failures = neighbour.failed(now, timing);
        let until = neighbour.paused_until;
        self.pause_end = Some(self.pause_end.map_or(until, |at| at.min(until)));
        Some(failures)
    }

    /// Whether a pause is over that was not when this was asked last.
    pub(crate) fn end_pauses(&mut self, now: Time) -> bool {
        let is_over = self.pause_end.is_some_and(|at| at <= now);
        if is_over {
            let paused = self.entries.values().map(|neighbour| neighbour.paused_until);
            self.pause_end = paused.filter(|until| *until > now).min();
        }
        is_over
    }

    /// When the next pause ends.
    pub(crate) fn next_pause_end(&self) -> Option<Time> {
        self.pause_end
    }
}

/// Those with room for a request, in the order in which they would deliver.
fn ranked<'a>(now: Time, neighbours: impl Iterator<Item = (NodeId, &'a Neighbour)>) -> Vec<NodeId> {
    let ready = neighbours.filter(|(_, neighbour)| neighbour.room(now) > 0);
    let mut ready: Vec<_> = ready.map(|(node, neighbour)| (neighbour.time_for(0), node)).collect();
    ready.sort_unstable();
    ready.into_iter().map(|(_, node)| node).collect()
}
