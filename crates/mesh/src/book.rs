//! Addresses at which somebody may be, and when to try each.
//!
//! Announcements are unsigned, so that an address is only a hint: it costs one entry, never trust. Whoever answers
//! proves itself by certificate, and entries are for addresses rather than names, so that a thousand false names
//! for one address are one entry. Time is an argument.

use crate::{
    certificate::Member,
    greeting::Outcome,
    limits::{
        BACKOFF_MAX, BACKOFF_MIN, BACKOFF_REFUSED, BACKOFF_UNWANTED, CANDIDATE_FAILURES_MAX, CANDIDATES_MAX,
        COURTESY, DIALS_MAX, NEIGHBOURS_WANTED, STABLE_AFTER,
    },
};
use branchmesh_wire::NodeId;
use libp2p::PeerId;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Pause before another try when a connection turned out to exist otherwise.
const AFTER_DUPLICATE: Duration = Duration::from_secs(1);
/// From so many failures on, an address that once worked is tried rarely: the PC is switched off for the night.
const ASLEEP_AFTER: u32 = 20;
/// Pause between such tries. A PC that wakes up dials by itself.
const BACKOFF_ASLEEP: Duration = Duration::from_secs(300);

/// Who is said to be at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// Nobody knows: a bootstrap address.
    Anyone,
    /// A node, from gossip.
    Node(NodeId),
    /// A peer, from mDNS or identify.
    Peer(PeerId),
}

/// Who said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The administrator: never forgotten.
    Bootstrap,
    /// The owner of the mesh: dialled even with neighbours enough.
    Owner,
    /// Somebody on the network.
    Network,
}

#[derive(Debug)]
struct Candidate {
    whom: Whom,
    /// Who was really there.
    proven: Option<NodeId>,
    bootstrap: bool,
    insisted: bool,
    dialling: bool,
    failures: u32,
    due: Instant,
}

impl Candidate {
    fn is_lasting(&self) -> bool {
        self.bootstrap || self.proven.is_some()
    }
}

/// The addresses, and which nodes are connected.
#[derive(Debug)]
pub(crate) struct Book {
    node: NodeId,
    peer: PeerId,
    candidates: HashMap<SocketAddr, Candidate>,
    connected: HashMap<NodeId, PeerId>,
    /// Addresses that lead back to this node.
    own: HashSet<SocketAddr>,
}

impl Book {
    /// An empty book of this node.
    pub(crate) fn new(me: &Member) -> Self {
        Self {
            node: me.identity.node,
            peer: me.peer,
            candidates: HashMap::new(),
            connected: HashMap::new(),
            own: HashSet::new(),
        }
    }

    /// `whom` is said to be at `address`.
    pub(crate) fn offer(&mut self, address: SocketAddr, whom: Whom, source: Source, now: Instant) {
        if self.own.contains(&address) || whom == Whom::Node(self.node) || whom == Whom::Peer(self.peer) {
            return;
        }
        if !self.candidates.contains_key(&address) && !self.make_room() {
            return;
        }
        let courtesy = self.courtesy(whom);
        let candidate = self.candidates.entry(address).or_insert(Candidate {
            whom,
            proven: None,
            bootstrap: false,
            insisted: false,
            dialling: false,
            failures: 0,
            due: now + courtesy,
        });
        if whom != Whom::Anyone {
            candidate.whom = whom;
        }
        candidate.bootstrap |= source == Source::Bootstrap;
        if source == Source::Owner && !candidate.insisted {
            candidate.insisted = true;
            if candidate.failures == 0 {
                candidate.due = candidate.due.min(now + courtesy);
            }
        }
    }

    /// `address` is one of this node's own.
    pub(crate) fn own(&mut self, address: SocketAddr) {
        self.candidates.remove(&address);
        if self.own.len() < CANDIDATES_MAX {
            self.own.insert(address);
        }
    }

    /// Takes what is to be dialled now, with `in_progress` dials under way; and when to ask again.
    pub(crate) fn due(&mut self, in_progress: usize, now: Instant) -> (Vec<SocketAddr>, Option<Instant>) {
        let enough = self.connected.len() >= NEIGHBOURS_WANTED;
        let connected = &self.connected;
        let open = self.candidates.iter_mut().filter(|(_, candidate)| {
            !candidate.dialling && !is_connected(connected, candidate) && (candidate.insisted || !enough)
        });
        let (mut due, mut next) = (Vec::new(), None::<Instant>);
        for (address, candidate) in open {
            if candidate.due > now {
                next = Some(next.map_or(candidate.due, |next| next.min(candidate.due)));
            } else if in_progress + due.len() < DIALS_MAX {
                candidate.dialling = true;
                due.push(*address);
            }
        }
        (due, next)
    }

