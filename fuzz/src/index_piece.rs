//! The plaintext of a piece of an index.

use branchmesh_image::{IndexPiece, piece::PIECE_BLOCKS_MAX};

/// Input: the plaintext.
pub fn run(bytes: &[u8]) {
    let Ok(piece) = IndexPiece::from_bytes(bytes) else { return };
    assert!((1..=PIECE_BLOCKS_MAX).contains(&piece.block_count()));
    let again = IndexPiece::from_bytes(&piece.to_bytes()).expect("what was written reads back");
    assert_eq!(again, piece);
}
