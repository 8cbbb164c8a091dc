//! The mesh as its owner sees it: real sockets on loopback, real certificates, several nodes in one process.

mod hostile;
mod liveness;
mod neighbours;
mod requests;
mod support;
mod trust;
