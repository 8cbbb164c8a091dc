//! Importing a folder by hand: a bundle on a stick that no setting names.
//!
//! The folder is the nearest origin for a while. Whatever is good in it is used; the answer says what it gave, what
//! is damaged in it, and what the releases lack now.

use crate::{
    happening::{Happening, MetadataFrom},
    nearby::{self, Place, Plugged},
    rollout,
    shared::Shared,
};
use branchmesh_image::IndexId;
use branchmesh_repo::{Catalog, Origin, PartSource};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf, Prefix},
    sync::Arc,
    time::Duration,
};

/// Between two looks at whether the releases have begun.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Damaged blocks of one file that an answer names.
const NAMED_MAX: usize = 100;

/// The body of `POST /api/v1/import`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The folder, with its whole path on the agent's machine.
    pub folder: PathBuf,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportReport {
    /// What is wrong with the folder's metadata, in words; its blocks count all the same.
    pub metadata_problem: Option<String>,
    /// The releases that this node wants and did not have whole, or that the folder gave blocks of.
    pub releases: Vec<ImportedRelease>,
    /// Releases in the folder that this node does not want.
    pub unwanted: Vec<String>,
    /// Files of the folder that are damaged.
    pub damaged: Vec<DamagedFile>,
}

/// A release after an import.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedRelease {
    /// `IMAGE@RELEASE`.
    pub name: String,
    /// What the folder gave.
    pub taken: Amount,
    /// What is missing now; null while even the index is.
    pub missing: Option<Amount>,
}

/// A number of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Their encoded bytes.
    pub bytes: u64,
}

/// A file that could not be used as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedFile {
    /// Its URL.
    pub file: String,
    /// How many blocks of it are damaged; 0 if none of it can be used, such as a part of an index.
    pub count: u64,
    /// The ids of these blocks, the first hundred of them.
    pub blocks: Vec<String>,
    /// The releases that needed it.
    pub releases: Vec<String>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("{0} cannot be imported: give the whole path of a folder on this machine")]
    NotAFolder(PathBuf),
    #[error("{0} holds no bundle that the agent can read: there is no metadata/timestamp.json in it")]
    NoBundle(PathBuf),
    #[error("the metadata of the bundle cannot be used, and this node has none of its own: {0}")]
    Metadata(String),
    #[error("other folders are being imported; try again when they are done")]
    Busy,
}

/// Imports a folder.
pub(crate) async fn import(shared: Arc<Shared>, folder: PathBuf) -> Result<ImportReport, ImportError> {
    if !is_here(&folder) {
        return Err(ImportError::NotAFolder(folder));
    }
    let origin = Origin::open(folder.as_path()).map_err(|_| ImportError::NotAFolder(folder.clone()))?;
    if origin.timestamp_mark().await.is_none() {
        return Err(ImportError::NoBundle(folder));
    }
    let plugged = Plugged::new(&shared, origin).ok_or(ImportError::Busy)?;
    shared.nearby_changed();
    let place = &plugged.place;
    let mut report = ImportReport::default();
    let catalog = match rollout::refresh_local(&shared, &place.origin).await {
        Ok(catalog) => catalog,
        Err(words) => {
            let known = shared.trust.lock().await.catalog();
            let known = known.ok_or_else(|| ImportError::Metadata(words.clone()))?;
            report.metadata_problem = Some(words);
            known
        }
    };
    shared.tell(Happening::Metadata(MetadataFrom::Local, Ok(Arc::clone(&catalog)))).await;
    wait_for_beginners(&shared).await;
    nearby::take_missing(&shared, place).await;
    commit(&shared).await;
    complete(&shared, place, &catalog, &mut report).await;
    Ok(report)
}

/// Whether it is a path of this machine's own disks: on Windows a path may name another host, and whoever may talk
/// to the local API must not make the agent log in there.
fn is_here(folder: &Path) -> bool {
    let is_disk = |prefix: Prefix<'_>| matches!(prefix, Prefix::Disk(_) | Prefix::VerbatimDisk(_));
    folder.is_absolute()
        && folder.components().all(|component| match component {
            Component::Prefix(prefix) => is_disk(prefix.kind()),
            Component::RootDir | Component::CurDir | Component::ParentDir | Component::Normal(_) => true,
        })
}

/// Waits until every wanted release has its index, and with it the folder's blocks, or must get the index from
/// elsewhere.
async fn wait_for_beginners(shared: &Shared) {
    loop {
        let wanted = nearby::wanted(shared).await;
        if wanted.iter().all(|one| one.have.is_some() || shared.nearby.lacks_index(&one.release)) {
            return;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What was imported shall survive that the machine is switched off with the stick in somebody's pocket.
async fn commit(shared: &Arc<Shared>) {
    let committing = Arc::clone(shared);
    let committed = tokio::task::spawn_blocking(move || committing.store.commit()).await;
    if let Ok(Err(error)) = committed {
        shared.tell(Happening::DiskFailed(crate::in_words(&error))).await;
    }
}

async fn complete(shared: &Shared, place: &Place, catalog: &Catalog, report: &mut ImportReport) {
    let given = place.all_given();
    let mut wanted_here = BTreeSet::new();
    for wanted in nearby::wanted(shared).await {
        wanted_here.insert(wanted.release);
        let taken = given.get(&wanted.release);
        let taken =
            taken.map_or_else(Amount::default, |given| Amount { blocks: given.blocks, bytes: given.bytes });
        let held = shared.held(&wanted.release);
        let missing = wanted.have.zip(held).map(|(have, held)| {
            let missing = (0u32..).zip(held.index.blocks()).filter(|(number, _)| !have.contains(*number));
            missing.fold(Amount::default(), |sum, (_, block)| Amount {
                blocks: sum.blocks + 1,
                bytes: sum.bytes + u64::from(block.blob.encoded_len),
            })
        });
        if taken != Amount::default() || missing != Some(Amount::default()) {
            report.releases.push(ImportedRelease { name: wanted.name, taken, missing });
        }
    }
    for entry in catalog.releases.iter().filter(|entry| !wanted_here.contains(&entry.id())) {
        if place.origin.part(entry.id(), &entry.root).await.is_ok() {
            report.unwanted.push(entry.name());
        }
    }
    let name = |id: &IndexId| {
        let entry = catalog.releases.iter().find(|entry| entry.id() == *id);
        entry.map_or_else(|| id.to_string(), branchmesh_repo::CatalogEntry::name)
    };
    let mut files: BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
    for (release, given) in &given {
        for (file, blocks) in &given.damaged {
            let (ids, releases) = files.entry(file.clone()).or_default();
            ids.extend(blocks.iter().map(ToString::to_string));
            releases.insert(name(release));
        }
    }
    report.damaged = files
        .into_iter()
        .map(|(file, (ids, releases))| DamagedFile {
            file,
            count: ids.len() as u64,
            blocks: ids.into_iter().take(NAMED_MAX).collect(),
            releases: releases.into_iter().collect(),
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_paths_of_this_machine_are_looked_into() {
        assert!(is_here(&std::env::temp_dir()));
        assert!(!is_here(Path::new("stick")) && !is_here(Path::new("")));
        #[cfg(windows)]
        for path in [r"\\host\share", r"\\?\UNC\host\share", r"\\.\COM1", r"C:relative"] {
            assert!(!is_here(Path::new(path)), "{path}");
        }
    }
}
