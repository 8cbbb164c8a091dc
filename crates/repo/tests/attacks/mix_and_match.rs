//! Mix and match: files that were each in force once, but never together.

use crate::{Dice, forge::Forgery, variants, world::world};

#[tokio::test]
async fn files_of_different_states_are_no_state() {
    let world = world().await;
    let roles = ["snapshot", "targets", "finance", "hr"];
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let newest = Forgery::new(world);
        let mut files = newest.files.clone();
        let mut is_mixed = false;
        for role in roles {
            let other = dice.one_of(&world.states);
            let name = newest.name(role);
            let suffix = format!(".{role}.json");
            let old: Vec<&String> = other.files.keys().filter(|name| name.ends_with(&suffix)).collect();
            let old = &other.files[*dice.one_of(&old)];
            is_mixed |= files[&name] != *old;
            files.insert(name, old.clone());
        }
        if is_mixed {
            let mut node = world.node().await;
            let result = node.refresh(&crate::world::Server(files.clone())).await;
            assert!(result.is_err() && node.catalog().is_none(), "mixture {seed} was believed");
        }
        world.nobody_believes(&files, &format!("mixture {seed}")).await;
    }
}
