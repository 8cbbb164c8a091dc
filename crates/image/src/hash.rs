//! The names of things: BLAKE3 hashes, one type per kind of thing so that they cannot be confused.

use bincode::{Decode, Encode};
use std::{fmt, str::FromStr};

/// Bytes of every hash in the formats (BLAKE3, default length).
pub const HASH_BYTES: usize = 32;

/// Text that should have been 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a hash: 64 hexadecimal digits are expected")]
pub struct HashParseError(String);

macro_rules! hash_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
        pub struct $name(pub [u8; HASH_BYTES]);

        impl $name {
            /// The hash of `bytes`.
            #[must_use]
            pub fn of(bytes: &[u8]) -> Self {
                Self(*blake3::hash(bytes).as_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &hex::encode(&self.0[..6]))
            }
        }

        impl FromStr for $name {
            type Err = HashParseError;

            fn from_str(text: &str) -> Result<Self, HashParseError> {
                let mut hash = [0; HASH_BYTES];
                hex::decode_to_slice(text, &mut hash).map_err(|_| HashParseError(text.into()))?;
                Ok(Self(hash))
            }
        }
    };
}

hash_type! {
    /// Names a block: BLAKE3 of its *encoded* bytes, so that anyone may check and carry it.
    BlockId
}
hash_type! {
    /// BLAKE3 of a block's plaintext; checked after decoding, and the base of its encryption key.
    PlainHash
}
hash_type! {
    /// Names a pack: BLAKE3 of the concatenated ids of its blocks, in their order.
    PackId
}
hash_type! {
    /// Names a release on the wire: the [`BlockId`] of its encoded index root.
    IndexId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_rejects_other_text() {
        let id = BlockId::of(b"block");
        assert_eq!(id.to_string().parse::<BlockId>().unwrap(), id);
        for text in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"a".repeat(65)] {
            assert!(text.parse::<BlockId>().is_err(), "{text:?} was accepted");
        }
    }
}
