//! libFuzzer's way into `branchmesh_fuzz::root`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::root::run(bytes));
