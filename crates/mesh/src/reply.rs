//! The answering side of a request.

use crate::{frame::framed, limits::STALL_TIMEOUT};
use branchmesh_wire::{BlockFrame, Refusal, ResponseHead};
use bytes::Bytes;
use quinn::{SendStream, VarInt};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

/// Code of a response that was broken off; its receiver must not take the end for the end.
const BROKEN_OFF: VarInt = VarInt::from_u32(1);

/// The asker went away or reads too slowly; there is nothing left to do for this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the neighbour no longer takes the answer")]
pub struct AskerGone;

/// The way back to a neighbour that asked for something.
///
/// It holds one of the places for requests in progress until it is used up or dropped. Dropping it unanswered
/// breaks the request off.
pub struct Reply {
    stream: ResponseStream,
}

/// Answers a request for blocks, one by one, in the order of the request.
pub struct BlockSender {
    stream: ResponseStream,
}

/// A stream that is reset unless it was finished.
struct ResponseStream {
    stream: SendStream,
    finished: bool,
    _places: Option<[OwnedSemaphorePermit; 2]>,
}

impl Reply {
    pub(crate) fn new(stream: SendStream, places: Option<[OwnedSemaphorePermit; 2]>) -> Self {
        Self { stream: ResponseStream { stream, finished: false, _places: places } }
    }

    /// Says no.
    pub async fn refuse(mut self, refusal: Refusal) {
        let head = framed(&ResponseHead::Refused(refusal)).into();
        if self.stream.write([head]).await.is_ok() {
            self.stream.finish();
        }
    }

    /// Answers a request for an index part or metadata.
    pub async fn bytes(mut self, bytes: Bytes) {
        let Ok(length) = u32::try_from(bytes.len()) else {
            tracing::error!(bytes = bytes.len(), "an answer of more than 4 GiB was broken off");
            return;
        };
        let head = framed(&ResponseHead::Bytes(length)).into();
        if self.stream.write([head, bytes]).await.is_ok() {
            self.stream.finish();
        }
    }

    /// Answers a request for blocks.
    pub async fn blocks(mut self) -> BlockSender {
        // A failure shows again at the first block.
        let _ = self.stream.write([framed(&ResponseHead::Blocks).into()]).await;
        BlockSender { stream: self.stream }
    }
}

impl BlockSender {
    /// Sends the next block, or says that it is not here. Waits while the network is slower than the disk.
    pub async fn send(&mut self, block: Option<Bytes>) -> Result<(), AskerGone> {
        let Some(block) = block else {
            return self.stream.write([Bytes::copy_from_slice(&BlockFrame::NotHere.to_bytes())]).await;
        };
        let Ok(length) = u32::try_from(block.len()) else { return Err(AskerGone) };
        let head = Bytes::copy_from_slice(&BlockFrame::Bytes(length).to_bytes());
        self.stream.write([head, block]).await
    }

    /// All blocks are sent. Without this call the asker sees a broken answer.
    pub async fn finish(mut self) {
        self.stream.finish();
    }
}

impl ResponseStream {
    /// Writes all chunks; fails when nothing at all could be written for [`STALL_TIMEOUT`].
    async fn write<const N: usize>(&mut self, mut chunks: [Bytes; N]) -> Result<(), AskerGone> {
        let mut rest = &mut chunks[..];
        while !rest.is_empty() {
            let written = timeout(STALL_TIMEOUT, self.stream.write_chunks(rest)).await;
            let written = written.map_err(|_| AskerGone)?.map_err(|_| AskerGone)?;
            rest = &mut rest[written.chunks..];
        }
        Ok(())
    }

    fn finish(&mut self) {
        // Fails only on a stream that the asker has stopped.
        let _ = self.stream.finish();
        self.finished = true;
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(BROKEN_OFF);
        }
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reply").field(&self.stream.stream.id()).finish()
    }
}

impl std::fmt::Debug for BlockSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BlockSender").field(&self.stream.stream.id()).finish()
    }
}
