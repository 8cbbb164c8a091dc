//! Nodes die, the origin dies, links are cut: everybody who is left ends with everything.

use crate::classroom::{BLOCKS, Classroom, MS, SECOND};
use branchmesh_sim::{HostId, HostSpec, OriginState, Transition};

#[test]
fn a_killed_fetcher_is_replaced_and_little_crosses_twice() {
    for seed in 10..20 {
        let mut room = Classroom::new(seed, 8);
        room.run_until_crossed(BLOCKS / 3);
        let fetcher = room.fetcher();
        room.apply(&Transition::Kill(fetcher));
        let pause = room.run_to_take_over();
        assert!(pause < SECOND, "seed {seed}: {pause:?}");
        room.run_to_completion(60 * SECOND);
        let extra = room.crossings() - BLOCKS;
        assert!(extra <= 4, "seed {seed}: {extra} blocks crossed twice");
        assert!(room.lag() < SECOND, "seed {seed}: {:?}", room.lag());
        room.apply(&Transition::Start(fetcher));
        room.run_to_completion(30 * SECOND);
        assert_eq!(room.crossings(), BLOCKS + extra, "the restarted one needs nothing from the WAN");
    }
}

#[test]
fn a_silent_fetcher_is_replaced_within_five_seconds() {
    let mut room = Classroom::new(21, 8);
    room.run_until_crossed(BLOCKS / 3);
    room.apply(&Transition::CutPower(room.fetcher()));
    room.run_to_take_over();
    room.run_to_completion(60 * SECOND);
    assert!(room.crossings() <= BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn a_fetcher_that_says_goodbye_is_replaced_at_once() {
    let mut room = Classroom::new(22, 4);
    room.run_until_crossed(BLOCKS / 3);
    let left = room.now();
    room.apply(&Transition::Leave(room.fetcher()));
    room.run_until(5 * SECOND, "take-over", |world| !world.fetchers().is_empty());
    assert!(room.now().since(left) < SECOND);
    room.run_to_completion(60 * SECOND);
    assert!(room.crossings() <= BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn the_origin_may_go_once_a_complete_copy_is_here() {
    let mut room = Classroom::new(23, 6);
    let release = room.release;
    room.run_until(60 * SECOND, "one copy", |world| {
        world.ids().any(|host| world.completed_at(host, &release).is_some())
    });
    room.origin(OriginState::Down);
    room.world.add(HostSpec::default());
    room.run_to_completion(20 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
}

#[test]
fn an_origin_that_comes_back_is_used_again_and_asked_by_one_at_a_time() {
    let mut room = Classroom::new(24, 5);
    // After many failures a member rests for as long as five minutes.
    room.world.checks_mut().origin_wait_max = 330 * SECOND;
    room.run_until_crossed(BLOCKS / 3);
    room.origin(OriginState::Down);
    for _ in 0..600 {
        room.run_for(200 * MS);
        assert!(room.world.fetchers().len() <= 2, "{:?}", room.world.fetchers());
    }
    room.origin(OriginState::Up);
    room.run_to_completion(400 * SECOND);
    assert!(room.crossings() <= BLOCKS + 8, "{}", room.crossings());
}

#[test]
fn every_node_killed_and_restarted_at_some_time() {
    for seed in 30..36 {
        let mut room = Classroom::new(seed, 6);
        for host in room.world.ids() {
            room.run_for(2 * SECOND);
            room.apply(&Transition::Kill(host));
            room.run_for(300 * MS);
            room.apply(&Transition::Start(host));
        }
        room.run_to_completion(90 * SECOND);
        let extra = room.crossings() - BLOCKS;
        assert!(extra <= BLOCKS / 10, "seed {seed}: {extra} blocks crossed twice");
    }
}

#[test]
fn a_split_site_converges_when_it_is_whole_again() {
    let mut room = Classroom::new(40, 8);
    room.run_for(4 * SECOND);
    room.apply(&Transition::Split(1));
    room.run_for(8 * SECOND);
    assert_eq!(room.world.fetchers().len(), 2, "each part has its own");
    let crossed = room.crossings();
    room.apply(&Transition::Heal);
    room.run_to_completion(60 * SECOND);
    room.run_for(5 * SECOND);
    assert_eq!(room.world.fetchers().len(), 1);
    let after = room.crossings() - crossed;
    let missing_somewhere = BLOCKS.saturating_sub(crossed / 2);
    assert!(after <= missing_somewhere + 16, "{after} crossed after, {missing_somewhere} were missing");
}

#[test]
fn a_fetcher_that_cannot_store_does_not_stop_the_others() {
    for (seed, clients) in [(41, 4), (62, 4)] {
        let mut room = Classroom::new(seed, clients);
        room.run_for(3 * SECOND);
        // It has the lease, says that it lacks everything, and gets nothing.
        let fetcher = room.fetcher();
        room.apply(&Transition::DiskFull(fetcher));
        room.run_until(120 * SECOND, "the others have it", room.have(room.others(fetcher)));
        room.assert_well();
        room.apply(&Transition::DiskFree(fetcher));
        room.run_to_completion(120 * SECOND);
    }
}

#[test]
fn a_block_that_is_damaged_at_the_origin_delays_only_itself() {
    let mut room = Classroom::new(42, 3);
    // Only the first one.
    room.apply(&Transition::OriginRots(BLOCKS));
    let release = room.release;
    room.run_until(60 * SECOND, "all but one", |world| {
        let lacks_one = |host| world.report(host, &release).is_some_and(|one| one.blocks_have == BLOCKS - 1);
        world.ids().all(lacks_one)
    });
    let waiting = room.report(room.fetcher()).waiting.unwrap();
    assert!(waiting.to_string().contains("damaged at the origin"), "{waiting}");
    room.apply(&Transition::OriginMended);
    room.run_to_completion(320 * SECOND);
    assert!(room.crossings() < BLOCKS + 10, "{}", room.crossings());
}

#[test]
fn blocks_that_rot_on_a_disk_come_back_from_the_neighbours() {
    let mut room = Classroom::new(43, 3);
    room.run_to_completion(60 * SECOND);
    room.apply(&Transition::DiskRots(HostId(0), 1));
    assert_eq!(room.report(HostId(0)).blocks_have, 0);
    room.run_to_completion(20 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
}
