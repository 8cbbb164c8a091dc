//! A whole index: a root and its pieces, each of which may be right while together they are not.

use crate::{index_root, input::Input};
use branchmesh_image::{
    Extent, Index, IndexPiece, IndexRoot, block::BLOCK_ENCODED_MAX, chunk::BLOCK_PLAIN_MAX, index::PACK_MAX,
};

/// Input: the plaintexts of the root and of each piece, each with its length before it.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Ok(root) = IndexRoot::from_bytes(input.part()) else { return };
    let mut pieces = Vec::new();
    while !input.rest().is_empty() {
        let Ok(piece) = IndexPiece::from_bytes(input.part()) else { return };
        pieces.push(piece);
    }
    let Ok(index) = Index::assemble(root, &pieces) else { return };
    check(&index);
    assert_eq!(index.blocks().len(), pieces.iter().map(IndexPiece::block_count).sum::<usize>());
    let cut: Vec<IndexPiece> = IndexPiece::cut(index.blocks()).collect();
    let again = Index::assemble(index.root().clone(), &cut).expect("the same blocks make the same index");
    assert_eq!(again, index);
}

/// What every index promises that was accepted: nothing that is computed from it can go wrong.
pub fn check(index: &Index) {
    index_root::check(index.root());
    for block in index.blocks() {
        assert!((1..=BLOCK_PLAIN_MAX).contains(&(block.blob.plain_len as usize)));
        assert!((1..=BLOCK_ENCODED_MAX).contains(&(block.blob.encoded_len as usize)));
        assert!(block.offset.checked_add(block.blob.encoded_len).is_some_and(|end| end <= PACK_MAX));
    }
    for file in index.files() {
        let mut size = 0u64;
        for extent in &file.extents {
            size += match *extent {
                Extent::Hole(length) => length,
                Extent::Blocks { first, count } => {
                    let blocks = &index.blocks()[first as usize..(first + count) as usize];
                    blocks.iter().map(|block| u64::from(block.blob.plain_len)).sum()
                }
            };
        }
        assert_eq!(size, file.size, "{:?} is not as long as it says", file.path);
    }
    let segments = index.segments();
    assert_eq!(segments.bytes(), index.encoded_bytes());
    assert_eq!(segments.block_count() as usize, index.blocks().len());
}
