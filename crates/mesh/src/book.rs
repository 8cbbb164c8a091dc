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
    /// The owner hung up; the due time says for how long that counts.
    unwanted: bool,
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
            unwanted: false,
            dialling: false,
            failures: 0,
            due: now + courtesy,
        });
        if whom != Whom::Anyone {
            candidate.whom = whom;
        }
        candidate.bootstrap |= source == Source::Bootstrap;
        if source == Source::Owner {
            candidate.insisted = true;
            if std::mem::take(&mut candidate.unwanted) {
                candidate.due = now + courtesy;
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
            candidate.unwanted = false;
        }
    }

    /// A node is no longer connected, after so much time.
    pub(crate) fn lost(&mut self, node: NodeId, lived: Duration, now: Instant) {
        self.connected.remove(&node);
        let courtesy = self.courtesy(Whom::Node(node));
        for candidate in self.of_node(node) {
            candidate.failures = if lived >= STABLE_AFTER { 0 } else { candidate.failures + 1 };
            if !candidate.unwanted {
                candidate.due = now + courtesy + pause(candidate);
            }
        }
    }

    /// The owner does not want to be connected to a node for a while.
    pub(crate) fn unwanted(&mut self, node: NodeId, now: Instant) {
        for candidate in self.of_node(node) {
            candidate.insisted = false;
            candidate.unwanted = true;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Distrust;
    use branchmesh_wire::{Identity, Role};
    use std::time::SystemTime;

    fn member(number: u8) -> Member {
        let identity = Identity {
            node: NodeId([number; 32]),
            peer_id: String::new(),
            name: String::new(),
            site: String::new(),
            role: Role::Client,
            groups: Vec::new(),
        };
        Member { identity, peer: PeerId::random(), expires: SystemTime::now() }
    }

    fn address(number: u32) -> SocketAddr {
        SocketAddr::new(number.to_be_bytes().into(), 8740)
    }

    fn due(book: &mut Book, now: Instant) -> Vec<SocketAddr> {
        book.due(0, now).0
    }

    #[test]
    fn the_lower_node_dials_first() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        book.offer(address(1), Whom::Node(NodeId([9; 32])), Source::Network, now);
        book.offer(address(2), Whom::Node(NodeId([1; 32])), Source::Network, now);
        let (first, next) = book.due(0, now);
        assert_eq!((first, next), (vec![address(1)], Some(now + COURTESY)));
        assert_eq!(due(&mut book, now + COURTESY), [address(2)]);
        assert!(due(&mut book, now + COURTESY).is_empty(), "they are being dialled");
    }

    #[test]
    fn failures_are_spaced_out_and_hints_forgotten() {
        let mut now = Instant::now();
        let mut book = Book::new(&member(5));
        book.offer(address(1), Whom::Anyone, Source::Network, now);
        book.offer(address(2), Whom::Anyone, Source::Bootstrap, now);
        for failure in 1..=CANDIDATE_FAILURES_MAX {
            for dialled in due(&mut book, now) {
                book.settled(dialled, &Outcome::Failed("no answer".into()), now);
            }
            let longest = BACKOFF_MIN.saturating_mul(1 << (failure - 1)).min(BACKOFF_MAX);
            assert!(due(&mut book, now + longest / 2 - Duration::from_millis(1)).is_empty());
            now += longest;
        }
        assert_eq!(due(&mut book, now), [address(2)], "what the administrator named is never forgotten");
        for _ in 0..100 {
            book.settled(address(2), &Outcome::Failed("no answer".into()), now);
            now += BACKOFF_MAX;
            assert_eq!(due(&mut book, now), [address(2)]);
        }
    }

    #[test]
    fn the_refused_are_left_alone_for_a_minute() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        book.offer(address(1), Whom::Anyone, Source::Bootstrap, now);
        assert_eq!(due(&mut book, now), [address(1)]);
        book.settled(address(1), &Outcome::Refused(Distrust::OtherCa), now);
        book.offer(address(1), Whom::Anyone, Source::Owner, now);
        assert!(due(&mut book, now + BACKOFF_REFUSED).is_empty());
        assert_eq!(due(&mut book, now + 2 * BACKOFF_REFUSED), [address(1)]);
    }

    #[test]
    fn the_connected_are_not_dialled_under_any_name_and_the_lost_soon() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        let other = member(9);
        book.offer(address(1), Whom::Peer(other.peer), Source::Network, now);
        book.offer(address(2), Whom::Node(other.identity.node), Source::Owner, now);
        book.joined(&other, address(3), now);
        assert_eq!(book.due(0, now + BACKOFF_MAX), (Vec::new(), None));

        let later = now + STABLE_AFTER;
        book.lost(other.identity.node, STABLE_AFTER, later);
        assert!(due(&mut book, later + BACKOFF_MIN).contains(&address(3)));
        // A node that comes and goes is waited for.
        for _ in 0..10 {
            book.settled(address(3), &Outcome::Joined(other.identity.node), later);
            book.lost(other.identity.node, Duration::ZERO, later);
        }
        assert!(!due(&mut book, later + BACKOFF_MAX / 3).contains(&address(3)));
    }

    #[test]
    fn an_owner_that_hangs_up_is_believed_until_it_asks_again() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        let other = member(9);
        book.joined(&other, address(1), now);
        book.unwanted(other.identity.node, now);
        book.lost(other.identity.node, Duration::from_secs(60), now);
        assert!(due(&mut book, now + BACKOFF_MAX).is_empty());
        book.offer(address(1), Whom::Node(other.identity.node), Source::Network, now);
        assert!(due(&mut book, now + BACKOFF_MAX).is_empty());
        book.offer(address(1), Whom::Node(other.identity.node), Source::Owner, now);
        assert_eq!(due(&mut book, now), [address(1)]);
    }

    #[test]
    fn a_flood_of_announcements_costs_its_cap_and_nobody_who_was_proven() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        book.offer(address(0), Whom::Anyone, Source::Bootstrap, now);
        book.joined(&member(9), address(1), now);
        for number in 2..10_000 {
            book.offer(address(number), Whom::Peer(PeerId::random()), Source::Network, now);
        }
        assert_eq!(book.candidates.len(), CANDIDATES_MAX);
        assert!(book.candidates.contains_key(&address(0)) && book.candidates.contains_key(&address(1)));
        let (dialled, _) = book.due(DIALS_MAX - 3, now);
        assert_eq!(dialled.len(), 3);
        for name in 0..1000 {
            book.offer(address(9_999), Whom::Peer(PeerId::random()), Source::Network, now);
            assert_eq!(book.candidates.len(), CANDIDATES_MAX, "{name}");
        }
    }

    #[test]
    fn with_neighbours_enough_only_the_owner_adds_more() {
        let now = Instant::now();
        let mut book = Book::new(&member(0));
        for number in 1..=u8::try_from(NEIGHBOURS_WANTED).unwrap() {
            book.joined(&member(number), address(u32::from(number)), now);
        }
        book.offer(address(1000), Whom::Anyone, Source::Network, now);
        assert_eq!(book.due(0, now), (Vec::new(), None));
        book.offer(address(1001), Whom::Anyone, Source::Owner, now);
        assert_eq!(due(&mut book, now), [address(1001)]);
    }

    #[test]
    fn the_way_back_to_oneself_is_learned() {
        let now = Instant::now();
        let mut book = Book::new(&member(5));
        book.offer(address(1), Whom::Anyone, Source::Bootstrap, now);
        assert_eq!(due(&mut book, now), [address(1)]);
        book.settled(address(1), &Outcome::Myself, now);
        book.offer(address(1), Whom::Anyone, Source::Bootstrap, now);
        assert!(due(&mut book, now + BACKOFF_MAX).is_empty());
    }
}
