//! Which version of the metadata the site is told of, and when.
//!
//! A release that a stick or a prestage folder brings is read from there first, and then the site hears of it: whoever
//! hears of it earlier would fetch over the WAN what is being read near by.

use crate::{happening::MetadataFrom, releases::Phase, run::Loop};
use branchmesh_exchange::Time;
use std::time::Duration;

/// Longest time for which the site does not hear of what a local origin brought: 60 GB from a slow stick.
const HOLD_BACK_MAX: Duration = Duration::from_secs(3600);

/// What the site knows, and does not know yet.
#[derive(Default)]
pub(crate) struct News {
    /// The version that it was told of.
    told: u64,
    /// A later one that came from near by, and when it is told at the latest.
    held_back: Option<(u64, Time)>,
}

impl Loop {
    /// A version of the metadata came. What comes from others is no secret of this node.
    pub fn note_version(&mut self, from: MetadataFrom, version: u64) {
        match from {
            MetadataFrom::Local if self.news.told < version => {
                let until = self.now() + HOLD_BACK_MAX;
                let held = self.news.held_back.get_or_insert((version, until));
                held.0 = held.0.max(version);
            }
            MetadataFrom::Local => {}
            MetadataFrom::Wan | MetadataFrom::Member(_) => self.news.held_back = None,
        }
    }

    /// Tells the site of a version, unless it is held back.
    pub fn tell_version(&mut self, version: u64) {
        if self.news.held_back.is_none_or(|(held, _)| held != version) {
            self.news.told = version;
            self.exchange.set_metadata_version(self.now(), version);
        }
    }

    /// Tells what was held back, once the releases that it began are here as far as they come from near by.
    pub fn tell_held_back(&mut self) {
        let Some((version, until)) = self.news.held_back else { return };
        let is_beginning = self
            .releases
            .iter()
            .any(|(id, release)| release.phase == Phase::Indexing && !self.shared.nearby.lacks_index(id));
        if !is_beginning || self.now() >= until {
            self.news.held_back = None;
            self.tell_version(version);
        }
    }
}
