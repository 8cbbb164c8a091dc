//! Rollback: older files, each validly signed, served to nodes that have seen newer ones.

use crate::{Dice, variants, world::world};
use branchmesh_repo::TrustError;

#[tokio::test]
async fn no_older_state_is_taken_for_a_newer_one() {
    let world = world().await;
    for state in &world.states[..world.states.len() - 1] {
        let mut node = world.believer(world.newest()).await;
        let refused = node.refresh(&crate::world::Server(state.files.clone())).await;
        assert!(matches!(refused, Err(TrustError::Rollback { .. })), "{refused:?}");
        assert_eq!(node.catalog().as_ref(), Some(&world.newest().catalog));
    }
}

#[tokio::test]
async fn histories_of_old_new_and_replayed_states_never_go_back() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let mut node = world.node_in(folder.path());
        let mut newest = 0;
        for step in 0..12 {
            let what = format!("history {seed}, step {step}");
            let mut files = dice.one_of(&world.states).files.clone();
            match dice.below(4) {
                // One file of another state in between.
                0 => {
                    let other = dice.one_of(&world.states);
                    let names: Vec<&String> = other.files.keys().collect();
                    let name = (*dice.one_of(&names)).clone();
                    files.insert(name.clone(), other.files[&name].clone());
                }
                // The node is started again.
                1 => {
                    node = world.node_in(folder.path());
                    node.load_local().await.unwrap();
                }
                _ => {}
            }
            world.is_not_fooled(&mut node, &files, &what).await;
            let version = node.catalog().map_or(0, |catalog| catalog.version);
            assert!(version >= newest, "{what}: back from {newest} to {version}");
            newest = version;
        }
    }
}
