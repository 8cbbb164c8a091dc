//! Excerpts: some of a pack's bytes in a file beside the place of the pack, for bundles.
//!
//! A stick's file system (FAT32, exFAT) knows no holes, so that a pack of which a site lacks some blocks would
//! take its whole size there. An excerpt holds the blocks alone. Its head says which bytes of the pack they are;
//! the bytes follow in the same order. Whoever reads a block from it hashes it as always.

use crate::framed::{self, FrameError};
use branchmesh_image::{Extents, ExtentsError, extents::EXTENTS_ENCODED_MAX};
use std::ops::Range;

/// The first line of an excerpt.
const LABEL: &str = "branchmesh excerpt v1\n";

/// Bytes at the beginning of an excerpt that tell how long its head is.
pub(crate) const HEAD_START: usize = LABEL.len() + 4;

/// Why a file is no excerpt.
#[derive(Debug, thiserror::Error)]
pub enum ExcerptError {
    /// Not one, of a later version, or damaged.
    #[error("it is no usable excerpt of a pack: {0}")]
    Frame(String),
    /// Its ranges make no sense.
    #[error("its list of ranges is wrong")]
    Extents(#[from] ExtentsError),
}

/// The head of an excerpt: which bytes of its pack follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcerptHead {
    extents: Extents,
    /// Bytes of the head itself.
    length: u64,
}

impl ExcerptHead {
    /// The head of an excerpt of these bytes.
    #[must_use]
    pub fn new(extents: Extents) -> Self {
        let length = framed::framed_len(LABEL, extents.to_bytes().len()) as u64;
        Self { extents, length }
    }

    /// Reads the head at the beginning of `bytes`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ExcerptError> {
        let (body, rest) = framed::read(LABEL, bytes, EXTENTS_ENCODED_MAX)?;
        let length = (bytes.len() - rest.len()) as u64;
        Ok(Self { extents: Extents::from_bytes(body)?, length })
    }

    /// The head as it stands in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        framed::write(LABEL, &self.extents.to_bytes())
    }

    /// How long the head is that begins with these [`HEAD_START`] bytes.
    pub(crate) fn length_of(start: &[u8]) -> Result<usize, ExcerptError> {
        Ok(framed::length(LABEL, start, EXTENTS_ENCODED_MAX)?)
    }

    /// Which bytes of the pack the excerpt holds.
    #[must_use]
    pub fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Bytes of the whole file.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.length + self.extents.bytes()
    }

    /// Where each range of the pack begins in the file.
    pub fn places(&self) -> impl Iterator<Item = (Range<u32>, u64)> + '_ {
        let mut at = self.length;
        self.extents.ranges().iter().map(move |range| {
            let begin = at;
            at += u64::from(range.end - range.start);
            (range.clone(), begin)
        })
    }
}

impl From<FrameError> for ExcerptError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_lie_behind_the_head_one_after_the_other() {
        let mut extents = Extents::default();
        extents.insert(&(100..110));
        extents.insert(&(500..505));
        let head = ExcerptHead::new(extents);
        let bytes = head.to_bytes();
        let start = bytes.len() as u64;
        assert_eq!(head.places().collect::<Vec<_>>(), [(100..110, start), (500..505, start + 10)]);
        assert_eq!(head.file_len(), start + 15);
        assert_eq!(ExcerptHead::length_of(&bytes[..HEAD_START]).unwrap(), bytes.len());
        assert_eq!(ExcerptHead::from_bytes(&[&bytes[..], &[7; 15]].concat()).unwrap(), head);
    }

    #[test]
    fn a_head_that_contradicts_itself_is_refused() {
        let touching = branchmesh_image::codec::encode(&vec![(0u32, 5u32), (0, 5)]);
        let refused = ExcerptHead::from_bytes(&framed::write(LABEL, &touching));
        assert!(matches!(refused, Err(ExcerptError::Extents(_))), "{refused:?}");
        assert!(matches!(ExcerptHead::from_bytes(b"PK"), Err(ExcerptError::Frame(_))));
    }
}
