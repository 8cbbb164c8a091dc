//! libFuzzer's way into `branchmesh_fuzz::excerpt`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::excerpt::run(bytes));
