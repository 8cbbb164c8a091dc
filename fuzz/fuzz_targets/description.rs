//! libFuzzer's way into `branchmesh_fuzz::description`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::description::run(bytes));
