//! Who is here: the members of the site as their statuses and connections tell, best rank for the WAN first.

mod member;
mod rank;

use crate::{config::Timing, time::Time};
use branchmesh_wire::{IndexId, NodeId, Role, Status, WanPolicy};
use rank::{RankHash, rank_hash};
use std::{collections::BTreeMap, time::Duration};

pub use member::Member;
pub(crate) use member::{News, Word};
pub(crate) use rank::Rank;

/// Members of a site that are remembered; protects memory against an insider who invents nodes. A status is at most
/// 8 KiB, so this is at most 8 MiB.
pub const MEMBERS_MAX: usize = 1024;

/// A member that may use the WAN, in the order of ranks.
pub(crate) struct Candidate<'a> {
    pub(crate) node: NodeId,
    pub(crate) rank: Rank,
    pub(crate) status: &'a Status,
    pub(crate) progress: Time,
    /// Whether it ever brought anything.
    pub(crate) proven: bool,
    pub(crate) word: Word,
}

/// The members, other than this node.
pub(crate) struct Members {
    me: NodeId,
    my_hash: RankHash,
    entries: BTreeMap<NodeId, Member>,
    /// Entries that have not departed.
    present: usize,
}

impl Members {
    pub(crate) fn new(me: NodeId) -> Self {
        Self { me, my_hash: rank_hash(&me), entries: BTreeMap::new(), present: 0 }
    }

    pub(crate) fn get(&self, node: &NodeId) -> Option<&Member> {
        self.entries.get(node)
    }

    /// All that are remembered, also those which are not here any more.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.entries.iter()
    }

    /// Those who are here.
    pub(crate) fn live(&self, now: Time, timeout: Duration) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.entries.iter().filter(move |(_, member)| member.is_live(now, timeout))
    }

    /// The size of the site, this node included.
    pub(crate) fn count(&self) -> usize {
        self.present + 1
    }

    /// Takes in a status.
    pub(crate) fn hear(&mut self, now: Time, status: Status, timing: &Timing) -> News {
        if status.node == self.me || !status.is_acceptable() {
            return News::None;
        }
        let timeout = timing.member_timeout(self.count());
        let full = self.entries.len() >= MEMBERS_MAX;
        let Some(member) = self.entries.get_mut(&status.node) else {
            if full || status.leaving {
                return News::None;
            }
            let member = Member::new(&status.node, status.name.clone());
            self.present += 1;
            return self.entries.entry(status.node).or_insert(member).take(now, status, timeout);
        };
        if !member.would_take(now, &status, timing) {
            return News::None;
        }
        let was_here = member.departed.is_none();
        let news = member.take(now, status, timeout);
        self.present = self.present + usize::from(member.departed.is_none()) - usize::from(was_here);
        news
    }

    /// A connection to `node` stands. Returns false if the site is full.
    pub(crate) fn connect(&mut self, node: NodeId, name: &str) -> bool {
        if node == self.me || (self.entries.len() >= MEMBERS_MAX && !self.entries.contains_key(&node)) {
            return false;
        }
        let was_here = self.entries.get(&node).is_some_and(|member| member.departed.is_none());
        let member = self.entries.entry(node).or_insert_with(|| Member::new(&node, name.to_owned()));
        member.connected = true;
        member.departed = None;
        self.present += usize::from(!was_here);
        true
    }

    /// `node` holds blocks now that nobody in reach held before.
    pub(crate) fn brought(&mut self, now: Time, node: &NodeId) {
        if let Some(member) = self.entries.get_mut(node) {
            member.vain = 0;
            member.proven = true;
            member.begin(now);
        }
    }

    pub(crate) fn disconnect(&mut self, now: Time, node: &NodeId) {
        if let Some(member) = self.entries.get_mut(node) {
            member.connected = false;
            self.present -= usize::from(member.departed.is_none());
            member.departed = Some(now);
        }
    }

    /// Forgets those who are silent for too long.
    pub(crate) fn expire(&mut self, now: Time, timeout: Duration) {
        let present = &mut self.present;
        self.entries.retain(|_, member| {
            let stays = member.expires(timeout).is_none_or(|at| now < at);
            *present -= usize::from(!stays && member.departed.is_none());
            stays
        });
    }

    /// When the next member may go silent.
    pub(crate) fn next_silence(&self, now: Time, timeout: Duration) -> Option<Time> {
        let heard = self.entries.values().filter_map(|member| member.heard.map(|at| at + timeout));
        let expiring = self.entries.values().filter_map(|member| member.expires(timeout));
        heard.chain(expiring).filter(|at| *at > now).min()
    }

    /// Those whose last word is fresh and who may use the WAN at all, best rank first.
    pub(crate) fn candidates(&self, now: Time, timeout: Duration, mine: u64) -> Vec<Candidate<'_>> {
        let youngest = self.youngest(now, timeout, mine);
        let mut candidates: Vec<Candidate<'_>> = self
            .entries
            .iter()
            .filter(|(_, member)| member.is_fresh(now, timeout))
            .filter_map(|(node, member)| {
                let status = member.status.as_ref().filter(|status| status.wan_policy != WanPolicy::Never)?;
                let rank =
                    Rank::of(status.wan_policy, status.role, status.incarnation, youngest, member.hash);
                let Member { progress, proven, word, .. } = *member;
                Some(Candidate { node: *node, rank, status, progress, proven, word })
            })
            .collect();
        candidates.sort_unstable_by_key(|candidate| candidate.rank);
        candidates
    }

    /// The rank of this node among them.
    pub(crate) fn my_rank(
        &self,
        now: Time,
        timeout: Duration,
        policy: WanPolicy,
        role: Role,
        mine: u64,
    ) -> Rank {
        Rank::of(policy, role, mine, self.youngest(now, timeout, mine), self.my_hash)
    }

    fn youngest(&self, now: Time, timeout: Duration, mine: u64) -> u64 {
        let fresh = self.entries.values().filter(|member| member.is_fresh(now, timeout));
        fresh.filter_map(|member| Some(member.status.as_ref()?.incarnation)).fold(mine, u64::max)
    }
}

