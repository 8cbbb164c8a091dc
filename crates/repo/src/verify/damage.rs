//! What is wrong in a repository: by file, with the releases that it breaks.

use crate::{
    contents::{Contents, ContentsError},
    index_io::LoadIndexError,
    layout,
    origin::{OriginError, root_cause},
    source::SourceError,
};
use branchmesh_image::PackId;
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
};

/// A file that is not as releases need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its path in the repository.
    pub path: String,
    /// What is wrong with it.
    pub kind: DamageKind,
    /// How many blocks cannot be had from it; `None` for an index part.
    pub blocks: Option<u64>,
    /// The releases that cannot be fetched because of it.
    pub releases: BTreeSet<String>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// It is not there.
    Missing,
    /// It ends too early.
    Short,
    /// Its bytes are not what they were when they were published.
    Damaged,
    /// Its bytes are those that were signed, and they do not decode to what they should: a publisher's mistake.
    Undecodable(String),
    /// It cannot be read.
    Unreadable(String),
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Short => f.write_str("cut short"),
            Self::Damaged => f.write_str("damaged"),
            Self::Undecodable(why) => write!(f, "wrong since it was published: {why}"),
            Self::Unreadable(why) => write!(f, "unreadable: {why}"),
        }
    }
}

impl DamageKind {
    /// What an origin's error says of a file; `None` if it is about the whole origin. One file with wrong permissions,
    /// or on bad sectors, must not hide the state of the others.
    pub(super) fn of(error: &OriginError) -> Option<Self> {
        match error {
            OriginError::NotFound { .. } => Some(Self::Missing),
            // A web server gives as much of a range as there is.
            OriginError::Truncated { .. } | OriginError::WrongRange { .. } => Some(Self::Short),
            OriginError::Damaged { .. } | OriginError::Excerpt { .. } | OriginError::TooLarge { .. } => {
                Some(Self::Damaged)
            }
            OriginError::Denied { .. }
            | OriginError::Status { .. }
            | OriginError::Cloud { .. }
            | OriginError::Io { .. } => Some(Self::Unreadable(root_cause(error))),
            OriginError::BadUrl { .. }
            | OriginError::Unreachable { .. }
            | OriginError::Access { .. }
            | OriginError::Untrusted { .. }
            | OriginError::NoCredentials { .. }
            | OriginError::Stalled { .. }
            | OriginError::WebPage { .. }
            | OriginError::NoRanges { .. } => None,
        }
    }
}

/// Whether an index could not be read because the whole origin does not answer as it should.
pub(super) fn is_about_origin(error: &ContentsError) -> bool {
    let ContentsError::Index { source: LoadIndexError::Source(SourceError::Origin(error)), .. } = error
    else {
        return false;
    };
    DamageKind::of(error).is_none()
}

/// The damages that are known so far.
#[derive(Default)]
pub(super) struct Damages {
    by_path: BTreeMap<String, Damage>,
    /// Where in which packs blocks are bad.
    blocks: BTreeMap<PackId, BTreeSet<u32>>,
}

impl Damages {
    /// The index part at `path` breaks `release`.
    pub(super) fn part(&mut self, path: String, kind: DamageKind, release: String) {
        self.at(path, kind, None).releases.insert(release);
    }

    /// The blocks at these offsets cannot be had from `pack`.
    pub(super) fn pack(&mut self, pack: PackId, kind: DamageKind, offsets: BTreeSet<u32>) {
        let damage = self.at(layout::pack_path(&pack), kind, Some(0));
        damage.blocks = damage.blocks.map(|blocks| blocks + offsets.len() as u64);
        self.blocks.entry(pack).or_default().extend(offsets);
    }

    /// Whether there are bad blocks.
    pub(super) fn has_blocks(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Notes which bad blocks a release needs.
    pub(super) fn name_release(&mut self, contents: &Contents) {
        let is_bad = |pack, offset| self.blocks.get(pack).is_some_and(|offsets| offsets.contains(offset));
        let broken = contents.blocks().iter().filter(|block| is_bad(&block.pack, &block.offset));
        let packs: BTreeSet<PackId> = broken.map(|block| block.pack).collect();
        for pack in packs {
            if let Some(damage) = self.by_path.get_mut(&layout::pack_path(&pack)) {
                damage.releases.insert(contents.entry().name());
            }
        }
    }

    pub(super) fn into_list(self) -> Vec<Damage> {
        self.by_path.into_values().collect()
    }

    fn at(&mut self, path: String, kind: DamageKind, blocks: Option<u64>) -> &mut Damage {
        match self.by_path.entry(path) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let path = new.key().clone();
                new.insert(Damage { path, kind, blocks, releases: BTreeSet::new() })
            }
        }
    }
}
