//! libFuzzer's way into `branchmesh_fuzz::subscription`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::subscription::run(bytes));
