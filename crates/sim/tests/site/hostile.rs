//! Members that lie, poison, or do nothing of what they say: what they cost the others.

use crate::classroom::{BLOCKS, Classroom, SECOND, first_fetcher};
use branchmesh_sim::{HostId, Nature, SiteSpec, Transition, World};
use branchmesh_wire::NodeId;

#[test]
fn a_liar_costs_its_neighbours_a_few_seconds() {
    let mut room = Classroom::new(60, 6);
    let liars = [HostId(2), HostId(3)];
    liars.iter().for_each(|liar| room.turn(*liar, Nature::Liar));
    room.run_to_completion(120 * SECOND);
    assert!(room.crossings() <= BLOCKS + 8, "{}", room.crossings());
    let honest = 4;
    for liar in liars {
        let asked = room.world.requests_received(liar);
        assert!(asked <= 8 * honest, "{asked} requests were wasted on a liar");
    }
    let wan = room.bytes() as f64 / SiteSpec::default().wan_rate as f64;
    assert!(room.now().since_start().as_secs_f64() < wan * 1.3 + 15.0, "{:?}", room.now());
}

/// What it costs to find out what a member is worth is paid once, not for each release.
#[test]
fn a_liar_that_was_found_out_does_not_keep_the_wan_closed_again() {
    let mut room = Classroom::new(60, 8);
    let liars: Vec<HostId> = room.others(first_fetcher(60, 8)).into_iter().take(3).collect();
    liars.iter().for_each(|liar| room.turn(*liar, Nature::Liar));
    room.run_to_completion(120 * SECOND);
    let half = room.bytes() as f64 / 2.0 / SiteSpec::default().wan_rate as f64;
    for number in 2..5 {
        room.apply(&Transition::Publish(2));
        let release = room.world.releases().last().unwrap();
        let crosses = |world: &World| world.checks().crossings_total(&release) > 0;
        room.run_until(100 * SECOND, "it is fetched", crosses);
        let begun = room.now();
        room.run_to_completion(60 * SECOND);
        let took = room.now().since(begun).as_secs_f64();
        assert!(took < half * 1.1 + 1.0, "release {number}: {took} s for {half} s of the line");
    }
}

#[test]
fn who_was_waited_for_in_vain_is_not_relied_on_for_news() {
    for seed in 64..70 {
        let mut room = Classroom::new(seed, 4);
        room.turn(first_fetcher(seed, 4), Nature::Usurper);
        room.run_to_completion(120 * SECOND);
        room.apply(&Transition::Publish(2));
        // The next one asks once a minute.
        room.run_to_completion(66 * SECOND + 30 * SECOND);
    }
}

fn with_poisoner(seed: u64, poisoner: HostId) -> Classroom {
    let mut room = Classroom::new(seed, 5);
    room.turn(poisoner, Nature::Poisoner);
    room.run_to_completion(120 * SECOND);
    let asked = room.world.requests_received(poisoner);
    assert!(asked <= 4 * 4, "{asked} requests went to the poisoner");
    let poison: NodeId = poisoner.node();
    for host in room.others(poisoner) {
        let members = room.world.members(host);
        let poisoner = members.iter().find(|member| member.node == poison).unwrap();
        assert_eq!(poisoner.quarantined.len(), 1);
    }
    room
}

#[test]
fn a_poisoner_is_quarantined_and_not_asked_again() {
    let fetcher = first_fetcher(61, 5);
    let poisoner = Classroom::new(61, 5).others(fetcher)[0];
    let room = with_poisoner(61, poisoner);
    assert!(room.crossings() <= BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn a_fetcher_that_poisons_does_not_keep_the_others_from_the_wan() {
    let room = with_poisoner(61, first_fetcher(61, 5));
    // What it takes for itself is lost for the site, and no more.
    assert!(room.crossings() <= 2 * BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn a_fetcher_that_keeps_the_news_to_itself_is_overruled() {
    let mut room = Classroom::new(63, 4);
    room.turn(first_fetcher(63, 4), Nature::Liar);
    room.run_to_completion(120 * SECOND);
    assert!(room.crossings() <= 2 * BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn one_that_claims_the_wan_and_does_not_use_it_is_overruled() {
    for seed in 64..70 {
        let mut room = Classroom::new(seed, 4);
        room.turn(first_fetcher(seed, 4), Nature::Usurper);
        room.run_to_completion(120 * SECOND);
        assert!(room.crossings() <= BLOCKS + 8, "seed {seed}: {}", room.crossings());
    }
}
