//! Inputs of the corpus, spoiled, through every fuzz target: what libFuzzer does better where it can be had.

use crate::{Outcome, Verdict, try_all};
use branchmesh_fuzz::{TARGETS, Target, mutate::Mutator};
use std::{fs, path::Path};

/// A target and its inputs.
type Inputs = (&'static Target, Vec<Vec<u8>>);

#[test]
fn corpus() {
    let state = || TARGETS.iter().map(|target| (target, inputs(target))).collect::<Vec<Inputs>>();
    try_all("corpus", 10, state, one);
}

/// The target panics if a promise is broken.
fn one(state: &mut Vec<Inputs>, mutator: &mut Mutator) -> Verdict {
    let (target, inputs) = mutator.one_of(state);
    let (good, other) = (mutator.one_of(inputs), mutator.one_of(inputs));
    let spoiled = match (good.split_first(), other.split_first()) {
        // A byte of switches, and JSON. In half of the cases it shall stay readable.
        (Some((switches, good)), Some((_, other))) if good.starts_with(b"{") && mutator.below(2) == 0 => {
            [&[*switches][..], &mutator.json(good, other)].concat()
        }
        _ => mutator.bytes(good, other),
    };
    (target.run)(&spoiled);
    Ok(if spoiled == *good { Outcome::Harmless } else { Outcome::Refused })
}

fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // In an order that does not depend on the file system: a mutation can then be repeated elsewhere.
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).unwrap()).collect()
}
