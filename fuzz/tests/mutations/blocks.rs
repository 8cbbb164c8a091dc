//! Blocks that a neighbour or an origin gives.

use crate::{Verdict, try_all};
use branchmesh_fuzz::{
    mutate::Mutator,
    sample::{Sample, group_cipher},
};
use branchmesh_image::{BlobRef, BlockId, Cipher, Decoder, PlainHash, VerifiedBlock};

struct State {
    samples: Vec<(Sample, Decoder)>,
}

#[test]
fn blocks() {
    let state = || {
        let samples = [Cipher::None, group_cipher()].map(|cipher| Sample::new(cipher, 1));
        let with_decoder = |sample: Sample| {
            let decoder = Decoder::new(sample.cipher.clone()).unwrap();
            (sample, decoder)
        };
        State { samples: samples.map(with_decoder).into() }
    };
    try_all("blocks", 35, state, one);
}

fn one(state: &mut State, mutator: &mut Mutator) -> Verdict {
    let choice = mutator.below(state.samples.len());
    let (sample, decoder) = &mut state.samples[choice];
    let (blob, good) = mutator.one_of(&sample.blocks);
    let (_, other) = mutator.one_of(&sample.blocks);
    let spoiled = mutator.bytes(good.bytes(), other.bytes());
    if spoiled == *good.bytes() {
        return Ok(());
    }
    if VerifiedBlock::verify(&blob.id, spoiled.clone()).is_ok() {
        return Err(format!("other bytes pass as block {}", blob.id));
    }
    if good.id() != other.id() && decoder.decode(blob, other).is_ok() {
        return Err(format!("block {} decodes as {}", other.id(), blob.id));
    }
    under_its_own_id(decoder, blob, spoiled, &sample.cipher)
}

/// As if the index named the spoiled bytes: the hash of the plaintext must notice, and in a group the seal before it.
fn under_its_own_id(decoder: &mut Decoder, blob: &BlobRef, spoiled: Vec<u8>, cipher: &Cipher) -> Verdict {
    let id = BlockId::of(&spoiled);
    let block = VerifiedBlock::verify(&id, spoiled).map_err(|error| error.to_string())?;
    match decoder.decode(&BlobRef { id, ..*blob }, &block) {
        Err(_) => Ok(()),
        Ok(_) if matches!(cipher, Cipher::Group(_)) => Err(format!("a seal was broken: {}", blob.id)),
        // Another frame for the same plaintext: somebody compressed it in another way.
        Ok(plain) if PlainHash::of(&plain) == blob.plain => Ok(()),
        Ok(_) => Err(format!("block {} decodes to another plaintext", blob.id)),
    }
}
