//! A whole site of real exchanges in one thread: a virtual clock, links with rates and delays, one thin WAN, and
//! nodes that are killed, cut off, or that lie. Each file is one kind of promise.

// A world that is not as it should be is a failed test.
#![allow(clippy::unwrap_used)]

mod chaos;
mod faults;
mod hostile;
mod lease;
mod links;
mod spread;
mod world;
