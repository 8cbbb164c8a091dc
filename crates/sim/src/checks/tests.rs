//! Each checker fails when what it watches for is done on purpose, and is silent when it is not.

use super::*;
use crate::{
    event::{Link, Message},
    host::HostSpec,
    release::Release,
    transition::Transition,
    wan::OriginState,
    world::SiteSpec,
};
use branchmesh_wire::{Note, WanPolicy};

const BLOCKS: u32 = 64;
const SECOND: Duration = Duration::from_secs(1);
/// A transfer that the exchanges did not name.
const OURS: TransferId = TransferId(1_000_000);
const ONE: HostId = HostId(0);
const OTHER: HostId = HostId(1);

/// A site that knows of a release, and whose origin gives nothing of it. Of the hosts, the first `holders` hold it.
fn site(hosts: usize, holders: usize) -> (World, IndexId) {
    let mut world = World::new(1, SiteSpec::default());
    let release = world.publish(Release::of_blocks("release 1", BLOCKS));
    world.apply(&Transition::Origin(OriginState::Stalls));
    for number in 0..hosts {
        let holds = if number < holders { vec![release] } else { Vec::new() };
        let host = world.add(HostSpec { holds, ..HostSpec::default() });
        world.learn(host, 1);
    }
    (world, release)
}

/// What was seen since this was asked last.
fn seen(world: &mut World) -> Vec<Violation> {
    std::mem::take(&mut world.checks.violations).into_iter().map(|(_, violation)| violation).collect()
}

#[test]
fn fetching_what_a_member_holds() {
    let (mut world, release) = site(2, 1);
    world.check_fetch(OTHER, OURS, &release, &[7]);
    assert_eq!(seen(&mut world), [], "it cannot know yet");
    world.run_for(5 * SECOND);
    world.check_fetch(OTHER, OURS, &release, &[7]);
    let violation = Violation::FetchedThoughHeld { host: OTHER, block: 7, holder: ONE };
    assert_eq!(seen(&mut world), [violation]);
    world.apply(&Transition::Split(1));
    world.check_fetch(OTHER, OURS, &release, &[7]);
    assert_eq!(seen(&mut world), [], "the holder is out of reach");
}

#[test]
fn fetching_what_another_one_is_fetching() {
    let (mut world, release) = site(2, 0);
    world.run_for(5 * SECOND);
    let last = BLOCKS - 1;
    world.check_fetch(ONE, OURS, &release, &[last]);
    world.check_fetch(OTHER, OURS, &release, &[last]);
    assert_eq!(seen(&mut world), [], "it cannot know yet");
    world.run_for(3 * SECOND);
    world.check_fetch(OTHER, OURS, &release, &[last]);
    assert_eq!(seen(&mut world), [Violation::FetchedTwice { host: OTHER, block: last, other: ONE }]);
    world.checks.ended(ONE, OURS);
    world.check_fetch(OTHER, OURS, &release, &[last]);
    assert_eq!(seen(&mut world), [], "the other one has given up");
}

#[test]
fn waiting_although_a_member_has_it() {
    let (mut world, release) = site(2, 1);
    world.run_for(SECOND / 5);
    let now = world.now;
    // Its agent wants the release, and its exchange asks for nothing.
    world.with(OTHER, |exchange| exchange.set_wanted(now, release, false));
    world.run_for(25 * SECOND);
    assert_eq!(seen(&mut world), []);
    world.run_for(15 * SECOND);
    assert!(seen(&mut world).contains(&Violation::Waits { host: OTHER, holder: Some(ONE) }));
}

#[test]
fn waiting_although_the_origin_has_it() {
    let (mut world, release) = site(1, 0);
    world.run_for(SECOND / 5);
    let now = world.now;
    world.with(ONE, |exchange| exchange.set_wanted(now, release, false));
    world.run_for(100 * SECOND);
    assert_eq!(seen(&mut world), [], "an origin that stalls is no source");
    world.apply(&Transition::Origin(OriginState::Up));
    world.run_for(70 * SECOND);
    assert!(seen(&mut world).contains(&Violation::Waits { host: ONE, holder: None }));
}

