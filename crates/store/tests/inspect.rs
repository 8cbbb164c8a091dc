//! Files in place that somebody has changed are named, with what is different about them.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

mod common;

use branchmesh_store::{ChangedFile, FileChange, Store, StoreError};
use common::{Sample, noise};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::Path,
};

fn write_at(path: &Path, offset: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn every_kind_of_change_is_named_and_nothing_is_repaired() {
    let data_dir = tempfile::tempdir().unwrap();
    let store = Store::open(data_dir.path()).unwrap();
    let mut disk = noise(1, 3 << 20);
    disk[1 << 20..2 << 20].fill(0);
    let files = [
        ("disk.img", disk),
        ("etc/vm.xml", b"<vm/>".to_vec()),
        ("gone", b"here".to_vec()),
        ("longer", b"short".to_vec()),
        ("empty", Vec::new()),
    ];
    let sample = Sample::new("xp", "7", &files);
    assert!(matches!(store.inspect(&sample.index, &mut |_| ()), Err(StoreError::NotAssembled { .. })));
    sample.store(&store);
    let folder = sample.assemble(&store).unwrap();
    let size: u64 = sample.index.files().iter().map(|file| file.size).sum();
    let mut progress = 0;
    let well = store.inspect(&sample.index, &mut |bytes| progress += bytes).unwrap();
    assert_eq!((well.files, well.bytes, progress, well.changed), (5, size, size, vec![]));

    write_at(&folder.join("disk.img"), (1 << 20) + 70_000, b"not a hole");
    write_at(&folder.join("disk.img"), 2_500_000, b"not what was published");
    fs::write(folder.join("etc/vm.xml"), "<VM/>").unwrap();
    fs::remove_file(folder.join("gone")).unwrap();
    fs::write(folder.join("longer"), "longer now").unwrap();
    for _ in 0..2 {
        let found = store.inspect(&sample.index, &mut |_| ()).unwrap();
        let [disk, settings, gone, longer] = &found.changed[..] else { panic!("{found:?}") };
        let FileChange::Content { first, bytes } = disk.change else { panic!("{disk:?}") };
        assert_eq!((&*disk.path, first), ("disk.img", 1 << 20));
        assert!(bytes > 1 << 20 && bytes < (1 << 20) + (256 << 10) + 1, "{bytes}");
        let named = |path: &str, change| ChangedFile { path: path.into(), change };
        assert_eq!(*settings, named("etc/vm.xml", FileChange::Content { first: 0, bytes: 5 }));
        assert_eq!(*gone, named("gone", FileChange::Missing));
        assert_eq!(*longer, named("longer", FileChange::Length(10)));
    }
}
