//! The commands, a file for each noun or verb.

pub mod agent;
pub mod ca;
pub mod channel;
pub mod diff;
pub mod export;
pub mod get;
pub mod have;
pub mod import;
pub mod plan;
pub mod publish;
pub mod repo;
pub mod status;
pub mod verify;
pub mod versions;
