//! An assembly that a new process goes on with: what is on the disk already is read, and not written again.

use super::{
    on_disk::expect_files,
    open,
    rollout::record,
    same_name::write_all,
    world::{IMAGE, Release, releases},
};
use crate::{
    assembly::Assembly,
    disk::Disk,
    simulated_disk::{Failure, Kind, Loss, SimulatedDisk},
    store::Store,
};
use branchmesh_image::Cipher;
use std::{io, sync::Arc};

#[test]
fn only_what_a_power_cut_took_is_written_again() {
    let [release, _] = releases();
    let whole = resumed(&release, None);
    let kept = resumed(&release, Some(Loss::Nothing));
    let lost = resumed(&release, Some(Loss::Everything));
    let some = (0..20).map(|seed| resumed(&release, Some(Loss::Some(seed))));
    assert_eq!((whole, kept), (0, 0));
    assert!(lost > 0, "the files are synced at the end only");
    assert!(
        some.into_iter().any(|writes| (1..lost).contains(&writes)),
        "files that were torn were of no use"
    );
}

#[test]
fn files_whose_sync_has_failed_are_not_believed_even_if_they_cannot_be_removed() {
    let [release, _] = releases();
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    write_all(&store, &release);
    let mut assembly = begin(&store, &release);
    assembly.advance().unwrap();
    let failure = Failure::Error(io::ErrorKind::Other);
    disk.fail_next(Kind::Sync, "disk.img", failure);
    disk.fail_next(Kind::Name, "disk.img", failure);
    assembly.finish(&|_| {}).unwrap_err();
    let left = store.partial_folder(IMAGE, release.name).join("disk.img");
    assert!(disk.examine(&left).is_ok(), "it could be removed");
    let folder = assembly.finish(&|_| {}).unwrap();
    disk.cut_power();
    disk.power_on(Loss::Everything);
    expect_files(&disk, &folder, &release);
}

/// Writes all ahead, starts a new process, after a power cut if there is a `loss`, and finishes. Gives how often the
/// files were written to then.
fn resumed(release: &Release, loss: Option<Loss>) -> usize {
    let disk = SimulatedDisk::new();
    let store = open(&disk).unwrap();
    write_all(&store, release);
    store.put_release(&record(release, false)).unwrap();
    assert!(begin(&store, release).advance().unwrap() > 0);
    let folder = store.partial_folder(IMAGE, release.name);
    drop(store);
    if let Some(loss) = loss {
        disk.cut_power();
        disk.power_on(loss);
    }
    let before = disk.done().len();
    let store = open(&disk).unwrap();
    let placed = begin(&store, release).finish(&|_| {}).unwrap();
    expect_files(&disk, &placed, release);
    let done = disk.done().split_off(before);
    let writes = done.iter().filter(|operation| operation.kind == Kind::Write);
    // Each file is given its mode at the end.
    writes.filter(|operation| operation.path.starts_with(&folder)).count() - release.files.len()
}

fn begin(store: &Store, release: &Release) -> Assembly {
    store.begin_assembly(Arc::clone(&release.index), Cipher::None).unwrap()
}
