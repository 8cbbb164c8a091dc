//! libFuzzer's way into `branchmesh_fuzz::requirement`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::requirement::run(bytes));
