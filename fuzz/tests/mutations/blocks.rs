//! Blocks that a neighbour or an origin gives.

use crate::{Outcome, Verdict, try_all};
use branchmesh_fuzz::{
    mutate::Mutator,
    sample::{Sample, group_cipher},
};
use branchmesh_image::{BlobRef, BlockId, Cipher, Decoder, Location, PackId, PlainHash, VerifiedBlock};
use branchmesh_repo::Origin;
use futures::StreamExt;
use std::fs;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// So many mutations go through a pack on the disk, which takes a hundred times as long as through memory.
const THROUGH_FILES: usize = 64;

struct State {
    runtime: Runtime,
    folder: TempDir,
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        State { runtime, folder: tempfile::tempdir().unwrap(), samples: samples.map(with_decoder).into() }
    };
    try_all("blocks", 30, state, one);
}

fn one(state: &mut State, mutator: &mut Mutator) -> Verdict {
    let choice = mutator.below(state.samples.len());
    if mutator.below(THROUGH_FILES) == 0 {
        return in_a_pack(&state.runtime, &state.folder, &state.samples[choice].0, mutator);
    }
    let (sample, decoder) = &mut state.samples[choice];
    let (blob, good) = mutator.one_of(&sample.blocks);
    let (_, other) = mutator.one_of(&sample.blocks);
    let spoiled = mutator.bytes(good.bytes(), other.bytes());
    if spoiled == *good.bytes() {
        return Ok(Outcome::Harmless);
    }
    if VerifiedBlock::verify(&blob.id, spoiled.clone()).is_ok() {
        return Err(format!("other bytes pass as block {}", blob.id));
    }
    if good.id() != other.id() && decoder.decode(blob, other).is_ok() {
        return Err(format!("block {} decodes as {}", other.id(), blob.id));
    }
    under_its_own_id(decoder, blob, spoiled, &sample.cipher)
}

/// Some blocks of a pack are spoiled or have moved: of those that an origin gives, each is the right one.
fn in_a_pack(runtime: &Runtime, folder: &TempDir, sample: &Sample, mutator: &mut Mutator) -> Verdict {
    let good: Vec<u8> = sample.blocks.iter().flat_map(|(_, block)| block.bytes().to_vec()).collect();
    let pack = PackId::of(b"sample");
    let path = folder.path().join(format!("packs/{}/{pack}.pack", &pack.to_string()[..2]));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, mutator.bytes(&good, &good)).unwrap();
    let mut offset = 0;
    let mut wanted = |(number, (blob, _)): (u32, &(BlobRef, VerifiedBlock))| {
        let location = Location { pack, offset, len: blob.encoded_len };
        offset += blob.encoded_len;
        (number, location, blob.id)
    };
    let wanted = (0..).zip(&sample.blocks).map(&mut wanted).collect();
    let origin = Origin::open(folder.path()).map_err(|error| error.to_string())?;
    let given: Vec<_> = runtime.block_on(origin.blocks(wanted).collect());
    let is_right =
        |(number, block): &(u32, VerifiedBlock)| block.bytes() == sample.blocks[*number as usize].1.bytes();
    match given.iter().flatten().find(|block| !is_right(block)) {
        None if given.iter().any(Result::is_err) => Ok(Outcome::Refused),
        None => Ok(Outcome::Harmless),
        Some((number, _)) => Err(format!("an origin gave another block {number}")),
    }
}

/// As if the index named the spoiled bytes: the hash of the plaintext must notice, and in a group the seal before it.
fn under_its_own_id(decoder: &mut Decoder, blob: &BlobRef, spoiled: Vec<u8>, cipher: &Cipher) -> Verdict {
    let id = BlockId::of(&spoiled);
    let block = VerifiedBlock::verify(&id, spoiled).map_err(|error| error.to_string())?;
    match decoder.decode(&BlobRef { id, ..*blob }, &block) {
        Err(_) => Ok(Outcome::Refused),
        Ok(_) if matches!(cipher, Cipher::Group(_)) => Err(format!("a seal was broken: {}", blob.id)),
        // Another frame for the same plaintext: refused under the right id, as was seen before.
        Ok(plain) if PlainHash::of(&plain) == blob.plain => Ok(Outcome::Refused),
        Ok(_) => Err(format!("block {} decodes to another plaintext", blob.id)),
    }
}
