//! A virtual site: real [exchanges](branchmesh_exchange::Exchange) on hosts, links, disks and an origin that exist in
//! memory only. A virtual clock jumps from event to event, and everything comes from one seed, so that a run can be
//! repeated, to the last action.
//!
//! * [`World`] is the site; [`Transition`] lists everything that can happen to it:
//!   together they are the specification of what the exchange must live with,
//! * `host` is a machine, `agent` what its agent does with the actions of its exchange, `lan` and `wan` carry
//!   bytes through each `port`, `hours` says when the latter may, [`nature`] twists what hostile members say,
//! * [`checks`] stand outside: they know what is really where, and believe nothing that an exchange reports, except an error
//!   in its log (`error_log`),
//! * [`measure`] compares with the physical bound; [`scenario`] names the runs that figures are about; [`storm`]
//!   makes random ones, and makes a failing one smaller; [`hostile`] are sites with hostile members, in great numbers;
//!   [`seeds`] runs many; [`trace`] tells what happened.
//!
//! Not simulated: packets (a block travels whole), the index (it takes a fixed time), and how fast a processor is.

mod agent;
pub mod checks;
mod error_log;
mod event;
mod host;
pub mod hostile;
mod hours;
mod lan;
pub mod measure;
pub mod nature;
mod port;
pub mod release;
pub mod scenario;
pub mod seeds;
pub mod storm;
pub mod trace;
pub mod transition;
mod view;
mod violation;
mod wan;
pub mod world;

pub use host::{HostId, HostSpec};
pub use measure::Measured;
pub use nature::Nature;
pub use transition::Transition;
pub use wan::OriginState;
pub use world::{SiteSpec, World};
