//! libFuzzer's way into `branchmesh_fuzz::kept_metadata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::kept_metadata::run(bytes));
