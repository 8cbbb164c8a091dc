//! Parts of an index that a source gives, and the index that comes of them.

use crate::{Outcome, Verdict, try_all};
use async_trait::async_trait;
use branchmesh_fuzz::{
    index,
    mutate::Mutator,
    sample::{Sample, group_cipher},
};
use branchmesh_image::{BlobRef, BlockId, Cipher, Encoder, Index, IndexId, IndexRoot, VerifiedBlock};
use branchmesh_repo::{LoadIndexError, Origin, PartSource, SourceError, load_index};
use bytes::Bytes;
use std::{collections::HashMap, fs, path::PathBuf};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// So many mutations go through files, which takes a hundred times as long as through memory.
const THROUGH_FILES: usize = 64;

struct State {
    runtime: Runtime,
    folder: TempDir,
    samples: Vec<(Sample, Index)>,
}

/// A source that gives something else instead of one part.
struct Liar<'a> {
    parts: &'a HashMap<BlockId, VerifiedBlock>,
    instead_of: BlockId,
    given: Bytes,
    /// It says that what it gives is what it gives; an honest door compares with what was asked for.
    admits_it: bool,
}

#[async_trait]
impl PartSource for Liar<'_> {
    async fn part(&self, _: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
        let unknown = || SourceError::Members("nobody has it".into());
        if blob.id != self.instead_of {
            return self.parts.get(&blob.id).cloned().ok_or_else(unknown);
        }
        let id = if self.admits_it { BlockId::of(&self.given) } else { blob.id };
        VerifiedBlock::verify(&id, self.given.clone())
            .map_err(|error| SourceError::Members(error.to_string()))
    }
}

#[test]
fn index_parts() {
    let state = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let load = |sample: Sample| {
            let load = runtime.block_on(honest(&sample, &sample.root, &sample.parts));
            let index = load.unwrap();
            write(&folder, &sample);
            (sample, index)
        };
        let samples =
            [Sample::new(Cipher::None, 1), Sample::new(group_cipher(), 1), Sample::new(group_cipher(), 2)];
        let samples = samples.map(load).into();
        State { runtime, folder, samples }
    };
    try_all("index_parts", 20, state, one);
}

fn one(state: &mut State, mutator: &mut Mutator) -> Verdict {
    let (sample, index) = mutator.one_of(&state.samples);
    let (other, _) = mutator.one_of(&state.samples);
    let (name, good) = mutator.one_of(&sorted(sample)).clone();
    let (_, bad) = mutator.one_of(&sorted(other)).clone();
    let spoiled = Bytes::from(mutator.bytes(good.bytes(), bad.bytes()));
    let load = if mutator.below(THROUGH_FILES) == 0 {
        let path = path(&state.folder, &name);
        fs::write(&path, &spoiled).unwrap();
        let origin = Origin::open(state.folder.path()).unwrap();
        let load = state.runtime.block_on(load_index(&sample.root, sample.cipher.clone(), &origin));
        fs::write(&path, good.bytes()).unwrap();
        load
    } else {
        let admits_it = mutator.below(2) == 0;
        let liar = Liar { parts: &sample.parts, instead_of: name, given: spoiled.clone(), admits_it };
        state.runtime.block_on(load_index(&sample.root, sample.cipher.clone(), &liar))
    };
    match load {
        Ok(loaded) if spoiled == good.bytes() && loaded == *index => Ok(Outcome::Harmless),
        Ok(_) => Err(format!("another part was taken for {name}")),
        Err(error) if spoiled == good.bytes() => Err(format!("the good part {name} was refused: {error}")),
        Err(_) => published_so(state, mutator),
    }
}

/// A publisher that signs nonsense: the parts are what the hashes say, and their content is spoiled. It is
/// refused, or it is an index in which everything that is computed from it holds.
fn published_so(state: &State, mutator: &mut Mutator) -> Verdict {
    let (sample, _) = mutator.one_of(&state.samples);
    let mut encoder = Encoder::new(1, sample.cipher.clone()).map_err(|error| error.to_string())?;
    let mut parts = sample.parts.clone();
    let mut root_plain = sample.root_plain.clone();
    if mutator.below(2) == 0 {
        let number = mutator.below(sample.piece_plains.len());
        let other = mutator.one_of(&sample.piece_plains);
        let spoiled = mutator.bytes(&sample.piece_plains[number], other);
        let (blob, block) = encoder.encode(&spoiled).map_err(|error| error.to_string())?;
        parts.insert(blob.id, block);
        let mut root = IndexRoot::from_bytes(&root_plain).map_err(|error| error.to_string())?;
        root.pieces[number] = blob;
        root_plain = root.to_bytes();
    } else {
        root_plain = mutator.bytes(&root_plain, &sample.piece_plains[0]);
    }
    let (root, block) = encoder.encode(&root_plain).map_err(|error| error.to_string())?;
    parts.insert(root.id, block);
    if let Ok(loaded) = state.runtime.block_on(honest(sample, &root, &parts)) {
        index::check(&loaded);
    }
    Ok(Outcome::Refused)
}

async fn honest(
    sample: &Sample,
    root: &BlobRef,
    parts: &HashMap<BlockId, VerifiedBlock>,
) -> Result<Index, LoadIndexError> {
    let source = Liar { parts, instead_of: BlockId([0; 32]), given: Bytes::new(), admits_it: false };
    load_index(root, sample.cipher.clone(), &source).await
}

/// The parts in an order that does not depend on the process.
fn sorted(sample: &Sample) -> Vec<(BlockId, VerifiedBlock)> {
    let mut parts: Vec<_> = sample.parts.iter().map(|(id, part)| (*id, part.clone())).collect();
    parts.sort_by_key(|(id, _)| *id);
    parts
}

fn write(folder: &TempDir, sample: &Sample) {
    for (id, part) in &sample.parts {
        let path = path(folder, id);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, part.bytes()).unwrap();
    }
}

fn path(folder: &TempDir, part: &BlockId) -> PathBuf {
    let name = part.to_string();
    folder.path().join("indexes").join(&name[..2]).join(&name)
}
