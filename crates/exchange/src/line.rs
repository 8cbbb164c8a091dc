//! Whether the site's line to the WAN is open to this node.
//!
//! A schedule closes it by the hours of the day. Here is no clock on the wall: the agent says when the line closes and
//! when it opens, and nothing opens it but the agent's word. While it is closed, the node is to the site one that may
//! not use the WAN at all, so that nobody waits for it, and a member whose line is open goes first.

use crate::{exchange::Exchange, time::Time, transfers::From};
use branchmesh_wire::WanPolicy;

/// The line, as this node may use it now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Line {
    #[default]
    Open,
    /// Nothing is asked of a WAN origin. When it is to open, if that is known, is for people only.
    Closed { until: Option<Time> },
}

impl Exchange {
    /// The line is closed to this node until [`set_wan_open`](Self::set_wan_open), about which `until` only tells
    /// people. What it was fetching is cancelled now; blocks that have come are kept.
    pub fn set_wan_closed(&mut self, now: Time, until: Option<Time>) {
        let before = std::mem::replace(&mut self.origin.line, Line::Closed { until });
        self.lease.stale |= before != self.origin.line;
        if before == Line::Open {
            self.drop_transfers_where(|transfer| transfer.from == From::Origin);
            self.origin.hang_up();
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// The line is open to this node, as it is at the start.
    pub fn set_wan_open(&mut self, now: Time) {
        let before = std::mem::replace(&mut self.origin.line, Line::Open);
        if before != Line::Open {
            // Whoever could not ask for hours would doubt the others now, all at once.
            self.origin.trust(now, &mut self.rng);
            self.lease.stale = true;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// What this node may do with the WAN now.
    pub(crate) fn wan_policy(&self) -> WanPolicy {
        match self.origin.line {
            Line::Open => self.config.wan,
            Line::Closed { .. } => WanPolicy::Never,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        action::{Action, TransferId},
        config::{Config, Timing},
        release::NewRelease,
        report::Waiting,
    };
    use branchmesh_wire::{BlockSet, IndexId, NodeId, Role, Segments};
    use std::time::Duration;

    const BLOCKS: u32 = 100;

    /// A node that is alone with an origin, and what it wanted since it was asked last.
    struct Node {
        exchange: Exchange,
        now: Time,
        release: IndexId,
    }

    impl Node {
        fn new() -> Self {
            let config = Config {
                node: NodeId([1; 32]),
                name: "pc-01".into(),
                peer_id: "pc-01".into(),
                role: Role::Client,
                wan: WanPolicy::Fetcher,
                addresses: Vec::new(),
                incarnation: 1,
                fetchers: 1,
                timing: Timing::default(),
            };
            let release = IndexId::of(b"release");
            let mut exchange = Exchange::new(config, 1, Time::ZERO);
            let new = NewRelease {
                release,
                segments: Segments::of(vec![100_000; BLOCKS as usize]),
                have: BlockSet::empty(BLOCKS),
                sources: Vec::new(),
                wanted: true,
            };
            exchange.add_release(Time::ZERO, new).unwrap();
            Self { exchange, now: Time::ZERO, release }
        }

        fn run(&mut self, seconds: u64) -> Vec<Action> {
            let end = self.now + Duration::from_secs(seconds);
            let mut actions = self.take();
            while let Some((at, _)) = self.exchange.poll_timeout().filter(|(at, _)| *at <= end) {
                self.exchange.handle_timeout(at);
                actions.extend(self.take());
            }
            self.now = end;
            actions
        }

        fn take(&mut self) -> Vec<Action> {
            std::iter::from_fn(|| self.exchange.poll_action()).collect()
        }

        fn waiting(&self) -> Option<Waiting> {
            self.exchange.release(self.now, &self.release).unwrap().waiting
        }
    }

    fn fetches(actions: &[Action]) -> Vec<TransferId> {
        let fetch = |action: &Action| {
            if let Action::Fetch { transfer, .. } = action { Some(*transfer) } else { None }
        };
        actions.iter().filter_map(fetch).collect()
    }

    /// Whether the origin is asked for anything, or the site told that this node may do so.
    fn uses_wan(actions: &[Action]) -> bool {
        actions.iter().any(|action| {
            matches!(action, Action::Fetch { .. } | Action::PollOrigin)
                || matches!(action, Action::Gossip(status) if status.wan_policy != WanPolicy::Never)
        })
    }

    #[test]
    fn a_line_that_is_closed_from_the_start_is_not_used_and_says_when_it_opens() {
        let mut node = Node::new();
        let opens = Time::after_start(Duration::from_secs(3600));
        node.take();
        node.exchange.set_wan_closed(node.now, Some(opens));
        // Also not to look after those who say that there is no news.
        assert!(!uses_wan(&node.run(3000)));
        assert!(!node.exchange.is_fetcher());
        let left = Some(Duration::from_secs(600));
        assert_eq!(node.waiting(), Some(Waiting::WanClosed { left }));
        node.exchange.set_wan_closed(node.now, None);
        assert_eq!(node.waiting(), Some(Waiting::WanClosed { left: None }));
        // Its end is the agent's to say: the clock on the wall may be set.
        assert!(!uses_wan(&node.run(1000)));
        node.exchange.set_wan_open(node.now);
        let actions = node.run(10);
        assert!(!fetches(&actions).is_empty() && actions.contains(&Action::PollOrigin));
    }

    #[test]
    fn a_line_that_closes_ends_the_fetches_at_once_and_what_came_stays() {
        let mut node = Node::new();
        // One block at a time, as long as nothing is known of the line.
        let first = fetches(&node.run(10));
        node.exchange.handle_block_stored(node.now, first[0], 0);
        let under_way = fetches(&node.take());
        assert!(!under_way.is_empty());
        node.exchange.set_wan_closed(node.now, None);
        let actions = node.take();
        for transfer in &under_way {
            assert!(actions.contains(&Action::Cancel { transfer: *transfer }));
        }
        assert!(!uses_wan(&actions) && !node.exchange.is_fetcher());
        // It was on its way.
        node.exchange.handle_block_stored(node.now, under_way[0], 1);
        let report = node.exchange.release(node.now, &node.release).unwrap();
        assert_eq!((report.blocks_have, report.in_flight_wan), (2, 0));
        assert_eq!(report.waiting, Some(Waiting::WanClosed { left: None }));
        assert!(!uses_wan(&node.run(2000)));
        // The answer to a question from before is no failure of the origin.
        node.exchange.handle_origin_poll(node.now, false);
        node.exchange.set_wan_open(node.now);
        assert!(!fetches(&node.run(10)).is_empty());
    }
}
