//! Who uses the WAN: the lease, taken and given away.
//!
//! Nobody grants a lease. Each member computes from the site's statuses whether it is its turn, says so in its own
//! status (`fetching`), and yields as soon as `fetchers` better-ranked members say so. There are two kinds of turns:
//!
//! * for the *site*: asking the origin for news,
//! * for a *release*: fetching its blocks. Only members that want the release compete, because a seed that does not
//!   subscribe to an image cannot fetch it for the others.
//!
//! In a site where everybody wants the same, both are the same node. Rules:
//!
//! 1. A turn is free while fewer than `fetchers` better-ranked members claim it.
//! 2. A free turn is offered by rank: whoever has better-ranked members before it that could claim waits a `turn`
//!    (see [`Timing`]) for each of them. Without such, it waits only until everybody has noticed that it is free.
//! 3. A node that has just started listens first. A node whose origin keeps failing rests, and does not claim, nor
//!    does one to whom the line is closed.
//! 4. A claim on a release that brings nothing to the site for long does not count, nor one by a member whose blocks of it are
//!    not taken; nor does a claim on the site by a member that does not pass on what the origin says, or was waited for in
//!    vain before: it would keep the others waiting for nothing.
//! 5. Who claims a release that a worse-ranked member is still fetching waits until that one's status says that it
//!    has finished (it lets transfers which already bring bytes end), so that no block crosses twice.

use crate::{
    config::Timing,
    line::Line,
    members::{Candidate, Rank},
    metadata::Metadata,
    quarantine::Quarantine,
    time::Time,
};
use branchmesh_wire::{IndexId, NodeId, WanPolicy};
use std::{collections::BTreeMap, time::Duration};

/// The longest that anybody waits for better-ranked members to claim, however many there are.
const TURN_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a fetcher may say that it has taken without a whole block of it: a large block, and some of an index. More is no word to
/// wait for.
const WORD_BYTES_MAX: u64 = 1 << 20;

/// How long a need is remembered that has gone.
const NEED_MEMORY: Duration = Duration::from_secs(60);

/// What a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Site,
    Release(IndexId),
}

/// Whether it is this node's turn, and if not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Mine,
    /// Mine, once the previous fetcher has finished.
    Handover {
        from: NodeId,
        until: Time,
    },
    Listening {
        until: Time,
    },
    Resting {
        until: Time,
    },
    Taken {
        by: NodeId,
    },
    Offered {
        to: Option<NodeId>,
        until: Time,
    },
    /// This node is a last resort, and there is another.
    NotLastResort {
        other: NodeId,
    },
    /// The line is closed to this node.
    Closed {
        until: Option<Time>,
    },
    Forbidden,
}

/// What the site looks like when turns are computed.
pub(crate) struct Field<'a> {
    pub(crate) now: Time,
    pub(crate) policy: WanPolicy,
    pub(crate) rank: Rank,
    pub(crate) fetchers: usize,
    pub(crate) candidates: &'a [Candidate<'a>],
    pub(crate) timing: &'a Timing,
    pub(crate) line: Line,
    pub(crate) resting: Option<Time>,
    /// How much longer than usual this node listens after its start.
    pub(crate) listen_longer: Duration,
    pub(crate) quarantine: &'a Quarantine,
    pub(crate) metadata: &'a Metadata,
}

/// A turn that is needed.
struct Need {
    since: Time,
    last: Time,
}

/// A claim that is being waited for.
struct Handover {
    since: Time,
    cleared: Option<Time>,
}

pub(crate) struct Lease {
    listen_until: Time,
    needs: BTreeMap<Scope, Need>,
    free_since: BTreeMap<Scope, Time>,
    handovers: BTreeMap<Scope, Handover>,
    turns: BTreeMap<Scope, Turn>,
    /// Who was waited for in vain, and when it had brought something last.
    lapsed: BTreeMap<NodeId, Time>,
    /// When a turn may change without any word from outside.
    wake: Option<Time>,
    /// Since when this node lets its last WAN transfers end.
    pub(crate) draining: Option<Time>,
    /// What its status says.
    pub(crate) claimed: bool,
    /// Something happened that turns depend on.
    pub(crate) stale: bool,
}

