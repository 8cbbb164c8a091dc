//! Who uses the WAN.

use crate::classroom::{BLOCKS, Classroom, MS, SECOND, first_fetcher};
use branchmesh_exchange::Waiting;
use branchmesh_sim::{HostId, HostSpec, SiteSpec, Transition, World};
use branchmesh_wire::{Role, WanPolicy};

fn with_policy(wan: WanPolicy) -> HostSpec {
    HostSpec { wan, ..HostSpec::default() }
}

fn seed_node() -> HostSpec {
    HostSpec { role: Role::Seed, ..HostSpec::default() }
}

#[test]
fn a_seed_comes_first_and_the_others_yield_to_it() {
    let mut room = Classroom::new(50, 6);
    room.run_until_crossed(BLOCKS / 4);
    let seed = room.world.add(seed_node());
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.world.fetchers(), [seed]);
    let extra = room.crossings() - BLOCKS;
    assert!(extra <= 4, "{extra} blocks crossed twice when the lease changed hands");
    let share = room.report(seed).bytes.wan;
    assert!(share > room.bytes() / 4, "the seed fetched {share}");
}

#[test]
fn a_node_that_never_may_never_does() {
    let mut room = Classroom::of(51, SiteSpec::default(), BLOCKS, &vec![with_policy(WanPolicy::Never); 3]);
    room.run_for(20 * SECOND);
    // Nobody even knows the release.
    assert!(room.crossings() == 0 && room.world.fetchers().is_empty());
    let fetcher = room.world.add(HostSpec::default());
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.world.fetchers(), [fetcher]);
    room.apply(&Transition::Kill(fetcher));
    let second = room.world.publish_update("release 2", 1).unwrap();
    let last = room.world.add(HostSpec::default());
    room.run_until(60 * SECOND, "a third", |world| world.checks().crossings_total(&second) > BLOCKS / 3);
    room.apply(&Transition::Kill(last));
    room.run_for(5 * SECOND);
    let report = room.world.report(HostId(0), &second).unwrap();
    assert_eq!(report.waiting, Some(Waiting::NoSource));
    room.assert_well();
}

#[test]
fn a_last_resort_waits_until_nobody_else_is_there() {
    let hosts = [with_policy(WanPolicy::LastResort), HostSpec::default(), HostSpec::default()];
    let [reserve, second, third] = [0, 1, 2].map(HostId);
    let mut room = Classroom::of(52, SiteSpec::default(), BLOCKS, &hosts);
    room.run_until_crossed(BLOCKS / 3);
    assert!(!room.world.fetchers().contains(&reserve));
    room.apply(&Transition::Kill(second));
    room.run_for(3 * SECOND);
    assert_eq!(room.world.fetchers(), [third]);
    room.apply(&Transition::Kill(third));
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.world.fetchers(), [reserve]);
}

#[test]
fn a_member_fetches_what_the_sites_fetcher_does_not_want() {
    let fetcher = first_fetcher(53, 3);
    let mut hosts = vec![HostSpec::default(); 3];
    hosts[fetcher.0 as usize].wanted = false;
    let mut room = Classroom::of(53, SiteSpec::default(), BLOCKS, &hosts);
    room.run_to_completion(60 * SECOND);
    assert_eq!(room.crossings(), BLOCKS);
    assert!(room.world.fetchers().contains(&fetcher), "it still asks the origin for news");
    assert_eq!(room.report(fetcher).bytes.total(), 0);
    assert_eq!(room.report(fetcher).waiting, Some(Waiting::NotWanted));
}

#[test]
fn only_one_node_asks_the_origin_for_news() {
    let mut room = Classroom::of(54, SiteSpec::default(), 16, &vec![HostSpec::default(); 8]);
    room.run_for(10 * SECOND);
    room.world.publish_update("release 2", 1).unwrap();
    room.run_to_completion(80 * SECOND);
    assert_eq!(room.world.fetchers().len(), 1);
}

#[test]
fn a_client_listens_before_it_touches_the_wan() {
    let site = |hosts: &[HostSpec]| {
        let mut world = World::new(55, SiteSpec::default());
        hosts.iter().for_each(|host| {
            world.add(host.clone());
        });
        world
    };
    let mut world = site(&[HostSpec::default(), HostSpec::default()]);
    world.run_for(1490 * MS);
    assert!(world.fetchers().is_empty());
    world.run_for(800 * MS);
    assert_eq!(world.fetchers().len(), 1);
    // One that has found nobody gives discovery more time.
    let mut world = site(&[HostSpec::default()]);
    world.run_for(3490 * MS);
    assert!(world.fetchers().is_empty());
    world.run_for(600 * MS);
    assert_eq!(world.fetchers(), [HostId(0)]);
    let mut world = site(&[seed_node()]);
    world.run_for(600 * MS);
    assert_eq!(world.fetchers(), [HostId(0)]);
}
