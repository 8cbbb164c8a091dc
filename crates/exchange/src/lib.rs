//! The brain of a node: who holds what, who asks whom for which blocks, who uses the WAN.
//!
//! Sans-IO: events go in, actions come out; time and randomness are arguments. There is no tokio here, no socket,
//! no file and no clock, so that a thousand nodes under every fault can be run in one thread, and a run can be
//! repeated from its seed. Nothing is iterated in an order that a hasher decides.
//!
//! [`Exchange`] is the type; the rooms behind it:
//!
//! * `wishes`: what the agent wants; `events`: what happens,
//! * [`members`]: who is here, and their ranks; `fetchers`: whose turn it is to use the WAN,
//! * [`release`]: one release: the states of its blocks ([`blocks`], described in `STATE.md`), what the neighbours
//!   hold (`availability`), what they are told (`announcer`),
//! * `choice`: which blocks from whom; `transfers`: what is under way; [`neighbours`]: how fast each is;
//!   [`quarantine`]: who is not believed for now; `origin`: how the origin does,
//! * `plan`: what is done after each event; `wan`: what of it concerns the WAN; `line`: whether that is open; `delivery`: what follows when
//!   blocks come and transfers end; `timers`: when to wake up; [`report`]: what people are told.

pub mod action;
mod announcer;
mod availability;
mod backoff;
pub mod blocks;
mod choice;
pub mod config;
mod delivery;
mod endgame;
mod events;
pub mod exchange;
mod fetchers;
mod gossip;
mod line;
pub mod members;
mod metadata;
pub mod neighbours;
mod origin;
mod plan;
pub mod quarantine;
mod rarity;
mod ready;
pub mod release;
pub mod report;
pub mod time;
mod timers;
mod transfers;
mod wan;
mod wishes;

pub use action::{Action, AddReleaseError, Failure, Misbehaviour, Outcome, Reason, TransferId};
pub use blocks::BytesBySource;
pub use config::{Config, Timing};
pub use exchange::Exchange;
pub use members::Member;
pub use quarantine::Offence;
pub use release::NewRelease;
pub use report::{MemberReport, ReleaseReport, Waiting};
pub use time::Time;
