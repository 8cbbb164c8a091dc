//! `branchmesh repo`: repositories. One file per subcommand.

mod delegate;
mod gc;
mod init;
mod list;
mod refresh;
mod remove;
mod rotate;
mod sign;
mod verify;

use crate::failure::Failure;
use clap::Subcommand;

/// Repositories.
#[derive(Subcommand)]
pub enum Repo {
    Init(init::Init),
    Refresh(refresh::Refresh),
    Delegate(delegate::Delegate),
    Rotate(rotate::Rotate),
    Sign(sign::Sign),
    List(list::List),
    Verify(verify::Verify),
    Remove(remove::Remove),
    Gc(gc::Gc),
}

impl Repo {
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run().await,
            Self::Refresh(refresh) => refresh.run().await,
            Self::Delegate(delegate) => delegate.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Sign(sign) => sign.run().await,
            Self::List(list) => list.run().await,
            Self::Verify(verify) => verify.run().await,
            Self::Remove(remove) => remove.run().await,
            Self::Gc(gc) => gc.run().await,
        }
    }
}
