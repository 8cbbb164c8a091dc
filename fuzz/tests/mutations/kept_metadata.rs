//! The file in which a node keeps what it believes, after a disk or somebody at the machine has changed it.

use crate::{Outcome, Verdict, repositories::World, try_all};
use branchmesh_fuzz::{mutate::Mutator, world::Memory};
use branchmesh_repo::Trust;
use std::{fs, path::PathBuf};
use tempfile::TempDir;
use tokio::runtime::Runtime;

struct State {
    runtime: Runtime,
    world: &'static World,
    folder: TempDir,
    /// The file after each state of the repository.
    kept: Vec<Vec<u8>>,
}

#[test]
fn kept_metadata() {
    let state = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (world, folder) = (World::shared(), tempfile::tempdir().unwrap());
        let mut node = Trust::open(&world.root, folder.path(), world.keys.clone()).unwrap();
        let keep = |(files, _): &_| {
            runtime.block_on(node.refresh(&Memory(files))).unwrap();
            fs::read(folder.path().join("metadata.json")).unwrap()
        };
        let kept = world.states.iter().map(keep).collect();
        State { runtime, world, folder, kept }
    };
    try_all("kept_metadata", 5, state, one);
}

fn one(state: &mut State, mutator: &mut Mutator) -> Verdict {
    let (good, other) = (mutator.one_of(&state.kept), mutator.one_of(&state.kept));
    let spoiled = if mutator.below(2) == 0 { mutator.bytes(good, other) } else { mutator.json(good, other) };
    let path: PathBuf = state.folder.path().join("metadata.json");
    fs::write(&path, spoiled).map_err(|error| error.to_string())?;
    let open = Trust::open(&state.world.root, state.folder.path(), state.world.keys.clone());
    let mut node = open.map_err(|error| error.to_string())?;
    // Unreadable is as good as nothing: whoever can spoil the file could as well remove it.
    let Ok(Some(catalog)) = state.runtime.block_on(node.load_local()) else {
        return Ok(Outcome::Refused);
    };
    if !state.world.was_right(&catalog) {
        return Err(format!("the kept file was believed: {catalog:?}"));
    }
    match node.files().iter().find(|(name, bytes)| !state.world.is_genuine(name, bytes)) {
        None => Ok(Outcome::Harmless),
        Some((name, _)) => Err(format!("{name} is not genuine and will be given to neighbours")),
    }
}
