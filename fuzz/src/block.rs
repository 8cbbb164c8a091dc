//! Encoded blocks, as somebody could publish them who has the keys and means harm: the hash and the seal are
//! right, what is inside is not.

use crate::{input::Input, sample};
use branchmesh_image::{
    BlobRef, BlockId, Cipher, Decoder, PlainHash, VerifiedBlock, block::BLOCK_ENCODED_MAX,
    chunk::BLOCK_PLAIN_MAX,
};
use std::io::Read;
use zstd::zstd_safe;

/// The method byte of a payload that is not compressed.
const METHOD_RAW: u8 = 0;
/// The method byte of one zstd frame.
const METHOD_ZSTD: u8 = 1;

/// Input: a byte of switches (1: group, 2: the payload is taken as sealed already, 4: the index gives another
/// length, 8: the index gives another hash), then the payload (method byte and body).
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let switches = input.byte();
    let payload = input.rest();
    if payload.len() > BLOCK_ENCODED_MAX {
        return;
    }
    let is_set = |bit: u8| switches & bit != 0;
    let cipher = if is_set(1) { sample::group_cipher() } else { Cipher::None };
    let meant = decoded(payload);
    let mut plain = PlainHash::of(meant.as_deref().unwrap_or_default());
    let encoded = if is_set(2) { payload.to_vec() } else { cipher.seal(&plain, payload.to_vec()) };
    let mut plain_len = meant.as_ref().map_or(BLOCK_PLAIN_MAX, Vec::len);
    if is_set(4) {
        plain_len = plain_len.wrapping_add(1) % BLOCK_PLAIN_MAX;
    }
    if is_set(8) {
        plain.0[0] ^= 1;
    }

    let id = BlockId::of(&encoded);
    let length = |bytes: usize| u32::try_from(bytes).expect("a block is far below 4 GiB");
    let blob = BlobRef { id, plain, encoded_len: length(encoded.len()), plain_len: length(plain_len) };
    let mut other = id;
    other.0[31] ^= 1;
    assert!(VerifiedBlock::verify(&other, encoded.clone()).is_err(), "another id passed");
    let block = VerifiedBlock::verify(&id, encoded).expect("the id is the hash of the bytes");

    let mut decoder = Decoder::new(cipher).expect("zstd works");
    let first = decoder.decode(&blob, &block).ok();
    let is_honest = !(is_set(4) || is_set(8) || is_set(1) && is_set(2));
    let expected = meant.filter(|_| is_honest);
    // A frame that lies about its length is refused before it is allocated for; a stream takes what it really gives.
    let is_lie_refused = first.is_none() && !is_exact(payload, plain_len);
    let shown = &payload[..payload.len().min(200)];
    assert!(
        is_lie_refused || first == expected,
        "{first:?}, an independent decoder: {expected:?}, of {shown:02x?}"
    );
    // The context is kept between blocks, and must not remember.
    assert_eq!(decoder.decode(&blob, &block).ok(), first, "the second time it came out differently");
}

/// What a payload stands for, decoded in another way: as a stream, which is stopped when it gets too long.
fn decoded(payload: &[u8]) -> Option<Vec<u8>> {
    let (method, body) = payload.split_first()?;
    match *method {
        METHOD_RAW => (body.len() <= BLOCK_PLAIN_MAX).then(|| body.to_vec()),
        // No frames are nothing.
        METHOD_ZSTD if body.is_empty() => Some(Vec::new()),
        METHOD_ZSTD => {
            let stream = zstd::stream::read::Decoder::new(body).ok()?;
            let mut plain = Vec::new();
            stream.take(BLOCK_PLAIN_MAX as u64 + 1).read_to_end(&mut plain).ok()?;
            (plain.len() <= BLOCK_PLAIN_MAX).then_some(plain)
        }
        _ => None,
    }
}

/// Whether a compressed payload is one frame that says nothing else about its length than `plain_len`.
fn is_exact(payload: &[u8], plain_len: usize) -> bool {
    let Some((&METHOD_ZSTD, frame)) = payload.split_first() else { return true };
    let is_one = zstd_safe::find_frame_compressed_size(frame) == Ok(frame.len());
    let said = zstd_safe::get_frame_content_size(frame).ok().flatten();
    is_one && said.is_none_or(|said| said == plain_len as u64)
}
