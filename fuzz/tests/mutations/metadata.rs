//! Metadata from a server that does with the signed files what it likes: changes them, mixes old and new ones,
//! gives one for another, and those of another repository.

use crate::{Outcome, Verdict, repositories::World, try_all};
use branchmesh_fuzz::{
    mutate::Mutator,
    world::{Files, Memory},
};
use branchmesh_repo::Trust;
use std::fs;
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct State {
    runtime: Runtime,
    world: &'static World,
    /// Where nodes begin that know nothing but the root of trust.
    fresh: TempDir,
    /// What a node believes that knows the newest state.
    node: Trust,
    _node_folder: TempDir,
}

#[test]
fn metadata() {
    let state = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (fresh, node_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let world = World::shared();
        let (files, catalog) = world.newest();
        let mut node = Trust::open(&world.root, node_folder.path(), world.keys.clone()).unwrap();
        assert_eq!(*runtime.block_on(node.refresh(&Memory(files))).unwrap(), *catalog);
        State { runtime, world, fresh, node, _node_folder: node_folder }
    };
    try_all("metadata", 30, state, one);
}

fn one(state: &mut State, mutator: &mut Mutator) -> Verdict {
    let files = spoil(state.world, state.node.files(), mutator);
    let begun = a_node_that_begins(state, &files)?;
    let believed = a_node_that_believes(state, &files)?;
    // Old states are news to the one, and refused by the other.
    Ok(if begun == believed { begun } else { Outcome::Refused })
}

/// It cannot know how old a state is, as long as it has not expired. But it must be a state that once was.
fn a_node_that_begins(state: &mut State, files: &Files) -> Verdict {
    let world = state.world;
    let open = Trust::open(&world.root, state.fresh.path(), world.keys.clone());
    let mut node = open.map_err(|error| error.to_string())?;
    let Ok(catalog) = state.runtime.block_on(node.refresh(&Memory(files))) else {
        return if node.catalog().is_none() {
            Ok(Outcome::Refused)
        } else {
            Err("a refused state is believed".into())
        };
    };
    fs::remove_file(state.fresh.path().join("metadata.json")).map_err(|error| error.to_string())?;
    if !world.was_right(&catalog) {
        return Err(format!("a node that knows nothing believed {catalog:?}"));
    }
    check_genuine(world, &node)
}

/// It never goes back, and what it believed stays, whatever it is told.
fn a_node_that_believes(state: &mut State, files: &Files) -> Verdict {
    let (genuine, newest) = state.world.newest();
    let before = state.node.files().clone();
    let result = state.runtime.block_on(state.node.refresh(&Memory(files)));
    if state.node.catalog().as_deref() != Some(newest) {
        return Err(format!("what was believed is gone: {:?}", state.node.catalog()));
    }
    if result.is_err() {
        return if *state.node.files() == before {
            Ok(Outcome::Refused)
        } else {
            Err("a refused file was kept".into())
        };
    }
    check_genuine(state.world, &state.node)?;
    // It may have been told the same in other words; the next mutation begins with the original ones.
    state.runtime.block_on(state.node.refresh(&Memory(genuine))).map_err(|error| error.to_string())?;
    Ok(Outcome::Harmless)
}

fn check_genuine(world: &World, node: &Trust) -> Verdict {
    match node.files().iter().find(|(name, bytes)| !world.is_genuine(name, bytes)) {
        None => Ok(Outcome::Harmless),
        Some((name, bytes)) => Err(format!("{name} was taken as {}", String::from_utf8_lossy(bytes))),
    }
}

/// The newest state, spoiled. `read` are the files that a node reads of it.
fn spoil(world: &World, read: &Files, mutator: &mut Mutator) -> Files {
    let (mut files, _) = world.newest().clone();
    let read: Vec<&String> = read.keys().collect();
    let name = (*mutator.one_of(&read)).clone();
    let good = files.get(&name).cloned().unwrap_or_default();
    let any = any_file(world, mutator);
    match mutator.below(8) {
        0 | 1 => drop(files.insert(name, mutator.bytes(&good, &any).into())),
        2..=4 => drop(files.insert(name, mutator.json(&good, &any).into())),
        5 => drop(files.insert(name, any)),
        6 => mix(world, &read, &mut files, mutator),
        _ => drop(files.remove(&name)),
    }
    files
}

/// Each file from another state, or from the other repository, or under the name of the next root of trust.
fn mix(world: &World, read: &[&String], files: &mut Files, mutator: &mut Mutator) {
    for name in read {
        let from = mutator.below(2 * world.states.len());
        let theirs = world.states.get(from).map_or(&world.foreign, |(state, _)| state).get(*name);
        if let Some(theirs) = theirs {
            files.insert((*name).clone(), theirs.clone());
        }
    }
    let roots = files.keys().filter(|name| name.ends_with(".root.json")).count();
    if mutator.below(4) == 0 {
        files.insert(format!("{}.root.json", roots + 1), any_file(world, mutator));
    }
}

fn any_file(world: &World, mutator: &mut Mutator) -> bytes::Bytes {
    let from = mutator.below(world.states.len() + 1);
    let files = world.states.get(from).map_or(&world.foreign, |(state, _)| state);
    let names: Vec<&String> = files.keys().collect();
    files[*mutator.one_of(&names)].clone()
}
