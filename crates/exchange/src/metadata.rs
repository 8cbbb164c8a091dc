//! From whom newer metadata is taken: one member at a time, any that is connected and says that it has some.

use crate::{backoff::doubled, config::Timing, time::Time};
use branchmesh_wire::NodeId;
use std::{collections::BTreeMap, time::Duration};

/// The longest pause after a member failed to give its metadata.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// Failures in a row after which a member that asks the origin for the site is not relied on to pass on the answer.
const FAILURES_TO_DISTRUST: u32 = 3;

#[derive(Default)]
pub(crate) struct Metadata {
    /// The newest verified version here.
    pub(crate) version: u64,
    /// Whom this node has asked, and when, and what it had then.
    asked: Option<(NodeId, Time, u64)>,
    /// Failures in a row, and until when not to ask.
    failures: BTreeMap<NodeId, (u32, Time)>,
}

impl Metadata {
    /// A newer version was verified here. Whoever has a still newer one may be asked for it at once.
    pub(crate) fn advance(&mut self, version: u64) {
        self.version = version;
        self.failures.clear();
    }

    /// Whether nobody is being asked.
    pub(crate) fn is_free(&self, now: Time, timing: &Timing) -> bool {
        self.asked.is_none_or(|(_, at, _)| now >= at + timing.metadata_timeout)
    }

    pub(crate) fn may_ask(&self, now: Time, node: &NodeId) -> bool {
        self.failures.get(node).is_none_or(|(_, until)| *until <= now)
    }

    /// Whether `node` keeps promising newer metadata that it does not give.
    pub(crate) fn is_withheld_by(&self, node: &NodeId) -> bool {
        self.failures.get(node).is_some_and(|(times, _)| *times >= FAILURES_TO_DISTRUST)
    }

    pub(crate) fn ask(&mut self, now: Time, node: NodeId, timing: &Timing) {
        if let Some((silent, _, _)) = self.asked.take() {
            self.fail(now, silent, timing);
        }
        self.asked = Some((node, now, self.version));
    }

    /// `node` answered. One that promised newer metadata and gave none has failed.
    pub(crate) fn answered(&mut self, now: Time, node: NodeId, ok: bool, timing: &Timing) {
        let before = self.asked.take_if(|(asked, _, _)| *asked == node).map(|(_, _, version)| version);
        if ok && before.is_none_or(|version| self.version > version) {
            self.failures.remove(&node);
        } else {
            self.fail(now, node, timing);
        }
    }

    /// Forgets those who are not members any more.
    pub(crate) fn retain(&mut self, is_member: impl Fn(&NodeId) -> bool) {
        self.failures.retain(|node, _| is_member(node));
        self.asked.take_if(|(node, _, _)| !is_member(node));
    }

    pub(crate) fn next(&self, now: Time, timing: &Timing) -> Option<Time> {
        let silent = self.asked.map(|(_, at, _)| at + timing.metadata_timeout);
        let retries = self.failures.values().map(|(_, until)| *until);
        silent.into_iter().chain(retries).filter(|at| *at > now).min()
    }

    fn fail(&mut self, now: Time, node: NodeId, timing: &Timing) {
        let (times, until) = self.failures.entry(node).or_insert((0, now));
        *until = now + doubled(timing.metadata_backoff, *times, BACKOFF_MAX);
        *times = times.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_promises_and_does_not_give_is_left_alone_for_longer_and_longer() {
        let timing = Timing::default();
        let node = NodeId([1; 32]);
        let mut metadata = Metadata::default();
        let mut now = Time::ZERO;
        for pause in [1, 2, 4, 8] {
            assert!(metadata.is_free(now, &timing) && metadata.may_ask(now, &node));
            metadata.ask(now, node, &timing);
            assert!(!metadata.is_free(now, &timing));
            metadata.answered(now, node, true, &timing);
            let until = now + Duration::from_secs(pause);
            assert_eq!(metadata.next(now, &timing), Some(until));
            assert!(!metadata.may_ask(now, &node));
            assert_eq!(metadata.is_withheld_by(&node), pause >= 4);
            now = until;
        }
        metadata.ask(now, node, &timing);
        metadata.advance(7);
        metadata.answered(now, node, true, &timing);
        assert!(metadata.may_ask(now, &node), "it kept its promise");
        // Also where the version is told after the answer.
        metadata.ask(now, node, &timing);
        metadata.answered(now, node, true, &timing);
        metadata.advance(8);
        assert!(metadata.may_ask(now, &node));
    }

    #[test]
    fn a_member_that_never_answers_is_given_up() {
        let timing = Timing::default();
        let (silent, other) = (NodeId([1; 32]), NodeId([2; 32]));
        let mut metadata = Metadata::default();
        metadata.ask(Time::ZERO, silent, &timing);
        let later = Time::ZERO + timing.metadata_timeout;
        assert!(metadata.is_free(later, &timing));
        metadata.ask(later, other, &timing);
        assert!(!metadata.may_ask(later, &silent) && metadata.may_ask(later, &other));
    }
}