    /// A dial came to an end.
    pub(crate) fn settled(&mut self, address: SocketAddr, outcome: &Outcome, now: Instant) {
        let Some(candidate) = self.candidates.get_mut(&address) else { return };
        candidate.dialling = false;
        match outcome {
            Outcome::Joined(node) => candidate.proven = Some(*node),
            Outcome::Duplicate(node) => {
                candidate.proven = Some(*node);
                candidate.due = now + AFTER_DUPLICATE;
            }
            Outcome::Myself => self.own(address),
            Outcome::Refused(_) => {
                candidate.failures += 1;
                candidate.due = now + BACKOFF_REFUSED + jittered(BACKOFF_REFUSED);
            }
            Outcome::Failed(_) => {
                candidate.failures += 1;
                candidate.due = now + pause(candidate);
            }
        }
        self.candidates
            .retain(|_, candidate| candidate.is_lasting() || candidate.failures < CANDIDATE_FAILURES_MAX);
    }

    /// A node is connected, reached at `address` or come from there.
    pub(crate) fn joined(&mut self, member: &Member, address: SocketAddr, now: Instant) {
        let node = member.identity.node;
        self.connected.insert(node, member.peer);
        self.offer(address, Whom::Node(node), Source::Network, now);
        if let Some(candidate) = self.candidates.get_mut(&address) {
            candidate.proven = Some(node);
        }
    }

    /// A node is no longer connected, after so much time.
    pub(crate) fn lost(&mut self, node: NodeId, lived: Duration, now: Instant) {
        self.connected.remove(&node);
        let courtesy = self.courtesy(Whom::Node(node));
        for candidate in self.of_node(node) {
            candidate.failures = if lived >= STABLE_AFTER { 0 } else { candidate.failures + 1 };
            let due = now + courtesy + pause(candidate);
            candidate.due =
                if candidate.insisted || lived >= STABLE_AFTER { due } else { candidate.due.max(due) };
        }
    }

    /// The owner does not want to be connected to a node for a while.
    pub(crate) fn unwanted(&mut self, node: NodeId, now: Instant) {
        for candidate in self.of_node(node) {
            candidate.insisted = false;
            candidate.due = now + BACKOFF_UNWANTED;
        }
    }

    fn of_node(&mut self, node: NodeId) -> impl Iterator<Item = &mut Candidate> {
        self.candidates.values_mut().filter(move |candidate| candidate.proven == Some(node))
    }

    /// Both sides learn of each other at the same moment: the lower one dials first.
    fn courtesy(&self, whom: Whom) -> Duration {
        let lower_is_there = match whom {
            Whom::Anyone => false,
            Whom::Node(node) => node < self.node,
            Whom::Peer(peer) => peer < self.peer,
        };
        if lower_is_there { COURTESY } else { Duration::ZERO }
    }

    /// Drops the least promising candidate if there is no room; false if all are better than a hint.
    fn make_room(&mut self) -> bool {
        if self.candidates.len() < CANDIDATES_MAX {
            return true;
        }
        let worst = self
            .candidates
            .iter()
            .filter(|(_, candidate)| !candidate.is_lasting() && !candidate.dialling)
            .max_by_key(|(_, candidate)| candidate.failures)
            .map(|(address, _)| *address);
        worst.is_some_and(|address| self.candidates.remove(&address).is_some())
    }
}

fn is_connected(connected: &HashMap<NodeId, PeerId>, candidate: &Candidate) -> bool {
    if let Some(node) = candidate.proven {
        return connected.contains_key(&node);
    }
    match candidate.whom {
        Whom::Anyone => false,
        Whom::Node(node) => connected.contains_key(&node),
        Whom::Peer(peer) => connected.values().any(|connected| *connected == peer),
    }
}

fn pause(candidate: &Candidate) -> Duration {
    if candidate.failures > ASLEEP_AFTER && !candidate.bootstrap {
        return jittered(BACKOFF_ASLEEP);
    }
    backoff(candidate.failures)
}

/// The pause after so many failures in a row, with jitter.
pub(crate) fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.saturating_sub(1).min(16));
    jittered(doubled.min(BACKOFF_MAX))
}

/// Between half of `longest` and all of it, so that a classroom does not dial in step.
fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::random_range(0.5..1.0))
}
