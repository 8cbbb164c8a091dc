//! Which bytes of one pack somebody holds: sorted ranges that neither overlap nor touch.
//!
//! A store's record of what is present, a site's account of what it holds and the head of an excerpt are all made
//! of these.

use crate::{
    codec::{self, CodecError},
    index::PACK_MAX,
};
use std::ops::Range;

/// Most ranges of one pack. A pack has some 500 blocks, more only where a release has many tiny files; the limit
/// keeps the encoding of a pack's ranges below [`EXTENTS_ENCODED_MAX`].
pub const EXTENTS_MAX: usize = 1 << 18;

/// Most bytes of the ranges of one pack, encoded: 8 bytes each, and the count.
pub const EXTENTS_ENCODED_MAX: usize = EXTENTS_MAX * 8 + 16;

/// Ranges that cannot be those of a pack.
#[derive(Debug, thiserror::Error)]
pub enum ExtentsError {
    /// The bytes are no list of ranges.
    #[error("{0}")]
    Codec(#[from] CodecError),
    /// The ranges make no sense.
    #[error("ranges overlap, are empty or lie beyond the pack's end")]
    Impossible,
}

/// A set of bytes of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extents {
    ranges: Vec<Range<u32>>,
    bytes: u64,
}

impl Extents {
    /// How many bytes are in the set.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// How many ranges it takes to say what is in the set.
    #[must_use]
    pub fn range_count(&self) -> usize {
        self.ranges.len()
    }

    /// The ranges, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    /// The longest ranges before `end` that hold nothing of the set.
    #[must_use]
    pub fn gaps(&self, end: u32) -> Self {
        let mut gaps = Self::default();
        gaps.insert(&(0..end));
        gaps.remove_all(self);
        gaps
    }

    /// Whether all of `range` is in the set.
    #[must_use]
    pub fn contains(&self, range: &Range<u32>) -> bool {
        let at = self.ranges.partition_point(|have| have.end < range.end);
        self.ranges.get(at).is_some_and(|have| have.start <= range.start && range.end <= have.end)
    }

    /// Whether anything of `range` is in the set.
    #[must_use]
    pub fn touches(&self, range: &Range<u32>) -> bool {
        let at = self.ranges.partition_point(|have| have.end <= range.start);
        self.ranges.get(at).is_some_and(|have| have.start < range.end)
    }

    /// Adds `range`, and merges it with what it overlaps or touches.
    pub fn insert(&mut self, range: &Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|have| have.end < range.start);
        let last = self.ranges.partition_point(|have| have.start <= range.end);
        let swallowed = &self.ranges[first..last];
        let start = swallowed.first().map_or(range.start, |have| have.start.min(range.start));
        let end = swallowed.last().map_or(range.end, |have| have.end.max(range.end));
        self.bytes = self.bytes - sum(swallowed) + u64::from(end - start);
        self.ranges.splice(first..last, std::iter::once(start..end));
    }

    /// Takes `range` out.
    pub fn remove(&mut self, range: &Range<u32>) {
        if range.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|have| have.end <= range.start);
        let last = self.ranges.partition_point(|have| have.start < range.end);
        let cut = &self.ranges[first..last];
        let left = cut.first().map(|have| have.start..range.start);
        let right = cut.last().map(|have| range.end..have.end);
        let kept: Vec<Range<u32>> = left.into_iter().chain(right).filter(|rest| !rest.is_empty()).collect();
        self.bytes = self.bytes - sum(cut) + sum(&kept);
        self.ranges.splice(first..last, kept);
    }

    /// Adds every range of `other`.
    pub fn insert_all(&mut self, other: &Self) {
        other.ranges.iter().for_each(|range| self.insert(range));
    }

    /// Takes every range of `other` out.
    pub fn remove_all(&mut self, other: &Self) {
        other.ranges.iter().for_each(|range| self.remove(range));
    }

    /// Keeps only what is in `other`, too.
    pub fn retain_all(&mut self, other: &Self) {
        let mut rest = self.clone();
        rest.remove_all(other);
        self.remove_all(&rest);
    }

    /// For each range the gap before it and its length: small numbers for the codec.
    #[must_use]
    pub fn to_steps(&self) -> Vec<(u32, u32)> {
        let mut end = 0;
        let step = |range: &Range<u32>| {
            let gap = range.start - end;
            end = range.end;
            (gap, range.end - range.start)
        };
        self.ranges.iter().map(step).collect()
    }

    /// The set that `steps` describe, checked.
    pub fn from_steps(steps: Vec<(u32, u32)>) -> Result<Self, ExtentsError> {
        if steps.len() > EXTENTS_MAX {
            return Err(ExtentsError::Impossible);
        }
        let mut extents = Self { ranges: Vec::with_capacity(steps.len()), bytes: 0 };
        let mut end: u32 = 0;
        for (number, (gap, length)) in steps.into_iter().enumerate() {
            let start = end.checked_add(gap).ok_or(ExtentsError::Impossible)?;
            end = start.checked_add(length).ok_or(ExtentsError::Impossible)?;
            let touches = number > 0 && gap == 0;
            if touches || length == 0 || end > PACK_MAX {
                return Err(ExtentsError::Impossible);
            }
            extents.ranges.push(start..end);
            extents.bytes += u64::from(length);
        }
        Ok(extents)
    }

    /// The set, encoded.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(&self.to_steps())
    }

    /// Reads and checks an encoded set.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExtentsError> {
        Self::from_steps(codec::decode::<_, EXTENTS_ENCODED_MAX>(bytes)?)
    }
}

