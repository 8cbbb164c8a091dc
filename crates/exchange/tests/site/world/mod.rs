//! The world: nodes, links, an origin, and what happens to them.

mod agents;

use crate::links::{Port, Stream, Wan, duration};
use branchmesh_exchange::{
    Action, Config, Exchange, Failure, NewRelease, Outcome, Time, Timing, TransferId, report::ReleaseReport,
};
use branchmesh_wire::{BlockSet, IndexId, NodeId, Note, Role, Runs, Segments, Status, WanPolicy};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
/// One way between two nodes.
const LAN_DELAY: Duration = Duration::from_millis(1);
/// A gossiped status takes longer than a note.
const GOSSIP_DELAY: Duration = Duration::from_millis(30);
const WAN_DELAY: Duration = Duration::from_millis(20);
/// How long the agent takes from metadata to the index.
const INDEX_DELAY: Duration = Duration::from_millis(100);
/// When a silent peer's connection is given up.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Events at one moment: more is a live-lock.
const EVENTS_AT_ONCE_MAX: u32 = 100_000;

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    Honest,
    /// Claims everything, delivers nothing.
    Liar,
    /// Claims everything, delivers rubbish.
    Poisoner,
    /// Cannot write to its disk.
    DiskFull,
}

enum Event {
    Timer(NodeId, u32),
    Connected(NodeId, NodeId),
    Disconnected(NodeId, NodeId),
    Status(NodeId, Box<Status>),
    Note { from: NodeId, to: NodeId, note: Note },
    Request { from: NodeId, to: NodeId, epoch: u32, transfer: TransferId, release: IndexId, blocks: Vec<u32> },
    Block { to: NodeId, epoch: u32, from: (NodeId, u32), transfer: TransferId, block: u32, kind: Kind },
    Ended { to: NodeId, epoch: u32, transfer: TransferId, outcome: Outcome },
    Fetch(Stream),
    WanBlock { node: NodeId, epoch: u32, transfer: TransferId, release: IndexId, block: u32, last: bool },
    Polled(NodeId, u32),
    Metadata { node: NodeId, epoch: u32, from: NodeId },
    Release { node: NodeId, epoch: u32, release: IndexId },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Good,
    Bad,
    Missing,
}

pub struct Node {
    pub exchange: Exchange,
    pub alive: bool,
    pub nature: Nature,
    pub disk: BTreeMap<IndexId, BlockSet>,
    pub completed: BTreeMap<IndexId, Time>,
    pub requests_sent: u32,
    pub part: u8,
    epoch: u32,
    config: Config,
    version: u64,
    wanted: bool,
    up: Port,
    down: Port,
    timer: Option<Time>,
    cancelled: BTreeSet<TransferId>,
}

struct Published {
    segments: Segments,
    /// For each block, the equal block of an older release.
    base: Option<(IndexId, Vec<Option<u32>>)>,
}

pub struct World {
    pub now: Time,
    pub nodes: BTreeMap<NodeId, Node>,
    pub wan_rate: u64,
    pub lan_rate: u64,
    pub origin_up: bool,
    /// Blocks that the origin serves with a flipped bit.
    pub origin_bad: BTreeSet<u32>,
    /// How often each block crossed the WAN.
    pub crossed: BTreeMap<(IndexId, u32), u32>,
    pub last_crossing: Time,
    pub timing: Timing,
    pub fetchers: usize,
    /// Hash over every action of every node.
    pub trace: u64,
    seed: u64,
    wan: Wan,
    published: BTreeMap<IndexId, Published>,
    order: Vec<IndexId>,
    queue: BTreeMap<(Time, u64), Event>,
    sequence: u64,
    at_once: u32,
}

