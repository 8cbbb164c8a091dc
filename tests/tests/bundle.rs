//! Releases that come on a stick or into a prestage folder: real agents, real folders, and a web server that counts
//! what crosses the line.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    bundle::{copy, export, export_command, files, have, import},
    free_address::free_address,
    hq::{COMMAND_LIMIT, files_below, flip_bit},
    images,
    loopback::{IMAGE, Loopback},
    nginx::Manner,
    node::Node,
    run::run,
    wait,
};
use serde_json::Value;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

const BYTES: u64 = 6 << 20;
const LIMIT: Duration = Duration::from_secs(60);
/// So seldom that nobody asks the origin a second time in these tests.
const SELDOM: &str = "1h";

#[test]
fn an_isolated_node_that_has_only_the_root_of_trust_completes_from_a_bundle() {
    let world = Loopback::new("bundle-isolated");
    let (source, size) = world.publish(BYTES);
    let stick = world.path().join("stick");
    export(&world.hq, &["desk@1"], &stick, &[]);
    let bytes: u64 = files(&stick.join("packs")).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(bytes, size.packs, "a bundle of the only release has all packs");
    hide_repository(&world);

    let mut node = world.node("pc-01", &[&url(&stick)]);
    node.start();
    let done = node.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
    assert_eq!(done.release(IMAGE, "1").unwrap().bytes.wan, 0);
}

#[test]
fn what_one_node_reads_from_a_stick_the_others_take_from_it() {
    let world = Loopback::new("bundle-two");
    let (source, _) = world.publish(BYTES);
    let stick = world.path().join("stick");
    export(&world.hq, &["desk@1"], &stick, &[]);
    hide_repository(&world);

    let mut with_stick = world.node("pc-01", &[&url(&stick)]);
    let mut other = world.node("pc-02", &[]);
    other.settings.bootstrap = vec![with_stick.settings.listen.to_string()];
    with_stick.start();
    other.start();
    for node in [&mut with_stick, &mut other] {
        let done = node.wait_complete(IMAGE, "1", LIMIT);
        assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
        assert_eq!(done.release(IMAGE, "1").unwrap().bytes.wan, 0);
    }
    let bytes = other.status().unwrap().release(IMAGE, "1").unwrap().bytes;
    assert_eq!(bytes.lan, bytes.total, "all of it came from the node with the stick");
}

#[test]
fn an_update_on_a_stick_is_what_the_site_lacks_and_nothing_crosses_the_line() {
    let Some((world, source)) = Loopback::with_nginx("bundle-update", BYTES) else { return };
    let origin = world.serve(Manner::Proper);
    let stick = world.path().join("stick");
    // The fetcher has no stick, and the line is open: it shall not be used all the same.
    let mut fetcher = world.node("pc-01", &[origin.url()]);
    // The stick is not there yet, which is no error.
    let mut with_stick = world.node("pc-02", &[origin.url(), &url(&stick)]);
    with_stick.settings.wan = "last-resort".into();
    with_stick.settings.bootstrap = vec![fetcher.settings.listen.to_string()];
    for node in [&mut fetcher, &mut with_stick] {
        node.settings.poll = SELDOM.into();
        node.start();
        node.wait_complete(IMAGE, "1", LIMIT);
    }

    let holdings = world.path().join("desk.have");
    have(&fetcher, true, &holdings);
    let update = changed(&world, &source);
    let grown = world.hq.publish(IMAGE, "2", &[&update]);
    let packing = world.path().join("packing");
    let told = export(&world.hq, &["desk@2"], &packing, &[&holdings]);
    // Counted at the repository, on the disk and by `diff`: three other ways than the export's.
    let sum = |folder: &str| -> u64 {
        files(&packing.join(folder)).iter().map(|file| file.metadata().unwrap().len()).sum()
    };
    let predicted = world.hq.query("diff", &["desk@1", "desk@2"], &world.folder_origin());
    assert_eq!(sum("packs"), grown.packs, "the blocks of the update");
    assert_eq!(sum("packs"), number(&predicted, "/blocks/new_bytes"));
    assert_eq!(sum("indexes"), number(&predicted, "/index/total_bytes"));
    for file in files(&packing.join("metadata")) {
        let original = world.hq.repository().join("metadata").join(file.file_name().unwrap());
        assert_eq!(fs::read(&file).unwrap(), fs::read(original).unwrap(), "{}", file.display());
    }
    let parts = ["blocks", "index", "metadata"].map(|part| number(&told, &format!("/bytes/{part}")));
    let all: u64 = files(&packing).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(parts.iter().sum::<u64>(), all, "{told}");

    let seen = origin.accesses().len();
    fs::rename(&packing, &stick).unwrap();
    for node in [&mut with_stick, &mut fetcher] {
        let done = node.wait_complete(IMAGE, "2", LIMIT);
        assert_eq!(node.wrong_files(IMAGE, "2", &[&update]), [""; 0]);
        assert_eq!(done.release(IMAGE, "2").unwrap().bytes.wan, 0);
    }
    assert_eq!(origin.accesses()[seen..], [], "the line was used");
}

