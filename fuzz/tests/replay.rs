//! Every target keeps its promises for every committed input: the corpus, and whatever once failed.
//!
//! One test, because all memory that is allocated meanwhile is counted.

#![allow(clippy::unwrap_used)] // a test fails by panicking, its helpers too

use branchmesh_fuzz::{COPIES, SLACK, TARGETS, Target};
use peak_alloc::PeakAlloc;
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn every_input_of_the_corpus_passes_within_its_memory() {
    let mut failures = Vec::new();
    for target in TARGETS {
        let corpus = inputs("corpus", target);
        assert!(!corpus.is_empty(), "{} has no corpus: make one (README.md)", target.name);
        for path in corpus.into_iter().chain(inputs("crashes", target)) {
            if let Err(reason) = replay(target, &path) {
                failures.push(format!("{}: {reason}", path.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_target_can_be_fuzzed() {
    let manifest = fs::read_to_string(folder("Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(folder("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name} has no program");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is missing in Cargo.toml");
    }
    let programs = fs::read_dir(folder("fuzz_targets")).unwrap().count();
    assert_eq!(programs, TARGETS.len(), "a program in fuzz_targets is missing in TARGETS");
}

fn replay(target: &Target, path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).unwrap();
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
    let used = MEMORY.peak_usage().saturating_sub(before);
    let bound = target.memory_max + SLACK + COPIES * bytes.len();
    if result.is_err() {
        return Err("the target panicked, see above".into());
    }
    if used > bound {
        return Err(format!("{used} bytes were allocated, more than the {bound} that it may"));
    }
    Ok(())
}

fn inputs(kind: &str, target: &Target) -> Vec<PathBuf> {
    // No folder: nothing of this target has failed yet.
    let Ok(entries) = fs::read_dir(folder(kind).join(target.name)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
