//! How large blocks are on average: a publisher's choice between few bytes for an update and a small index.
//!
//! Smaller blocks follow changes more closely, but each costs some 70 bytes of index and a request. Releases with
//! different sizes have hardly a block in common, so that a size, once chosen for an image, should stay.

use crate::chunk::BLOCK_PLAIN_MAX;
use std::{fmt, str::FromStr};

/// The average block of a release. Its blocks are a sixteenth of that at least, and four times that at most, but
/// never above [`BLOCK_PLAIN_MAX`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockSize {
    /// 16 KiB: for images that change in many small places, behind thin lines.
    KiB16,
    /// 32 KiB.
    KiB32,
    /// 64 KiB: for system images.
    #[default]
    KiB64,
    /// 128 KiB: for large images that change as a whole.
    KiB128,
}

/// Not one of the sizes that blocks may have.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an average block size: choose one of 16KiB, 32KiB, 64KiB, 128KiB")]
pub struct BlockSizeError(String);

impl BlockSize {
    /// All sizes, the smallest first.
    pub const ALL: [Self; 4] = [Self::KiB16, Self::KiB32, Self::KiB64, Self::KiB128];

    /// The average, in bytes of plaintext.
    #[must_use]
    pub const fn average(self) -> usize {
        match self {
            Self::KiB16 => 16 << 10,
            Self::KiB32 => 32 << 10,
            Self::KiB64 => 64 << 10,
            Self::KiB128 => 128 << 10,
        }
    }

    /// Smallest block that a cut inside data makes, in bytes. Data between holes, and the end of a file, may be less.
    /// Behind a change, cuts find back to the old ones the sooner, the fewer bytes are passed over for it
    /// (docs/decisions/0008).
    #[must_use]
    pub const fn min(self) -> usize {
        self.average() / 16
    }

    /// Largest block, in bytes.
    #[must_use]
    pub const fn max(self) -> usize {
        let max = self.average() * 4;
        if max < BLOCK_PLAIN_MAX { max } else { BLOCK_PLAIN_MAX }
    }

    /// The size with this average, in bytes; `None` if there is no such size.
    #[must_use]
    pub fn of_average(bytes: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.average() == bytes as usize)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}KiB", self.average() >> 10)
    }
}

impl FromStr for BlockSize {
    type Err = BlockSizeError;

    fn from_str(text: &str) -> Result<Self, BlockSizeError> {
        let same = |size: &Self| size.to_string().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| BlockSizeError(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written_and_no_others() {
        for size in BlockSize::ALL {
            assert_eq!(size.to_string().parse::<BlockSize>().unwrap(), size);
            assert_eq!(BlockSize::of_average(u32::try_from(size.average()).unwrap()), Some(size));
            assert!(size.min() < size.average() && size.average() < size.max());
            assert!(size.max() <= BLOCK_PLAIN_MAX);
        }
        assert_eq!("64kib".parse::<BlockSize>().unwrap(), BlockSize::default());
        for text in ["", "64", "64 KiB", "8KiB", "256KiB", "65536", "64KB"] {
            assert!(text.parse::<BlockSize>().is_err(), "{text:?} was accepted");
        }
        assert_eq!(BlockSize::of_average(0), None);
    }
}
