//! `branchmesh have`: what this node or its site holds, for `branchmesh export --lacking`.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_repo::Holdings;
use std::io::{IsTerminal, Write};

/// Writes what this node holds, or its site, as a file for `branchmesh export --lacking`.
#[derive(clap::Args)]
pub struct Have {
    /// The whole site: what this node holds, and what the members say they hold of the releases that it knows. Ask a
    /// seed, which knows most
    #[arg(long)]
    site: bool,
    #[command(flatten)]
    agent: LocalAgent,
}

impl Have {
    pub async fn run(self) -> Result<(), Failure> {
        let mut stdout = std::io::stdout();
        if stdout.is_terminal() {
            return Err(Failure::because("this is a file, not a text: write it with > SITE.have"));
        }
        let bytes = self.agent.have(self.site).await?;
        let holdings = Holdings::from_bytes(&bytes)
            .map_err(|error| Failure::failed("the agent's answer cannot be used", &error))?;
        stdout
            .write_all(&bytes)
            .and_then(|()| stdout.flush())
            .map_err(|error| Failure::failed("it cannot be written", &error))?;
        eprintln!(
            "{}: {} of blocks, counted for {}",
            if self.site { &holdings.site } else { &holdings.node },
            text::bytes(holdings.bytes()),
            text::count(holdings.members.into(), "member")
        );
        Ok(())
    }
}
