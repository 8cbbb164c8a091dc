//! Hooks: commands of the administrator that are told what happens to releases.
//!
//! What there is to tell is found by comparing what is with what was told ([`Loop::tell_hooks`]). What was told of
//! complete and current releases is in the ledger, so that nothing is forgotten when the agent is killed: a hook
//! that had not ended by then runs again. A failure is told once in each run of the agent.
//!
//! The hooks of an image run one after the other, in the order of what happened; the loop waits for none of them. How a
//! hook ends changes nothing but what `status` shows.

mod run;
mod settings;

pub(crate) use run::HookError;
pub use settings::{HookCommand, HookCommandError, HookSettings, HooksLayer};

use crate::{happening::Happening, releases::Phase, run::Loop, shared::Shared};
use branchmesh_wire::{BlockId, IndexId};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tracing::{error, info, warn};

/// Hooks of different images that run at once: what they do is the machine's work, and users work on it too.
const RUNNING_MAX: usize = 4;
/// What may wait to be told of one image; protects memory when hooks hang while a release fails again and again.
const WAITING_MAX: usize = 64;

/// What a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub event: Event,
    pub id: IndexId,
    pub image: String,
    pub release: String,
}

/// What happened to a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Its files are in place.
    Ready {
        /// Where.
        folder: PathBuf,
    },
    /// It has become the current one.
    Activated {
        /// Where its files are.
        folder: PathBuf,
        /// The one before.
        previous: Option<String>,
    },
    /// It cannot go on.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

impl Event {
    /// Its name, as in the settings.
    fn name(&self) -> &'static str {
        match self {
            Self::Ready { .. } => "ready",
            Self::Activated { .. } => "activated",
            Self::Failed { .. } => "failed",
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}@{}", self.event.name(), self.image, self.release)
    }
}

impl Notice {
    /// The facts as variables; `None` for what must not be inherited from the agent's own environment.
    fn facts(&self, http: String) -> Vec<(&'static str, Option<String>)> {
        let (folder, previous, reason) = match &self.event {
            Event::Ready { folder } => (Some(folder), None, None),
            Event::Activated { folder, previous } => (Some(folder), previous.clone(), None),
            Event::Failed { reason } => (None, None, Some(reason.clone())),
        };
        vec![
            ("BRANCHMESH_EVENT", Some(self.event.name().into())),
            ("BRANCHMESH_IMAGE", Some(self.image.clone())),
            ("BRANCHMESH_RELEASE", Some(self.release.clone())),
            ("BRANCHMESH_FOLDER", folder.map(|folder| absolute(folder).display().to_string())),
            ("BRANCHMESH_PREVIOUS", previous),
            ("BRANCHMESH_REASON", reason),
            // So that `branchmesh status` in a hook asks this agent.
            ("BRANCHMESH_HTTP", Some(http)),
        ]
    }
}

impl HookSettings {
    fn command(&self, event: &Event) -> Option<&HookCommand> {
        match event {
            Event::Ready { .. } => self.ready.as_ref(),
            Event::Activated { .. } => self.activated.as_ref(),
            Event::Failed { .. } => self.failed.as_ref(),
        }
    }
}

/// What is to be told, what is being told, and what went wrong with it.
#[derive(Default)]
pub(crate) struct Hooks {
    lines: BTreeMap<String, Line>,
    /// Complete releases of which this run has told, or is about to.
    ready: BTreeSet<IndexId>,
    /// The current release of each image as this run tells it last.
    activated: BTreeMap<String, String>,
    /// Failures of which this run has told.
    failed: BTreeMap<IndexId, String>,
    /// The hooks whose last run failed, in words.
    problems: BTreeMap<(String, &'static str), String>,
}

/// What there is to tell of one image.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Notice>,
    is_running: bool,
}

