//! The main job: eight clients of a branch behind one thin WAN, found by mDNS alone, get a machine image, then its
//! next release, and a newcomer gets it all from them.

use branchmesh_tests::{
    branch::{Branch, SAMPLE_EVERY, Spread},
    claims::{Claims, Figure},
    hq::RepositorySize,
    netns::Links,
    planned::Planned,
    skip::{Need, have_all},
};
use std::time::Duration;

const CLIENTS: usize = 8;
/// A branch's WAN, and links of clients that one machine's two cores can still fill.
const LINKS: Links = Links { wan_mbit: 20, lan_mbit: 200 };
/// Files in the image: some 50 s over that WAN, so that the constant costs of a start weigh as in practice.
const IMAGE_BYTES: u64 = 320 << 20;
/// Files that the second release changes.
const CHANGED_BYTES: u64 = 8 << 20;
/// After so many times what the WAN needs, a spread has failed.
const PATIENCE: f64 = 2.0;

#[test]
fn a_branch_gets_two_releases_and_a_newcomer_and_each_block_crosses_the_wan_once() {
    let test = "branch office";
    if !have_all(test, &NEEDS) {
        return;
    }
    let mut claims = Claims::of(test);
    let mut branch = Branch::new("office", LINKS, CLIENTS);
    let everyone: Vec<usize> = (0..CLIENTS).collect();

    let (first, size) = branch.publish_first(IMAGE_BYTES);
    let before = branch.mark();
    let starting = branch.start(0..CLIENTS);
    claims.at_most("time to start all agents", Figure::seconds(starting.as_secs_f64()), Figure::seconds(1.0));
    let spread = branch.follow(&everyone, "1", patience(size), &before);
    note_spread(&mut claims, "first release", size, &spread);
    claims.at_most(
        "first release: bytes over the WAN",
        Figure::bytes(spread.wan_bytes),
        wan_limit(size, 1.05),
    );
    // What crossed, with the headers of all packets: no mesh can be faster.
    let bound = Figure::seconds(LINKS.wan_seconds(spread.wan_bytes));
    claims.at_most("first release: last client done", last(&spread), bound.times(1.08));
    let packs = Figure::bytes(size.packs);
    claims.at_most(
        "first release: bytes of packs that the origin sent",
        Figure::bytes(spread.packs.sent),
        packs.times(1.03),
    );
    let planned = branch.plan("1", None);
    check_plan(&mut claims, "first release", planned, &spread);
    let time = spread.last().unwrap_or(f64::INFINITY) / planned.seconds;
    claims.at_most("first release: time / planned", Figure::ratio(time), Figure::ratio(1.15));
    claims.at_least("first release: time / planned", Figure::ratio(time), Figure::ratio(0.85));
    let wrong = branch.wrong_files(&everyone, "1", &first);
    claims.holds("first release: all files equal the source", wrong.is_empty(), &format!("wrong: {wrong:?}"));

    let before = branch.mark();
    let (second, new) = branch.publish_second(&first, CHANGED_BYTES);
    let spread = branch.follow(&everyone, "2", patience(new), &before);
    note_spread(&mut claims, "second release", new, &spread);
    claims.at_most(
        "second release: bytes over the WAN",
        Figure::bytes(spread.wan_bytes),
        wan_limit(new, 1.10),
    );
    // Its time begins whenever a fetcher asks for news.
    check_plan(&mut claims, "second release", branch.plan("2", Some("1")), &spread);
    let wrong = branch.wrong_files(&everyone, "2", &second);
    claims.holds(
        "second release: all files equal the source",
        wrong.is_empty(),
        &format!("wrong: {wrong:?}"),
    );

    let newcomer = branch.add_client();
    let before = branch.mark();
    branch.start([newcomer]);
    let spread = branch.follow(&[newcomer], "2", Duration::from_secs(60), &before);
    let wrong = branch.wrong_files(&[newcomer], "2", &second);
    claims.note("newcomer: done", last(&spread));
    claims.holds("newcomer: all files equal the source", wrong.is_empty(), &format!("wrong: {wrong:?}"));
    claims.at_most(
        "newcomer: bytes of packs from the origin",
        Figure::bytes(spread.packs.sent),
        Figure::bytes(0),
    );
    claims.settle();
}

const NEEDS: [Need; 5] = [
    Need::Namespaces,
    Need::Program("nginx"),
    Need::Program("mkfs.ext4"),
    Need::Program("debugfs"),
    Need::Program("qemu-img"),
];

fn wan_limit(size: RepositorySize, factor: f64) -> Figure {
    Figure::bytes(size.total()).times(factor)
}

fn patience(size: RepositorySize) -> Duration {
    Duration::from_secs_f64(LINKS.wan_seconds(size.total()) * PATIENCE + 30.0)
}

fn last(spread: &Spread) -> Figure {
    Figure::seconds(spread.last().unwrap_or(f64::INFINITY))
}

/// What `branchmesh plan` says must be what crossed: the same bytes, and the headers of packets within a hundredth.
fn check_plan(claims: &mut Claims, what: &str, planned: Planned, spread: &Spread) {
    let crossed = spread.packs.sent + spread.index_bytes;
    let said = format!("{} planned, {} sent", planned.wan_bytes, crossed);
    claims.holds(&format!("{what}: as many bytes cross as planned"), planned.wan_bytes == crossed, &said);
    let headers = spread.wan_bytes as f64 / planned.wan_bytes_with_headers as f64;
    let limits = [Figure::ratio(0.99), Figure::ratio(1.01)];
    let what = format!("{what}: bytes with headers / planned");
    claims.at_least(&what, Figure::ratio(headers), limits[0]);
    claims.at_most(&what, Figure::ratio(headers), limits[1]);
}

fn note_spread(claims: &mut Claims, what: &str, size: RepositorySize, spread: &Spread) {
    claims.note(&format!("{what}: new in the repository, packs"), Figure::bytes(size.packs));
    claims.note(&format!("{what}: new in the repository, index parts"), Figure::bytes(size.indexes));
    claims.note(&format!("{what}: bytes of packs that the origin sent"), Figure::bytes(spread.packs.sent));
    claims.note(&format!("{what}: requests to the origin"), Figure::count(spread.requests));
    claims.note(&format!("{what}: of these, sent before"), Figure::bytes(spread.packs.repeated()));
    claims.note(&format!("{what}: time of the WAN alone"), Figure::seconds(LINKS.wan_seconds(size.total())));
    let course = format!("{what}: percent of the WAN used, each {SAMPLE_EVERY:?}");
    claims.say(&course, &format!("{:?}", spread.wan_used(LINKS)));
}
