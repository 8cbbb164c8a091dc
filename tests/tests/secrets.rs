//! What is published for a group says nothing to those outside: no 16 bytes of content, no name, no label, in any file
//! of the repository.

#![allow(clippy::unwrap_used, reason = "a broken environment is a failed test")]

use branchmesh_tests::{
    hq::{COMMAND_LIMIT, Headquarters, files_below},
    images,
    plaintext::{Secrets, unevenness, with_frames_opened},
    run::run,
    scratch::Scratch,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const IMAGE: &str = "Workstation-of-the-auditors";
const RELEASE: &str = "2026-11-before-the-merger";
const CHANNEL: &str = "only-for-the-board";
const LABELS: [(&str, &str); 2] =
    [("ticket-of-the-change", "CHANGE-4711-ACQUISITION"), ("approved-by", "Ms. Fitzwilliam-Ng")];
const DISK: &str = "disk-with-the-annual-accounts.img";
const SETTINGS: &str = "settings-of-the-virtual-machine.xml";
const PHOTO: &str = "photo-of-the-new-premises.jpg";
/// Programs and libraries: what compresses.
const DISK_BYTES: u64 = 3 << 20;
/// What doesn't compress, as films and archives: a public repository holds it as it is.
const PHOTO_BYTES: usize = 1 << 20;
/// Standard deviations: noise is beyond this once in a billion times.
const NOISE_MAX: f64 = 6.5;

#[test]
fn nothing_of_a_groups_release_can_be_read_in_its_repository() {
    let scratch = Scratch::new("secrets");
    let sources = make_sources(&scratch.path().join("sources"));
    let mut secrets = Secrets::default();
    sources.iter().for_each(|path| secrets.add_content(&fs::read(path).unwrap()));
    let words = [IMAGE, RELEASE, CHANNEL, DISK, SETTINGS, PHOTO];
    words
        .into_iter()
        .chain(LABELS.into_iter().flat_map(|(key, value)| [key, value]))
        .for_each(|word| secrets.add_word(word));
    // Some program of this machine may hold words that every repository's metadata has.
    let other = other_repository(&scratch);
    files_below(&other.repository()).iter().for_each(|file| secrets.forget(&fs::read(file).unwrap()));
    assert!(secrets.window_count() > 2_000_000, "only {} windows", secrets.window_count());

    let sealed = publish(&scratch, "sealed", &sources, &["--group", "audit"]);
    for (name, bytes) in files_of(&sealed) {
        let found = secrets.find_in(&bytes);
        assert!(found.is_nothing(), "{name} gives away {found:?}");
    }
    let (even, stored) = unevenness_of_packs(&sealed);
    assert!(even.abs() < NOISE_MAX, "{stored} bytes of packs are {even:.1} standard deviations from noise");

    // The same scan of a repository without encryption: what it would have found.
    let open = publish(&scratch, "open", &sources, &[]);
    let found: Vec<_> = files_of(&open).iter().map(|(_, bytes)| secrets.find_in(bytes)).collect();
    let windows: usize = found.iter().map(|found| found.windows).sum();
    let all = secrets.window_count();
    assert!(windows > all / 2, "only {windows} of {all} windows of content are found without encryption");
    for word in words.into_iter().chain(LABELS.map(|(_, value)| value)) {
        assert!(
            found.iter().any(|found| found.words.iter().any(|w| w == word)),
            "{word:?} is not found without encryption"
        );
    }
    let (uneven, _) = unevenness_of_packs(&open);
    assert!(uneven > 10.0 * NOISE_MAX, "packs without encryption look like noise: {uneven:.1}");
}

#[cfg(unix)]
#[test]
fn keys_can_be_read_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("key-modes");
    let sources = make_sources(&scratch.path().join("sources"));
    let hq = publish(&scratch, "hq", &sources[1..2], &["--group", "audit"]);
    hq.issue("pc-01", "lyon", &[], &scratch.path().join("pc-01"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    for folder in [hq.keys(), hq.keys().join("groups")] {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
    }
    let secret = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "key");
    let all: Vec<PathBuf> = files_below(scratch.path()).into_iter().filter(secret).collect();
    for name in ["root.key", "targets.key", "groups/audit.key", "ca.key", "node.key"] {
        assert!(all.iter().any(|path| path.ends_with(name)), "there is no {name} in {all:?}");
    }
    for path in all {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// The files of the secret release.
fn make_sources(folder: &Path) -> [PathBuf; 3] {
    fs::create_dir_all(folder).unwrap();
    let paths = [DISK, SETTINGS, PHOTO].map(|name| folder.join(name));
    images::make_blob(&paths[0], DISK_BYTES);
    let settings =
        "<machine><owner>the auditors of the merger</owner><memory unit='GiB'>16</memory></machine>\n";
    fs::write(&paths[1], settings.repeat(3)).unwrap();
    fs::write(&paths[2], noise(PHOTO_BYTES)).unwrap();
    paths
}

/// Bytes that don't compress, the same each time: xorshift (Marsaglia 2003).
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(bytes / 8).flatten().collect()
}

/// A repository of the same kind that knows nothing of the secrets.
fn other_repository(scratch: &Scratch) -> Headquarters {
    let other = scratch.path().join("other.bin");
    fs::write(&other, noise(5000)).unwrap();
    let hq = Headquarters::new(&scratch.path().join("other"));
    let mut command = hq.publish_command("other", "1", &[&other]);
    run(command.args(["--group", "audit"]), COMMAND_LIMIT).expect_ok();
    hq
}

fn publish(scratch: &Scratch, name: &str, sources: &[PathBuf], options: &[&str]) -> Headquarters {
    let hq = Headquarters::new(&scratch.path().join(name));
    let paths: Vec<&Path> = sources.iter().map(PathBuf::as_path).collect();
    let mut command = hq.publish_command(IMAGE, RELEASE, &paths);
    for (key, value) in LABELS {
        command.arg("--label").arg(format!("{key}={value}"));
    }
    command.args(["--channel", CHANNEL]).args(options);
    run(&mut command, COMMAND_LIMIT).expect_ok();
    hq
}

/// All files of a repository, as (path inside, path and content).
fn files_of(hq: &Headquarters) -> Vec<(String, Vec<u8>)> {
    let repository = hq.repository();
    let files = files_below(&repository).into_iter().map(|file| {
        let name = file.strip_prefix(&repository).unwrap().to_string_lossy().into_owned();
        let content = with_frames_opened(&fs::read(&file).unwrap());
        (name.clone(), [name.as_bytes(), b"\n", &content].concat())
    });
    files.collect()
}

fn unevenness_of_packs(hq: &Headquarters) -> (f64, usize) {
    let bytes: Vec<u8> = hq.packs().iter().flat_map(|pack| fs::read(pack).unwrap()).collect();
    (unevenness(&bytes), bytes.len())
}