impl Lease {
    pub(crate) fn new(listen_until: Time) -> Self {
        Self {
            listen_until,
            needs: BTreeMap::new(),
            free_since: BTreeMap::new(),
            handovers: BTreeMap::new(),
            turns: BTreeMap::new(),
            lapsed: BTreeMap::new(),
            wake: None,
            draining: None,
            claimed: false,
            stale: true,
        }
    }

    /// Nothing is claimed before `until`; what was is given up.
    pub(crate) fn listen_until(&mut self, until: Time) {
        self.listen_until = until;
        self.stale = true;
    }

    pub(crate) fn turn(&self, scope: Scope) -> Option<Turn> {
        self.turns.get(&scope).copied()
    }

    /// Whether this node should say that it uses the WAN, leaving draining aside.
    pub(crate) fn wants_claim(&self) -> bool {
        self.turns.values().any(|turn| matches!(turn, Turn::Mine | Turn::Handover { .. }))
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        self.wake
    }

    /// These turns are needed. One that was needed a moment ago, before somebody claimed what he does not have, is needed
    /// since then.
    pub(crate) fn need(&mut self, now: Time, scopes: &[Scope]) {
        for scope in scopes {
            self.needs.entry(*scope).or_insert(Need { since: now, last: now }).last = now;
        }
        self.needs.retain(|_, need| now < need.last + NEED_MEMORY);
    }

    /// Whether turns must be computed again for these scopes.
    pub(crate) fn is_due(&self, now: Time, scopes: &[Scope]) -> bool {
        self.stale
            || self.wake.is_some_and(|at| at <= now)
            || self.turns.len() != scopes.len()
            || !scopes.iter().all(|scope| self.turns.contains_key(scope))
    }

    /// Computes all turns.
    pub(crate) fn update(&mut self, field: &Field<'_>, scopes: &[Scope]) {
        self.free_since.retain(|scope, _| scopes.contains(scope));
        self.handovers.retain(|scope, _| scopes.contains(scope));
        self.note_lapsed(field, scopes);
        let turns = scopes.iter().map(|scope| (*scope, self.turn_now(field, *scope))).collect();
        self.turns = turns;
        self.stale = false;
        let begun = field.candidates.iter().map(|other| other.progress);
        let begun = begun.chain(self.needs.values().map(|need| need.since));
        let Timing { claim_new_max, claim_idle_max, claim_word_max, .. } = *field.timing;
        let patience = [claim_new_max, claim_idle_max, claim_word_max];
        let silent = field.candidates.iter().map(|other| other.word.at + claim_new_max);
        let idle = begun.flat_map(|since| patience.map(|patience| since + patience)).chain(silent);
        let waits = self.turns.values().filter_map(|turn| match *turn {
            Turn::Handover { until, .. }
            | Turn::Listening { until }
            | Turn::Resting { until }
            | Turn::Offered { until, .. } => Some(until),
            Turn::Mine
            | Turn::Taken { .. }
            | Turn::NotLastResort { .. }
            | Turn::Closed { .. }
            | Turn::Forbidden => None,
        });
        self.wake = waits.chain(idle).filter(|at| *at > field.now).min();
    }

    /// Remembers whose claims are not believed any more, until they bring something.
    fn note_lapsed(&mut self, field: &Field<'_>, scopes: &[Scope]) {
        let progress = |node: &NodeId| {
            field.candidates.iter().find(|other| other.node == *node).map(|other| other.progress)
        };
        self.lapsed.retain(|node, then| progress(node) == Some(*then));
        for scope in scopes.iter().filter(|scope| **scope != Scope::Site) {
            let contest = self.contest(field, *scope);
            let lapsed = field.candidates.iter().filter(|other| contest.is_lapsed(other));
            let lapsed: Vec<_> = lapsed.map(|other| (other.node, other.progress)).collect();
            self.lapsed.extend(lapsed);
        }
    }