#[test]
fn passing_a_limit() {
    let (mut world, release) = site(2, 1);
    world.host_mut(OTHER).spec.wan = WanPolicy::Never;
    let too_many: Vec<u32> = (0..=REQUEST_BLOCKS_MAX).collect();
    world.check_request(OTHER, &release, &[]);
    world.check_request(OTHER, &release, &[2, 1]);
    world.check_request(OTHER, &release, &too_many);
    world.check_request(ONE, &release, &[1]);
    world.check_fetch(OTHER, OURS, &release, &[1]);
    let now = world.now;
    (0..=REQUESTS_MAX as u64).for_each(|number| world.checks.requested(now, OTHER, ONE, TransferId(number)));
    (0..=STATUSES_MAX).for_each(|_| world.checks.gossiped(now + SECOND * 10, OTHER));
    let limits = [
        (OTHER, "a request without blocks"),
        (OTHER, "a request out of order"),
        (OTHER, "blocks of one request"),
        (ONE, "asks for what it holds"),
        (OTHER, "may not use the WAN"),
        (OTHER, "requests under way at one member"),
        (OTHER, "statuses in a second"),
    ];
    assert_eq!(seen(&mut world), limits.map(|(host, what)| Violation::Limit { host, what }));
    // Just enough is right.
    world.check_request(OTHER, &release, &too_many[1..]);
    world.checks.timer(now, ONE, now + SECOND);
    assert_eq!(seen(&mut world), []);
    world.checks.timer(now, ONE, now);
    assert_eq!(seen(&mut world), [Violation::TimerInThePast { host: ONE }]);
}

#[test]
fn using_a_line_that_is_closed() {
    let (mut world, release) = site(2, 0);
    world.run_for(5 * SECOND);
    world.apply(&Transition::LineCloses(1));
    assert_eq!(seen(&mut world), [], "both know at once");
    world.check_fetch(OTHER, OURS, &release, &[1]);
    assert_eq!(seen(&mut world), [], "it is open to that one");
    world.check_fetch(ONE, OURS, &release, &[2]);
    assert_eq!(seen(&mut world), [Violation::LineClosed { host: ONE }]);
    // An agent that looks at the wrong clock.
    world.apply(&Transition::LineCloses(u32::MAX));
    world.run_for(60 * SECOND);
    assert_eq!(seen(&mut world), []);
    let now = world.now;
    world.with(ONE, |exchange| exchange.set_wan_open(now));
    world.run_for(10 * SECOND);
    assert!(seen(&mut world).contains(&Violation::LineClosed { host: ONE }));
}

#[test]
fn taking_more_of_the_line_than_the_site_may() {
    let (mut world, release) = site(2, 0);
    world.apply(&Transition::LineLimit(Some(100_000)));
    (0..BLOCKS).for_each(|block| world.note_crossing(ONE, release, block));
    assert!(seen(&mut world).contains(&Violation::LineLimit));
}

#[test]
fn claiming_what_is_not_on_the_disk() {
    let (mut world, release) = site(2, 1);
    world.run_to_completion(20 * SECOND).unwrap();
    assert_eq!(seen(&mut world), []);
    world.host_mut(OTHER).disk.get_mut(&release).unwrap().remove(7);
    world.run_for(6 * SECOND);
    world.check_completed(OTHER, &release);
    let violation = Violation::ClaimsWhatIsNotThere { host: OTHER };
    assert_eq!(seen(&mut world), [violation.clone(), violation]);
}

#[test]
fn taking_an_honest_member_for_a_hostile_one() {
    let (mut world, release) = site(2, 1);
    world.run_for(SECOND);
    let number = world.host(ONE).links[&OTHER];
    let flood = |world: &mut World| {
        for _ in 0..20 {
            let note = Note::Have { release, blocks: BlockSet::full(BLOCKS) };
            world.arrive(Link { from: ONE, to: OTHER, number }, Message::Note(note));
        }
        seen(world)
    };
    let accused = flood(&mut world);
    assert!(accused.iter().any(|seen| matches!(seen, Violation::HonestAccused { .. })), "{accused:?}");
    world.apply(&Transition::Turn(ONE, crate::Nature::Flooder));
    assert_eq!(flood(&mut world), [], "that one is hostile");
}

#[test]
fn an_error_in_the_log() {
    let (mut world, _) = site(1, 0);
    world.watched(|_| tracing::warn!("the origin is down"));
    assert_eq!(seen(&mut world), []);
    world.watched(|_| tracing::error!("a block is held twice"));
    let seen = seen(&mut world);
    let [Violation::ErrorLogged { line }] = &seen[..] else { panic!("{seen:?}") };
    assert!(line.contains("a block is held twice"), "{line}");
}
