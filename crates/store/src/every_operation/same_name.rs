//! Release folders under a name that could not be synced, or that another index has had before.

use super::{
    losses,
    on_disk::expect_files,
    open,
    world::{IMAGE, Release, releases, releases_of_one_name},
};
use crate::{
    assemble::AssembleError,
    disk::Disk,
    simulated_disk::{Failure, Kind, Loss, SimulatedDisk},
    store::Store,
};
use branchmesh_image::Cipher;
use std::{io, path::PathBuf};

#[test]
fn a_release_whose_name_could_not_be_synced_is_in_place_only_when_it_is() {
    let [release, _] = releases();
    let assembled = |fails: Option<usize>| {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        fails.into_iter().for_each(|point| disk.fail_after(point, Failure::Error(io::ErrorKind::Other)));
        write_all(&store, &release);
        let first = assemble(&store, &release);
        assert_eq!(first.is_err(), fails.is_some());
        let folder = first.or_else(|_| assemble(&store, &release)).unwrap();
        let done = disk.done();
        disk.cut_power();
        disk.power_on(Loss::Everything);
        assert!(disk.examine(&folder).is_ok(), "{fails:?}");
        done
    };
    let done = assembled(None);
    let syncs = done.iter().enumerate().filter(|(_, operation)| {
        operation.kind == Kind::SyncFolder
            && [IMAGE, "images"].iter().any(|name| operation.path.ends_with(name))
    });
    let syncs: Vec<usize> = syncs.map(|(point, _)| point).collect();
    assert!(syncs.len() >= 3, "{syncs:?}");
    syncs.into_iter().for_each(|point| drop(assembled(Some(point))));
}

#[test]
fn files_of_another_index_are_never_taken_for_those_of_the_one_that_has_the_name_now() {
    let [first, second] = releases_of_one_name();
    let run = |disk: &SimulatedDisk| -> Result<(), AssembleError> {
        let store = open(disk)?;
        assemble(&store, &second)?;
        Ok(())
    };
    let prepared = || {
        let disk = SimulatedDisk::new();
        let store = open(&disk).unwrap();
        [&first, &second].into_iter().for_each(|release| write_all(&store, release));
        assemble(&store, &first).unwrap();
        drop(store);
        disk.power_on(Loss::Nothing);
        disk
    };
    let disk = prepared();
    run(&disk).unwrap();
    for point in 0..disk.done().len() {
        for loss in losses(point) {
            let disk = prepared();
            disk.end_power_after(point);
            let _ = run(&disk);
            disk.cut_power();
            disk.power_on(loss);
            let folder = assemble(&open(&disk).unwrap(), &second).unwrap();
            expect_files(&disk, &folder, &second);
        }
    }
}

pub(super) fn write_all(store: &Store, release: &Release) {
    release.blocks.iter().for_each(|(at, block)| store.write(at, block).unwrap());
    store.commit().unwrap();
}

fn assemble(store: &Store, release: &Release) -> Result<PathBuf, AssembleError> {
    store.assemble(&release.index, &Cipher::None, &|_| {})
}
