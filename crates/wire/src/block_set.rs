//! Sets of blocks of one release: have-maps, and what is missing, wanted or in flight.

use crate::limits::{RELEASE_BLOCKS_MAX, RUNS_MAX};
use bincode::{
    Decode, Encode,
    de::{BorrowDecoder, Decoder},
    enc::Encoder,
    error::{DecodeError, EncodeError},
};
use std::{fmt, ops::Range};

/// A set of block indices below a fixed count, one bit each.
///
/// On the wire it is the shorter of its runs and its bitmap.
#[derive(Clone, PartialEq, Eq)]
pub struct BlockSet {
    words: Vec<u64>,
    blocks: u32,
    len: u32,
}

#[derive(Encode, Decode)]
enum Encoded {
    /// Alternating lengths of absent and present blocks.
    Runs(Vec<u32>),
    /// One bit a block, lowest bit first.
    Bitmap(Vec<u8>),
}

impl BlockSet {
    /// No block of `blocks`.
    #[must_use]
    pub fn empty(blocks: u32) -> Self {
        Self { words: vec![0; (blocks as usize).div_ceil(64)], blocks, len: 0 }
    }

    /// All `blocks`.
    #[must_use]
    pub fn full(blocks: u32) -> Self {
        let mut set = Self::empty(blocks);
        set.insert_range(0..blocks);
        set
    }

    /// How many blocks there could be.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.blocks
    }

    /// How many are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all are.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len == self.blocks
    }

    /// Whether `block` is in the set; blocks beyond the count never are.
    #[must_use]
    pub fn contains(&self, block: u32) -> bool {
        block < self.blocks && self.words[block as usize / 64] >> (block % 64) & 1 == 1
    }

    /// Adds `block`; true if it was not in the set. Blocks beyond the count are ignored.
    pub fn insert(&mut self, block: u32) -> bool {
        if block >= self.blocks || self.contains(block) {
            return false;
        }
        self.words[block as usize / 64] |= 1 << (block % 64);
        self.len += 1;
        true
    }

    /// Takes `block` out; true if it was in the set.
    pub fn remove(&mut self, block: u32) -> bool {
        if !self.contains(block) {
            return false;
        }
        self.words[block as usize / 64] &= !(1 << (block % 64));
        self.len -= 1;
        true
    }

    /// Adds a run of blocks, cut off at the count.
    pub fn insert_range(&mut self, blocks: Range<u32>) {
        for block in blocks.start..blocks.end.min(self.blocks) {
            self.insert(block);
        }
    }

    /// Adds all of `other`, which has the same count.
    pub fn union_with(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine | theirs);
    }

    /// Takes all of `other`, which has the same count, out.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & !theirs);
    }

    /// Keeps only what is in `other`, which has the same count, too.
    pub fn intersect_with(&mut self, other: &Self) {
        self.combine(other, |mine, theirs| mine & theirs);
    }

    fn combine(&mut self, other: &Self, operation: impl Fn(u64, u64) -> u64) {
        assert_eq!(self.blocks, other.blocks, "sets of two releases were mixed");
        for (mine, theirs) in self.words.iter_mut().zip(&other.words) {
            *mine = operation(*mine, *theirs);
        }
        self.len = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// The blocks, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).zip(&self.words).flat_map(|(at, word)| bits_of(at, *word))
    }

    /// The blocks of `range` that are in the set, in ascending order.
    pub fn iter_range(&self, range: Range<u32>) -> impl Iterator<Item = u32> + use<'_> {
        self.words_of(range).flat_map(|(at, word)| bits_of(at, word))
    }

    /// The blocks of `range` that are in both sets, which have the same count, in ascending order.
    pub fn iter_common<'a>(
        &'a self,
        other: &'a Self,
        range: Range<u32>,
    ) -> impl Iterator<Item = u32> + use<'a> {
        self.words_of(range).flat_map(|(at, word)| bits_of(at, word & other.words[at as usize]))
    }

    /// The words in which `range` lies, without the blocks outside of it, and the number of each.
    fn words_of(&self, range: Range<u32>) -> impl Iterator<Item = (u32, u64)> + use<'_> {
        let range = range.start..range.end.min(self.blocks);
        let words = range.start / 64..range.end.div_ceil(64);
        words.map(move |at| {
            let from = range.start.saturating_sub(at * 64);
            let to = (range.end - at * 64).min(64);
            let mask = if from < to { u64::MAX >> (64 - (to - from)) << from } else { 0 };
            (at, self.words[at as usize] & mask)
        })
    }

    /// The blocks as runs, in ascending order.
    pub fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        runs_of(self.iter())
    }

    fn encoded(&self) -> Encoded {
        let bitmap_bytes = (self.blocks as usize).div_ceil(8);
        let mut runs = Vec::new();
        let mut at = 0;
        for run in self.runs() {
            runs.extend([run.start - at, run.end - run.start]);
            at = run.end;
            // A length takes one to five bytes: two bytes each on average is where the bitmap wins.
            if runs.len() * 2 > bitmap_bytes {
                let bytes = self.words.iter().flat_map(|word| word.to_le_bytes());
                return Encoded::Bitmap(bytes.take(bitmap_bytes).collect());
            }
        }
        Encoded::Runs(runs)
    }

    fn from_encoded(blocks: u32, encoded: Encoded) -> Option<Self> {
        let mut set = (blocks <= RELEASE_BLOCKS_MAX).then(|| Self::empty(blocks))?;
        match encoded {
            Encoded::Runs(runs) => {
                let mut at = 0u32;
                for pair in runs.chunks(2) {
                    let start = at.checked_add(pair[0])?;
                    at = start.checked_add(*pair.get(1)?).filter(|end| *end <= blocks)?;
                    set.insert_range(start..at);
                }
            }
            Encoded::Bitmap(bytes) => {
                if bytes.len() != (blocks as usize).div_ceil(8) {
                    return None;
                }
                for (word, bytes) in set.words.iter_mut().zip(bytes.chunks(8)) {
                    let mut full = [0; 8];
                    full[..bytes.len()].copy_from_slice(bytes);
                    *word = u64::from_le_bytes(full);
                }
                let spare = set.words.len() as u32 * 64 - blocks;
                if set.words.last().is_some_and(|last| spare > 0 && last.leading_zeros() < spare) {
                    return None;
                }
                set.len = set.words.iter().map(|word| word.count_ones()).sum();
            }
        }
        Some(set)
    }
}

