//! Messages on a quinn stream: a little-endian u32 length, then the message.
//!
//! The length is compared with the limit of the message before anything is allocated.

use branchmesh_wire::{CodecError, Message};
use quinn::{ReadExactError, RecvStream};

/// A message did not arrive whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream ended between two messages.
    #[error("the stream ended")]
    Ended,
    /// The stream or connection broke.
    #[error("the stream broke: {0}")]
    Broken(String),
    /// The length exceeds the limit.
    #[error("a message of {claimed} bytes was announced, at most {limit} are allowed")]
    TooLong {
        /// The announced length.
        claimed: usize,
        /// The limit.
        limit: usize,
    },
    /// The bytes are no message.
    #[error("a message {0}")]
    Malformed(#[from] CodecError),
}

impl FrameError {
    /// Whether the sender broke the protocol, rather than the network.
    pub(crate) fn is_fault(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Malformed(_))
    }
}

/// The message as it travels.
pub(crate) fn framed<M: Message>(message: &M) -> Vec<u8> {
    let body = message.to_bytes();
    let length = u32::try_from(body.len()).expect("messages are limited to far less than 4 GiB");
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// Reads one message.
pub(crate) async fn read<M: Message>(stream: &mut RecvStream) -> Result<M, FrameError> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Ok(()) => {}
        Err(ReadExactError::FinishedEarly(0)) => return Err(FrameError::Ended),
        Err(error) => return Err(FrameError::Broken(error.to_string())),
    }
    let claimed = u32::from_le_bytes(length) as usize;
    if claimed > M::MAX {
        return Err(FrameError::TooLong { claimed, limit: M::MAX });
    }
    let mut body = vec![0; claimed];
    stream.read_exact(&mut body).await.map_err(|error| FrameError::Broken(error.to_string()))?;
    Ok(M::from_bytes(&body)?)
}
