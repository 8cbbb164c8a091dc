//! Shows how a release spreads: a bar for each client while it does, a table when it has.

use super::{headquarters::Headquarters, site::Site};
use crate::{failure::Failure, text};
use branchmesh_agent::status::{BytesView, ReleaseView};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Between two looks at the clients.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Between two lines where there is no terminal to draw on.
const LINE_INTERVAL: Duration = Duration::from_secs(3);

/// How a release has spread.
pub struct Spread {
    title: String,
    clients: Vec<Done>,
    wan_bytes: u64,
    unique_bytes: u64,
    lag: Duration,
}

struct Done {
    name: String,
    bytes: BytesView,
    after: Duration,
}

/// Watches until every client has the release's files in place.
pub async fn spread(hq: &Headquarters, site: &Site, image: &str, release: &str) -> Result<Spread, Failure> {
    let begun = Instant::now();
    let sent_before = hq.bytes_sent();
    let drawn = Drawn::new(site.names());
    let mut done: Vec<Option<Done>> = site.names().map(|_| None).collect();
    let mut last_done = begun;
    while done.iter().any(Option::is_none) {
        tokio::time::sleep(LOOK_INTERVAL).await;
        for (number, name) in site.names().enumerate() {
            if done[number].is_some() {
                continue;
            }
            let status = site.status(number).await?;
            let mut releases = status.releases.iter();
            let Some(view) = releases.find(|view| view.image == image && view.release == release) else {
                continue;
            };
            if view.state == "failed" {
                let reason = view.reason.clone().unwrap_or_default();
                return Err(Failure::because(format!("{image}@{release} failed on {name}: {reason}")));
            }
            drawn.update(number, view);
            if view.path.is_some() {
                last_done = Instant::now();
                done[number] = Some(Done { name: name.into(), bytes: view.bytes, after: begun.elapsed() });
            }
        }
        drawn.line(&done);
    }
    drawn.clear();
    // The line also carries a little that is no block: metadata, and conditional requests for it.
    Ok(Spread {
        title: format!("{image}@{release}"),
        clients: done.into_iter().flatten().collect(),
        wan_bytes: hq.bytes_sent() - sent_before,
        unique_bytes: hq.newest_bytes(),
        lag: last_done.saturating_duration_since(hq.last_sent()),
    })
}

impl Spread {
    /// Who got what from where, and what crossed the line.
    pub fn table(&self) -> String {
        let row = |client: &Done| {
            vec![
                client.name.clone(),
                text::bytes(client.bytes.wan),
                text::bytes(client.bytes.lan),
                text::bytes(client.bytes.trimmed),
                text::span(client.after),
            ]
        };
        let rows: Vec<Vec<String>> = self.clients.iter().map(row).collect();
        let table = text::table(
            &[self.title.as_str(), "from WAN ", "from LAN ", "trimmed ", "complete after "],
            &rows,
        );
        let ratio = self.wan_bytes as f64 / self.unique_bytes.max(1) as f64;
        format!(
            "{table}amplification {ratio:.3}: {} crossed the line for {} that the site lacked; site lag {}\n",
            text::bytes(self.wan_bytes),
            text::bytes(self.unique_bytes),
            text::span(self.lag)
        )
    }
}

/// The bars; lines where there is no terminal.
struct Drawn {
    all: MultiProgress,
    bars: Vec<ProgressBar>,
    last_line: std::cell::Cell<Instant>,
}

impl Drawn {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{prefix:8} {bar:40} {percent:>3} %  {msg}");
        let style = style.expect("a literal template");
        let bar = |name: &str| {
            let bar = all.add(ProgressBar::new(0).with_style(style.clone()).with_prefix(name.to_owned()));
            bar.set_message("looking for the others");
            bar
        };
        let bars = names.map(bar).collect();
        Self { all, bars, last_line: std::cell::Cell::new(Instant::now()) }
    }

    fn update(&self, number: usize, view: &ReleaseView) {
        let bar = &self.bars[number];
        bar.set_length(view.bytes.total);
        bar.set_position(view.bytes.have);
        bar.set_message(format!(
            "WAN {:>9}  LAN {:>9}  trimmed {:>9}  {}",
            text::bytes(view.bytes.wan),
            text::bytes(view.bytes.lan),
            text::bytes(view.bytes.trimmed),
            view.state
        ));
    }

    fn line(&self, done: &[Option<Done>]) {
        if std::io::stderr().is_terminal() || self.last_line.get().elapsed() < LINE_INTERVAL {
            return;
        }
        self.last_line.set(Instant::now());
        let share = |bar: &ProgressBar| text::percent(bar.position(), bar.length().unwrap_or(0).max(1));
        let shares: Vec<String> = self.bars.iter().map(share).collect();
        let complete = done.iter().flatten().count();
        eprintln!("{complete} of {} have their files; blocks here: {}", done.len(), shares.join("  "));
    }

    fn clear(&self) {
        for bar in &self.bars {
            bar.finish_and_clear();
        }
        // What cannot be cleared stays on the screen, no more.
        let _ = self.all.clear();
    }
}
