//! libFuzzer's way into `branchmesh_fuzz::group_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::group_key::run(bytes));
