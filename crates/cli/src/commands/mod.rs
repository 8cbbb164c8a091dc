//! The commands, one file each.

pub mod agent;
pub mod ca;
pub mod demote;
pub mod diff;
pub mod get;
pub mod publish;
pub mod repo;
pub mod status;
