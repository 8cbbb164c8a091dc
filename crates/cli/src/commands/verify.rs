//! `branchmesh verify`: whether the files of a release on this node still are what was published.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_agent::{ChangedView, VerifyAnswer};

/// Compares the files of a release on this node with what was published. Changes nothing
#[derive(clap::Args)]
pub struct Verify {
    /// NAME, NAME@RELEASE or NAME@CHANNEL; NAME alone is the active one
    #[arg(value_name = "NAME[@V]")]
    image: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: LocalAgent,
}

impl Verify {
    pub async fn run(self) -> Result<(), Failure> {
        let answer = self.agent.verify(&self.image).await?;
        if self.json {
            println!("{}", text::json(&answer)?);
        } else {
            print!("{}", describe(&answer));
        }
        if answer.changed.is_empty() {
            return Ok(());
        }
        Err(Failure::because(format!(
            "{} of {}@{} changed since the release was put in place; to have it made anew, stop the agent, remove the \
             release's folder below images, and start the agent again",
            text::count(answer.changed.len() as u64, "file"),
            answer.image,
            answer.release
        )))
    }
}

/// What was found, as a person reads it.
fn describe(answer: &VerifyAnswer) -> String {
    let VerifyAnswer { image, release, files, bytes, changed } = answer;
    let compared = format!("{} ({})", text::count(*files as u64, "file"), text::bytes(*bytes));
    if changed.is_empty() {
        return format!("{image}@{release}: {compared} are what was published\n");
    }
    let line = |file: &ChangedView| {
        let difference = match (file.length, file.first, file.bytes) {
            (Some(length), ..) => format!("has {length} bytes"),
            (None, Some(first), Some(bytes)) => {
                format!("{} differ, from byte {first} on", text::bytes(bytes))
            }
            (None, ..) => "is not there".into(),
        };
        format!("{}: {difference}\n", file.path)
    };
    changed.iter().map(line).collect()
}
