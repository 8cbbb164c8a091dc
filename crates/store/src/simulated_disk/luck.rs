//! What survives a power cut, decided by a seed.

/// How much of what was not synced is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// All of it.
    Everything,
    /// None of it.
    Nothing,
    /// Some of it, the same for the same seed.
    Some(u64),
}

/// Decides.
pub(super) struct Luck {
    state: u64,
    /// Of 256 things that may be lost, so many are kept.
    kept: u64,
}

impl Luck {
    pub(super) fn new(loss: Loss) -> Self {
        let seed = match loss {
            Loss::Everything => return Self { state: 0, kept: 0 },
            Loss::Nothing => return Self { state: 0, kept: 256 },
            Loss::Some(seed) => seed,
        };
        let mut luck = Self { state: seed, kept: 0 };
        // Much, half or little: of many things that are lost by the toss of a coin, about half always is.
        luck.kept = [24, 128, 232][luck.below(3)];
        luck
    }

    /// Whether something survives.
    pub(super) fn keeps(&mut self) -> bool {
        self.next() % 256 < self.kept
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("it is below a usize")
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
