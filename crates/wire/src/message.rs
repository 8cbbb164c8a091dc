//! Notes and requests between two neighbours.

use crate::{
    block_set::{BlockSet, Runs},
    limits::{NAME_MAX, NOTE_MAX, REQUEST_MAX, RESPONSE_HEAD_MAX, WIRE_VERSION},
};
use bincode::{Decode, Encode};
use branchmesh_image::{
    BlockId, IndexId,
    codec::{self, CodecError},
};

/// The first note on every connection, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    /// [`WIRE_VERSION`] of the sender.
    pub version: u16,
    /// The program's version, for people.
    pub program: String,
}

/// One message on the ordered stream between two neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Note {
    /// Which blocks of a release the sender holds: the whole truth at this moment, replaces what was said before.
    Have {
        /// The release.
        release: IndexId,
        /// The blocks.
        blocks: BlockSet,
    },
    /// Blocks that the sender holds since.
    Gained {
        /// The release.
        release: IndexId,
        /// The blocks.
        blocks: Runs,
    },
    /// The sender holds nothing of this release any more.
    Dropped {
        /// The release.
        release: IndexId,
    },
}

/// What a node asks a neighbour for, on a stream of its own.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Request {
    /// Blocks of a release, answered one [`BlockFrame`] each, in this order.
    Blocks {
        /// The release.
        release: IndexId,
        /// The blocks, at most [`REQUEST_BLOCKS_MAX`](crate::limits::REQUEST_BLOCKS_MAX).
        blocks: Runs,
    },
    /// An index root or piece by its hash; answered with its encoded bytes.
    IndexPart {
        /// The release that it belongs to: decides who may have it.
        release: IndexId,
        /// The part.
        id: BlockId,
    },
    /// A file of the repository's signed metadata; answered with its bytes.
    Metadata {
        /// Its name, for example `timestamp.json`.
        name: String,
    },
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Refusal {
    /// The neighbour does not have it.
    NotHere,
    /// The asker's certificate does not allow it.
    NotAllowed,
    /// The neighbour has too much to do; ask again later or elsewhere.
    Busy,
    /// The neighbour does not understand the request.
    Malformed,
}

/// What comes first in the answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum ResponseHead {
    /// Block frames follow.
    Blocks,
    /// So many bytes follow.
    Bytes(u32),
    /// Nothing follows.
    Refused(Refusal),
}

/// Length that stands before each block of a response, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockFrame {
    /// So many encoded bytes follow.
    Bytes(u32),
    /// The neighbour does not hold this block (any more).
    NotHere,
}

impl BlockFrame {
    /// Bytes of a frame's head.
    pub const HEAD_BYTES: usize = 4;

    /// The head as it travels.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::HEAD_BYTES] {
        match self {
            Self::Bytes(length) => length.to_le_bytes(),
            Self::NotHere => [0; Self::HEAD_BYTES],
        }
    }

    /// Reads a head. The caller knows from the index how long the block must be, and reads no more than that.
    #[must_use]
    pub fn from_bytes(head: [u8; Self::HEAD_BYTES]) -> Self {
        match u32::from_le_bytes(head) {
            0 => Self::NotHere,
            length => Self::Bytes(length),
        }
    }
}

/// A message with its limit: the only way in and out.
pub trait Message: Sized + Encode + Decode<()> {
    /// Most bytes of its encoding.
    const MAX: usize;

    /// Its encoding.
    fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes exactly one message.
    fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError>;
}

macro_rules! message {
    ($type:ty, $max:expr) => {
        impl Message for $type {
            const MAX: usize = $max;

            fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
                codec::decode::<Self, { $max }>(bytes)
            }
        }
    };
}
message!(Hello, NAME_MAX + 16);
message!(Note, NOTE_MAX);
message!(Request, REQUEST_MAX);
message!(ResponseHead, RESPONSE_HEAD_MAX);
message!(crate::status::Status, crate::limits::STATUS_MAX);

impl Hello {
    /// The greeting of this program.
    #[must_use]
    pub fn new(program: &str) -> Self {
        Self { version: WIRE_VERSION, program: program[..program.floor_char_boundary(NAME_MAX)].into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Status, Strip};
    use proptest::prelude::*;

    #[test]
    fn messages_round_trip() {
        let release = IndexId::of(b"release");
        let blocks = Runs::pack([1, 2, 3, 9].into_iter()).remove(0);
        for note in [
            Note::Have { release, blocks: BlockSet::full(9) },
            Note::Gained { release, blocks: blocks.clone() },
            Note::Dropped { release },
        ] {
            assert_eq!(Note::from_bytes(&note.to_bytes()).unwrap(), note);
        }
        for request in [
            Request::Blocks { release, blocks },
            Request::IndexPart { release, id: BlockId::of(b"part") },
            Request::Metadata { name: "timestamp.json".into() },
        ] {
            assert_eq!(Request::from_bytes(&request.to_bytes()).unwrap(), request);
        }
        for frame in [BlockFrame::NotHere, BlockFrame::Bytes(1), BlockFrame::Bytes(u32::MAX)] {
            assert_eq!(BlockFrame::from_bytes(frame.to_bytes()), frame);
        }
    }

    #[test]
    fn the_largest_request_is_within_its_limit() {
        let every_other =
            (0..2 * crate::limits::REQUEST_BLOCKS_MAX).step_by(2).map(|block| block + 3_000_000);
        let blocks = Runs::pack(every_other).remove(0);
        assert_eq!(blocks.blocks(u32::MAX).count(), crate::limits::REQUEST_BLOCKS_MAX as usize);
        let request = Request::Blocks { release: IndexId::of(b""), blocks };
        assert!(request.to_bytes().len() <= Request::MAX);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = Hello::from_bytes(&bytes);
            let _ = Note::from_bytes(&bytes);
            let _ = Request::from_bytes(&bytes);
            let _ = ResponseHead::from_bytes(&bytes);
            let _ = Status::from_bytes(&bytes);
            let _ = Strip::default();
        }
    }
}
