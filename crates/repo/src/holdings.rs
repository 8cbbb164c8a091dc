//! What a site holds, in a file that an administrator carries: `branchmesh have` writes it, `export --lacking`
//! leaves out what it names.
//!
//! It speaks of places in packs, and of no release: blocks keep their place from release to release, so that the
//! account is exact for a release that the site has never heard of. It comes from elsewhere and is a claim. Who
//! lies in it gets a bundle that lacks something, and nothing worse.

use crate::framed::{self, FrameError};
use branchmesh_image::{
    Extents, ExtentsError, Location, PackId,
    codec::{self, CodecError},
};
use std::{collections::BTreeMap, io, path::Path};

/// Most bytes of such a file. 60 GB in whole packs are 80 KB; this is room for some millions of separate blocks.
pub const HOLDINGS_MAX: usize = 64 << 20;

/// The first line of the file.
const LABEL: &str = "branchmesh have v1\n";
/// Longest name of a site or node.
const NAME_MAX: usize = 255;

/// Site, node, members, time, and for each pack its ranges as steps.
type Record = (String, String, u32, u64, Vec<(PackId, Vec<(u32, u32)>)>);

/// The blocks that a node or a site holds, by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Name of the site.
    pub site: String,
    /// Name of the node that wrote it.
    pub node: String,
    /// Members whose blocks are counted, with that node.
    pub members: u32,
    /// When, in Unix seconds.
    pub made: u64,
    packs: BTreeMap<PackId, Extents>,
}

/// Why a file does not say what a site holds.
#[derive(Debug, thiserror::Error)]
pub enum HoldingsError {
    /// Not such a file, of a later version, or damaged.
    #[error("it does not say what a site holds: {0}")]
    Frame(String),
    /// What is inside cannot be decoded.
    #[error("its content is wrong")]
    Codec(#[from] CodecError),
    /// The ranges of a pack are impossible.
    #[error("what it says of the pack {pack} is wrong")]
    Extents {
        /// The pack.
        pack: PackId,
        /// What is wrong.
        #[source]
        source: ExtentsError,
    },
    /// Names that nobody has, or a pack twice.
    #[error("its content is wrong: {0}")]
    Inconsistent(&'static str),
    /// The file cannot be read.
    #[error("it cannot be read")]
    Io(#[from] io::Error),
}

impl Holdings {
    /// Nothing, so far, of a node and its site.
    #[must_use]
    pub fn new(site: &str, node: &str, made: u64) -> Self {
        Self { site: site.into(), node: node.into(), members: 1, made, packs: BTreeMap::new() }
    }

    /// Adds a block.
    pub fn insert(&mut self, at: &Location) {
        self.packs.entry(at.pack).or_default().insert(&at.range());
    }

    /// Adds all of `extents`.
    pub fn insert_all(&mut self, pack: PackId, extents: &Extents) {
        if !extents.is_empty() {
            self.packs.entry(pack).or_default().insert_all(extents);
        }
    }

    /// Whether a block is among them.
    #[must_use]
    pub fn has(&self, at: &Location) -> bool {
        self.packs.get(&at.pack).is_some_and(|extents| extents.contains(&at.range()))
    }

    /// Encoded bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.packs.values().map(Extents::bytes).sum()
    }

    /// The file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let packs = self.packs.iter().map(|(pack, extents)| (*pack, extents.to_steps())).collect();
        let record: Record = (self.site.clone(), self.node.clone(), self.members, self.made, packs);
        framed::write(LABEL, &codec::encode(&record))
    }

    /// Reads such a file. Its memory is bounded by [`HOLDINGS_MAX`], whatever it says.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HoldingsError> {
        let (body, rest) = framed::read(LABEL, bytes, HOLDINGS_MAX)?;
        if !rest.is_empty() {
            return Err(HoldingsError::Inconsistent("something follows its end"));
        }
        let (site, node, members, made, records): Record = codec::decode::<_, HOLDINGS_MAX>(body)?;
        if [&site, &node].iter().any(|name| name.len() > NAME_MAX || name.chars().any(char::is_control)) {
            return Err(HoldingsError::Inconsistent("it has an impossible name"));
        }
        let mut packs = BTreeMap::new();
        for (pack, steps) in records {
            let extents =
                Extents::from_steps(steps).map_err(|source| HoldingsError::Extents { pack, source })?;
            if extents.is_empty() || packs.insert(pack, extents).is_some() {
                return Err(HoldingsError::Inconsistent("it names a pack twice, or for nothing"));
            }
        }
        Ok(Self { site, node, members, made, packs })
    }

    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, HoldingsError> {
        use io::Read;
        let mut bytes = Vec::new();
        // A frame of the largest size, and a byte that shows that there is more.
        let max = framed::framed_len(LABEL, HOLDINGS_MAX) as u64 + 1;
        std::fs::File::open(path)?.take(max).read_to_end(&mut bytes)?;
        Self::from_bytes(&bytes)
    }
}

impl From<FrameError> for HoldingsError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pack: &[u8], offset: u32, len: u32) -> Location {
        Location { pack: PackId::of(pack), offset, len }
    }

    fn holdings() -> Holdings {
        let mut holdings = Holdings::new("lyon", "pc-01", 1_700_000_000);
        for place in [at(b"a", 0, 10), at(b"a", 10, 5), at(b"b", 100, 7), at(b"a", 40, 2)] {
            holdings.insert(&place);
        }
        holdings
    }

    #[test]
    fn it_says_which_places_are_held_and_survives_the_journey() {
        let holdings = holdings();
        for (place, held) in [
            (at(b"a", 3, 12), true),
            (at(b"a", 14, 2), false),
            (at(b"b", 100, 7), true),
            (at(b"b", 99, 7), false),
            (at(b"c", 0, 1), false),
        ] {
            assert_eq!(holdings.has(&place), held, "{place:?}");
        }
        assert_eq!(holdings.bytes(), 24);
        assert_eq!(Holdings::from_bytes(&holdings.to_bytes()).unwrap(), holdings);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let pack = PackId::of(b"a");
        let framed = |record: &Record| framed::write(LABEL, &codec::encode(record));
        let record = |site: &str, packs| (site.to_owned(), String::new(), 1, 0, packs);
        for (name, record) in [
            ("a pack twice", record("x", vec![(pack, vec![(0, 1)]), (pack, vec![(5, 1)])])),
            ("a pack for nothing", record("x", vec![(pack, vec![])])),
            ("ranges that touch", record("x", vec![(pack, vec![(0, 1), (0, 1)])])),
            ("beyond the end of a pack", record("x", vec![(pack, vec![(32 << 20, 1)])])),
            ("a name that clears the screen", record("\u{1b}[2J", vec![])),
            ("a long name", record(&"x".repeat(256), vec![])),
        ] {
            assert!(Holdings::from_bytes(&framed(&record)).is_err(), "{name} was accepted");
        }
        let mut longer = holdings().to_bytes();
        longer.push(0);
        assert!(matches!(Holdings::from_bytes(&longer), Err(HoldingsError::Inconsistent(_))));
    }

    #[test]
    fn a_count_beyond_all_reason_allocates_nothing() {
        let mut body = codec::encode(&(String::new(), String::new(), 1u32, 0u64));
        body.extend([253, 255, 255, 255, 255, 255, 255, 255, 0]);
        assert!(matches!(Holdings::from_bytes(&framed::write(LABEL, &body)), Err(HoldingsError::Codec(_))));
    }
}
