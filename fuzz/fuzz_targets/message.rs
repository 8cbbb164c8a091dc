//! libFuzzer's way into `branchmesh_fuzz::message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::message::run(bytes));
