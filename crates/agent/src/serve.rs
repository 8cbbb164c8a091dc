//! Answers neighbours: blocks, index parts and signed metadata that are here.
//!
//! Possession of an id proves nothing: a neighbour gets what belongs to a release whose group its certificate
//! names. Each block is verified when it is read, before it is sent.

use crate::{
    happening::Happening,
    shared::{Held, Shared},
};
use branchmesh_image::{BlockEntry, VerifiedBlock};
use branchmesh_mesh::{AskerGone, Reply};
use branchmesh_store::ReadError;
use branchmesh_wire::{BlockId, Identity, IndexId, Refusal, Request, limits::REQUEST_BLOCKS_MAX};
use std::sync::{Arc, atomic::Ordering};
use tracing::{debug, warn};

/// Bytes that are read ahead of the network: a few blocks, so that the disk works while the line sends.
const READ_AHEAD_BYTES: usize = 512 << 10;

/// Answers one request.
pub(crate) async fn answer(shared: Arc<Shared>, from: Identity, request: Request, reply: Reply) {
    match request {
        // What it still gives would be right, since each block is verified; but it should be left in peace, and whoever
        // asks finds a better one.
        Request::Blocks { .. } if shared.disk_fails.load(Ordering::Relaxed) => {
            reply.refuse(Refusal::NotHere).await;
        }
        Request::Blocks { release, blocks } => match allowed(&shared, &from, &release) {
            Ok(held) => {
                let blocks = blocks.blocks(REQUEST_BLOCKS_MAX).collect();
                if let Err(gone) = send_blocks(&shared, held, blocks, reply).await {
                    debug!(peer = %from.node, "{gone}");
                }
            }
            Err(refusal) => reply.refuse(refusal).await,
        },
        Request::IndexPart { release, id } => match index_part(&shared, &from, &release, id).await {
            Ok(part) => reply.bytes(part.bytes().clone()).await,
            Err(refusal) => reply.refuse(refusal).await,
        },
        Request::Metadata { name } => match shared.metadata(&name) {
            Some(bytes) => reply.bytes(bytes).await,
            None => reply.refuse(Refusal::NotHere).await,
        },
    }
}

fn allowed(shared: &Shared, from: &Identity, release: &IndexId) -> Result<Arc<Held>, Refusal> {
    let held = shared.held(release).ok_or(Refusal::NotHere)?;
    match &held.entry.group {
        Some(group) if !from.groups.contains(group) => Err(Refusal::NotAllowed),
        Some(_) | None => Ok(held),
    }
}

async fn index_part(
    shared: &Arc<Shared>,
    from: &Identity,
    release: &IndexId,
    id: BlockId,
) -> Result<VerifiedBlock, Refusal> {
    let held = allowed(shared, from, release)?;
    let root = &held.index.root().pieces;
    if held.entry.root.id != id && !root.iter().any(|piece| piece.id == id) {
        return Err(Refusal::NotAllowed);
    }
    let shared = Arc::clone(shared);
    let read = tokio::task::spawn_blocking(move || shared.store.part(&id)).await;
    match read {
        Ok(Ok(Some(part))) => Ok(part),
        Ok(Ok(None)) | Err(_) => Err(Refusal::NotHere),
        Ok(Err(error)) => {
            warn!(error = crate::in_words(&error), "an index part cannot be read");
            Err(Refusal::NotHere)
        }
    }
}

async fn send_blocks(
    shared: &Arc<Shared>,
    held: Arc<Held>,
    blocks: Vec<u32>,
    reply: Reply,
) -> Result<(), AskerGone> {
    let mut sender = reply.blocks().await;
    let mut rest = &blocks[..];
    while !rest.is_empty() {
        let (batch, after) = rest.split_at(batch_len(&held, rest));
        rest = after;
        let (reader, release, numbers) = (Arc::clone(shared), Arc::clone(&held), batch.to_vec());
        let read = tokio::task::spawn_blocking(move || read_batch(&reader, &release, &numbers)).await;
        let (data, rotten) = read.unwrap_or_default();
        if !rotten.is_empty() {
            shared.tell(Happening::Lost(held.entry.id(), rotten)).await;
        }
        for block in data {
            if let Some(block) = &block {
                shared.lan_limit.take(block.bytes().len() as u64).await;
            }
            sender.send(block.map(|block| block.bytes().clone())).await?;
        }
    }
    sender.finish().await;
    Ok(())
}

/// How many of the next blocks make up one read-ahead: at least one.
fn batch_len(held: &Held, blocks: &[u32]) -> usize {
    let mut bytes = 0;
    let within = |block: &&u32| {
        bytes += held.block(**block).map_or(0, |entry| entry.blob.encoded_len as usize);
        bytes <= READ_AHEAD_BYTES
    };
    blocks.iter().take_while(within).count().max(1)
}

/// The blocks in their order (`None`: not here), and which of them turned out to be rotten.
fn read_batch(shared: &Shared, held: &Held, blocks: &[u32]) -> (Vec<Option<VerifiedBlock>>, Vec<u32>) {
    let mut rotten = Vec::new();
    let mut read = |block: u32, entry: &BlockEntry| match shared.store.read(&entry.location(), &entry.blob.id)
    {
        Ok(data) => Some(data),
        Err(ReadError::NotHere(_)) => None,
        Err(error) => {
            warn!(block, error = crate::in_words(&error), "a block on this disk cannot be used");
            // The store has forgotten a rotten block; one that the disk does not give is no better.
            if let Err(error) = shared.store.forget(&[entry.location()]) {
                warn!(block, error = crate::in_words(&error), "and it cannot be forgotten");
            }
            rotten.push(block);
            None
        }
    };
    let data = blocks.iter().map(|block| held.block(*block).and_then(|entry| read(*block, entry))).collect();
    (data, rotten)
}
