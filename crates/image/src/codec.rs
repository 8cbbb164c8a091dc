//! Bounded bincode: the one door through which foreign bytes become values.
//!
//! bincode 2 is pinned and kept behind this module. Each decode has a byte limit that also bounds every
//! allocation (bincode claims a container's size against the limit before it allocates), and trailing bytes are
//! an error. Integers may come in a longer form than needed: what must have one form only is hashed.

use bincode::{Decode, Encode, config};

/// Bytes that are not a value of the expected type within its limit.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Not decodable, or larger than the limit.
    #[error("cannot be decoded within {limit} bytes: {reason}")]
    Malformed {
        /// The limit that applied, in bytes.
        limit: usize,
        /// What bincode said.
        reason: String,
    },
    /// A value, and then something else.
    #[error("{0} bytes follow the encoded value")]
    TrailingBytes(usize),
}

/// The encoding of `value`: little endian, variable-length integers.
///
/// # Panics
/// Never for the types of this workspace: their encoders do not fail, and memory is the only sink.
pub fn encode<T: Encode>(value: &T) -> Vec<u8> {
    bincode::encode_to_vec(value, config::standard()).expect("encoding into memory does not fail")
}

/// Decodes a value that takes up exactly `bytes`, reading and allocating at most `LIMIT` bytes.
pub fn decode<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, config::standard().with_limit::<LIMIT>())
        .map_err(|error| CodecError::Malformed { limit: LIMIT, reason: error.to_string() })?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(CodecError::TrailingBytes(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_allocated() {
        // A Vec<u64> that claims 2^40 elements.
        let mut bytes = vec![253];
        bytes.extend_from_slice(&(1u64 << 40).to_le_bytes());
        assert!(matches!(decode::<Vec<u64>, 1024>(&bytes), Err(CodecError::Malformed { .. })));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert!(matches!(decode::<u32, 16>(&bytes), Err(CodecError::TrailingBytes(1))));
    }
}
