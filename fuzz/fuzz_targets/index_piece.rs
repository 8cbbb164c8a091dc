//! libFuzzer's way into `branchmesh_fuzz::index_piece`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| branchmesh_fuzz::index_piece::run(bytes));
