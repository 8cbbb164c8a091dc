//! `branchmesh status`: what the local agent does, and its site.

use crate::{failure::Failure, local_agent::LocalAgent, text};
use branchmesh_agent::status::{HarvestView, ReleaseView, StatusView};
use std::{fmt::Write as _, io::IsTerminal, time::Duration};

/// Between two looks of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What the local agent does, and its site.
#[derive(clap::Args)]
pub struct ShowStatus {
    #[command(flatten)]
    agent: LocalAgent,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Show it again every second
    #[arg(long)]
    watch: bool,
}

impl ShowStatus {
    pub async fn run(self) -> Result<(), Failure> {
        loop {
            let status = self.agent.status().await?;
            let shown = if self.json { text::json(&status)? + "\n" } else { describe(&status) };
            if self.watch && !self.json && std::io::stdout().is_terminal() {
                print!("\x1b[2J\x1b[H");
            }
            print!("{shown}");
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    }
}

/// The status as a person reads it.
fn describe(status: &StatusView) -> String {
    let mut text = String::new();
    let (node, site) = (&status.node, &status.site);
    let mut line = |words: String| writeln!(text, "{words}").expect("writing to a string does not fail");
    let up = text::span(Duration::from_secs(node.uptime_seconds));
    line(format!(
        "{} is a {} of the site {}, version {}, up {up}",
        node.name, node.role, node.site, node.version
    ));
    let fetching = site.nodes.iter().filter(|member| member.fetching).map(|member| member.name.as_str());
    let fetchers: Vec<&str> = fetching.collect();
    let amplification = site.amplification.map_or("-".into(), |ratio| format!("{ratio:.3}"));
    line(format!(
        "{}; over the WAN: {}; amplification {amplification}; fetcher: {}",
        text::count(site.members as u64, "member"),
        text::bytes(site.wan_bytes),
        if fetchers.is_empty() { "nobody".into() } else { fetchers.join(", ") }
    ));
    if let Some(words) = &node.line.words {
        line(words.clone());
    }
    for problem in &node.problems {
        line(format!("problem: {problem}"));
    }
    if let Some(harvest) = &status.harvest {
        harvest_lines(harvest).into_iter().for_each(&mut line);
    }
    line(String::new());
    if status.releases.is_empty() {
        line("no releases: nothing that this node subscribes to is known yet".into());
    } else {
        let headings =
            ["release", "state", "here ", "size ", "from WAN ", "from LAN ", "trimmed ", "rate ", "left "];
        let rows: Vec<Vec<String>> = status.releases.iter().map(release_row).collect();
        line(text::table(&headings, &rows));
        describe_keeping(&mut line, &status.releases);
        for release in &status.releases {
            if let Some(reason) = &release.reason {
                line(format!("{}@{} is {}: {reason}", release.image, release.release, release.state));
            }
            if let Some(cost) = release.cost {
                line(format!("fetching {}@{} takes {}", release.image, release.release, text::bytes(cost)));
            }
        }
    }
    if !site.nodes.is_empty() {
        let rows: Vec<Vec<String>> = site
            .nodes
            .iter()
            .map(|member| {
                let (have, total) = member.releases.iter().fold((0, 0), |(have, total), release| {
                    (have + release.bytes.have, total + release.bytes.total)
                });
                let state = match (member.is_self, member.connected) {
                    (true, _) => "this node",
                    (false, true) => "connected",
                    (false, false) => "heard of",
                };
                let rate = status
                    .peers
                    .iter()
                    .find(|peer| peer.peer_id == member.peer_id)
                    .map_or(0, |peer| peer.rate);
                let rate = if rate == 0 { "-".into() } else { text::rate(rate) };
                let progress = if total == 0 { "-".into() } else { text::percent(have, total) };
                vec![
                    member.name.clone(),
                    member.role.clone(),
                    member.address.clone(),
                    state.into(),
                    progress,
                    rate,
                ]
            })
            .collect();
        line(text::table(&["node", "role", "address", "state", "here ", "gave "], &rows));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// What was found in files of this machine, and what that cost.
fn harvest_lines(harvest: &HarvestView) -> Vec<String> {
    let now = if harvest.scanning { "; looking through files now" } else { "" };
    let mut lines = vec![format!(
        "harvested: {} ({}) need not be fetched; read {} in {}, when nothing else was to do{now}",
        text::count(harvest.blocks, "block"),
        text::bytes(harvest.bytes_saved),
        text::bytes(harvest.bytes_read),
        text::span(Duration::from_secs_f64(harvest.seconds.max(0.0)))
    )];
    if harvest.foreign_blocks > 0 {
        lines.push(format!(
            "{} more are in the files, but the publisher has another version of zstd, and they are fetched",
            text::count(harvest.foreign_blocks, "block")
        ));
    }
    lines.extend(harvest.unreadable.iter().map(|file| format!("not harvested: {file}")));
    lines.extend(harvest.problem.iter().map(|problem| format!("problem: {problem}")));
    lines
}

/// What stays on the disk and why, and in which order the rest goes: the first to go last, as the eye falls on it.
fn describe_keeping(line: &mut impl FnMut(String), releases: &[ReleaseView]) {
    let mut here: Vec<&ReleaseView> =
        releases.iter().filter(|release| release.kept.is_some() || release.goes.is_some()).collect();
    if here.is_empty() {
        return;
    }
    here.sort_by_key(|release| std::cmp::Reverse(release.goes.unwrap_or(u32::MAX)));
    let row = |release: &&ReleaseView| {
        let name = format!("{}@{}", release.image, release.release);
        let mut why = release.kept.clone().unwrap_or_else(|| "nothing keeps it".into());
        if release.held {
            why.push_str(", held until something newer comes");
        }
        if release.withdrawn {
            why.push_str(", not in the repository any more");
        }
        let goes = release.goes.map_or("-".into(), |place| match place {
            1 => "first".into(),
            place => format!("as number {place}"),
        });
        vec![name, why, goes]
    };
    let rows: Vec<Vec<String>> = here.iter().map(row).collect();
    line(text::table(&["on this disk", "because", "goes"], &rows));
}

fn release_row(release: &ReleaseView) -> Vec<String> {
    let bytes = &release.bytes;
    vec![
        format!("{}@{}", release.image, release.release),
        release.state.clone(),
        if bytes.total == 0 { "-".into() } else { text::percent(bytes.have, bytes.total) },
        text::bytes(bytes.total),
        text::bytes(bytes.wan),
        text::bytes(bytes.lan),
        text::bytes(bytes.trimmed),
        if release.rate == 0 { "-".into() } else { text::rate(release.rate) },
        release.eta_seconds.map_or("-".into(), |seconds| text::span(Duration::from_secs(seconds))),
    ]
}
