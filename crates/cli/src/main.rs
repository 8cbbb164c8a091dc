//! The `branchmesh` command.
//!
//! Talk goes to stderr, data to stdout. Exit codes: 0 done, 1 failed, 2 wrong command line or configuration,
//! 3 the local agent does not answer.

mod access;
mod commands;
mod demo;
mod failure;
mod local_agent;
mod logging;
mod outcome;
mod progress;
mod publisher;
mod reading;
mod role_value;
mod text;

use branchmesh_agent::Verb;
use clap::{Parser, Subcommand};
use failure::Failure;
use std::process::ExitCode;

/// Spreads machine images inside branch sites: once over each WAN link, then from client to client.
#[derive(Parser)]
#[command(version, about, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    logging: logging::Logging,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the main job on this machine: a headquarters, a thin WAN and a site of agents
    Demo(demo::Demo),
    /// Makes repositories and looks into them
    #[command(subcommand)]
    Repo(commands::repo::Repo),
    /// Publishes a release of an image
    Publish(commands::publish::Publish),
    /// Points a channel to a release
    Promote(commands::channel::Promote),
    /// Takes a channel away from a release
    Demote(commands::channel::Demote),
    /// Shows what an update costs, before it is rolled out
    Diff(commands::diff::Diff),
    /// Shows what a rollout costs every site in bytes and time, with and without the mesh
    Plan(commands::plan::MakePlan),
    /// Puts releases into a folder for sites without a line
    Export(commands::export::Export),
    /// Makes the organisation's certificate authority and device certificates
    #[command(subcommand)]
    Ca(commands::ca::Ca),
    /// Runs a node
    Agent(Box<commands::agent::RunAgent>),
    /// Shows what the local agent does, and its site
    Status(commands::status::ShowStatus),
    /// Fetches a release through the local agent, and waits for it
    Get(commands::get::Get),
    /// Keeps a release on this node until it is unpinned, and fetches it if it is not here
    Pin(commands::versions::Version),
    /// Keeps a release no longer than others
    Unpin(commands::versions::Version),
    /// Makes a complete release the current one and holds it there; without a release, follows the subscription again
    Activate(commands::versions::Version),
    /// Goes back to the newest complete release that is older than the active one, or to the one that is named
    Rollback(commands::versions::Version),
    /// Compares the files of a release on this node with what was published
    Verify(commands::verify::Verify),
    /// Writes what the local agent's node or site holds, for `export --lacking`
    Have(commands::have::Have),
    /// Takes a bundle from a stick or folder into the local agent's store
    Import(commands::import::Import),
}

impl Command {
    /// A daemon tells what it does; a command speaks for itself; the demo draws on the terminal.
    fn default_log(&self) -> &'static str {
        match self {
            Self::Agent(_) => "info,libp2p=warn,libp2p_mdns=error,quinn=warn,hyper=warn,tough=warn",
            Self::Demo(_) => "off",
            Self::Repo(_)
            | Self::Publish(_)
            | Self::Promote(_)
            | Self::Demote(_)
            | Self::Diff(_)
            | Self::Plan(_)
            | Self::Export(_)
            | Self::Ca(_)
            | Self::Status(_)
            | Self::Get(_)
            | Self::Pin(_)
            | Self::Unpin(_)
            | Self::Activate(_)
            | Self::Rollback(_)
            | Self::Verify(_)
            | Self::Have(_)
            | Self::Import(_) => "warn",
        }
    }

    /// Threads for what never blocks. An agent leaves half of the processors to the people at the machine; and it does
    /// more with fewer threads, which need not wake each other for every packet.
    fn worker_threads(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        if matches!(self, Self::Agent(_)) { processors.div_ceil(2) } else { processors }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    cli.logging.start(cli.command.default_log());
    let threads = cli.command.worker_threads();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Failure::failed("the program cannot start its threads", &error).report(),
        };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Demo(demo) => demo.run().await,
        Command::Repo(repo) => repo.run().await,
        Command::Publish(publish) => publish.run().await,
        Command::Promote(promote) => promote.run().await,
        Command::Demote(demote) => demote.run().await,
        Command::Diff(diff) => diff.run().await,
        Command::Plan(plan) => plan.run().await,
        Command::Export(export) => export.run().await,
        Command::Ca(ca) => ca.run(),
        Command::Agent(agent) => agent.run().await,
        Command::Status(status) => status.run().await,
        Command::Get(get) => get.run().await,
        Command::Pin(version) => version.run(Verb::Pin).await,
        Command::Unpin(version) => version.run(Verb::Unpin).await,
        Command::Activate(version) => version.run(Verb::Activate).await,
        Command::Rollback(version) => version.run(Verb::Rollback).await,
        Command::Verify(verify) => verify.run().await,
        Command::Have(have) => have.run().await,
        Command::Import(import) => import.run().await,
    }
}
