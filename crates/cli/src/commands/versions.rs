//! `branchmesh pin`, `unpin`, `activate`, `rollback`: what stays on this node, and which release is the current one.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_agent::{ReleaseAnswer, Verb};

/// A release on this node.
#[derive(clap::Args)]
pub struct Version {
    /// NAME, NAME@RELEASE or NAME@CHANNEL
    #[arg(value_name = "NAME[@V]")]
    image: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    agent: LocalAgent,
}

impl Version {
    /// Has the agent do it, and says what came of it.
    pub async fn run(self, verb: Verb) -> Result<(), Failure> {
        let answer = self.agent.request(verb, &self.image).await?;
        if self.json {
            println!("{}", text::json(&answer)?);
        } else {
            eprintln!("{}", describe(verb, &answer));
        }
        Ok(())
    }
}

/// What came of it, as a person reads it.
fn describe(verb: Verb, answer: &ReleaseAnswer) -> String {
    let ReleaseAnswer { image, release, changed, state, held, previous, .. } = answer;
    let already = if *changed { "" } else { " already" };
    match verb {
        Verb::Get => format!("{image}@{release} is {state}"),
        Verb::Pin if matches!(state.as_str(), "complete" | "active") => {
            format!("{image}@{release} is pinned{already}: it stays until branchmesh unpin")
        }
        Verb::Pin => format!(
            "{image}@{release} is pinned{already} and will be fetched ({state}): it stays until branchmesh unpin"
        ),
        Verb::Unpin if *changed => format!("{image}@{release} is not pinned any more"),
        Verb::Unpin => format!("{image}@{release} was not pinned"),
        Verb::Activate | Verb::Rollback if state != "active" => format!(
            "{image} follows its subscription again: {image}@{release} becomes active when it is complete ({state})"
        ),
        Verb::Activate | Verb::Rollback => {
            let instead =
                previous.as_ref().map_or(String::new(), |previous| format!(" in place of {previous}"));
            let until = match held {
                true => format!(
                    ", until something newer comes; branchmesh activate {image} follows the subscription again"
                ),
                false => String::new(),
            };
            format!("{image}@{release} is active{already}{instead}{until}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(state: &str, changed: bool) -> ReleaseAnswer {
        ReleaseAnswer {
            image: "xp".into(),
            release: "2".into(),
            changed,
            state: state.into(),
            pinned: false,
            held: true,
            previous: changed.then(|| "3".into()),
        }
    }

    #[test]
    fn people_are_told_what_holds_from_now_on() {
        let words = describe(Verb::Rollback, &answer("active", true));
        assert!(words.starts_with("xp@2 is active in place of 3, until something newer comes"), "{words}");
        assert!(describe(Verb::Activate, &answer("active", false)).starts_with("xp@2 is active already,"));
        assert!(describe(Verb::Activate, &answer("fetching", true)).contains("becomes active when"));
        assert!(describe(Verb::Pin, &answer("waiting", true)).contains("will be fetched (waiting)"));
        assert_eq!(describe(Verb::Unpin, &answer("complete", false)), "xp@2 was not pinned");
    }
}