    fn contest<'a>(&'a self, field: &'a Field<'a>, scope: Scope) -> Contest<'a> {
        let needed_since = self.needs.get(&scope).map(|need| need.since).unwrap_or_default();
        Contest { field, scope, needed_since, lapsed: &self.lapsed }
    }

    fn turn_now(&mut self, field: &Field<'_>, scope: Scope) -> Turn {
        if field.policy == WanPolicy::Never {
            return Turn::Forbidden;
        }
        if let Line::Closed { until } = field.line {
            self.free_since.remove(&scope);
            self.handovers.remove(&scope);
            return Turn::Closed { until };
        }
        let contest = self.contest(field, scope);
        if let Some(other) = contest.spares_last_resort() {
            self.free_since.remove(&scope);
            return Turn::NotLastResort { other };
        }
        let claiming: Vec<NodeId> = contest.claiming(contest.better()).collect();
        let (patience, next) = (contest.offer_wait(), contest.next());
        if claiming.len() >= field.fetchers
            && let Some(by) = claiming.first()
        {
            self.free_since.remove(&scope);
            return Turn::Taken { by: *by };
        }
        let free_since = *self.free_since.entry(scope).or_insert(field.now);
        let listen_until = self.listen_until + field.listen_longer;
        if field.now < listen_until {
            return Turn::Listening { until: listen_until };
        }
        if let Some(until) = field.resting {
            return Turn::Resting { until };
        }
        let mine_already = matches!(self.turns.get(&scope), Some(Turn::Mine | Turn::Handover { .. }));
        let until = free_since + patience;
        if !mine_already && field.now < until {
            return Turn::Offered { to: next, until };
        }
        self.handover(field, scope, claiming.len())
    }

    /// The members that fetch `release` besides this node: needed to split its segments.
    pub(crate) fn co_fetchers(&self, field: &Field<'_>, release: IndexId) -> Vec<NodeId> {
        let contest = self.contest(field, Scope::Release(release));
        contest.claiming(field.candidates.iter()).take(field.fetchers - 1).collect()
    }

    /// The turn is this node's; a worse-ranked member may still be at it.
    fn handover(&mut self, field: &Field<'_>, scope: Scope, better_claiming: usize) -> Turn {
        let worse = field.candidates.iter().filter(|other| other.rank > field.rank);
        let beside_me = field.fetchers - 1 - better_claiming;
        let leaving = match scope {
            Scope::Site => None,
            Scope::Release(_) => self.contest(field, scope).claiming(worse).nth(beside_me),
        };
        let Some(from) = leaving else {
            let Some(handover) = self.handovers.get_mut(&scope) else { return Turn::Mine };
            let until = *handover.cleared.get_or_insert(field.now) + field.timing.handover_grace;
            if field.now < until {
                let from = self.turns.get(&scope).and_then(|turn| match *turn {
                    Turn::Handover { from, .. } => Some(from),
                    Turn::Mine
                    | Turn::Listening { .. }
                    | Turn::Resting { .. }
                    | Turn::Taken { .. }
                    | Turn::Offered { .. }
                    | Turn::NotLastResort { .. }
                    | Turn::Closed { .. }
                    | Turn::Forbidden => None,
                });
                return from.map_or(Turn::Mine, |from| Turn::Handover { from, until });
            }
            self.handovers.remove(&scope);
            return Turn::Mine;
        };
        let start = || Handover { since: field.now, cleared: None };
        let handover = self.handovers.entry(scope).or_insert_with(start);
        handover.cleared = None;
        let until = handover.since + field.timing.handover_max;
        if field.now < until { Turn::Handover { from, until } } else { Turn::Mine }
    }
}

/// Whether `segment` of `release` is this node's share: rendezvous hashing, so that a fetcher that comes or goes
/// moves only its own share.
pub(crate) fn is_my_share(me: NodeId, others: &[NodeId], release: &IndexId, segment: u32) -> bool {
    let weight = |node: &NodeId| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"branchmesh share").update(&release.0).update(&segment.to_le_bytes()).update(&node.0);
        *hasher.finalize().as_bytes()
    };
    others.is_empty() || {
        let mine = weight(&me);
        others.iter().all(|other| weight(other) < mine)
    }
}