impl Candidate<'_> {
    /// Whether it says that it uses the WAN.
    pub(crate) fn claims(&self) -> bool {
        self.status.fetching
    }

    /// Whether it wants `release` and lacks blocks of it.
    pub(crate) fn lacks(&self, release: &IndexId) -> bool {
        let listed = self.status.releases.iter().find(|listed| listed.release == *release);
        listed.is_some_and(|listed| listed.bytes_have < listed.bytes_total)
    }
}

#[cfg(test)]
mod tests {
    use super::{member::VAIN_MAX, *};
    use branchmesh_wire::limits::WIRE_VERSION;

    const TIMEOUT: Duration = Duration::from_secs(4);

    fn status(node: u8, incarnation: u64, sequence: u64) -> Status {
        Status {
            version: WIRE_VERSION,
            node: NodeId([node; 32]),
            name: format!("pc-{node}"),
            peer_id: String::new(),
            role: Role::Client,
            wan_policy: WanPolicy::Fetcher,
            incarnation,
            sequence,
            addresses: Vec::new(),
            fetching: false,
            metadata: 0,
            wan_bytes: 0,
            releases: Vec::new(),
            leaving: false,
        }
    }

    fn at(ms: u64) -> Time {
        Time::after_start(Duration::from_millis(ms))
    }

    fn members() -> (Members, Timing) {
        (Members::new(NodeId([0; 32])), Timing::default())
    }

    #[test]
    fn late_and_foreign_words_are_ignored() {
        let (mut members, timing) = members();
        assert_eq!(members.hear(at(0), status(1, 10, 5), &timing), News::Presence);
        assert_eq!(members.hear(at(0), status(1, 10, 5), &timing), News::None, "the same again");
        assert_eq!(members.hear(at(0), status(1, 10, 4), &timing), News::None, "overtaken");
        assert_eq!(members.hear(at(0), status(1, 9, 99), &timing), News::None, "an earlier life");
        assert_eq!(members.hear(at(0), status(1, 11, 1), &timing), News::Turns, "restarted");
        assert_eq!(members.hear(at(0), status(0, 1, 1), &timing), News::None, "its own echo");
        let other_version = Status { version: WIRE_VERSION + 1, ..status(2, 1, 1) };
        assert_eq!(members.hear(at(0), other_version, &timing), News::None);
    }

    #[test]
    fn who_hangs_up_is_gone_until_a_later_word() {
        let (mut members, timing) = members();
        let node = NodeId([1; 32]);
        members.hear(at(0), status(1, 10, 1), &timing);
        assert!(members.connect(node, "pc-1"));
        members.disconnect(at(1000), &node);
        assert_eq!(members.live(at(1000), TIMEOUT).count(), 0);
        assert_eq!(
            members.hear(at(1100), status(1, 10, 2), &timing),
            News::None,
            "was under way when it died"
        );
        let news = members.hear(at(1400), status(1, 10, 3), &timing);
        assert_eq!(news, News::Presence, "it lives, only the connection is gone");
        assert_eq!(members.live(at(1400), TIMEOUT).count(), 1);
        assert_eq!(members.live(at(5400), TIMEOUT).count(), 0, "silent");
    }

    #[test]
    fn a_goodbye_is_final_and_a_restart_is_not() {
        let (mut members, timing) = members();
        members.hear(at(0), status(1, 10, 1), &timing);
        members.hear(at(0), Status { leaving: true, ..status(1, 10, 2) }, &timing);
        assert_eq!(members.live(at(0), TIMEOUT).count(), 0);
        assert_eq!(members.hear(at(1000), status(1, 10, 3), &timing), News::None);
        // Its clock was set back meanwhile.
        assert_eq!(members.hear(at(1000), status(1, 3, 1), &timing), News::Presence);
        assert_eq!(members.live(at(1000), TIMEOUT).count(), 1);
    }

