//! Dead blocks: present in a pack of which other blocks are needed. Their space is given back by punching holes.
//!
//! As everywhere, the claim is taken back durably first. Where the file system knows no holes, dead blocks stay
//! claimed: they cost their space anyway, and a later release may use them.

use crate::{error::StoreError, extents::Extents, store::Store};
use branchmesh_image::{Location, PackId, index::PACK_MAX};
use std::{
    collections::{HashMap, HashSet},
    io,
    ops::Range,
};

/// What file systems give back: whole pages of this many bytes.
const PAGE: u32 = 4096;
/// A pack with fewer dead bytes is left as it is: a hole costs a range in the ledger and in the file system.
const DEAD_BYTES_MIN: u64 = 64 << 10;

/// The blocks that releases need.
#[derive(Clone, Debug, Default)]
pub struct LiveBlocks(HashMap<PackId, Extents>);

impl LiveBlocks {
    /// The packs that hold them.
    #[must_use]
    pub fn packs(&self) -> HashSet<PackId> {
        self.0.keys().copied().collect()
    }
}

impl FromIterator<Location> for LiveBlocks {
    fn from_iter<T: IntoIterator<Item = Location>>(blocks: T) -> Self {
        let mut packs: HashMap<PackId, Extents> = HashMap::new();
        for at in blocks {
            packs.entry(at.pack).or_default().insert(&at.range());
        }
        Self(packs)
    }
}

impl Store {
    /// Gives back the space of blocks that are not `live`, in packs that hold live ones; says how many bytes of blocks
    /// these were. `live` must hold the blocks of every release that is here or on its way.
    pub fn free_dead_blocks(&self, live: &LiveBlocks) -> Result<u64, StoreError> {
        let _turn = self.commit_turn();
        let mut freed = 0;
        for (pack, live) in &live.0 {
            let mut dead = self.presence().pack(pack);
            dead.remove_all(live);
            if dead.bytes() < DEAD_BYTES_MIN {
                continue;
            }
            if !self.punch(pack, &dead)? {
                break;
            }
            freed += dead.bytes();
        }
        Ok(freed)
    }

    /// Forgets these bytes of a pack, and punches what holes there can be then. Says whether that is possible.
    fn punch(&self, pack: &PackId, dead: &Extents) -> Result<bool, StoreError> {
        self.presence_mut().forget_all(pack, dead);
        self.record_claims()?;
        let path = self.packs().path(pack);
        let file = self.packs().writable(pack)?;
        let gaps = self.presence().pack(pack).gaps(PACK_MAX);
        let mut punched = Extents::default();
        for hole in gaps.ranges().iter().filter(|gap| dead.touches(gap)).filter_map(pages) {
            match file.punch(u64::from(hole.start), u64::from(hole.end - hole.start)) {
                Ok(()) => punched.insert(&hole),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    tracing::debug!(pack = %pack, "the file system punches no holes: dead blocks keep their space");
                    return Ok(false);
                }
                Err(error) => return Err(StoreError::io("punch a hole into", &path, error)),
            }
        }
        // A block that arrived there meanwhile is gone.
        self.presence_mut().forget_all(pack, &punched);
        self.record_claims()?;
        Ok(true)
    }
}

/// The whole pages of a range.
fn pages(range: &Range<u32>) -> Option<Range<u32>> {
    let whole = range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE;
    (!whole.is_empty()).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pages_only() {
        assert_eq!(pages(&(0..4096)), Some(0..4096));
        assert_eq!(pages(&(1..12_289)), Some(4096..12_288));
        assert_eq!(pages(&(1..8191)), None);
        assert_eq!(pages(&(0..PACK_MAX)), Some(0..PACK_MAX));
    }
}