/// Who competes for one turn, and who has it.
struct Contest<'a> {
    field: &'a Field<'a>,
    scope: Scope,
    /// Nobody can bring anything before it is needed.
    needed_since: Time,
    lapsed: &'a BTreeMap<NodeId, Time>,
}

impl<'a> Contest<'a> {
    fn better(&self) -> impl Iterator<Item = &'a Candidate<'a>> + use<'a> {
        let rank = self.field.rank;
        self.field.candidates.iter().take_while(move |other| other.rank < rank)
    }

    /// Those whose claims count.
    fn claiming(&self, among: impl Iterator<Item = &'a Candidate<'a>>) -> impl Iterator<Item = NodeId> {
        among.filter(|other| self.holds_claim(other)).map(|other| other.node)
    }

    /// Whom this node, a last resort, leaves the turn to.
    fn spares_last_resort(&self) -> Option<NodeId> {
        let fetcher =
            |other: &&Candidate<'_>| other.status.wan_policy == WanPolicy::Fetcher && self.may_compete(other);
        let other = self.better().find(fetcher).filter(|_| self.field.policy == WanPolicy::LastResort);
        other.map(|other| other.node)
    }

    /// Whom the turn is offered to first.
    fn next(&self) -> Option<NodeId> {
        self.better().find(|other| !other.claims() && self.may_compete(other)).map(|other| other.node)
    }

    /// How long a free turn is left to better-ranked members. Not to those who were waited for already.
    fn offer_wait(&self) -> Duration {
        let better: Vec<_> =
            self.better().filter(|other| !self.holds_claim(other) && !self.is_lapsed(other)).collect();
        let rivals = better.iter().filter(|other| self.may_compete(other)).count();
        // Those who have not heard of the release yet share one turn.
        let unaware = usize::from(rivals < better.len());
        let turns = u32::try_from(rivals + unaware).unwrap_or(u32::MAX);
        let Timing { turn, departure_grace, .. } = *self.field.timing;
        turn.saturating_mul(turns).clamp(departure_grace, TURN_WAIT_MAX)
    }

    /// Whether `other` uses the WAN for this.
    fn holds_claim(&self, other: &Candidate<'_>) -> bool {
        other.claims() && !self.is_lapsed(other) && self.may_compete(other)
    }

    /// Whether `other` claims this, and has been waited for long enough. One that was waited for in vain, for any release,
    /// is not relied on to ask for news either: a second one who asks costs next to nothing.
    fn is_lapsed(&self, other: &Candidate<'_>) -> bool {
        match self.scope {
            Scope::Site => self.lapsed.contains_key(&other.node),
            Scope::Release(_) => other.claims() && self.is_overdue(other) && self.may_compete(other),
        }
    }

    /// Whether `other` has brought nothing for long. Behind a thin line one block takes a minute: who says that bytes come in is
    /// waited for longer, but neither for ever nor for any number of them.
    fn is_overdue(&self, other: &Candidate<'_>) -> bool {
        let Timing { claim_idle_max, claim_new_max, claim_word_max, .. } = *self.field.timing;
        let (now, begun) = (self.field.now, other.progress.max(self.needed_since));
        let says_more =
            now < other.word.at + claim_new_max && (1..=WORD_BYTES_MAX).contains(&other.word.bytes);
        let patience = match (says_more, other.proven) {
            (true, _) => claim_word_max,
            (false, true) => claim_idle_max,
            (false, false) => claim_new_max,
        };
        now >= begun + patience
    }

    /// Whether `other` may want the turn, and would do something for this node with it: one that gave it bad blocks of a
    /// release does not, nor one that keeps to itself what the origin says.
    fn may_compete(&self, other: &Candidate<'_>) -> bool {
        match self.scope {
            Scope::Site => !self.field.metadata.is_withheld_by(&other.node),
            Scope::Release(release) => {
                other.lacks(&release)
                    && !self.field.quarantine.is_useless(self.field.now, other.node, release)
            }
        }
    }
}
