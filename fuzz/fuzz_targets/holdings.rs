//! libFuzzer's way into `branchmesh_fuzz::holdings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::holdings::run(bytes));
