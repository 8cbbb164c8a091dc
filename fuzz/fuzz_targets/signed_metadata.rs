//! libFuzzer's way into `branchmesh_fuzz::signed_metadata`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::signed_metadata::run(bytes));