/// The blocks that the word with the number `at` stands for, in ascending order.
fn bits_of(at: u32, word: u64) -> impl Iterator<Item = u32> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let bit = (rest != 0).then(|| rest.trailing_zeros())?;
        rest &= rest - 1;
        Some(at * 64 + bit)
    })
}

/// Joins ascending block indices into runs.
pub fn runs_of(blocks: impl Iterator<Item = u32>) -> impl Iterator<Item = Range<u32>> {
    let mut blocks = blocks.peekable();
    std::iter::from_fn(move || {
        let start = blocks.next()?;
        let mut end = start + 1;
        while blocks.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(start..end)
    })
}

/// Runs of blocks as they travel: (first, count), at most [`RUNS_MAX`] of them.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Runs(Vec<(u32, u32)>);

impl Runs {
    /// Packs ascending block indices into as many messages' worth of runs as they need.
    #[must_use]
    pub fn pack(blocks: impl Iterator<Item = u32>) -> Vec<Self> {
        let runs: Vec<(u32, u32)> = runs_of(blocks).map(|run| (run.start, run.end - run.start)).collect();
        runs.chunks(RUNS_MAX).map(|runs| Self(runs.to_vec())).collect()
    }

    /// The blocks, in the order in which they were named; at most `limit` of them, however large the runs claim to be.
    pub fn blocks(&self, limit: u32) -> impl Iterator<Item = u32> + '_ {
        let runs = self.0.iter().take(RUNS_MAX);
        runs.flat_map(|(first, count)| *first..first.saturating_add(*count)).take(limit as usize)
    }
}

impl Encode for BlockSet {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.blocks.encode(encoder)?;
        self.encoded().encode(encoder)
    }
}