fn sum(ranges: &[Range<u32>]) -> u64 {
    ranges.iter().map(|range| u64::from(range.end - range.start)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// Small numbers, so that ranges often overlap, touch and swallow each other.
    const WORLD: u32 = 64;

    fn range() -> impl Strategy<Value = Range<u32>> {
        (0..WORLD, 0..20u32).prop_map(|(start, length)| start..(start + length).min(WORLD))
    }

    fn check(extents: &Extents, model: &BTreeSet<u32>) -> Result<(), TestCaseError> {
        prop_assert_eq!(extents.bytes(), model.len() as u64);
        let bytes: BTreeSet<u32> = extents.ranges.iter().flat_map(Clone::clone).collect();
        prop_assert_eq!(&bytes, model);
        let apart = extents.ranges.windows(2).all(|pair| pair[0].end < pair[1].start);
        prop_assert!(apart, "{:?} is not sorted and merged", extents);
        Ok(())
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_set_of_bytes(steps in prop::collection::vec((any::<bool>(), range()), 0..60), probe in range()) {
            let mut extents = Extents::default();
            let mut model = BTreeSet::new();
            for (insert, range) in steps {
                if insert {
                    extents.insert(&range);
                    model.extend(range);
                } else {
                    extents.remove(&range);
                    model.retain(|byte| !range.contains(byte));
                }
                check(&extents, &model)?;
            }
            if !probe.is_empty() {
                prop_assert_eq!(extents.contains(&probe), probe.clone().all(|byte| model.contains(&byte)));
                prop_assert_eq!(extents.touches(&probe), probe.clone().any(|byte| model.contains(&byte)));
            }
            check(&extents.gaps(WORLD), &(0..WORLD).filter(|byte| !model.contains(byte)).collect())?;
            prop_assert_eq!(&Extents::from_bytes(&extents.to_bytes()).unwrap(), &extents);
        }

        #[test]
        fn union_and_difference_behave_like_those_of_sets(
            left in prop::collection::vec(range(), 0..20),
            right in prop::collection::vec(range(), 0..20),
        ) {
            let build = |ranges: &[Range<u32>]| {
                let mut extents = Extents::default();
                ranges.iter().for_each(|range| extents.insert(range));
                (extents, ranges.iter().flat_map(Clone::clone).collect::<BTreeSet<u32>>())
            };
            let ((left, left_model), (right, right_model)) = (build(&left), build(&right));
            let mut union = left.clone();
            union.insert_all(&right);
            check(&union, &left_model.union(&right_model).copied().collect())?;
            let mut rest = left;
            rest.remove_all(&right);
            check(&rest, &left_model.difference(&right_model).copied().collect())?;
            let mut common = union;
            common.retain_all(&right);
            check(&common, &right_model)?;
        }

        #[test]
        fn hostile_encodings_are_refused_or_consistent(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(extents) = Extents::from_bytes(&bytes) {
                prop_assert!(extents.ranges.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert!(extents.ranges.iter().all(|range| !range.is_empty() && range.end <= PACK_MAX));
                prop_assert_eq!(extents.bytes(), sum(&extents.ranges));
            }
        }
    }

    #[test]
    fn the_largest_set_is_readable() {
        let mut extents = Extents::default();
        for number in 0..u32::try_from(EXTENTS_MAX).unwrap() {
            extents.ranges.push(number * 100..number * 100 + 50);
        }
        extents.bytes = EXTENTS_MAX as u64 * 50;
        assert_eq!(Extents::from_bytes(&extents.to_bytes()).unwrap(), extents);
    }
}
