//! The mesh as its owner sees it: real sockets on loopback, real certificates, several nodes in one process.

// Helpers of tests are tests: they may stop at the first surprise.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod hostile;
mod liveness;
mod neighbours;
mod requests;
mod support;
mod trust;
