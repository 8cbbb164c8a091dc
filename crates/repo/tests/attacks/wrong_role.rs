//! Wrong role: what one role may not say, signed by all keys of another.

use crate::{
    Dice, World,
    forge::{Forgery, spoil_targets},
    variants,
    world::world,
};
use branchmesh_repo::TrustError;
use tough::{
    TargetName,
    schema::{Snapshot, Targets, Timestamp},
};

/// All keys that there are, by the role that they belong to.
const KEYS: [(&str, &[&str]); 6] = [
    ("root", &["root", "root-2", "root-3"]),
    ("targets", &["targets", "targets-2", "targets-3"]),
    ("snapshot", &["snapshot"]),
    ("timestamp", &["timestamp"]),
    ("finance", &["group-finance", "group-finance-2", "group-finance-3"]),
    ("hr", &["group-hr"]),
];

#[tokio::test]
async fn the_keys_of_one_role_sign_no_other() {
    let world = world().await;
    for (role, _) in KEYS.iter().filter(|(role, _)| *role != "root") {
        for (owner, keys) in KEYS.iter().filter(|(owner, _)| owner != role) {
            let mut forgery = Forgery::new(world);
            sign_as(&mut forgery, role, keys);
            world.everybody_refuses(&forgery.files, &format!("{role} signed by the keys of {owner}")).await;
        }
    }
}

/// The role's newest content under its next version, signed by `keys`. Everybody else's keys are as they should be,
/// so that this one signature decides.
fn sign_as(forgery: &mut Forgery<'_>, role: &str, keys: &[&str]) {
    let above = ["snapshot", "timestamp"];
    match role {
        "timestamp" => forgery.change("timestamp", keys, |timestamp: &mut Timestamp| {
            timestamp.version = timestamp.version.saturating_add(1);
        }),
        "snapshot" => {
            forgery.change("snapshot", keys, |_: &mut Snapshot| ());
            forgery.fit_timestamp(&["timestamp"]);
        }
        role => {
            forgery.change(role, keys, |_: &mut Targets| ());
            forgery.fit(role, &above);
        }
    }
}

#[tokio::test]
async fn a_group_says_nothing_about_the_releases_of_others() {
    let world = world().await;
    let finance = Forgery::new(world).read::<Targets>("finance").signed.targets;
    let public = Forgery::new(world).read::<Targets>("targets").signed.targets;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let mut forgery = Forgery::new(world);
        let others: Vec<_> = if dice.below(2) == 0 { &finance } else { &public }.iter().collect();
        let (name, target) = *dice.one_of(&others);
        let (mut name, target) = (name.clone(), target.clone());
        // Under its own name, under one that looks like the group's, or under a name that nobody has.
        match dice.below(3) {
            0 => {}
            1 => name = TargetName::new(format!("finance/{:032x}", dice.next())).unwrap(),
            _ => name = TargetName::new(format!("hr/../{}", name.raw())).unwrap(),
        }
        forgery.change("hr", &["group-hr"], |targets: &mut Targets| {
            targets.targets.insert(name.clone(), target);
        });
        forgery.fit("hr", &["snapshot", "timestamp"]);
        is_not_believed(world, &forgery, &format!("hr describes {}", name.raw())).await;
    }
}

/// A group's team that has the keys of snapshot and timestamp, as publishing needs, can put its own nonsense in
/// force. It adds nothing to what others say.
async fn is_not_believed(world: &World, forgery: &Forgery<'_>, what: &str) {
    let mut node = world.believer(world.newest()).await;
    let before = node.catalog().unwrap();
    match node.refresh(&crate::world::Server(forgery.files.clone())).await {
        Err(error) => assert!(matches!(error, TrustError::Malformed { .. }), "{what}: {error:?}"),
        Ok(catalog) => assert_eq!(catalog.releases, before.releases, "{what}"),
    }
}

#[tokio::test]
async fn a_role_that_delegates_to_others_is_refused() {
    let world = world().await;
    let mut forgery = Forgery::new(world);
    let delegations = forgery.read::<Targets>("targets").signed.delegations;
    forgery.change("hr", &["group-hr"], |targets: &mut Targets| targets.delegations = delegations);
    forgery.fit("hr", &["snapshot", "timestamp"]);
    world.everybody_refuses(&forgery.files, "hr delegates").await;
}

#[tokio::test]
async fn changed_targets_with_the_signatures_of_before_are_refused() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let role = *dice.one_of(&["targets", "finance", "hr"]);
        let mut forgery = Forgery::new(world);
        forgery.change(role, &[], |targets: &mut Targets| spoil_targets(targets, &mut dice));
        forgery.fit(role, &["snapshot", "timestamp"]);
        world.everybody_refuses(&forgery.files, &format!("changed {role}, variant {seed}")).await;
    }
}
