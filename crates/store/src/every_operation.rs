//! Tests only: the power goes after every operation of a rollout, and every operation of it fails in every way.
//!
//! The rollout does what an agent does, through the public calls of the store: index parts, blocks with commits, files
//! assembled ahead and put in place, the release recorded and activated; what somebody decides about the image; then a
//! newer release, which trims from the older one and from files of the machine, and the older one let go; and a scrub,
//! which finds a block that has rotted and has it fetched again. What a bundle or a prestage folder holds enters no
//! other way: to the agent they are origins, whose blocks it writes with [`write`](crate::Store::write) and whose index
//! parts it puts with `put_part`.
//!
//! After each power cut the store is opened on what is left: it must open, claim nothing that is not there, have
//! everything that was committed and the old or the new release whole, read none of the machine's files again, and go
//! on to the end with at most one batch fetched again. After each error it must go on in the same process once the
//! fault is gone, and lose nothing at a power cut later.
//!
//! `BRANCHMESH_VARIANTS=20 cargo test -p branchmesh-store --lib every_operation` tries more losses at each power cut
//! than CI does (see [`variants`]).

mod decision;
mod harvesting;
mod node;
mod on_disk;
mod resumed;
mod rollout;
mod rot;
mod same_name;
mod world;

use crate::{
    assemble::AssembleError,
    error::StoreError,
    simulated_disk::{Failure, Kind, Loss, Operation, SimulatedDisk},
};
use node::Node;
use on_disk::DATA_DIR;
use rollout::{BATCH, Rollout};
use std::{io, path::Path};
use world::{Release, releases};

/// Operations of a recovery among which a second power cut comes.
const RECOVERY: usize = 60;

/// Operations after an error among which a power cut comes.
const LATER: usize = 40;

/// How many losses are tried for each power cut: everything that was not synced, nothing of it, and random ones.
fn variants() -> u64 {
    std::env::var("BRANCHMESH_VARIANTS").ok().and_then(|text| text.parse().ok()).unwrap_or(3)
}

fn losses(point: usize) -> impl Iterator<Item = Loss> {
    (0..variants()).map(move |variant| match variant {
        0 => Loss::Everything,
        1 => Loss::Nothing,
        _ => Loss::Some(point as u64 * 1_000_003 + variant),
    })
}

fn open(disk: &SimulatedDisk) -> Result<Node, StoreError> {
    Node::open(disk)
}

/// Opens the store and goes on to the end.
fn run(disk: &SimulatedDisk, rollout: &mut Rollout) -> Result<(), AssembleError> {
    rollout.go_on(&open(disk)?)
}

/// All operations of a rollout that nothing disturbs.
fn undisturbed(releases: &[Release; 2]) -> Vec<Operation> {
    let (disk, mut rollout) = (SimulatedDisk::new(), Rollout::new(releases));
    run(&disk, &mut rollout).unwrap();
    assert_eq!(rollout.fetched, rollout.to_fetch(), "what is here already is taken from here");
    let done = disk.done();
    let store = open(&disk).unwrap();
    rollout.expect_done(&disk, &store);
    rollout.expect_remembered(&store);
    done
}

#[test]
fn the_same_rollout_is_the_same_operations() {
    let releases = releases();
    let first = undisturbed(&releases);
    assert!(first == undisturbed(&releases), "a failing point could not be repeated");
    for kind in [Kind::Look, Kind::Write, Kind::Name, Kind::Sync, Kind::SyncFolder] {
        assert!(first.iter().any(|operation| operation.kind == kind), "no {kind:?} among them");
    }
}

#[test]
fn the_power_may_go_after_every_operation() {
    let releases = releases();
    let operations = undisturbed(&releases);
    for point in 0..=operations.len() {
        let (cut, mut rollout) = (SimulatedDisk::new(), Rollout::new(&releases));
        cut.end_power_after(point);
        // The last operations are those of the ledger that is closed.
        let _ = run(&cut, &mut rollout);
        cut.cut_power();
        for loss in losses(point) {
            let told = Told::new(format!(
                "power cut after {point} operations, {:?}, {loss:?}",
                operations.get(point.wrapping_sub(1))
            ));
            let (disk, mut rollout) = (cut.copy(), rollout.clone());
            disk.power_on(loss);
            let mut cuts = 1;
            if let Loss::Some(seed) = loss {
                // And once more while the node recovers.
                disk.end_power_after(seed as usize % RECOVERY);
                let _ = run(&disk, &mut rollout);
                disk.cut_power();
                disk.power_on(Loss::Some(seed + 1));
                cuts += 1;
            }
            let store = open(&disk).unwrap();
            rollout.expect_kept(&disk, &store);
            rollout.go_on(&store).unwrap();
            rollout.expect_done(&disk, &store);
            rollout.expect_remembered(&store);
            let most = rollout.to_fetch() + cuts * BATCH;
            assert!(rollout.fetched <= most, "more than a batch was fetched again");
            told.well();
        }
    }
    eprintln!("{} points, {} variants", operations.len() + 1, variants());
}

#[test]
fn every_operation_may_fail() {
    let releases = releases();
    let operations = undisturbed(&releases);
    let mut errors = 0;
    for (point, operation) in operations.iter().enumerate() {
        for failure in failures(operation.kind) {
            errors += usize::from(fails(&releases, point, operation, failure, After::GoesOn));
        }
        // What the process that met a failed sync knows of it, the next one must know too.
        if operation.kind == Kind::Sync {
            let failure = Failure::Error(io::ErrorKind::Other);
            fails(&releases, point, operation, failure, After::StartsAgain);
        }
    }
    eprintln!("{} operations, {errors} errors", operations.len());
}

