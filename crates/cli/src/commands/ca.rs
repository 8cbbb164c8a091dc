//! `branchmesh ca`: the organisation's certificate authority.

use crate::failure::Failure;
use branchmesh_agent::ca::{self, IssueRequest};
use clap::Subcommand;
use std::path::PathBuf;

/// The organisation's certificate authority.
#[derive(Subcommand)]
pub enum Ca {
    /// Makes a CA: a certificate that all nodes know, and a key that stays with you
    Init {
        /// Folder for ca.pem and ca.key
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issues a device certificate: node.pem, node.key and a copy of ca.pem
    Issue {
        /// Folder of the CA
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Name of the device
        #[arg(long, value_name = "HOST")]
        name: String,
        /// Site of the device
        #[arg(long)]
        site: String,
        /// What the device may be
        #[arg(long, default_value = "client")]
        role: Role,
        /// Group whose images the device may hold; may be given several times
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// How long the certificate is valid
        #[arg(long, value_name = "DAYS", default_value_t = 365)]
        days: u32,
        /// Folder for the files
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Role {
    Seed,
    Client,
}

impl Ca {
    pub fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init { dir } => {
                ca::init(&dir).map_err(|error| Failure::failed("no CA was made", &error))?;
                eprintln!("made {0}/ca.pem and {0}/ca.key; keep the key offline", dir.display());
            }
            Self::Issue { dir, name, site, role, groups, days, out } => {
                let role = match role {
                    Role::Seed => ca::Role::Seed,
                    Role::Client => ca::Role::Client,
                };
                let request = IssueRequest { name, site, role, groups, valid_days: days };
                ca::issue(&dir, &request, &out)
                    .map_err(|error| Failure::failed("no certificate was issued", &error))?;
                eprintln!("made node.pem, node.key and ca.pem in {}", out.display());
            }
        }
        Ok(())
    }
}
