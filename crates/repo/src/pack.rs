//! Writing packs: new blocks back to back, in the order of their first use.

use crate::{
    layout,
    place::{Place, PlaceError},
};
use branchmesh_image::{BlobRef, BlockEntry, BlockId, PackId, VerifiedBlock, index::PACK_MAX};
use bytes::Bytes;
use tokio::task::JoinHandle;

/// Most entries that wait for the open pack to get its name: 28 MiB of memory. So many known blocks, 16 GiB of
/// plaintext, between two that are new close a pack before it is full.
const WAITING_MAX: usize = 1 << 18;

/// Takes the blocks of a release in their order and puts the new ones into packs. Holds at most two packs in
/// memory: one that is filled, one that is written.
pub(crate) struct PackWriter {
    place: Place,
    open: Vec<u8>,
    /// The blocks from the first in the open pack on. Those in the open pack have a pack id of zeros.
    waiting: Vec<BlockEntry>,
    /// Which of `waiting` lie in the open pack.
    open_blocks: Vec<usize>,
    /// Blocks whose place is known, until they are taken.
    placed: Vec<BlockEntry>,
    writing: Option<JoinHandle<Result<(), PlaceError>>>,
    /// Packs that were not in the repository before.
    created: Vec<String>,
    new_blocks: u64,
    new_bytes: u64,
}

impl PackWriter {
    pub(crate) fn new(place: &Place) -> Self {
        Self {
            place: place.clone(),
            open: Vec::new(),
            waiting: Vec::new(),
            open_blocks: Vec::new(),
            placed: Vec::new(),
            writing: None,
            created: Vec::new(),
            new_blocks: 0,
            new_bytes: 0,
        }
    }

    /// The next block is in the repository already.
    pub(crate) async fn push_known(&mut self, entry: BlockEntry) -> Result<(), PlaceError> {
        if self.open_blocks.is_empty() {
            self.placed.push(entry);
            return Ok(());
        }
        self.waiting.push(entry);
        self.close_if_many_wait().await
    }

    /// The next block is new.
    pub(crate) async fn push_new(&mut self, blob: BlobRef, block: &VerifiedBlock) -> Result<(), PlaceError> {
        let length = block.bytes().len();
        if self.open.len() + length > PACK_MAX as usize {
            self.close_pack().await?;
        }
        if self.open.is_empty() {
            // All at once: growing step by step would copy it, and end up with twice the room.
            self.open.reserve_exact(PACK_MAX as usize);
        }
        let offset = u32::try_from(self.open.len()).expect("a pack has at most 32 MiB");
        self.open_blocks.push(self.waiting.len());
        self.waiting.push(BlockEntry { blob, pack: PackId([0; 32]), offset });
        self.open.extend_from_slice(block.bytes());
        self.new_blocks += 1;
        self.new_bytes += length as u64;
        self.close_if_many_wait().await
    }

    /// The next blocks of the release, in order, as far as their place is known.
    pub(crate) fn take_placed(&mut self) -> Vec<BlockEntry> {
        std::mem::take(&mut self.placed)
    }

    /// Writes what is left; all packs are durable, and all blocks placed, when it returns.
    pub(crate) async fn finish(&mut self) -> Result<(), PlaceError> {
        self.close_pack().await?;
        self.written().await
    }

    /// Blocks that were not in the repository before, and their encoded bytes.
    pub(crate) fn added(&self) -> (u64, u64) {
        (self.new_blocks, self.new_bytes)
    }

    /// Removes the packs that this writer brought into the repository, because no index will name them.
    pub(crate) async fn discard(mut self) {
        // Its result does not matter any more, but it must not come after the removal.
        let _ = self.written().await;
        self.place.remove_leftovers(&self.created).await;
    }

    async fn close_if_many_wait(&mut self) -> Result<(), PlaceError> {
        if self.waiting.len() >= WAITING_MAX { self.close_pack().await } else { Ok(()) }
    }

    async fn close_pack(&mut self) -> Result<(), PlaceError> {
        if self.open_blocks.is_empty() {
            return Ok(());
        }
        let pack = pack_id(self.open_blocks.iter().map(|&at| &self.waiting[at].blob.id));
        for at in self.open_blocks.drain(..) {
            self.waiting[at].pack = pack;
        }
        let waiting = std::mem::take(&mut self.waiting);
        if self.placed.is_empty() {
            self.placed = waiting;
        } else {
            self.placed.extend(waiting);
        }
        let bytes = Bytes::from(std::mem::take(&mut self.open));
        let path = layout::pack_path(&pack);
        self.written().await?;
        // A pack of that name may be left from a publication that was killed. Only a cloud's is sure to be whole.
        if self.place.has_arrived(&path, bytes.len() as u64).await? {
            tracing::debug!(%pack, "it was uploaded before");
            return Ok(());
        }
        if self.place.size(&path).await?.is_none() {
            self.created.push(path.clone());
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

#[cfg(test)]
mod tests {
    use super::*;
    use branchmesh_image::{Cipher, Encoder, PlainHash};

    #[tokio::test]
    async fn known_blocks_do_not_wait_for_a_pack_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place::create(&dir.path().into()).unwrap();
        let mut packs = PackWriter::new(&place);
        let known = |number: usize| {
            let plain = PlainHash::of(&number.to_le_bytes());
            let blob = BlobRef { id: BlockId(plain.0), plain, encoded_len: 1, plain_len: 1 };
            BlockEntry { blob, pack: PackId([1; 32]), offset: 0 }
        };
        packs.push_known(known(0)).await.unwrap();
        assert_eq!(packs.take_placed(), [known(0)]);

        let (blob, block) = Encoder::new(1, Cipher::None).unwrap().encode(b"new").unwrap();
        packs.push_new(blob, &block).await.unwrap();
        let mut placed = packs.take_placed();
        for number in 1..WAITING_MAX {
            assert!(placed.is_empty(), "block {number} came before the one that waits for its pack");
            packs.push_known(known(number)).await.unwrap();
            placed = packs.take_placed();
        }
        assert_eq!(placed.len(), WAITING_MAX);
        assert_eq!((placed[0].blob, placed[0].pack), (blob, pack_id([blob.id].iter())));
        assert_eq!(placed[1..], (1..WAITING_MAX).map(known).collect::<Vec<_>>());
        packs.finish().await.unwrap();
        assert!(place.size(&layout::pack_path(&placed[0].pack)).await.unwrap().is_some());
        assert_eq!(packs.added(), (1, 4));
    }
}
