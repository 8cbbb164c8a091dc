//! What a node lets go: releases beyond those to keep, and packs that no release refers to.
//!
//! The order is always the same: first the claim is taken back durably, then the files go. A crash in between
//! leaves files that nobody claims, and the next start or the next call removes them.

use crate::{
    error::StoreError,
    files::Files,
    images,
    ledger::{self, Folder},
    store::Store,
};
use branchmesh_image::{BlockId, PackId, hash::HASH_BYTES};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
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
        let mut ahead = self.assembly_turn();
        let _turn = self.folder_turn();
        if self.current(image)?.as_deref() == Some(release) {
            return Err(StoreError::Active { image: image.into(), release: release.into() });
        }
        // Who made another release the active one may have ended, or met an error, before that was synced.
        self.sync_release_names(image)?;
        let key = ledger::key(image, release);
        ahead.forget(&key);
        self.ledger().remove_release(&key, Some(Folder::Retiring))?;
        self.remove_folder(image, release)?;
        self.ledger().set_folder(&key, None)?;
        tracing::debug!(image, release, "release removed");
        Ok(())
    }

    /// Deletes every pack that is not in `referenced`, and gives the bytes of blocks that were dropped.
    /// `referenced` must hold the packs of every release that is here or on its way.
    pub fn drop_unreferenced(&self, referenced: &HashSet<PackId>) -> Result<u64, StoreError> {
        let _turn = self.commit_turn();
        let dead: HashSet<PackId> =
            self.presence_mut().packs().filter(|pack| !referenced.contains(pack)).copied().collect();
        let dropped = self.abandon(&dead)?;
        // By what lies on the disk, so that files that a crash has left go too.
        let mut removed = HashSet::new();
        for (path, pack) in hashed_files(self.files(), self.packs().folder(), ".pack")? {
            if !referenced.contains(&PackId(pack)) {
                self.files().remove(&path)?;
                removed.insert(PackId(pack));
            }
        }
        // A block that arrived meanwhile was written to a file that is gone now.
        self.abandon(&removed)?;
        Ok(dropped)
    }

    /// Deletes every index part that is not in `referenced`.
    pub fn drop_unreferenced_parts(&self, referenced: &HashSet<BlockId>) -> Result<(), StoreError> {
        for (path, part) in hashed_files(self.files(), self.parts().folder(), "")? {
            if !referenced.contains(&BlockId(part)) {
                self.files().remove(&path)?;
            }
        }
        Ok(())
    }

    /// Takes back all claims to these packs; gives the bytes that were present. The caller holds the commit turn.
    fn abandon(&self, packs: &HashSet<PackId>) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for pack in packs {
            bytes += self.presence_mut().forget_pack(pack);
            self.packs().close(pack);
        }
        self.record_claims()?;
        Ok(bytes)
    }
}

/// The files in the folders of `folder` that are named by a hash and `suffix`; no others were made by the store.
fn hashed_files(
    files: &Files,
    folder: &Path,
    suffix: &str,
) -> Result<Vec<(PathBuf, [u8; HASH_BYTES])>, StoreError> {
    let mut hashed = Vec::new();
    for folder in files.list(folder)? {
        for path in files.list(&folder)? {
            let digits = path.file_name().and_then(|name| name.to_str()?.strip_suffix(suffix));
            if let Some(hash) = digits.and_then(|digits| digits.parse::<BlockId>().ok()) {
                hashed.push((path, hash.0));
            }
        }
    }
    Ok(hashed)
}
