//! The harness of the system tests: real processes of the built `branchmesh`, real web servers, real images and,
//! for whole branch offices, network namespaces with thin links.
//!
//! It knows the product only from outside: its command line, its status, its files and the bytes that it puts
//! on a wire. What a test claims about traffic is counted by the kernel's interface counters and by nginx's log,
//! never by the product itself. The one exception is [`left_behind`], for what only a process could answer that was
//! killed.
//!
//! A broken environment is a failed test: the harness panics with the command, its output and what to do.
//! Everything that it starts or creates belongs to a value whose drop removes it.
//!
//! Reading order: [`branch`] puts an office together from [`netns`], [`nginx`], [`hq`] and [`node`]; [`loopback`] is
//! its small sister that needs no root. [`lan`] measures how anything, branchmesh or a rival, spreads on a LAN alone.

pub mod binary;
pub mod branch;
pub mod bundle;
pub mod casync;
pub mod claims;
pub mod counters;
pub mod course;
pub mod figures;
pub mod free_address;
pub mod gateway;
pub mod hq;
pub mod images;
pub mod lan;
pub mod lan_run;
pub mod left_behind;
pub mod loopback;
pub mod measure;
pub mod mesh_swarm;
pub mod mirror;
pub mod netns;
pub mod nginx;
pub mod node;
pub mod place;
pub mod plaintext;
pub mod planned;
pub mod ports;
pub mod process;
pub mod python;
pub mod run;
pub mod s3;
pub mod scratch;
pub mod site_cache;
pub mod skip;
pub mod status;
pub mod system_image;
pub mod tls;
pub mod torrent_swarm;
pub mod turn;
pub mod wait;
