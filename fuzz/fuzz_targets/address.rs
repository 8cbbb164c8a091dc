//! libFuzzer's way into `branchmesh_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::address::run(bytes));