#[test]
fn the_good_blocks_of_a_damaged_bundle_are_used_and_the_bad_ones_named() {
    let Some((world, source)) = Loopback::with_nginx("bundle-damaged", BYTES) else { return };
    let origin = world.serve(Manner::Proper);
    let stick = world.path().join("stick");
    export(&world.hq, &["desk@1"], &stick, &[]);
    let [pack, part] = ["packs", "indexes"].map(|folder| files(&stick.join(folder)).remove(0));
    flip_bit(&pack);
    flip_bit(&part);

    let mut node = world.node("pc-01", &[&url(&stick), origin.url()]);
    node.start();
    let done = node.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
    let bytes = done.release(IMAGE, "1").unwrap().bytes;
    assert!(0 < bytes.wan && bytes.wan < bytes.total / 4, "one block comes from elsewhere: {bytes:?}");
    assert_eq!(bytes.trimmed, bytes.total - bytes.wan, "everything else comes from the stick");
    for file in [&pack, &part] {
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(node.log().contains(name), "the log does not name {name}");
    }
}

#[test]
fn an_import_says_what_it_took_what_is_damaged_and_what_is_missing() {
    let world = Loopback::new("bundle-import");
    let (source, _) = world.publish(BYTES);
    let stick = world.path().join("stick");
    export(&world.hq, &["desk@1"], &stick, &[]);
    hide_repository(&world);
    let pack = files(&stick.join("packs")).remove(0);
    flip_bit(&pack);
    let mut node = world.node("pc-01", &[]);
    node.start();
    node.wait_for("up", LIMIT, |_| true);
    let nothing = import(&node, &world.path().join("nowhere")).expect_refusal();
    nothing.expect_words(&["nowhere", "no bundle"]);

    let refused = import(&node, &stick).expect_refusal();
    let report: Value = serde_json::from_str(&refused.stdout).unwrap();
    let name = pack.file_name().unwrap().to_str().unwrap();
    let damaged = &report["damaged"][0];
    assert!(damaged["file"].as_str().unwrap().ends_with(name), "{report}");
    assert_eq!((&damaged["count"], &damaged["releases"]), (&1.into(), &serde_json::json!(["desk@1"])));
    let release = &report["releases"][0];
    assert_eq!((&release["name"], &release["missing"]["blocks"]), (&"desk@1".into(), &1.into()));
    let have = node.status().unwrap().release(IMAGE, "1").unwrap().blocks;
    assert_eq!((have.total - have.have, number(release, "/taken/blocks")), (1, have.have));
    refused.expect_words(&[name, "1 block", "desk@1", "damaged"]);

    // The stick is healed where the repository is, and imported once more; nothing else gives this node anything.
    show_repository(&world);
    export(&world.hq, &["desk@1"], &stick, &[]);
    hide_repository(&world);
    import(&node, &stick).expect_ok();
    fs::remove_dir_all(&stick).unwrap();
    node.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn a_prestage_folder_appears_while_the_agent_runs_and_is_filled_slowly() {
    let world = Loopback::new("bundle-prestage");
    let (source, _) = world.publish(BYTES);
    let bundle = world.path().join("bundle");
    export(&world.hq, &["desk@1"], &bundle, &[]);
    hide_repository(&world);
    let prestage = world.path().join("prestaged");
    let mut node = world.node("pc-01", &[]);
    node.settings.prestage = Some(prestage.clone());
    node.start();
    let up = node.wait_for("up", LIMIT, |_| true);
    assert_eq!(up.node.problems, [""; 0], "a folder that is not there yet is no problem");

    // In the order of names, as software distribution copies: what would say that it is there comes first.
    copy(&bundle, "indexes", &prestage);
    copy(&bundle, "metadata", &prestage);
    node.wait_for("waiting for blocks", LIMIT, |status| {
        status.complaints().contains("no member holds the rest")
    });
    copy(&bundle, "packs", &prestage);
    node.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn when_a_stick_is_pulled_out_the_rest_comes_from_headquarters() {
    /// So much that reading it takes a while.
    const LARGE: u64 = 128 << 20;
    let Some((world, _)) = Loopback::with_nginx("bundle-pulled", BYTES) else { return };
    let source = world.path().join("large.img");
    images::make_noise(&source, 7, LARGE);
    world.hq.publish(IMAGE, "2", &[&source]);
    let origin = world.serve(Manner::Proper);
    let stick = world.path().join("stick");
    export(&world.hq, &["desk@2"], &stick, &[]);

    let mut node = world.node("pc-01", &[&url(&stick), origin.url()]);
    node.start();
    let packs = node.settings.data_dir.join("store").join("packs");
    let begun =
        wait::until_every(Duration::from_millis(2), LIMIT, || (files_below(&packs).len() > 1).then_some(()));
    assert!(begun.is_some(), "it does not read the stick");
    fs::rename(&stick, world.path().join("pocket")).unwrap();
    let done = node.wait_complete(IMAGE, "2", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "2", &[&source]), [""; 0]);
    let bytes = done.release(IMAGE, "2").unwrap().bytes;
    assert!(bytes.trimmed > 0, "something came from the stick: {bytes:?}");
    assert!(bytes.wan > 0, "it was pulled out before its end: {bytes:?}");
    assert_eq!(bytes.trimmed + bytes.wan, bytes.total);
}

#[test]
fn an_export_that_is_killed_leaves_no_wrong_file_and_goes_on() {
    let world = Loopback::new("bundle-killed");
    let source = world.path().join("large.img");
    images::make_noise(&source, 9, 160 << 20);
    world.hq.publish(IMAGE, "1", &[&source]);
    let stick = world.path().join("stick");
    for packs in [1, 3] {
        let mut command = export_command(&world.hq, &["desk@1"], &stick, &[]);
        let mut export = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let begun = wait::until_every(Duration::from_millis(2), LIMIT, || {
            (whole_files(&stick, "packs").len() >= packs).then_some(())
        });
        assert!(begun.is_some(), "it writes nothing");
        export.kill().unwrap();
        assert!(!export.wait().unwrap().success(), "it was done before it was killed");
        for file in whole_files(&stick, "") {
            let original = world.hq.repository().join(file.strip_prefix(&stick).unwrap());
            assert!(images::same_content(&file, &original), "{}", file.display());
        }
        assert!(!stick.join("metadata/timestamp.json").exists(), "it says that it is whole");
    }
    let told = export(&world.hq, &["desk@1"], &stick, &[]);
    assert!(number(&told, "/bytes/found") >= 3 * (30 << 20), "what was there was used: {told}");
    let unfinished = files(&stick).into_iter().filter(|file| file.to_string_lossy().contains('#'));
    assert_eq!(unfinished.count(), 0);
    let mut node = world.node("pc-01", &[&url(&stick)]);
    hide_repository(&world);
    node.start();
    node.wait_complete(IMAGE, "1", LIMIT);
    assert_eq!(node.wrong_files(IMAGE, "1", &[&source]), [""; 0]);
}

#[test]
fn a_file_that_does_not_say_what_a_site_holds_is_refused() {
    let world = Loopback::new("bundle-have");
    world.publish(1 << 20);
    let mut node: Node = world.node("pc-01", &[&world.folder_origin()]);
    node.start();
    node.wait_complete(IMAGE, "1", LIMIT);
    let holdings = world.path().join("desk.have");
    have(&node, false, &holdings);
    let stick = world.path().join("stick");
    let told = export(&world.hq, &["desk@1"], &stick, &[&holdings]);
    assert_eq!((number(&told, "/blocks/exported"), number(&told, "/bytes/blocks")), (0, 0));

    flip_bit(&holdings);
    let mut command = export_command(&world.hq, &["desk@1"], &stick, &[&holdings]);
    run(&mut command, COMMAND_LIMIT).expect_refusal().expect_words(&["desk.have", "damaged"]);
    node.settings.http = free_address();
    let mut silent = std::process::Command::new(branchmesh_tests::binary::branchmesh());
    let silent = silent.args(["have", "--http", &node.settings.http.to_string()]);
    assert_eq!(run(silent, COMMAND_LIMIT).code, Some(3));
}

/// The image with something of its own at the end.
fn changed(world: &Loopback, source: &Path) -> PathBuf {
    let folder = world.path().join("update");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(source.file_name().unwrap());
    fs::copy(source, &file).unwrap();
    let noise = world.path().join("noise");
    images::make_noise(&noise, 3, 1 << 20);
    let mut end = OpenOptions::new().append(true).open(&file).unwrap();
    end.write_all(&fs::read(noise).unwrap()).unwrap();
    file
}

/// Files below a folder of the bundle that have their names.
fn whole_files(stick: &Path, folder: &str) -> Vec<PathBuf> {
    let whole = |file: &PathBuf| !file.to_string_lossy().contains('#');
    files(&stick.join(folder)).into_iter().filter(whole).collect()
}

/// Takes the repository away, so that nothing can come from it unnoticed.
fn hide_repository(world: &Loopback) {
    fs::rename(world.hq.repository(), hidden(world)).unwrap();
}

fn show_repository(world: &Loopback) {
    fs::rename(hidden(world), world.hq.repository()).unwrap();
}

fn hidden(world: &Loopback) -> PathBuf {
    world.path().join("hidden")
}

fn url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

#[track_caller]
fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {value}"))
}
