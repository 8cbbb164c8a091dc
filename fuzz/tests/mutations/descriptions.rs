//! Sealed descriptions of releases.

use crate::{Outcome, Verdict, try_all};
use branchmesh_fuzz::{
    mutate::Mutator,
    sample::{group_key, noise},
};
use branchmesh_image::GroupKey;

struct State {
    key: GroupKey,
    other_key: GroupKey,
    /// Places, and what is sealed for them.
    sealed: Vec<(String, Vec<u8>)>,
}

#[test]
fn descriptions() {
    let state = || {
        let key = group_key();
        let place = |number: u32| {
            format!("finance/{}", &branchmesh_image::IndexId::of(&noise(number, 8)).to_string()[..32])
        };
        let json =
            |number: u32| format!(r#"{{"image":"xp-finance","release":"{number}","channels":["stable"]}}"#);
        let seal = |number| {
            let place = place(number);
            let sealed = key.seal_description(place.as_bytes(), json(number).as_bytes());
            (place, sealed)
        };
        let sealed = (0..20).map(seal).collect();
        State { key, other_key: GroupKey::generate().unwrap(), sealed }
    };
    try_all("descriptions", 5, state, one);
}

fn one(State { key, other_key, sealed }: &mut State, mutator: &mut Mutator) -> Verdict {
    let (place, good) = mutator.one_of(sealed);
    let (other_place, other) = mutator.one_of(sealed);
    let spoiled = mutator.bytes(good, other);
    let spoiled_place = mutator.bytes(place.as_bytes(), other_place.as_bytes());
    let opens = |place: &[u8], bytes: &[u8]| key.open_description(place, bytes).is_ok();
    if !opens(place.as_bytes(), good) {
        return Err("the good one does not open".into());
    }
    let is_good = |bytes: &[u8]| sealed.iter().any(|(at, good)| at == place && good == bytes);
    if !is_good(&spoiled) && opens(place.as_bytes(), &spoiled) {
        return Err(format!("other bytes open for {place}"));
    }
    if spoiled_place != place.as_bytes() && opens(&spoiled_place, good) {
        return Err(format!("what stands for {place} opens elsewhere"));
    }
    if other_key.open_description(place.as_bytes(), good).is_ok() {
        return Err("the key of another group opens it".into());
    }
    Ok(if is_good(&spoiled) { Outcome::Harmless } else { Outcome::Refused })
}
