//! The asking side of a request.

use crate::{frame, limits::STALL_TIMEOUT};
use branchmesh_wire::{
    BlockFrame, IndexId, Refusal, Request, ResponseHead, Runs, limits::REQUEST_BLOCKS_MAX,
};
use bytes::Bytes;
use quinn::{Connection, ReadError, ReadExactError, RecvStream};
use std::{collections::VecDeque, future::Future};
use tokio::time::timeout;

/// A request did not get its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// There is no connection to this node.
    #[error("the node is not connected")]
    NotConnected,
    /// The neighbour said no. For `Busy`: ask again later, or another.
    #[error("the neighbour refused: {0:?}")]
    Refused(Refusal),
    /// Nothing came for a while. Ask another.
    #[error("nothing came for {} s", STALL_TIMEOUT.as_secs())]
    Stalled,
    /// The stream or the connection broke. Ask another.
    #[error("the answer broke off: {0}")]
    BrokenOff(String),
    /// The answer is longer than the asker allowed.
    #[error("an answer of {claimed} bytes was announced, at most {limit} were expected")]
    TooLong {
        /// The announced length.
        claimed: usize,
        /// The limit.
        limit: usize,
    },
    /// A block has not the length that the index gives. The neighbour has another idea of the release.
    #[error("block {block} was announced with {claimed} bytes, the index says {expected}")]
    WrongLength {
        /// Which block.
        block: u32,
        /// The announced length.
        claimed: u32,
        /// The right length.
        expected: u32,
    },
    /// The answer is of another kind than the request.
    #[error("the answer makes no sense: {0}")]
    Malformed(String),
    /// The request itself breaks the limits.
    #[error("a request names 1 to {REQUEST_BLOCKS_MAX} blocks in ascending order")]
    BadRequest,
}

/// Blocks as they arrive.
///
/// Dropping it tells the neighbour to stop.
#[derive(Debug)]
pub struct BlockStream {
    stream: RecvStream,
    expected: VecDeque<(u32, u32)>,
    failed: bool,
}

impl BlockStream {
    /// The next block of the request with its encoded bytes, not yet verified, or `None` in place of bytes that
    /// the neighbour does not have. `None` at the end. After an error nothing more comes.
    pub async fn next(&mut self) -> Option<Result<(u32, Option<Bytes>), RequestError>> {
        if self.failed {
            return None;
        }
        let (block, expected) = self.expected.pop_front()?;
        let outcome = self.read_block(block, expected).await;
        self.failed = outcome.is_err();
        Some(outcome.map(|bytes| (block, bytes)))
    }

    async fn read_block(&mut self, block: u32, expected: u32) -> Result<Option<Bytes>, RequestError> {
        let mut head = [0; BlockFrame::HEAD_BYTES];
        read_exact(&mut self.stream, &mut head).await?;
        let claimed = match BlockFrame::from_bytes(head) {
            BlockFrame::NotHere => return Ok(None),
            BlockFrame::Bytes(claimed) => claimed,
        };
        if claimed != expected {
            return Err(RequestError::WrongLength { block, claimed, expected });
        }
        read_bytes(&mut self.stream, expected as usize).await.map(Some)
    }
}

/// Asks for bytes.
pub(crate) async fn bytes(
    connection: &Connection,
    request: &Request,
    limit: usize,
) -> Result<Bytes, RequestError> {
    let (head, mut stream) = open(connection, request).await?;
    let ResponseHead::Bytes(claimed) = head else {
        return Err(RequestError::Malformed(format!("{head:?} in answer to a request for bytes")));
    };
    let claimed = claimed as usize;
    if claimed > limit {
        return Err(RequestError::TooLong { claimed, limit });
    }
    read_bytes(&mut stream, claimed).await
}

