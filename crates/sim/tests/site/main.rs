//! What is promised of a site, promise by promise: real exchanges in a virtual world. Each file is one kind of promise.
//! `storms.rs` beside this folder asks whether all of them hold together, `figures.rs` what the numbers are.

#![allow(clippy::unwrap_used, reason = "a world that is not as it should be is a failed test")]

mod classroom;
mod faults;
mod hostile;
mod hours;
mod lease;
mod spread;
