//! Threshold not met: one stolen key where two must sign, however often and under whatever name it signs.

use crate::{
    Dice,
    forge::{Forgery, spoil_targets},
    variants,
    world::world,
};
use tough::schema::{Root, Signature, Signed, Targets};

#[tokio::test]
async fn one_stolen_key_of_two_is_not_enough() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let (role, keys) = *dice.one_of(&[
            ("targets", ["targets", "targets-2", "targets-3"]),
            ("finance", ["group-finance", "group-finance-2", "group-finance-3"]),
        ]);
        let mut forgery = Forgery::new(world);
        let stolen = *dice.one_of(&keys);
        let mut signed: Signed<Targets> = forgery.read(role);
        spoil_targets(&mut signed.signed, &mut dice);
        let genuine = forgery.signature(stolen, &signed.signed);
        signed.signatures = forged_signatures(&genuine, &signed.signatures, &mut dice);
        forgery.write(role, &signed);
        forgery.fit(role, &["snapshot", "timestamp"]);
        world.everybody_refuses(&forgery.files, &format!("{role} by {stolen} alone, variant {seed}")).await;
    }
}

#[tokio::test]
async fn one_stolen_key_of_root_makes_no_new_root() {
    let world = world().await;
    for seed in 0..variants() {
        let mut dice = Dice(seed);
        let mut forgery = Forgery::new(world);
        let mut signed: Signed<Root> = forgery.read("root");
        let stolen = *dice.one_of(&["root", "root-2", "root-3"]);
        signed.signed.version = signed.signed.version.saturating_add(1);
        // He would like to decide alone.
        for role in signed.signed.roles.values_mut().filter(|_| dice.below(2) == 0) {
            role.threshold = std::num::NonZeroU64::MIN;
        }
        let genuine = forgery.signature(stolen, &signed.signed);
        signed.signatures = forged_signatures(&genuine, &signed.signatures, &mut dice);
        let bytes = serde_json::to_vec(&signed).unwrap();
        forgery.files.insert(format!("{}.root.json", signed.signed.version), bytes.into());
        world.everybody_refuses(&forgery.files, &format!("root by {stolen} alone, variant {seed}")).await;
    }
}

/// The one good signature, and beside it: nothing, itself again, itself under the other keys' names, the others'
/// signatures of before, or noise.
fn forged_signatures(genuine: &Signature, before: &[Signature], dice: &mut Dice) -> Vec<Signature> {
    let mut signatures = vec![genuine.clone()];
    let others = before.iter().filter(|signature| signature.keyid != genuine.keyid);
    match dice.below(5) {
        0 => {}
        1 => signatures.push(genuine.clone()),
        2 => signatures
            .extend(others.map(|other| Signature { keyid: other.keyid.clone(), sig: genuine.sig.clone() })),
        3 => signatures.extend(others.cloned()),
        _ => signatures.extend(others.map(|other| {
            let noise: Vec<u8> = (0..64).map(|_| dice.next().to_le_bytes()[0]).collect();
            Signature { keyid: other.keyid.clone(), sig: noise.into() }
        })),
    }
    signatures
}