    #[test]
    fn a_connected_member_stays_but_its_lease_does_not() {
        let (mut members, timing) = members();
        members.connect(NodeId([1; 32]), "pc-1");
        members.hear(at(0), status(1, 10, 1), &timing);
        members.expire(at(60_000), TIMEOUT);
        assert_eq!(members.live(at(60_000), TIMEOUT).count(), 1);
        assert!(members.candidates(at(60_000), TIMEOUT, 10).is_empty());
    }

    fn fetching(incarnation: u64, sequence: u64, fetching: bool) -> Status {
        Status { fetching, ..status(1, incarnation, sequence) }
    }

    #[test]
    fn a_restart_buys_no_new_word() {
        let (mut members, timing) = members();
        let node = NodeId([1; 32]);
        for life in 0..10 {
            let begun = at(life * 1000);
            members.hear(begun, fetching(life, 1, false), &timing);
            members.hear(begun, fetching(life, 2, true), &timing);
            let candidates = members.candidates(begun, TIMEOUT, 0);
            let last_believed = u64::from(VAIN_MAX) - 1;
            assert_eq!(candidates[0].progress, at(life.min(last_believed) * 1000));
        }
        members.brought(at(9500), &node);
        members.hear(at(9600), fetching(20, 1, false), &timing);
        members.hear(at(9600), fetching(20, 2, true), &timing);
        let candidates = members.candidates(at(9600), TIMEOUT, 0);
        assert_eq!((candidates[0].proven, candidates[0].progress), (true, at(9600)), "it has kept it");
        members.expire(at(60_000), TIMEOUT);
        members.hear(at(60_000), fetching(20, 3, true), &timing);
        assert!(!members.candidates(at(60_000), TIMEOUT, 0)[0].proven, "forgotten with the member");
    }

    #[test]
    fn a_word_counts_what_was_taken_since_something_was_brought() {
        let (mut members, timing) = members();
        let node = NodeId([1; 32]);
        members.connect(node, "pc-1");
        let say = |members: &mut Members, sequence: u64, incarnation: u64, wan_bytes: u64| {
            members.hear(
                at(sequence),
                Status { wan_bytes, ..fetching(incarnation, sequence, true) },
                &timing,
            );
            let word = members.candidates(at(sequence), TIMEOUT, 0)[0].word;
            (word.at, word.bytes)
        };
        assert_eq!(say(&mut members, 1, 1, 5000), (at(0), 0), "before it claimed");
        assert_eq!(say(&mut members, 2, 1, 5500), (at(2), 500));
        assert_eq!(say(&mut members, 3, 1, 5500), (at(2), 500), "nothing came");
        assert_eq!(say(&mut members, 4, 1, 6000), (at(4), 1000));
        assert_eq!(say(&mut members, 5, 2, 0), (at(4), 1000), "it was restarted, and counts anew");
        assert_eq!(say(&mut members, 6, 2, 10), (at(6), 1010));
        members.brought(at(6), &node);
        assert_eq!(say(&mut members, 7, 2, 20), (at(7), 10));
    }

    #[test]
    fn members_are_bounded() {
        let (mut members, timing) = members();
        for number in 0..2 * MEMBERS_MAX as u32 {
            let mut one = status(1, 1, 1);
            one.node.0[..4].copy_from_slice(&number.to_le_bytes());
            members.hear(at(0), one, &timing);
        }
        assert_eq!(members.all().count(), MEMBERS_MAX);
        assert!(!members.connect(NodeId([9; 32]), "late"));
        members.expire(at(4000), TIMEOUT);
        assert_eq!(members.all().count(), 0);
    }

    #[test]
    fn seeds_come_first_then_the_long_running_ones() {
        let (mut members, timing) = members();
        members.hear(at(0), status(1, 1000, 1), &timing);
        members.hear(at(0), status(2, 10_000, 1), &timing);
        members.hear(at(0), Status { role: Role::Seed, ..status(3, 10_000, 1) }, &timing);
        members.hear(at(0), Status { wan_policy: WanPolicy::LastResort, ..status(4, 1, 1) }, &timing);
        members.hear(at(0), Status { wan_policy: WanPolicy::Never, ..status(5, 1, 1) }, &timing);
        let order: Vec<u8> =
            members.candidates(at(0), TIMEOUT, 0).iter().map(|candidate| candidate.node.0[0]).collect();
        assert_eq!(order, [3, 1, 2, 4]);
        // Every member computes the same ranks, whichever of them it is itself.
        let mine = members.my_rank(at(0), TIMEOUT, WanPolicy::Fetcher, Role::Client, 9000);
        let ranks: Vec<Rank> =
            members.candidates(at(0), TIMEOUT, 9000).iter().map(|candidate| candidate.rank).collect();
        assert!(ranks[1] < mine && mine < ranks[3]);
    }
}
