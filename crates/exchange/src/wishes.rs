//! What the agent wants of its exchange.

use crate::{
    action::{Action, AddReleaseError},
    exchange::Exchange,
    release::{NewRelease, RELEASES_MAX, Release},
    time::Time,
};
use branchmesh_wire::{IndexId, Note, limits::RELEASE_BLOCKS_MAX};
use std::net::SocketAddr;

impl Exchange {
    /// The agent has the index of a release. The neighbours are told what is here; if it is wanted, the rest is
    /// fetched, otherwise it only serves. Adding a release again only adds what is held and changes what is wanted.
    pub fn add_release(&mut self, now: Time, new: NewRelease) -> Result<(), AddReleaseError> {
        let blocks = new.segments.block_count();
        if blocks > RELEASE_BLOCKS_MAX {
            return Err(AddReleaseError::TooLarge { blocks });
        }
        let sources = if new.sources.is_empty() { blocks as usize } else { new.sources.len() };
        for given in [new.have.capacity() as usize, sources] {
            if given != blocks as usize {
                return Err(AddReleaseError::WrongSize { given, blocks });
            }
        }
        let id = new.release;
        if let Some(known) = self.releases.get_mut(&id) {
            if known.blocks.count() != blocks {
                return Err(AddReleaseError::WrongSize {
                    given: blocks as usize,
                    blocks: known.blocks.count(),
                });
            }
            known.wanted = new.wanted;
            let found: Vec<u32> = new.have.iter().collect();
            self.handle_blocks_found(now, id, &found);
            return Ok(());
        }
        if self.releases.len() >= RELEASES_MAX {
            return Err(AddReleaseError::TooMany(RELEASES_MAX));
        }
        self.releases_added += 1;
        let mut release = Release::new(now, self.releases_added, self.config.node, new);
        self.neighbours.nodes().for_each(|node| release.announcer.owe(node));
        self.releases.insert(id, release);
        self.gossip.hurry();
        self.check_complete(id);
        self.settle(now);
        Ok(())
    }

    /// Whether the missing blocks of a release should be fetched.
    pub fn set_wanted(&mut self, now: Time, release: IndexId, wanted: bool) {
        let Some(known) = self.releases.get_mut(&release) else { return };
        if known.wanted != wanted {
            known.wanted = wanted;
            self.gossip.hurry();
            if !wanted {
                self.drop_transfers_where(|transfer| transfer.release == release);
            }
            self.check_complete(release);
        }
        self.settle(now);
    }

    /// The release is not in exchange any more: nothing of it is fetched or claimed.
    pub fn remove_release(&mut self, now: Time, release: IndexId) {
        self.drop_transfers_where(|transfer| transfer.release == release);
        if let Some(known) = self.releases.remove(&release) {
            for node in known.availability.neighbours() {
                self.actions.push_back(Action::Note { node, note: Note::Dropped { release } });
            }
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// The version of the newest verified signed timestamp.
    pub fn set_metadata_version(&mut self, now: Time, version: u64) {
        if self.metadata.version != version {
            self.metadata.advance(version);
            self.origin.trust(now, &mut self.rng);
            self.site_changed = true;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// The files of a release are in place.
    pub fn set_complete(&mut self, now: Time, release: IndexId) {
        if let Some(known) = self.releases.get_mut(&release).filter(|known| !known.in_place) {
            known.in_place = true;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// Where this node can be reached.
    pub fn set_addresses(&mut self, now: Time, addresses: Vec<SocketAddr>) {
        if self.config.addresses != addresses {
            self.config.addresses = addresses;
            self.gossip.hurry();
        }
        self.settle(now);
    }

    /// Says goodbye: gives the lease away and stops all transfers. Nothing is done after the last actions.
    pub fn leave(&mut self, now: Time) {
        self.drop_transfers_where(|_| true);
        self.leaving = true;
        for release in self.releases.values_mut() {
            release.announcer.hurry();
        }
        self.announce(now);
        self.gossip.send(now);
        let status = self.status();
        self.actions.push_back(Action::Gossip(status));
        self.timer = None;
    }
}
