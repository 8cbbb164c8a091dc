//! `branchmesh agent`: runs a node until it is told to stop.

use crate::failure::Failure;
use branchmesh_agent::{Agent, Layer};
use std::path::PathBuf;

/// Runs a node. Flags stand above BRANCHMESH_… variables, these above the file.
#[derive(clap::Args)]
pub struct RunAgent {
    /// Configuration file (TOML)
    #[arg(long, env = "BRANCHMESH_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Layer,
}

impl RunAgent {
    pub async fn run(self) -> Result<(), Failure> {
        let file = self.config.as_deref().map(Layer::from_file).transpose();
        let file = file.map_err(|error| Failure::usage(&error))?.unwrap_or_default();
        let settings = self.settings.over(file).settle().map_err(|error| Failure::usage(&error))?;
        let agent = Agent::start(settings)
            .await
            .map_err(|error| Failure::failed("the agent does not start", &error))?;
        told_to_stop().await.map_err(|error| Failure::failed("no signals can be received", &error))?;
        agent.stop().await;
        Ok(())
    }
}

/// Waits for SIGTERM, or Ctrl-C.
#[cfg(unix)]
pub async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => Ok(()),
        pressed = tokio::signal::ctrl_c() => pressed,
    }
}

/// Waits for Ctrl-C, Ctrl-Break, or the console being closed.
#[cfg(windows)]
pub async fn told_to_stop() -> std::io::Result<()> {
    use tokio::signal::windows;
    let (mut pressed, mut broken) = (windows::ctrl_c()?, windows::ctrl_break()?);
    let (mut closed, mut shut_down) = (windows::ctrl_close()?, windows::ctrl_shutdown()?);
    tokio::select! {
        _ = pressed.recv() => {}
        _ = broken.recv() => {}
        _ = closed.recv() => {}
        _ = shut_down.recv() => {}
    }
    Ok(())
}