impl World {
    /// No node yet; 20 Mbit/s WAN, 200 Mbit/s LAN.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Time::ZERO,
            nodes: BTreeMap::new(),
            wan_rate: 2_500_000,
            lan_rate: 25_000_000,
            origin_up: true,
            origin_bad: BTreeSet::new(),
            crossed: BTreeMap::new(),
            last_crossing: Time::ZERO,
            timing: Timing::default(),
            fetchers: 1,
            trace: 0,
            seed,
            wan: Wan::default(),
            published: BTreeMap::new(),
            order: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            at_once: 0,
        }
    }

    /// A world with `count` clients that start now, and one release of `blocks` blocks.
    pub fn classroom(seed: u64, count: u8, blocks: u32) -> (Self, IndexId) {
        let mut world = Self::new(seed);
        let release = world.publish("one", blocks);
        for number in 1..=count {
            world.join(number, |_| {});
        }
        (world, release)
    }

    /// The origin has a new release, with blocks of 16 to 112 KiB.
    pub fn publish(&mut self, name: &str, blocks: u32) -> IndexId {
        let id = IndexId::of(name.as_bytes());
        let lengths = (0..blocks).map(|block| (16 << 10) + block % 9973 * 7919 % (96 << 10)).collect();
        self.published.insert(id, Published { segments: Segments::of(lengths), base: None });
        self.order.push(id);
        id
    }

    pub fn is_dead(&self, number: u8) -> bool {
        !self.nodes[&id(number)].alive
    }

    /// As [`publish`](Self::publish), with every block but each `nth` equal to that of `base`.
    pub fn publish_update(&mut self, name: &str, base: IndexId, nth: u32) -> (IndexId, u32) {
        let segments = self.published[&base].segments.clone();
        let count = segments.block_count();
        let equal: Vec<_> = (0..count).map(|block| (block % nth != 0).then_some(block)).collect();
        let new = equal.iter().filter(|equal| equal.is_none()).count();
        let id = IndexId::of(name.as_bytes());
        self.published.insert(id, Published { segments, base: Some((base, equal)) });
        self.order.push(id);
        (id, u32::try_from(new).unwrap())
    }

    /// A node starts now.
    pub fn join(&mut self, number: u8, adjust: impl FnOnce(&mut Config)) -> NodeId {
        let node = id(number);
        let mut config = Config {
            node,
            name: format!("pc-{number:02}"),
            peer_id: format!("peer-{number}"),
            role: Role::Client,
            wan: WanPolicy::Fetcher,
            addresses: vec![([192, 168, 1, number], 8740).into()],
            incarnation: 1_000_000 + self.now.since_start().as_secs(),
            fetchers: self.fetchers,
            timing: self.timing.clone(),
        };
        adjust(&mut config);
        let exchange = Exchange::new(config.clone(), self.seed ^ u64::from(number) << 32, self.now);
        self.nodes.insert(
            node,
            Node {
                exchange,
                alive: true,
                nature: Nature::Honest,
                disk: BTreeMap::new(),
                completed: BTreeMap::new(),
                requests_sent: 0,
                part: 0,
                epoch: 0,
                config,
                version: 0,
                wanted: true,
                up: Port::default(),
                down: Port::default(),
                timer: None,
                cancelled: BTreeSet::new(),
            },
        );
        self.connect_all(node);
        self.drain(node);
        node
    }

    pub fn set_nature(&mut self, node: NodeId, nature: Nature) {
        self.nodes.get_mut(&node).unwrap().nature = nature;
    }

    pub fn set_wanted(&mut self, node: NodeId, wanted: bool) {
        self.nodes.get_mut(&node).unwrap().wanted = wanted;
    }

    /// kill -9: its connections close at once; what it holds on disk stays.
    pub fn kill(&mut self, node: NodeId) {
        self.stop(node, LAN_DELAY);
    }

    /// The power fails: nothing closes its connections.
    pub fn kill_silently(&mut self, node: NodeId) {
        self.stop(node, IDLE_TIMEOUT);
    }

    pub fn leave(&mut self, node: NodeId) {
        let now = self.now;
        self.with(node, |exchange| exchange.leave(now));
        self.stop(node, 50 * MS);
    }

    /// A killed node starts again.
    pub fn restart(&mut self, node: NodeId) {
        let (now, seed) = (self.now, self.seed);
        let one = self.nodes.get_mut(&node).unwrap();
        one.epoch += 1;
        one.alive = true;
        one.config.incarnation = 1_000_000 + now.since_start().as_secs();
        one.exchange = Exchange::new(one.config.clone(), seed ^ u64::from(one.epoch), now);
        (one.timer, one.version) = (None, 0);
        one.cancelled.clear();
        let epoch = one.epoch;
        for release in one.disk.keys().copied().collect::<Vec<_>>() {
            self.at(20 * MS, Event::Release { node, epoch, release });
        }
        self.connect_all(node);
        self.drain(node);
    }

    /// The nodes are in these parts from now on; parts don't reach each other.
    pub fn partition(&mut self, part_of: impl Fn(NodeId) -> u8) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        let reached = self.pairs(&nodes);
        for (node, one) in &mut self.nodes {
            one.part = part_of(*node);
        }
        for (a, b) in reached {
            if !self.reaches(a, b) {
                self.at(IDLE_TIMEOUT, Event::Disconnected(a, b));
            }
        }
        for (a, b) in self.pairs(&nodes) {
            self.at(500 * MS, Event::Connected(a, b));
        }
    }

    /// Runs until `condition` holds; fails after `limit` of virtual time.
    pub fn run_until(&mut self, limit: Duration, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !condition(self) {
            let next = self.queue.keys().next().map(|(at, _)| *at);
            assert!(next.is_some_and(|at| at <= end), "{what}: not within {limit:?}\n{}", self.picture());
            self.step();
        }
    }

    /// Runs for so long.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.queue.keys().next().is_some_and(|(at, _)| *at <= end) {
            self.step();
        }
        self.now = end;
    }

    /// Runs until all live, honest nodes that want `release` have it.
    pub fn run_to_completion(&mut self, limit: Duration, release: IndexId) {
        self.run_until(limit, "completion", |world| world.lacking(&release).is_empty());
    }

    /// The live, honest nodes that want `release` and don't have all of it.
    pub fn lacking(&self, release: &IndexId) -> Vec<NodeId> {
        let honest =
            self.nodes.iter().filter(|(_, one)| one.alive && one.nature == Nature::Honest && one.wanted);
        honest.filter(|(_, one)| !one.completed.contains_key(release)).map(|(node, _)| *node).collect()
    }

    pub fn report(&self, node: NodeId, release: IndexId) -> Option<ReleaseReport> {
        self.nodes[&node].exchange.release(self.now, &release)
    }

    /// The live nodes that say that they use the WAN.
    pub fn fetchers(&self) -> Vec<NodeId> {
        let live = self.nodes.iter().filter(|(_, one)| one.alive && one.exchange.is_fetcher());
        live.map(|(node, _)| *node).collect()
    }

    pub fn segments(&self, release: &IndexId) -> &Segments {
        &self.published[release].segments
    }

    /// Blocks of `release` that crossed the WAN, counted with repetitions.
    pub fn crossings(&self, release: IndexId) -> u32 {
        let all = self.crossed.iter().filter(|((crossed, _), _)| *crossed == release);
        all.map(|(_, times)| times).sum()
    }

    /// What one sees who looks at all screens.
    pub fn picture(&self) -> String {
        let mut lines = vec![format!("at {:?}", self.now)];
        for one in self.nodes.values() {
            let mut line = format!("{} {:?} alive {}", one.config.name, one.nature, one.alive);
            line +=
                &format!(" fetcher {} timer {:?}", one.exchange.is_fetcher(), one.exchange.poll_timeout());
            for release in one.exchange.releases() {
                let report = one.exchange.release(self.now, &release).unwrap();
                line += &format!(
                    "\n    {release:?} {}/{} wan {} lan {} {:?}",
                    report.blocks_have,
                    report.blocks_total,
                    report.in_flight_wan,
                    report.in_flight_lan,
                    report.waiting.map(|waiting| waiting.to_string()),
                );
            }
            lines.push(line);
        }
        lines.join("\n")
    }

    fn step(&mut self) {
        let ((at, _), event) = self.queue.pop_first().expect("there is an event");
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        assert!(self.at_once < EVENTS_AT_ONCE_MAX, "live-lock\n{}", self.picture());
        self.now = at;
        self.happen(event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Timer(node, epoch) => {
                if self.is_alive(node, epoch) && self.nodes[&node].timer == Some(now) {
                    self.with(node, |exchange| exchange.handle_timeout(now));
                }
            }
            Event::Connected(a, b) => {
                if self.reaches(a, b) {
                    for (one, other) in [(a, b), (b, a)] {
                        let name = self.nodes[&other].config.name.clone();
                        self.with(one, |exchange| exchange.handle_connected(now, other, &name));
                    }
                }
            }
            Event::Disconnected(a, b) => {
                for (one, other) in [(a, b), (b, a)] {
                    if self.nodes[&one].alive {
                        self.with(one, |exchange| exchange.handle_disconnected(now, other));
                    }
                }
            }
            Event::Status(to, status) => {
                if self.nodes[&to].alive && self.nodes[&to].part == self.nodes[&status.node].part {
                    self.with(to, |exchange| exchange.handle_status(now, *status));
                }
            }
            Event::Note { from, to, note } => {
                if self.reaches(from, to) {
                    self.with(to, |exchange| exchange.handle_note(now, from, note).unwrap());
                }
            }
            Event::Request { from, to, epoch, transfer, release, blocks } => {
                self.serve(from, to, epoch, transfer, release, &blocks);
            }
            Event::Block { to, epoch, from, transfer, block, kind } => {
                let arrives = self.is_alive(to, epoch) && self.is_alive(from.0, from.1);
                if arrives && self.reaches(from.0, to) {
                    self.deliver(to, transfer, block, kind);
                }
            }
            Event::Ended { to, epoch, transfer, outcome } => {
                if self.is_alive(to, epoch) && !self.nodes[&to].cancelled.contains(&transfer) {
                    self.with(to, |exchange| exchange.handle_transfer_ended(now, transfer, outcome));
                }
            }
            Event::Fetch(stream) => self.open_stream(stream),
            Event::WanBlock { node, epoch, transfer, release, block, last } => {
                self.wan.busy = false;
                self.cross(node, epoch, transfer, release, block, last);
                self.feed_wan();
            }
            Event::Polled(node, epoch) => self.answer_poll(node, epoch),
            Event::Metadata { node, epoch, from } => self.answer_metadata(node, epoch, from),
            Event::Release { node, epoch, release } => {
                if self.is_alive(node, epoch) {
                    self.add_release(node, release);
                }
            }
        }
    }

    fn stop(&mut self, node: NodeId, noticed_after: Duration) {
        let nodes: Vec<NodeId> = self.nodes.keys().copied().collect();
        for other in nodes {
            if self.reaches(node, other) && node != other {
                self.at(noticed_after, Event::Disconnected(other, node));
            }
        }
        self.nodes.get_mut(&node).unwrap().alive = false;
        self.wan.cancel(node, None);
    }

    fn connect_all(&mut self, node: NodeId) {
        for (number, other) in self.nodes.keys().copied().collect::<Vec<_>>().into_iter().enumerate() {
            if other != node {
                self.at((20 + number as u32) * MS, Event::Connected(node, other));
            }
        }
    }

    fn pairs(&self, nodes: &[NodeId]) -> Vec<(NodeId, NodeId)> {
        let all = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
        all.filter(|(a, b)| a < b && self.reaches(*a, *b)).collect()
    }

    fn reaches(&self, a: NodeId, b: NodeId) -> bool {
        let (a, b) = (&self.nodes[&a], &self.nodes[&b]);
        a.alive && b.alive && a.part == b.part
    }

    fn is_alive(&self, node: NodeId, epoch: u32) -> bool {
        self.nodes[&node].alive && self.nodes[&node].epoch == epoch
    }

    fn at(&mut self, later: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + later, self.sequence), event);
    }
}

pub fn id(number: u8) -> NodeId {
    NodeId([number; 32])
}
