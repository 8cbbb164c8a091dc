//! Which releases stay on this node and why, and in which order the others go.
//!
//! One judgement serves both `status`, which explains it, and the loop, which removes what is beyond
//! `keep_releases`: what is explained is what happens.

use branchmesh_wire::IndexId;
use std::{cmp::Reverse, collections::BTreeMap, fmt};

/// A release of which something lies on this node.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub id: IndexId,
    pub image: &'a str,
    /// Whether the repository has it no longer.
    pub withdrawn: bool,
    /// When it was published, in Unix seconds.
    pub published: u64,
    /// Number of its publication.
    pub sequence: u64,
    /// Whether its files are in place.
    pub complete: bool,
    /// Whether it was pinned: it does not count towards `keep_releases`.
    pub pinned: bool,
    /// What else it is needed for, whatever its age.
    pub needed: Vec<Reason>,
}

/// Why a release stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// `current` names it.
    Active,
    /// Somebody pinned it.
    Pinned,
    /// A subscription means it.
    Subscribed,
    /// Somebody asked for it.
    Asked,
    /// Something is done with it just now.
    Busy,
    /// Others of the site fetch it, and nobody else has all of it.
    LastCopy,
    /// It is one of so many that are kept for their age.
    Newest(u32),
    /// It is not complete, and nothing newer is: its blocks spare others.
    Unfinished,
}

/// What becomes of a release.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Why it stays; nothing if it goes.
    pub reasons: Vec<Reason>,
    /// Its place among those that go when others come: the first goes first. `None` while it is needed.
    pub goes: Option<u32>,
}

impl Verdict {
    /// Whether it is removed now.
    pub fn is_surplus(&self) -> bool {
        self.reasons.is_empty()
    }

    /// Why it stays, in words.
    pub fn words(&self) -> Option<String> {
        let words: Vec<String> = self.reasons.iter().map(ToString::to_string).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active => f.write_str("active"),
            Self::Pinned => f.write_str("pinned"),
            Self::Subscribed => f.write_str("subscribed"),
            Self::Asked => f.write_str("asked for"),
            Self::Busy => f.write_str("on its way"),
            Self::LastCopy => f.write_str("the site's only whole copy, which others fetch"),
            Self::Newest(1) => f.write_str("the newest"),
            Self::Newest(keep) => write!(f, "one of the newest {keep}"),
            Self::Unfinished => f.write_str("unfinished, until a newer one is complete"),
        }
    }
}

impl Candidate<'_> {
    /// Its place among the releases of its image: the older, the less. What the repository has no longer is older
    /// than all that it has.
    fn age(&self) -> (bool, u64, IndexId) {
        (!self.withdrawn, self.sequence, self.id)
    }

    /// Its place among all releases: numbers of publications say nothing across groups, time does.
    fn age_of_all(&self) -> (bool, u64, u64, IndexId) {
        (!self.withdrawn, self.published, self.sequence, self.id)
    }
}

