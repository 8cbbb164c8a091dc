//! The first steps of a release's way onto this node, each as a task of its own: learn of it, learn its index, take
//! what local origins have. What they find goes to the loop, which decides.

use crate::{
    happening::{Happening, Indexed, MetadataFrom},
    shared::{Held, Shared},
};
use async_trait::async_trait;
use branchmesh_image::{BlobRef, Index, IndexId, VerifiedBlock};
use branchmesh_mesh::RequestError;
use branchmesh_repo::{CatalogEntry, MetadataSource, PartSource, SourceError, TrustError, load_release};
use branchmesh_store::ReleaseRecord;
use branchmesh_wire::{BlockSet, NodeId, Refusal, Request};
use bytes::Bytes;
use futures::StreamExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tracing::{debug, info, warn};

/// First and longest pause between two attempts to get an index part that nobody gave.
const PART_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));
/// Blocks of a local origin that are written at once.
const IMPORT_BATCH: usize = 64;

/// Asks for new metadata, and tells the loop what came of it.
pub(crate) async fn refresh_metadata(shared: Arc<Shared>, from: MetadataFrom) {
    let mut trust = shared.trust.lock().await;
    let result = match from {
        MetadataFrom::Member(node) => {
            let source = Member { shared: Arc::clone(&shared), node };
            trust.refresh(&source).await.map_err(|error| crate::in_words(&error))
        }
        MetadataFrom::Wan | MetadataFrom::Local => {
            let local = from == MetadataFrom::Local;
            let mut result = Err("no origin is configured".into());
            // All of them: a mirror or a stick may be behind the others, and trust only moves forward.
            for origin in shared.origins.iter().filter(|origin| origin.is_local() == local) {
                let refreshed = match trust.refresh(origin).await {
                    // A stick that was prepared last month is no attack.
                    Err(error @ TrustError::Rollback { .. }) if local => trust.catalog().ok_or(error),
                    other => other,
                };
                let refreshed = refreshed.map_err(|error| in_words_of(origin.url(), &error));
                if refreshed.is_ok() || result.is_err() {
                    result = refreshed;
                }
            }
            result
        }
    };
    shared.set_metadata(trust.files().clone());
    drop(trust);
    shared.tell(Happening::Metadata(from, result)).await;
}

/// An origin's error in words that name it.
fn in_words_of(url: &str, error: &TrustError) -> String {
    let words = crate::in_words(error);
    if words.contains(url.trim_end_matches('/')) { words } else { format!("{url}: {words}") }
}

/// Metadata as one member of the site has it.
struct Member {
    shared: Arc<Shared>,
    node: NodeId,
}

#[async_trait]
impl MetadataSource for Member {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        let request = Request::Metadata { name: name.into() };
        match self.shared.mesh.request_part(self.node, request, max).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RequestError::Refused(Refusal::NotHere)) => Ok(None),
            Err(error) => Err(SourceError::Members(crate::in_words(&error))),
        }
    }
}

/// Learns a release's index and what of it is here already, and tells the loop. Local origins and files of this machine
/// are asked only for what is `wanted`.
pub(crate) async fn index_release(
    shared: Arc<Shared>,
    entry: CatalogEntry,
    wanted: bool,
    record: Option<ReleaseRecord>,
) {
    let indexed = indexed(&shared, &entry, wanted, record).await;
    shared.tell(Happening::Indexed(Box::new(entry), indexed)).await;
}

async fn indexed(
    shared: &Arc<Shared>,
    entry: &CatalogEntry,
    wanted: bool,
    record: Option<ReleaseRecord>,
) -> Result<Indexed, String> {
    // A release whose description could be read has a key that opens it.
    let cipher = shared.content_keys.cipher(entry.group.as_deref()).ok_or_else(|| {
        format!("there is no content key for the group {}", entry.group.as_deref().unwrap_or_default())
    })?;
    let parts = SiteParts { shared: Arc::clone(shared), crossed: AtomicU64::new(0) };
    let index = load_release(entry, cipher.clone(), &parts).await.map_err(|error| crate::in_words(&error))?;
    let held =
        Arc::new(Held { entry: entry.clone(), index: Arc::new(index), cipher, crossed: parts.crossed });
    let trim = shared.settings.trim || record.is_some();
    let have = blocks_here(shared, &held.index, trim).await;
    if !wanted {
        return Ok(Indexed { held, have, record, wanted });
    }
    let mut have = import_local(shared, &held, have).await;
    if !have.is_full() && shared.harvest.look_for(&held).await {
        have.union_with(&blocks_here(shared, &held.index, trim).await);
    }
    Ok(Indexed { held, have, record, wanted })
}

/// Index parts from the nearest place: this disk, local origins, members, and the WAN if this node is a fetcher.
struct SiteParts {
    shared: Arc<Shared>,
    /// Bytes that WAN origins sent.
    crossed: AtomicU64,
}