impl Hooks {
    /// What is wrong with hooks, in words.
    pub fn problems(&self) -> impl Iterator<Item = String> + '_ {
        self.problems.values().cloned()
    }

    /// Something is to be told when its turn comes.
    fn queue(&mut self, notice: Notice) {
        match &notice.event {
            Event::Ready { .. } => {
                self.ready.insert(notice.id);
            }
            Event::Activated { .. } => {
                self.activated.insert(notice.image.clone(), notice.release.clone());
            }
            Event::Failed { reason } => {
                self.failed.insert(notice.id, reason.clone());
            }
        }
        let line = self.lines.entry(notice.image.clone()).or_default();
        if line.waiting.len() >= WAITING_MAX {
            let key = (notice.image.clone(), notice.event.name());
            let words = format!("the hook {notice} was not run: {WAITING_MAX} others wait before it");
            error!("{words}");
            self.problems.insert(key, words);
            return;
        }
        line.waiting.push_back(notice);
    }

    /// The next thing to tell now.
    fn next(&mut self) -> Option<Notice> {
        if self.lines.values().filter(|line| line.is_running).count() >= RUNNING_MAX {
            return None;
        }
        let line = self.lines.values_mut().find(|line| !line.is_running && !line.waiting.is_empty())?;
        let notice = line.waiting.pop_front();
        line.is_running = notice.is_some();
        notice
    }

    /// A hook has ended.
    fn ended(&mut self, notice: &Notice, result: &Result<String, HookError>) {
        if let Some(line) = self.lines.get_mut(&notice.image) {
            line.is_running = false;
            if line.waiting.is_empty() {
                self.lines.remove(&notice.image);
            }
        }
        let key = (notice.image.clone(), notice.event.name());
        match result {
            Ok(_) => {
                self.problems.remove(&key);
            }
            Err(error) => {
                let words = format!("the hook {notice} failed: {error}");
                self.problems.insert(key, words);
            }
        }
    }

    /// A release is gone: should it come again, that is told again.
    pub fn forget(&mut self, id: &IndexId) {
        self.ready.remove(id);
        self.failed.remove(id);
    }
}

impl Loop {
    /// Tells the hooks what they do not know yet, each image's in turn.
    pub(crate) fn tell_hooks(&mut self) {
        for notice in self.news() {
            self.hooks.queue(notice);
        }
        while let Some(notice) = self.hooks.next() {
            let shared = Arc::clone(&self.shared);
            match shared.settings.hooks.command(&notice.event).cloned() {
                Some(command) => drop(tokio::spawn(tell(shared, command, notice))),
                None => self.on_told(&notice, &Ok(String::new())),
            }
        }
    }

