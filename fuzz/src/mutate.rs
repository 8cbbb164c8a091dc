//! Spoiling good bytes: at random, but the same way for the same seed.

mod json;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Values at which lengths and counts go wrong.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfa, 0xfb, 0xfc, 0xff];

/// A source of mutations.
#[derive(Clone, Debug)]
pub struct Mutator {
    rng: ChaCha8Rng,
}

impl Mutator {
    /// The mutation `number` of a seed.
    #[must_use]
    pub fn new(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self { rng }
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    /// One of `choices`, of which there is at least one.
    pub fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// `good`, spoiled in one to four ways; `other` is another valid piece of data of the same kind. May come out
    /// as it went in.
    pub fn bytes(&mut self, good: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = good.to_vec();
        for _ in 0..=self.below(4) {
            self.spoil(&mut bytes, other);
        }
        bytes
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len().max(1)).min(bytes.len());
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        let value = self.rng.random::<u8>();
        match self.below(10) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            2 if at < bytes.len() => bytes[at] = value,
            3 if at < bytes.len() => bytes[at] = *self.one_of(&EDGES),
            4 => bytes.truncate(at),
            5 => bytes.extend(std::iter::repeat_n(value, 1 + at % 40)),
            6 => bytes.insert(at, value),
            7 => drop(bytes.drain(at..end)),
            8 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            // The beginning of one and the end of the other.
            _ => {
                let from = at.min(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
