//! A plan as people read it.

use crate::text;
use branchmesh_plan::{Course, Moment, Plan, SitePlan, Total};

pub fn text(plan: &Plan) -> String {
    let sites: u64 = plan.sites.iter().map(|site| u64::from(site.count)).sum();
    let clients: u64 = plan.sites.iter().map(|site| u64::from(site.count) * u64::from(site.clients)).sum();
    let mut page = format!(
        "{} of {} in the repository for {} and {}\n\n",
        text::count(plan.images.len() as u64, "release"),
        text::bytes(plan.repository_bytes),
        text::count(sites, "site"),
        text::count(clients, "client"),
    );
    page += "bytes over the line of each site\n";
    let bytes: Vec<Vec<String>> = plan.sites.iter().map(bytes_row).collect();
    let headings = ["site", "sites ", "clients ", "each lacks ", "mesh ", "one cache ", "without "];
    page += &text::table(&headings, &bytes);
    page += "\ntime until the last client of each site is done, and when that is\n";
    let times: Vec<Vec<String>> = plan.sites.iter().map(times_row).collect();
    let headings = ["site", "begins", "mesh ", "", "one cache ", "", "without ", ""];
    page += &text::table(&headings, &times);
    page += "\nall sites, at headquarters\n";
    let words = ["mesh", "one cache", "without"];
    let totals = plan.total.named().into_iter().zip(words).map(|((_, total), words)| total_row(words, total));
    let headings = ["", "sent ", "with headers ", "downloads at once ", "peak rate ", "all done"];
    page + &text::table(&headings, &totals.collect::<Vec<_>>())
}

fn bytes_row(site: &SitePlan) -> Vec<String> {
    let ways = site.ways.map(|course| text::bytes(course.wan_bytes));
    let clients = match site.has_seed {
        true => format!("{} + seed", site.clients),
        false => site.clients.to_string(),
    };
    vec![
        site.name.clone(),
        site.count.to_string(),
        clients,
        text::bytes(site.lacks),
        ways.mesh,
        ways.cache,
        ways.alone,
    ]
}

fn times_row(site: &SitePlan) -> Vec<String> {
    let takes = |course: &Course| text::span(course.done.saturating_sub(site.start));
    let done = |course: &Course| Moment(course.done).to_string();
    let ways = site.ways.map(|course| (takes(course), done(course)));
    let mut row = vec![site.name.clone(), Moment(site.start).to_string()];
    row.extend([ways.mesh, ways.cache, ways.alone].into_iter().flat_map(|(takes, done)| [takes, done]));
    row
}

fn total_row(words: &str, total: &Total) -> Vec<String> {
    vec![
        words.into(),
        text::bytes(total.wan_bytes),
        text::bytes(total.wire_bytes),
        total.downloads_peak.to_string(),
        line_rate(total.rate_peak),
        Moment(total.done).to_string(),
    ]
}

/// As lines are sold: `20 Mbit/s`.
fn line_rate(bytes_per_second: u64) -> String {
    let mbit = bytes_per_second as f64 / 125e3;
    match mbit {
        0.0..10.0 => format!("{mbit:.1} Mbit/s"),
        10.0..10_000.0 => format!("{mbit:.0} Mbit/s"),
        _ => format!("{:.0} Gbit/s", mbit / 1000.0),
    }
}
