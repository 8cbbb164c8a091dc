//! What a rollout costs every site and headquarters, before it is begun.
//!
//! * [`sites`] reads SITES.toml, [`clock`] has its hours,
//! * [`spread`] simulates each different site with the real exchange ([`branchmesh_sim`]),
//! * [`course`] computes from that when a site is done, and beside it what a cache or nothing would come to,
//! * [`plan`] puts it all together, for all sites and for the origin that serves them.
//!
//! Simulated: who fetches when, what is fetched twice, how blocks spread, and how long the last client is behind the line.
//! Computed: all bytes that headers add (`overhead`), hours of the day, the other two ways, and the origin's peaks. The
//! origin is as fast as it is asked to be, lines and ports carry nothing else, and all machines are there all the time.
//!
//! No IO: the file comes in as text, the bytes of releases as numbers, and nobody asks a clock.

pub mod clock;
pub mod course;
mod overhead;
pub mod plan;
pub mod sites;
pub mod spread;

pub use clock::Moment;
pub use course::{Course, Ways};
pub use plan::{Image, Plan, PlanError, SitePlan, Total};
pub use sites::{ReleaseEntry, Sites, SitesError};