#[test]
fn the_power_may_go_soon_after_an_operation_has_failed() {
    let releases = releases();
    let operations = undisturbed(&releases);
    for (point, operation) in
        operations.iter().enumerate().filter(|(_, operation)| operation.kind != Kind::Look)
    {
        for (more, loss) in later_cuts(point, operation) {
            let told = Told::new(format!(
                "operation {point} failed, {operation:?}, power cut {more} later, {loss:?}"
            ));
            let (disk, mut rollout) = (SimulatedDisk::new(), Rollout::new(&releases));
            disk.fail_after(point, Failure::Error(io::ErrorKind::Other));
            disk.end_power_after(point + 1 + more);
            if let Ok(store) = open(&disk).or_else(|_| open(&disk)) {
                let _ = rollout.go_on(&store).or_else(|_| rollout.go_on(&store));
                disk.cut_power();
            }
            disk.power_on(loss);
            let store = open(&disk).unwrap();
            rollout.expect_kept(&disk, &store);
            rollout.go_on(&store).unwrap();
            rollout.expect_done(&disk, &store);
            told.well();
        }
    }
}

/// How many operations after an error the power goes, and what is lost then. Where names of releases were not synced,
/// every operation that may build on them is tried.
fn later_cuts(point: usize, operation: &Operation) -> Vec<(usize, Loss)> {
    if operation.kind == Kind::SyncFolder && operation.path.starts_with(Path::new(DATA_DIR).join("images")) {
        return (0..LATER).map(|more| (more, Loss::Some((point * LATER + more) as u64))).collect();
    }
    losses(point).enumerate().map(|(variant, loss)| ((point * 7 + variant * 13) % LATER, loss)).collect()
}

/// What a process does after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    GoesOn,
    StartsAgain,
}

/// Lets one operation of a rollout fail; whether anybody was told.
fn fails(
    releases: &[Release; 2],
    point: usize,
    operation: &Operation,
    failure: Failure,
    after: After,
) -> bool {
    let told = Told::new(format!("{failure:?} of operation {point}, {operation:?}, the process {after:?}"));
    let (disk, mut rollout) = (SimulatedDisk::new(), Rollout::new(releases));
    disk.fail_after(point, failure);
    let opened = open(&disk);
    opened.as_ref().err().iter().for_each(|error| expect_name(error, failure));
    let mut store = opened.or_else(|_| open(&disk)).unwrap();
    let went = rollout.go_on(&store);
    went.as_ref().err().iter().for_each(|error| expect_named(error, failure));
    // The last operations are those of a store that is closed.
    if after == After::StartsAgain || disk.done().len() <= point {
        drop(store);
        disk.no_faults();
        store = open(&disk).unwrap();
    }
    rollout.expect_honest(&store);
    rollout.go_on(&store).unwrap();
    rollout.expect_done(&disk, &store);

    disk.cut_power();
    drop(store);
    disk.power_on(if point.is_multiple_of(2) { Loss::Everything } else { Loss::Some(point as u64) });
    let store = open(&disk).unwrap();
    rollout.expect_kept(&disk, &store);
    rollout.go_on(&store).unwrap();
    rollout.expect_done(&disk, &store);
    rollout.expect_files_remembered(&store);
    told.well();
    went.is_err()
}

/// How an operation of a kind may fail.
fn failures(kind: Kind) -> Vec<Failure> {
    let error = Failure::Error;
    let (input_output, full, read_only) =
        (io::ErrorKind::Other, io::ErrorKind::StorageFull, io::ErrorKind::ReadOnlyFilesystem);
    match kind {
        Kind::Look => vec![error(input_output)],
        Kind::Write => vec![error(input_output), error(full), error(read_only), Failure::ShortWrite],
        Kind::Name | Kind::Sync | Kind::SyncFolder => {
            vec![error(input_output), error(full), error(read_only)]
        }
    }
}

fn expect_named(error: &AssembleError, failure: Failure) {
    match error {
        AssembleError::Store(error) => expect_name(error, failure),
        other @ (AssembleError::Missing { .. }
        | AssembleError::Rotten { .. }
        | AssembleError::Decode { .. }) => panic!("a failing disk was told as: {other}"),
    }
}

/// The error says what happened, and to which file.
fn expect_name(error: &StoreError, failure: Failure) {
    let is_named = match failure {
        Failure::ShortWrite | Failure::Error(io::ErrorKind::StorageFull) => {
            matches!(error, StoreError::DiskFull { .. })
        }
        Failure::Error(io::ErrorKind::ReadOnlyFilesystem) => matches!(error, StoreError::ReadOnly { .. }),
        Failure::Error(_) => matches!(error, StoreError::Io { .. }),
    };
    assert!(is_named && error.to_string().contains('/'), "{failure:?} was told as: {error}");
}

/// Says which point it was if the test ends there.
struct Told(Option<String>);

impl Told {
    fn new(what: String) -> Self {
        Self(Some(what))
    }

    fn well(mut self) {
        self.0 = None;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if let Some(what) = &self.0 {
            eprintln!("it went wrong at: {what}");
        }
    }
}
