//! libFuzzer's way into `branchmesh_fuzz::index`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::index::run(bytes));