#[async_trait]
impl PartSource for SiteParts {
    /// Waits until somebody has the part: a node that may not use the WAN depends on the others.
    async fn part(&self, release: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
        let id = blob.id;
        let shared = Arc::clone(&self.shared);
        if let Ok(Ok(Some(part))) = tokio::task::spawn_blocking(move || shared.store.part(&id)).await {
            return Ok(part);
        }
        let mut pause = PART_RETRY.0;
        loop {
            if let Some(part) = self.ask_for_part(release, blob).await {
                self.keep(part.clone()).await;
                return Ok(part);
            }
            self.shared.wait_for_holders(pause).await;
            pause = (pause * 3 / 2).min(PART_RETRY.1);
        }
    }
}

impl SiteParts {
    async fn ask_for_part(&self, release: IndexId, blob: &BlobRef) -> Option<VerifiedBlock> {
        for origin in self.shared.origins.iter().filter(|origin| origin.is_local()) {
            match origin.part(release, blob).await {
                Ok(part) => return Some(part),
                Err(error) => debug!(origin = origin.url(), error = crate::in_words(&error), "no index part"),
            }
        }
        for node in self.shared.holders(&release) {
            let request = Request::IndexPart { release, id: blob.id };
            match self.shared.mesh.request_part(node, request, blob.encoded_len as usize).await {
                Ok(bytes) => match VerifiedBlock::verify(&blob.id, bytes) {
                    Ok(part) => return Some(part),
                    Err(error) => warn!(%node, error = crate::in_words(&error), "a bad index part was sent"),
                },
                Err(error) => debug!(%node, error = crate::in_words(&error), "no index part"),
            }
        }
        if !self.shared.is_settled_fetcher() {
            return None;
        }
        for origin in self.shared.origins.iter().filter(|origin| !origin.is_local()) {
            match origin.part(release, blob).await {
                Ok(part) => {
                    self.crossed.fetch_add(u64::from(blob.encoded_len), Ordering::Relaxed);
                    return Some(part);
                }
                Err(error) => {
                    let words = crate::in_words(&error);
                    warn!(origin = origin.url(), error = words, "an index part did not come");
                    self.shared.tell(Happening::OriginFailed(words)).await;
                }
            }
        }
        None
    }

    async fn keep(&self, part: VerifiedBlock) {
        let shared = Arc::clone(&self.shared);
        let kept = tokio::task::spawn_blocking(move || shared.store.put_part(&part)).await;
        if let Ok(Err(error)) = kept {
            self.shared.tell(Happening::DiskFailed(crate::in_words(&error))).await;
        }
    }
}

async fn blocks_here(shared: &Arc<Shared>, index: &Arc<Index>, trim: bool) -> BlockSet {
    let (shared, index) = (Arc::clone(shared), Arc::clone(index));
    let count = u32::try_from(index.blocks().len()).expect("an index has at most 2^32 blocks");
    let found = tokio::task::spawn_blocking(move || {
        let mut have = BlockSet::empty(count);
        for (number, block) in (0u32..).zip(index.blocks()) {
            if trim && shared.store.has(&block.location()) {
                have.insert(number);
            }
        }
        have
    });
    found.await.unwrap_or_else(|_| BlockSet::empty(count))
}

/// Takes from local origins (a stick, a prestage folder) whatever they have: they cost no WAN, and what they
/// give is offered to the site.
async fn import_local(shared: &Arc<Shared>, held: &Arc<Held>, mut have: BlockSet) -> BlockSet {
    for origin in shared.origins.iter().filter(|origin| origin.is_local()) {
        let missing = (0u32..).zip(held.index.blocks()).filter(|(number, _)| !have.contains(*number));
        let wanted: Vec<_> =
            missing.map(|(number, block)| (number, block.location(), block.blob.id)).collect();
        if wanted.is_empty() {
            break;
        }
        info!(origin = origin.url(), blocks = wanted.len(), "taking blocks from a local origin");
        let mut batches = std::pin::pin!(origin.blocks(wanted).ready_chunks(IMPORT_BATCH));
        while let Some(batch) = batches.next().await {
            let mut good = Vec::with_capacity(batch.len());
            for block in batch {
                match block {
                    Ok(block) => good.push(block),
                    Err(error) => {
                        warn!(
                            origin = origin.url(),
                            error = crate::in_words(&error),
                            "a local origin failed"
                        );
                    }
                }
            }
            for block in write_batch(shared, held, good).await {
                have.insert(block);
            }
        }
    }
    have
}

async fn write_batch(shared: &Arc<Shared>, held: &Arc<Held>, blocks: Vec<(u32, VerifiedBlock)>) -> Vec<u32> {
    let (writer, release) = (Arc::clone(shared), Arc::clone(held));
    let written = tokio::task::spawn_blocking(move || {
        let mut written = Vec::with_capacity(blocks.len());
        for (number, data) in blocks {
            let Some(entry) = release.block(number) else { continue };
            match writer.store.write(&entry.location(), &data) {
                Ok(()) => written.push(number),
                Err(error) => return (written, Some(crate::in_words(&error))),
            }
        }
        (written, None)
    });
    let (written, failed) = written.await.unwrap_or_default();
    if let Some(error) = failed {
        shared.tell(Happening::DiskFailed(error)).await;
    }
    written
}
