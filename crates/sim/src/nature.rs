//! How hostile members behave. They run the real exchange, and what it says and does is twisted.

use crate::port::Content;
use branchmesh_wire::{BlockSet, IndexId, Note, Role, Runs, Status};
use std::collections::BTreeMap;

/// How a host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// As it should.
    Honest,
    /// Claims everything, delivers nothing.
    Liar,
    /// Claims everything, delivers rubbish.
    Poisoner,
    /// Delivers right blocks, at a crawl.
    Staller,
    /// Says that it is a seed and fetches over the WAN, and does not.
    Usurper,
    /// Tells its whole have-map whenever it should tell a change of it.
    Flooder,
}

/// Bytes a second of one that stalls.
const CRAWL: u64 = 1000;

impl Nature {
    /// All that are hostile.
    pub const HOSTILE: [Self; 5] = [Self::Liar, Self::Poisoner, Self::Staller, Self::Usurper, Self::Flooder];

    /// What is sent for a block that is there or not; nothing at all if `None`.
    pub(crate) fn answer(self, is_there: bool) -> Option<Content> {
        match self {
            Self::Liar => None,
            Self::Poisoner => Some(Content::Bad),
            Self::Honest | Self::Staller | Self::Usurper | Self::Flooder => {
                Some(if is_there { Content::Good } else { Content::Missing })
            }
        }
    }

    /// Bytes a second that it sends over a port of `rate`.
    pub(crate) fn rate(self, rate: u64) -> u64 {
        if self == Self::Staller { rate.min(CRAWL) } else { rate }
    }

    /// Whether it uses the WAN when its exchange says so.
    pub(crate) fn fetches(self) -> bool {
        self != Self::Usurper
    }

    /// Whether it gives its metadata to others.
    pub(crate) fn gives_metadata(self) -> bool {
        !matches!(self, Self::Liar)
    }

    /// What it says instead of a note, with this on its `disk`.
    pub(crate) fn twist_note(self, note: Note, disk: &BTreeMap<IndexId, BlockSet>) -> Note {
        match (self, note) {
            (Self::Liar | Self::Poisoner, Note::Have { release, blocks }) => {
                Note::Have { release, blocks: BlockSet::full(blocks.capacity()) }
            }
            (Self::Liar | Self::Poisoner, Note::Gained { release, .. }) => {
                Note::Gained { release, blocks: Runs::pack(0..1).remove(0) }
            }
            (Self::Flooder, Note::Gained { release, blocks }) => match disk.get(&release) {
                Some(held) => Note::Have { release, blocks: held.clone() },
                None => Note::Gained { release, blocks },
            },
            (_, note) => note,
        }
    }

    /// What it gossips instead of a status.
    pub(crate) fn twist_status(self, mut status: Status) -> Status {
        if self == Self::Usurper {
            (status.role, status.fetching) = (Role::Seed, true);
        }
        status
    }
}
