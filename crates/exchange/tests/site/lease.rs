//! Who uses the WAN.

use crate::world::{MS, SECOND, World, id};
use branchmesh_exchange::Waiting;
use branchmesh_wire::{Role, WanPolicy};

const BLOCKS: u32 = 512;

#[test]
fn a_seed_comes_first_and_the_others_yield_to_it() {
    let (mut world, release) = World::classroom(50, 6, BLOCKS);
    world.run_until(30 * SECOND, "a quarter", |world| world.crossings(release) >= BLOCKS / 4);
    let seed = world.join(77, |config| config.role = Role::Seed);
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.fetchers(), [seed]);
    let extra = world.crossings(release) - BLOCKS;
    assert!(extra <= 4, "{extra} blocks crossed twice when the lease changed hands");
    let share = world.report(seed, release).unwrap().bytes.wan;
    assert!(share > world.segments(&release).bytes() / 4, "the seed fetched {share}");
}

#[test]
fn a_node_that_never_may_never_does() {
    let mut world = World::new(51);
    let release = world.publish("one", BLOCKS);
    for number in 1..=3 {
        world.join(number, |config| config.wan = WanPolicy::Never);
    }
    world.run_for(20 * SECOND);
    // Nobody even knows the release.
    assert!(world.crossed.is_empty() && world.fetchers().is_empty());
    let fetcher = world.join(4, |_| {});
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.fetchers(), [fetcher]);
    world.kill(fetcher);
    let second = world.publish("two", BLOCKS);
    world.join(5, |_| {});
    world.run_until(60 * SECOND, "a third", |world| world.crossings(second) > BLOCKS / 3);
    world.kill(id(5));
    world.run_for(5 * SECOND);
    let report = world.report(id(1), second).unwrap();
    assert_eq!(report.waiting, Some(Waiting::NoSource));
}

#[test]
fn a_last_resort_waits_until_nobody_else_is_there() {
    let mut world = World::new(52);
    let release = world.publish("one", BLOCKS);
    let reserve = world.join(1, |config| config.wan = WanPolicy::LastResort);
    world.join(2, |_| {});
    world.join(3, |_| {});
    world.run_until(30 * SECOND, "a third", |world| world.crossings(release) >= BLOCKS / 3);
    assert!(!world.fetchers().contains(&reserve));
    world.kill(id(2));
    world.run_for(3 * SECOND);
    assert_eq!(world.fetchers(), [id(3)]);
    world.kill(id(3));
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.fetchers(), [reserve]);
}

#[test]
fn a_member_fetches_what_the_sites_fetcher_does_not_want() {
    let (mut world, release) = World::classroom(53, 3, BLOCKS);
    world.run_for(3 * SECOND);
    let fetcher = world.fetchers()[0];
    world.kill(fetcher);
    world.set_wanted(fetcher, false);
    for number in 1..=3 {
        world.kill(id(number));
        world.nodes.get_mut(&id(number)).unwrap().disk.clear();
    }
    // What was on the line when its fetcher died still arrives.
    world.run_for(500 * MS);
    world.crossed.clear();
    for number in 1..=3 {
        world.restart(id(number));
    }
    world.run_to_completion(60 * SECOND, release);
    assert_eq!(world.crossings(release), BLOCKS);
    assert!(world.fetchers().contains(&fetcher), "it still asks the origin for news");
    assert_eq!(world.report(fetcher, release).unwrap().waiting, Some(Waiting::NotWanted));
}

#[test]
fn only_one_node_asks_the_origin_for_news() {
    let (mut world, _) = World::classroom(54, 8, 16);
    world.run_for(10 * SECOND);
    let second = world.publish("two", 16);
    world.run_to_completion(80 * SECOND, second);
    assert_eq!(world.fetchers().len(), 1);
}

#[test]
fn a_client_listens_before_it_touches_the_wan() {
    let mut world = World::new(55);
    world.join(1, |_| {});
    world.join(2, |_| {});
    world.run_for(1490 * MS);
    assert!(world.fetchers().is_empty());
    world.run_for(800 * MS);
    assert_eq!(world.fetchers().len(), 1);
    // One that has found nobody gives discovery more time.
    let mut world = World::new(57);
    world.join(1, |_| {});
    world.run_for(3490 * MS);
    assert!(world.fetchers().is_empty());
    world.run_for(600 * MS);
    assert_eq!(world.fetchers(), [id(1)]);
    let mut world = World::new(56);
    world.join(1, |config| config.role = Role::Seed);
    world.run_for(600 * MS);
    assert_eq!(world.fetchers(), [id(1)]);
}
