//! libFuzzer's way into `branchmesh_fuzz::metadata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::metadata::run(bytes));
