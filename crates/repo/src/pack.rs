//! Writing packs: new blocks back to back, in the order of their first use.

use crate::{
    layout,
    place::{Place, PlaceError},
};
use branchmesh_image::{BlobRef, BlockEntry, BlockId, PackId, VerifiedBlock, index::PACK_MAX};
use bytes::Bytes;
use tokio::task::JoinHandle;

/// Takes the blocks of a release in their order and puts the new ones into packs. Holds at most two packs in
/// memory: one that is filled, one that is written.
pub(crate) struct PackWriter {
    place: Place,
    /// The block table. Blocks of the open pack have a pack id of zeros until it is closed.
    blocks: Vec<BlockEntry>,
    open: Vec<u8>,
    /// Which of `blocks` lie in the open pack.
    open_blocks: Vec<usize>,
    writing: Option<JoinHandle<Result<(), PlaceError>>>,
    /// Packs that were not in the repository before.
    created: Vec<PackId>,
    new_blocks: u64,
    new_bytes: u64,
}

/// What a [`PackWriter`] did.
pub(crate) struct Packed {
    pub(crate) blocks: Vec<BlockEntry>,
    /// Blocks that were not in the repository before.
    pub(crate) new_blocks: u64,
    /// Their encoded bytes.
    pub(crate) new_bytes: u64,
}

impl PackWriter {
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            place: place.clone(),
            blocks: Vec::new(),
            open: Vec::new(),
            open_blocks: Vec::new(),
            writing: None,
            created: Vec::new(),
            new_blocks: 0,
            new_bytes: 0,
        }
    }

    /// The next block is in the repository already.
    pub(crate) fn push_known(&mut self, entry: BlockEntry) {
        self.blocks.push(entry);
    }

    /// The next block is new.
    pub(crate) async fn push_new(&mut self, blob: BlobRef, block: &VerifiedBlock) -> Result<(), PlaceError> {
        let length = block.bytes().len();
        if self.open.len() + length > PACK_MAX as usize {
            self.close_pack().await?;
        }
        let offset = u32::try_from(self.open.len()).expect("a pack has at most 32 MiB");
        self.open_blocks.push(self.blocks.len());
        self.blocks.push(BlockEntry { blob, pack: PackId([0; 32]), offset });
        self.open.extend_from_slice(block.bytes());
        self.new_blocks += 1;
        self.new_bytes += length as u64;
        Ok(())
    }

    /// Writes what is left; all packs are durable when it returns.
    pub(crate) async fn finish(&mut self) -> Result<Packed, PlaceError> {
        self.close_pack().await?;
        self.written().await?;
        Ok(Packed {
            blocks: std::mem::take(&mut self.blocks),
            new_blocks: self.new_blocks,
            new_bytes: self.new_bytes,
        })
    }

    /// Removes the packs that this writer brought into the repository, because no index will name them.
    pub(crate) async fn discard(mut self) {
        // Its result does not matter any more, but it must not come after the removal.
        let _ = self.written().await;
        for pack in &self.created {
            if let Err(error) = self.place.remove(&layout::pack_path(pack)).await {
                tracing::warn!(%error, %pack, "a pack that no release needs is left in the repository");
            }
        }
    }

    async fn close_pack(&mut self) -> Result<(), PlaceError> {
        if self.open_blocks.is_empty() {
            return Ok(());
        }
        let pack = pack_id(self.open_blocks.iter().map(|&at| &self.blocks[at].blob.id));
        for at in std::mem::take(&mut self.open_blocks) {
            self.blocks[at].pack = pack;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.open));
        let path = layout::pack_path(&pack);
        self.written().await?;
        // A pack of that name may be left from a publication that was killed, whole or not: it is written again.
        if self.place.size(&path).await?.is_none() {
            self.created.push(pack);
        }
        let place = self.place.clone();
        self.writing = Some(tokio::spawn(async move { place.put(&path, bytes).await }));
        Ok(())
    }

    /// Waits until the pack that is being written is durable.
    async fn written(&mut self) -> Result<(), PlaceError> {
        match self.writing.take() {
            Some(writing) => writing.await.unwrap_or_else(|_| Err(PlaceError::Interrupted)),
            None => Ok(()),
        }
    }
}

/// A pack's name: the hash of its blocks' ids, in their order.
fn pack_id<'a>(ids: impl Iterator<Item = &'a BlockId>) -> PackId {
    let ids: Vec<u8> = ids.flat_map(|id| id.0).collect();
    PackId::of(&ids)
}
