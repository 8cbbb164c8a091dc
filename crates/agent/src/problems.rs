//! What is wrong with this node, in words, until it stops being news.

use branchmesh_exchange::Time;
use std::collections::BTreeMap;

/// What a problem is about. There is at most one of each kind: the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Problem {
    /// The disk does not take blocks.
    Disk,
    /// The disk does not keep blocks.
    Rot,
    /// An origin failed.
    Origin,
    /// No new metadata comes.
    Metadata,
    /// A device was refused.
    Refused,
}

/// The problems, each with the moment when it stops being news.
#[derive(Default)]
pub(crate) struct Problems(BTreeMap<Problem, (String, Time)>);

impl Problems {
    pub fn set(&mut self, problem: Problem, words: String, until: Time) {
        self.0.insert(problem, (words, until));
    }

    pub fn clear(&mut self, problem: Problem) {
        self.0.remove(&problem);
    }

    pub fn forget_old(&mut self, now: Time) {
        self.0.retain(|_, (_, until)| now < *until);
    }

    /// One of them, in words.
    pub fn get(&self, problem: Problem) -> Option<&str> {
        self.0.get(&problem).map(|(words, _)| words.as_str())
    }

    /// All, in words.
    pub fn all(&self) -> Vec<String> {
        self.0.values().map(|(words, _)| words.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_problem_is_replaced_by_a_newer_one_and_forgotten_in_time() {
        let at = |seconds| Time::after_start(Duration::from_secs(seconds));
        let mut problems = Problems::default();
        problems.set(Problem::Origin, "old".into(), at(10));
        problems.set(Problem::Origin, "new".into(), at(20));
        problems.set(Problem::Disk, "full".into(), at(5));
        assert_eq!(problems.all(), ["full", "new"]);
        problems.forget_old(at(5));
        assert_eq!(problems.all(), ["new"]);
        assert_eq!(problems.get(Problem::Disk), None);
        problems.clear(Problem::Origin);
        assert_eq!(problems.all(), [""; 0]);
    }
}
