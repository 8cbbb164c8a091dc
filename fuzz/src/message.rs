//! What a neighbour says: every message, and the have-maps inside of them.

use crate::input::Input;
use branchmesh_wire::{
    BlockSet, Hello, Message, Note, Request, ResponseHead, Runs, Status,
    limits::{RELEASE_BLOCKS_MAX, REQUEST_BLOCKS_MAX},
};
use std::fmt::Debug;

/// Input: a byte that chooses the message, then its encoding.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.byte() % 5 {
        0 => drop(decoded::<Hello>(input)),
        1 => match decoded::<Note>(input) {
            Some(Note::Have { blocks, .. }) => check_set(&blocks),
            Some(Note::Gained { blocks, .. }) => check_runs(&blocks, RELEASE_BLOCKS_MAX),
            Some(Note::Dropped { .. }) | None => {}
        },
        2 => match decoded::<Request>(input) {
            Some(Request::Blocks { blocks, .. }) => check_runs(&blocks, REQUEST_BLOCKS_MAX),
            Some(Request::IndexPart { .. } | Request::Metadata { .. }) | None => {}
        },
        3 => drop(decoded::<ResponseHead>(input)),
        _ => drop(decoded::<Status>(input).map(|status| status.is_acceptable())),
    }
}

fn decoded<M: Message + PartialEq + Debug>(input: Input) -> Option<M> {
    let bytes = input.rest();
    let message = M::from_bytes(bytes).ok()?;
    assert!(bytes.len() <= M::MAX, "{} bytes were read under a limit of {}", bytes.len(), M::MAX);
    let again = M::from_bytes(&message.to_bytes()).expect("what was written reads back");
    assert_eq!(again, message);
    Some(message)
}

fn check_set(set: &BlockSet) {
    let members = u32::try_from(set.iter().count()).expect("a set has fewer than 2^32 members");
    assert_eq!(members, set.len());
    assert!(set.iter().all(|block| block < set.capacity()), "a block beyond the end of the release");
    assert_eq!(set.runs().map(|run| run.end - run.start).sum::<u32>(), set.len());
    assert_eq!(set.is_full(), set.len() == set.capacity());
}

/// However large the runs claim to be, whoever goes through them knows when that ends.
fn check_runs(runs: &Runs, limit: u32) {
    let named = runs.blocks(limit).count();
    assert!(named <= limit as usize, "{named} blocks under a limit of {limit}");
}
