//! From plaintext to the block that its publisher made of it.
//!
//! Encoding is the same everywhere for the same zstd level. The index does not tell the level, and a release may have
//! blocks of several: those of earlier releases stay as they are. So levels are tried, first those that fitted last.

use branchmesh_image::{BlobRef, BlockError, Cipher, Encoder, VerifiedBlock, block::ZSTD_LEVEL_DEFAULT};

/// The levels that `publish` offers, the likely ones first.
const LEVELS: [i32; 19] =
    [ZSTD_LEVEL_DEFAULT, 1, 9, 19, 6, 2, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18];
/// After so many blocks for which no level fitted, only levels that did fit are tried: their publisher has another
/// version of zstd, and trying all levels takes some hundred times as long as one.
const FRUITLESS_MAX: u32 = 16;

/// Encodes as a publisher did.
pub(super) struct Reencoder {
    cipher: Cipher,
    /// Levels that fitted, the last one first; at the beginning, the likeliest one.
    fitting: Vec<(i32, Encoder)>,
    /// Blocks for which none fitted.
    fruitless: u32,
}

impl Reencoder {
    pub fn new(cipher: Cipher) -> Result<Self, BlockError> {
        let first = (LEVELS[0], Encoder::new(LEVELS[0], cipher.clone())?);
        Ok(Self { cipher, fitting: vec![first], fruitless: 0 })
    }

    /// The block that `blob` names, made of its plaintext; `None` if it cannot be made.
    pub fn block(&mut self, blob: &BlobRef, plain: &[u8]) -> Result<Option<VerifiedBlock>, BlockError> {
        for number in 0..self.fitting.len() {
            if let Some(block) = encode(&mut self.fitting[number].1, blob, plain)? {
                self.fitting[..=number].rotate_right(1);
                return Ok(Some(block));
            }
        }
        if self.fruitless == FRUITLESS_MAX {
            return Ok(None);
        }
        for level in LEVELS {
            if self.fitting.iter().any(|(known, _)| *known == level) {
                continue;
            }
            let mut encoder = Encoder::new(level, self.cipher.clone())?;
            if let Some(block) = encode(&mut encoder, blob, plain)? {
                self.fitting.insert(0, (level, encoder));
                return Ok(Some(block));
            }
        }
        self.fruitless += 1;
        Ok(None)
    }
}

fn encode(encoder: &mut Encoder, blob: &BlobRef, plain: &[u8]) -> Result<Option<VerifiedBlock>, BlockError> {
    let (made, block) = encoder.encode(plain)?;
    Ok((made.id == blob.id).then_some(block))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<Vec<u8>> {
        let word = |seed: u32, at: u32| format!("{} ", (at * at + seed) % 977).into_bytes();
        (0..4).map(|seed| (0..5000).flat_map(|at| word(seed, at)).collect()).collect()
    }

    #[test]
    fn blocks_of_all_levels_are_made_even_in_one_release() {
        let mut reencoder = Reencoder::new(Cipher::None).unwrap();
        for level in LEVELS {
            let mut publisher = Encoder::new(level, Cipher::None).unwrap();
            for text in texts() {
                let (blob, block) = publisher.encode(&text).unwrap();
                let made = reencoder.block(&blob, &text).unwrap().expect("the block");
                assert_eq!(made.bytes(), block.bytes(), "level {level}");
            }
        }
        assert!(reencoder.fitting.len() > 3 && reencoder.fruitless == 0);
    }

    #[test]
    fn what_nobody_here_can_make_is_given_up() {
        let mut reencoder = Reencoder::new(Cipher::None).unwrap();
        let mut publisher = Encoder::new(LEVELS[0], Cipher::None).unwrap();
        let text = &texts()[0];
        let (blob, _) = publisher.encode(text).unwrap();
        let mut foreign = blob;
        foreign.id.0[0] ^= 1;
        for number in 1..2 * FRUITLESS_MAX {
            assert!(reencoder.block(&foreign, text).unwrap().is_none());
            assert_eq!(reencoder.fruitless, number.min(FRUITLESS_MAX));
        }
        assert!(reencoder.block(&blob, text).unwrap().is_some());
    }
}