    /// What is, and was not told.
    fn news(&mut self) -> Vec<Notice> {
        let (mut ready, mut activated, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (id, release) in self.releases.iter() {
            let (image, name) = (&release.entry.image, &release.entry.release);
            let notice = |event| Notice { event, id: *id, image: image.clone(), release: name.clone() };
            let told = self.versions.record(image);
            if let Phase::Complete(folder) | Phase::Active(folder) = &release.phase
                && !self.hooks.ready.contains(id)
                && !told.told_ready.contains(&BlockId(id.0))
            {
                ready.push((release.entry.sequence, notice(Event::Ready { folder: folder.clone() })));
            }
            if let Phase::Active(folder) = &release.phase {
                let previous = self.hooks.activated.get(image).or(told.told_active.as_ref()).cloned();
                if previous.as_ref() != Some(name) {
                    activated.push(notice(Event::Activated { folder: folder.clone(), previous }));
                }
            }
            match &release.phase {
                Phase::Failed(reason) if self.hooks.failed.get(id) != Some(reason) => {
                    failed.push(notice(Event::Failed { reason: reason.clone() }));
                }
                Phase::Failed(_) => {}
                Phase::Announced
                | Phase::Unsuitable(_)
                | Phase::Indexing
                | Phase::Exchanging
                | Phase::Assembling
                | Phase::Complete(_)
                | Phase::Active(_) => {
                    self.hooks.failed.remove(id);
                }
            }
        }
        ready.sort_by_key(|(sequence, _)| *sequence);
        ready.into_iter().map(|(_, notice)| notice).chain(activated).chain(failed).collect()
    }

    /// A hook has been told, whatever came of it.
    pub(crate) fn on_told(&mut self, notice: &Notice, result: &Result<String, HookError>) {
        let (hook, release) = (notice.event.name(), &notice.id);
        match result {
            Ok(output) if output.is_empty() => {}
            Ok(output) => info!(hook, %release, output, "a hook has ended"),
            Err(HookError::Failed { output, .. } | HookError::TimedOut { output, .. }) => {
                warn!(hook, %release, output, "a hook failed");
            }
            Err(error) => warn!(hook, %release, error = crate::in_words(error), "a hook failed"),
        }
        self.hooks.ended(notice, result);
        // What has been removed meanwhile is told again when it comes again.
        let is_here = self.releases.get(&notice.id).is_some();
        let noted = self.versions.decide(&self.shared.store, &notice.image, |record| match &notice.event {
            Event::Ready { .. } if is_here => {
                record.told_ready.insert(BlockId(notice.id.0));
            }
            Event::Activated { .. } => record.told_active = Some(notice.release.clone()),
            Event::Ready { .. } | Event::Failed { .. } => {}
        });
        if let Err(error) = noted {
            error!(
                error = crate::in_words(&error),
                "that a hook was run cannot be remembered: it may run again"
            );
        }
    }
}

/// A hook runs in another folder than the agent.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

async fn tell(shared: Arc<Shared>, command: HookCommand, notice: Notice) {
    let settings = &shared.settings;
    let mut http = settings.http;
    match http.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => http.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => http.set_ip(Ipv6Addr::LOCALHOST.into()),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    let facts = notice.facts(http.to_string());
    let result = run::run(&command, &facts, &settings.data_dir, settings.hooks.timeout).await;
    shared.tell(Happening::Told(Box::new(notice), result)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(image: &str, release: &str) -> Notice {
        let id = IndexId::of(format!("{image}@{release}").as_bytes());
        let event = Event::Ready { folder: "folder".into() };
        Notice { event, id, image: image.into(), release: release.into() }
    }

    fn names(hooks: &mut Hooks) -> Vec<String> {
        std::iter::from_fn(|| hooks.next())
            .map(|notice| format!("{}@{}", notice.image, notice.release))
            .collect()
    }

    #[test]
    fn one_image_is_told_in_order_and_several_at_once() {
        let mut hooks = Hooks::default();
        for notice in [ready("a", "1"), ready("a", "2"), ready("b", "1")] {
            hooks.queue(notice);
        }
        assert_eq!(names(&mut hooks), ["a@1", "b@1"]);
        hooks.ended(&ready("a", "1"), &Ok(String::new()));
        assert_eq!(names(&mut hooks), ["a@2"]);
    }

    #[test]
    fn only_so_many_run_at_once_and_the_rest_follow() {
        let mut hooks = Hooks::default();
        let images: Vec<String> = (0..=RUNNING_MAX).map(|number| number.to_string()).collect();
        images.iter().for_each(|image| hooks.queue(ready(image, "1")));
        assert_eq!(names(&mut hooks).len(), RUNNING_MAX);
        hooks.ended(&ready(&images[0], "1"), &Ok(String::new()));
        assert_eq!(names(&mut hooks), [format!("{RUNNING_MAX}@1")]);
    }

    #[test]
    fn a_failure_is_shown_until_the_same_hook_succeeds() {
        let mut hooks = Hooks::default();
        let failure =
            || Err(HookError::TimedOut { limit: std::time::Duration::from_secs(3), output: "stuck".into() });
        hooks.ended(&ready("a", "1"), &failure());
        let words: Vec<String> = hooks.problems().collect();
        assert!(words[0].contains("ready of a@1") && words[0].contains("3 s (stuck)"), "{words:?}");
        hooks.ended(&ready("b", "1"), &Ok(String::new()));
        assert_eq!(hooks.problems().count(), 1);
        hooks.ended(&ready("a", "2"), &Ok(String::new()));
        assert_eq!(hooks.problems().count(), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_left_out_is_said() {
        let mut hooks = Hooks::default();
        for release in 0..=WAITING_MAX {
            hooks.queue(ready("a", &release.to_string()));
        }
        assert_eq!(hooks.lines["a"].waiting.len(), WAITING_MAX);
        assert!(hooks.problems().next().unwrap().contains("a@64"));
    }

    #[test]
    fn facts_say_what_happened_and_take_away_what_did_not() {
        let mut notice = ready("a", "2");
        let fact = |notice: &Notice, name| {
            let facts = notice.facts("127.0.0.1:1".into());
            facts.into_iter().find(|(known, _)| *known == name).unwrap().1
        };
        assert_eq!(fact(&notice, "BRANCHMESH_EVENT").unwrap(), "ready");
        let folder = fact(&notice, "BRANCHMESH_FOLDER").unwrap();
        assert!(Path::new(&folder).is_absolute() && folder.ends_with("folder"), "{folder}");
        assert_eq!(fact(&notice, "BRANCHMESH_REASON"), None);
        notice.event = Event::Activated { folder: "folder".into(), previous: Some("1".into()) };
        assert_eq!(fact(&notice, "BRANCHMESH_PREVIOUS").unwrap(), "1");
        notice.event = Event::Failed { reason: "full".into() };
        assert_eq!(fact(&notice, "BRANCHMESH_REASON").unwrap(), "full");
        assert_eq!(fact(&notice, "BRANCHMESH_FOLDER"), None);
    }
}