impl<C> Decode<C> for BlockSet {
    fn decode<D: Decoder<Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let blocks = u32::decode(decoder)?;
        Self::from_encoded(blocks, Encoded::decode(decoder)?)
            .ok_or(DecodeError::Other("a set of blocks contradicts itself"))
    }
}

impl<'de, C> bincode::BorrowDecode<'de, C> for BlockSet {
    fn borrow_decode<D: BorrowDecoder<'de, Context = C>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

impl fmt::Debug for BlockSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockSet({} of {})", self.len, self.blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::NOTE_MAX;
    use branchmesh_image::codec;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(blocks: u32, members: impl IntoIterator<Item = u32>) -> BlockSet {
        let mut set = BlockSet::empty(blocks);
        for member in members {
            set.insert(member);
        }
        set
    }

    #[test]
    fn the_worst_map_of_the_largest_release_fits_into_a_note() {
        let worst = set(RELEASE_BLOCKS_MAX, (0..RELEASE_BLOCKS_MAX).step_by(2));
        let bytes = codec::encode(&worst);
        assert!(bytes.len() <= NOTE_MAX, "{} bytes", bytes.len());
        assert_eq!(codec::decode::<BlockSet, NOTE_MAX>(&bytes).unwrap(), worst);
        assert!(codec::encode(&BlockSet::full(RELEASE_BLOCKS_MAX)).len() < 20);
    }

    #[test]
    fn maps_that_contradict_themselves_are_refused() {
        for (blocks, encoded) in [
            (10, Encoded::Runs(vec![0, 11])),
            (10, Encoded::Runs(vec![5])),
            (10, Encoded::Runs(vec![u32::MAX, u32::MAX])),
            (10, Encoded::Bitmap(vec![0xff, 0xff])),
            (10, Encoded::Bitmap(vec![0xff])),
            (RELEASE_BLOCKS_MAX + 1, Encoded::Runs(Vec::new())),
        ] {
            assert!(BlockSet::from_encoded(blocks, encoded).is_none());
        }
    }

    #[test]
    fn runs_name_no_more_blocks_than_the_limit() {
        let hostile = Runs(vec![(0, u32::MAX), (0, u32::MAX)]);
        assert_eq!(hostile.blocks(7).count(), 7);
    }

    proptest! {
        #[test]
        fn it_is_a_set_and_survives_the_wire(blocks in 0u32..2000, members in prop::collection::btree_set(0u32..2000, 0..500)) {
            let members: BTreeSet<u32> = members.into_iter().filter(|member| *member < blocks).collect();
            let set = set(blocks, members.iter().copied());
            prop_assert_eq!(set.len() as usize, members.len());
            prop_assert!(set.iter().eq(members.iter().copied()));
            prop_assert_eq!(&codec::decode::<BlockSet, NOTE_MAX>(&codec::encode(&set)).unwrap(), &set);
            let packed = Runs::pack(set.iter());
            prop_assert!(packed.iter().flat_map(|runs| runs.blocks(u32::MAX)).eq(members.iter().copied()));

            let mut rest = BlockSet::full(blocks);
            rest.subtract(&set);
            prop_assert_eq!(rest.len() + set.len(), blocks);
            rest.union_with(&set);
            prop_assert!(rest.is_full());
        }

        #[test]
        fn a_part_of_it_is_what_lies_in_a_range(
            blocks in 0u32..300,
            one in prop::collection::btree_set(0u32..300, 0..100),
            other in prop::collection::btree_set(0u32..300, 0..100),
            (start, end) in (0u32..400, 0u32..400),
        ) {
            let in_range = |block: &u32| *block < blocks && (start..end).contains(block);
            let common = one.intersection(&other).copied().filter(in_range);
            let [mine, theirs] = [&one, &other].map(|members| set(blocks, members.iter().copied()));
            prop_assert!(mine.iter_range(start..end).eq(one.iter().copied().filter(in_range)));
            prop_assert!(mine.iter_common(&theirs, start..end).eq(common));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = codec::decode::<BlockSet, NOTE_MAX>(&bytes);
            let _ = codec::decode::<Runs, NOTE_MAX>(&bytes);
        }
    }
}
