//! libFuzzer's way into `branchmesh_fuzz::block`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::block::run(bytes));