/// Asks for blocks, given with their encoded lengths.
pub(crate) async fn blocks(
    connection: &Connection,
    release: IndexId,
    blocks: Vec<(u32, u32)>,
) -> Result<BlockStream, RequestError> {
    let request = Request::Blocks { release, blocks: packed(&blocks).ok_or(RequestError::BadRequest)? };
    let (head, stream) = open(connection, &request).await?;
    let ResponseHead::Blocks = head else {
        return Err(RequestError::Malformed(format!("{head:?} in answer to a request for blocks")));
    };
    Ok(BlockStream { stream, expected: blocks.into(), failed: false })
}

fn packed(blocks: &[(u32, u32)]) -> Option<Runs> {
    let fits = !blocks.is_empty() && blocks.len() <= REQUEST_BLOCKS_MAX as usize;
    let ascends = blocks.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !fits || !ascends || blocks.last()?.0 == u32::MAX {
        return None;
    }
    let mut messages = Runs::pack(blocks.iter().map(|(block, _)| *block));
    (messages.len() == 1).then(|| messages.remove(0))
}

/// Sends the request and reads the head of the answer.
async fn open(
    connection: &Connection,
    request: &Request,
) -> Result<(ResponseHead, RecvStream), RequestError> {
    let (mut send, mut receive) = patiently(connection.open_bi()).await?.map_err(broken)?;
    patiently(send.write_all(&frame::framed(request))).await?.map_err(broken)?;
    send.finish().map_err(broken)?;
    match patiently(frame::read(&mut receive)).await? {
        Ok(ResponseHead::Refused(refusal)) => Err(RequestError::Refused(refusal)),
        Ok(head) => Ok((head, receive)),
        Err(error) if error.is_fault() => Err(RequestError::Malformed(error.to_string())),
        Err(error) => Err(broken(error)),
    }
}

/// Reads `length` bytes, which the caller has bounded; a byte has to come every [`STALL_TIMEOUT`].
async fn read_bytes(stream: &mut RecvStream, length: usize) -> Result<Bytes, RequestError> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        match patiently(stream.read_chunk(length - bytes.len(), true)).await?.map_err(broken)? {
            Some(chunk) => bytes.extend_from_slice(&chunk.bytes),
            None => return Err(broken(ReadExactError::FinishedEarly(bytes.len()))),
        }
    }
    Ok(bytes.into())
}

/// Fills `buffer`, as patiently.
async fn read_exact(stream: &mut RecvStream, buffer: &mut [u8]) -> Result<(), RequestError> {
    let mut filled = 0;
    while filled < buffer.len() {
        let read: Result<Option<usize>, ReadError> = patiently(stream.read(&mut buffer[filled..])).await?;
        match read.map_err(broken)? {
            Some(bytes) => filled += bytes,
            None => return Err(broken(ReadExactError::FinishedEarly(filled))),
        }
    }
    Ok(())
}

async fn patiently<T>(future: impl Future<Output = T>) -> Result<T, RequestError> {
    timeout(STALL_TIMEOUT, future).await.map_err(|_| RequestError::Stalled)
}

#[allow(clippy::needless_pass_by_value)] // For map_err.
fn broken(error: impl ToString) -> RequestError {
    RequestError::BrokenOff(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_ascending_lists_are_asked_for() {
        let list = |blocks: &[u32]| blocks.iter().map(|block| (*block, 1)).collect::<Vec<_>>();
        assert!(packed(&list(&[1, 2, 9])).is_some());
        for bad in [&[][..], &[2, 1], &[1, 1], &[u32::MAX]] {
            assert!(packed(&list(bad)).is_none(), "{bad:?}");
        }
        let long: Vec<u32> = (0..=REQUEST_BLOCKS_MAX).collect();
        assert!(packed(&list(&long)).is_none());
        assert!(packed(&list(&long[1..])).is_some());
        let scattered: Vec<u32> = (0..REQUEST_BLOCKS_MAX).map(|block| block * 3).collect();
        assert!(packed(&list(&scattered)).is_some());
    }
}
