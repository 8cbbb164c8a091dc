//! What a node lets go: releases beyond those to keep, and packs that no release refers to.
//!
//! The order is always the same: first the claim is taken back durably, then the files go. A crash in between
//! leaves files that nobody claims, and the next start or the next call removes them.

use crate::{
    error::StoreError,
    images::{self, list},
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::{BlockId, PackId};
use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

impl Store {
    /// The complete releases beyond the newest `keep` of each image, oldest first, without the active ones.
    pub fn surplus(&self, keep: usize) -> Result<Vec<(String, String)>, StoreError> {
        let mut complete: HashMap<String, usize> = HashMap::new();
        let mut surplus = Vec::new();
        for record in self.releases()?.into_iter().rev().filter(|record| record.complete) {
            let newer = complete.entry(record.image.clone()).or_default();
            *newer += 1;
            if *newer > keep && self.current(&record.image)?.as_ref() != Some(&record.release) {
                surplus.push((record.image, record.release));
            }
        }
        surplus.reverse();
        Ok(surplus)
    }

    /// Removes a release's record and its files; its blocks stay until
    /// [`drop_unreferenced`](Self::drop_unreferenced). The active release is not removed.
    pub fn retire(&self, image: &str, release: &str) -> Result<(), StoreError> {
        images::check(image, release)?;
        let _assembly = self.assembly_turn();
        let _turn = self.folder_turn();
        if self.current(image)?.as_deref() == Some(release) {
            return Err(StoreError::Active { image: image.into(), release: release.into() });
        }
        let key = ledger::key(image, release);
        self.ledger().remove_release(&key, Some(Folder::Retiring))?;
        self.remove_folder(image, release)?;
        self.ledger().set_folder(&key, None)?;
        tracing::info!(image, release, "release removed");
        Ok(())
    }

    /// Deletes every pack that is not in `referenced`, and gives the bytes of blocks that were dropped.
    /// `referenced` must hold the packs of every release that is here or on its way.
    pub fn drop_unreferenced(&self, referenced: &HashSet<PackId>) -> Result<u64, StoreError> {
        let _turn = self.commit_turn();
        let mut dropped = 0;
        let dead: Vec<PackId> = {
            let mut presence = self.presence_mut();
            let dead: Vec<PackId> =
                presence.packs().filter(|pack| !referenced.contains(pack)).copied().collect();
            dropped += dead.iter().map(|pack| presence.forget_pack(pack)).sum::<u64>();
            dead
        };
        self.record_claims()?;
        dead.iter().for_each(|pack| self.packs().close(pack));
        // By what lies on the disk, so that files that a crash has left go too.
        for folder in list(self.packs().folder())? {
            for path in list(&folder)? {
                let unwanted =
                    name_of(&path, ".pack").is_some_and(|pack| !referenced.contains(&PackId(pack)));
                if unwanted {
                    images::remove(&path)?;
                }
            }
        }
        Ok(dropped)
    }

    /// Deletes every index part that is not in `referenced`.
    pub fn drop_unreferenced_parts(&self, referenced: &HashSet<BlockId>) -> Result<(), StoreError> {
        for folder in list(self.parts().folder())? {
            for path in list(&folder)? {
                let unwanted = name_of(&path, "").is_some_and(|part| !referenced.contains(&BlockId(part)));
                if unwanted {
                    images::remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// The hash that a file is named by; `None` for files that the store did not make.
fn name_of(path: &Path, suffix: &str) -> Option<[u8; 32]> {
    let digits = path.file_name()?.to_str()?.strip_suffix(suffix)?;
    digits.parse::<BlockId>().ok().map(|hash| hash.0)
}