/// Judges all releases of this node, when `keep` complete ones of each image are kept for their age.
pub(crate) fn judge(candidates: &[Candidate<'_>], keep: u32) -> BTreeMap<IndexId, Verdict> {
    let mut images: BTreeMap<&str, Vec<&Candidate<'_>>> = BTreeMap::new();
    for candidate in candidates {
        images.entry(candidate.image).or_default().push(candidate);
    }
    let mut verdicts = BTreeMap::new();
    for releases in images.values_mut() {
        releases.sort_unstable_by_key(|release| Reverse(release.age()));
        let (mut counted, mut newer_is_complete) = (0, false);
        for release in releases {
            let mut reasons = release.needed.clone();
            if release.pinned {
                reasons.push(Reason::Pinned);
            }
            if release.complete && !release.pinned {
                counted += 1;
                if counted <= keep {
                    reasons.push(Reason::Newest(keep));
                }
            } else if reasons.is_empty() && !newer_is_complete {
                reasons.push(Reason::Unfinished);
            }
            newer_is_complete |= release.complete;
            verdicts.insert(release.id, Verdict { reasons, goes: None });
        }
    }
    let mut leaving: Vec<&Candidate<'_>> =
        candidates.iter().filter(|candidate| !candidate.pinned && candidate.needed.is_empty()).collect();
    leaving.sort_unstable_by_key(|candidate| (!verdicts[&candidate.id].is_surplus(), candidate.age_of_all()));
    for (place, candidate) in (1..).zip(leaving) {
        if let Some(verdict) = verdicts.get_mut(&candidate.id) {
            verdict.goes = Some(place);
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str, sequence: u64) -> Candidate<'_> {
        Candidate {
            id: IndexId::of(format!("{name} {sequence}").as_bytes()),
            image: name,
            withdrawn: false,
            published: 1000 + sequence,
            sequence,
            complete: true,
            pinned: false,
            needed: Vec::new(),
        }
    }

    fn needed<'a>(release: &Candidate<'a>, reason: Reason) -> Candidate<'a> {
        Candidate { needed: vec![reason], ..release.clone() }
    }

    /// The numbers of the releases that go now, and those that go next, in order.
    fn judged(candidates: &[Candidate<'_>], keep: u32) -> (Vec<u64>, Vec<u64>) {
        let verdicts = judge(candidates, keep);
        let mut order: Vec<_> =
            candidates.iter().filter_map(|one| Some((verdicts[&one.id].goes?, one))).collect();
        order.sort_unstable_by_key(|(place, _)| *place);
        assert!(order.iter().zip(1..).all(|((place, _), expected)| *place == expected));
        let (now, later): (Vec<_>, Vec<_>) =
            order.into_iter().map(|(_, one)| one).partition(|one| verdicts[&one.id].is_surplus());
        let numbers = |all: Vec<&Candidate<'_>>| all.into_iter().map(|one| one.sequence).collect();
        (numbers(now), numbers(later))
    }

    #[test]
    fn the_newest_stay_and_the_oldest_goes_first() {
        let releases = [3, 1, 4, 2].map(|number| release("xp", number));
        assert_eq!(judged(&releases, 2), (vec![1, 2], vec![3, 4]));
        assert_eq!(judged(&releases, 9), (vec![], vec![1, 2, 3, 4]));
    }

    #[test]
    fn a_pinned_release_stays_and_leaves_the_others_their_places() {
        let pinned = Candidate { pinned: true, ..release("xp", 1) };
        let releases = [pinned.clone(), release("xp", 2), release("xp", 3), release("xp", 4)];
        assert_eq!(judged(&releases, 2), (vec![2], vec![3, 4]));
        let newest = Candidate { pinned: true, ..release("xp", 4) };
        let releases = [pinned, release("xp", 2), release("xp", 3), newest];
        assert_eq!(judged(&releases, 2), (vec![], vec![2, 3]));
    }

    #[test]
    fn an_active_release_stays_whatever_its_age_and_counts_if_it_is_among_the_newest() {
        let releases = [needed(&release("xp", 1), Reason::Active), release("xp", 2), release("xp", 3)];
        assert_eq!(judged(&releases, 1), (vec![2], vec![3]));
        let releases = [release("xp", 1), release("xp", 2), needed(&release("xp", 3), Reason::Active)];
        assert_eq!(judged(&releases, 2), (vec![1], vec![2]));
        let verdicts = judge(&releases, 2);
        assert_eq!(verdicts[&releases[2].id].words().unwrap(), "active, one of the newest 2");
    }

    #[test]
    fn images_do_not_take_each_others_places_and_stand_in_one_order() {
        let releases = [release("a", 1), release("b", 2), release("a", 3), release("b", 4)];
        assert_eq!(judged(&releases, 1), (vec![1, 2], vec![3, 4]));
    }

    #[test]
    fn what_the_repository_has_no_longer_goes_before_the_oldest() {
        let withdrawn = Candidate { withdrawn: true, ..release("xp", 3) };
        let releases = [release("xp", 1), release("xp", 2), withdrawn];
        assert_eq!(judged(&releases, 2), (vec![3], vec![1, 2]));
    }

    #[test]
    fn what_is_unfinished_stays_until_something_newer_is_complete() {
        let unfinished = Candidate { complete: false, ..release("xp", 2) };
        assert_eq!(judged(&[release("xp", 1), unfinished.clone()], 2), (vec![], vec![1, 2]));
        assert_eq!(judged(&[unfinished.clone(), release("xp", 3)], 2), (vec![2], vec![3]));
        let busy = needed(&unfinished, Reason::Busy);
        assert_eq!(judged(&[busy, release("xp", 3)], 2), (vec![], vec![3]));
    }
}
