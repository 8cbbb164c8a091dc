//! Removing what is beyond `keep_releases`, and what has to make room: as judged by `keeping`, oldest first.

use crate::{
    keeping::{self, Candidate, Reason, Verdict},
    releases::{Phase, Release},
    run::Loop,
};
use branchmesh_exchange::MemberReport;
use branchmesh_image::BlockEntry;
use branchmesh_store::{LiveBlocks, StoreError};
use branchmesh_wire::{BlockId, IndexId};
use std::{
    collections::{BTreeMap, HashSet},
    iter,
};
use tracing::{error, info};

impl Loop {
    /// Which releases stay and why, and in which order the others go.
    pub(crate) fn verdicts(&self) -> BTreeMap<IndexId, Verdict> {
        let wishes = self.releases.catalog().map(|catalog| self.wishes(catalog)).unwrap_or_default();
        let members = self.exchange.members(self.now());
        let candidates = self.releases.iter().filter(|(_, release)| lies_here(release));
        let candidates: Vec<Candidate<'_>> = candidates
            .map(|(id, release)| {
                let (image, name) = (release.entry.image.as_str(), release.entry.release.as_str());
                let wish = wishes.get(id).copied().unwrap_or_default();
                let needed = [
                    (self.versions.is_current(image, name), Reason::Active),
                    (wish.subscribed, Reason::Subscribed),
                    (wish.asked, Reason::Asked),
                    (is_busy(release), Reason::Busy),
                    (is_last_copy(shares_of(&members, id)), Reason::LastCopy),
                ];
                Candidate {
                    id: *id,
                    image,
                    withdrawn: release.withdrawn,
                    published: release.entry.published,
                    sequence: release.entry.sequence,
                    complete: release.is_complete() || release.was_complete,
                    pinned: self.versions.is_pinned(image, name),
                    needed: needed.into_iter().filter_map(|(is, reason)| is.then_some(reason)).collect(),
                }
            })
            .collect();
        keeping::judge(&candidates, self.shared.settings.keep_releases)
    }

    /// Removes the releases that nothing keeps.
    pub(crate) fn retire_surplus(&mut self) {
        let verdicts = self.verdicts();
        let mut surplus: Vec<_> = verdicts.iter().filter(|(_, verdict)| verdict.is_surplus()).collect();
        surplus.sort_unstable_by_key(|(_, verdict)| verdict.goes);
        let mut retired = false;
        for (id, _) in surplus {
            retired |= self.retire(*id);
        }
        if retired {
            self.drop_unreferenced();
        }
    }

    /// Gives up the release that goes first, whatever its age, if something that is wanted here lacks space. One at a
    /// time: the next time that space is lacking, the next one.
    pub(crate) fn make_room(&mut self) {
        let is_wanted = |release: &Release| release.wanted && is_busy(release);
        // While an index is on its way nobody knows what can be freed.
        let knows_all = self.releases.all.values().all(|release| release.phase != Phase::Indexing);
        if !knows_all || !self.releases.all.values().any(is_wanted) {
            return;
        }
        let verdicts = self.verdicts();
        let first = verdicts.iter().filter(|(_, verdict)| verdict.goes.is_some());
        let Some((id, _)) = first.min_by_key(|(_, verdict)| verdict.goes) else { return };
        if self.retire(*id) {
            info!(release = %id, "an old release made room for one that is wanted");
            self.drop_unreferenced();
        }
    }

    fn retire(&mut self, id: IndexId) -> bool {
        let now = self.now();
        let Some(release) = self.releases.get(&id) else { return false };
        if self.shared.store.is_assembling() {
            // The loop must not wait for that; it comes back with the next housekeeping.
            self.next_look_at_disk = now;
            return false;
        }
        let (image, name) = (release.entry.image.clone(), release.entry.release.clone());
        if let Err(error) = self.retire_from_disk(id, &image, &name) {
            error!(error = crate::in_words(&error), "an old release cannot be removed");
            return false;
        }
        info!(release = %id, "an old release was removed");
        self.exchange.remove_release(now, id);
        self.shared.let_go(&id);
        self.releases.all.remove(&id);
        self.hooks.forget(&id);
        true
    }

    fn retire_from_disk(&mut self, id: IndexId, image: &str, name: &str) -> Result<(), StoreError> {
        self.shared.store.retire(image, name)?;
        self.versions.decide(&self.shared.store, image, |record| {
            record.told_ready.remove(&BlockId(id.0));
        })?;
        Ok(())
    }

    /// Gives back the space of packs and index parts that no release here or on its way refers to.
    fn drop_unreferenced(&self) {
        if self.releases.all.values().any(|release| release.phase == Phase::Indexing) {
            // What a release needs is known only with its index; the next removal cleans up.
            return;
        }
        let held = self.shared.all_held();
        let blocks = held.iter().flat_map(|held| held.index.blocks());
        let live: LiveBlocks = blocks.map(BlockEntry::location).collect();
        let parts =
            held.iter().flat_map(|held| std::iter::once(&held.entry.root).chain(&held.index.root().pieces));
        let parts: HashSet<_> = parts.map(|part| part.id).collect();
        // The loop waits: a release that begins now must not lose what it has just stored.
        let dropped = tokio::task::block_in_place(|| {
            self.shared.store.drop_unreferenced(&live.packs())?;
            self.shared.store.free_dead_blocks(&live)?;
            self.shared.store.drop_unreferenced_parts(&parts)
        });
        if let Err(error) = dropped {
            error!(error = crate::in_words(&error), "space of old releases was not given back");
        }
    }
}

/// Whether it takes space on this disk.
fn lies_here(release: &Release) -> bool {
    match release.phase {
        Phase::Announced | Phase::Unsuitable(_) => false,
        Phase::Indexing
        | Phase::Exchanging
        | Phase::Assembling
        | Phase::Complete(_)
        | Phase::Active(_)
        | Phase::Failed(_) => true,
    }
}

/// How much of a release the other members have, of how much: those that have it or fetch it.
fn shares_of<'a>(members: &'a [MemberReport], id: &'a IndexId) -> impl Iterator<Item = (u64, u64)> + 'a {
    let statuses = members.iter().filter_map(|member| member.status.as_ref());
    let others = statuses.flat_map(|status| &status.releases).filter(|other| other.release == *id);
    others.map(|other| (other.bytes_have, other.bytes_total))
}

/// Whether another member fetches a release, and no other one has all of it.
fn is_last_copy(mut shares: impl Iterator<Item = (u64, u64)>) -> bool {
    shares.next().is_some_and(|first| iter::once(first).chain(shares).all(|(have, total)| have < total))
}

/// Whether it is on its way.
fn is_busy(release: &Release) -> bool {
    match release.phase {
        Phase::Indexing | Phase::Assembling => true,
        Phase::Exchanging | Phase::Failed(_) => release.wanted,
        Phase::Announced | Phase::Unsuitable(_) | Phase::Complete(_) | Phase::Active(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_copy_is_one_that_others_fetch_and_nobody_else_has() {
        let is_last = |shares: &[(u64, u64)]| is_last_copy(shares.iter().copied());
        assert!(!is_last(&[]), "nobody wants it");
        assert!(is_last(&[(0, 10)]) && is_last(&[(9, 10), (0, 10)]));
        assert!(!is_last(&[(10, 10)]) && !is_last(&[(3, 10), (10, 10)]), "somebody else has it");
    }
}
