//! A plan as a picture: for each site, how long it takes in each of the three ways.
//!
//! One SVG file that needs nothing else, in the colours of the reader's desktop, light or dark.

use crate::text;
use branchmesh_plan::{Plan, SitePlan};
use std::{fmt::Write, time::Duration};

const WIDTH: f64 = 860.0;
/// Where bars begin, right of the names.
const LEFT: f64 = 190.0;
/// Of the longest bar; what is left is for its figure.
const BAR_MAX: f64 = 540.0;
/// So thin that it can still be seen.
const BAR_MIN: f64 = 2.0;
const BAR_HEIGHT: f64 = 14.0;
const SITE_HEIGHT: f64 = 64.0;
const TOP: f64 = 84.0;
/// Letters of a name that fit beside the bars.
const NAME_MAX: usize = 22;
const WAYS: [&str; 3] = ["with the mesh", "with one cache", "without either"];
const CLASSES: [&str; 3] = ["mesh", "cache", "alone"];

const STYLE: &str = "<style>
  text { font: 13px system-ui, sans-serif; fill: #1c2733 }
  .title { font-size: 17px; font-weight: 600 }
  .small { font-size: 11px; fill: #5b6876 }
  .ground { fill: #ffffff }
  .axis { stroke: #c3ccd5 }
  .mesh { fill: #0a7d55 } .cache { fill: #3d7cc9 } .alone { fill: #c2571a }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6ebf0 } .small { fill: #9aa7b4 } .ground { fill: #14191f } .axis { stroke: #3a4550 }
    .mesh { fill: #35c48f } .cache { fill: #6ea8ec } .alone { fill: #ee8b4c }
  }
</style>
";

pub fn svg(plan: &Plan) -> String {
    let height = TOP + SITE_HEIGHT * plan.sites.len() as f64 + 12.0;
    let longest = plan.sites.iter().flat_map(takes).max().unwrap_or_default();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"Time of a rollout at each site\">\n{STYLE}\
         <rect class=\"ground\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    svg += "<text class=\"title\" x=\"16\" y=\"30\">From the start until the last client of a site is done</text>\n";
    for (number, (words, class)) in WAYS.into_iter().zip(CLASSES).enumerate() {
        let x = 16.0 + 150.0 * number as f64;
        put(
            &mut svg,
            format_args!("<rect class=\"{class}\" x=\"{x}\" y=\"46\" width=\"12\" height=\"12\"/>"),
        );
        put(&mut svg, format_args!("<text x=\"{}\" y=\"57\">{words}</text>", x + 18.0));
    }
    let bottom = height - 12.0;
    put(
        &mut svg,
        format_args!(
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{}\" x2=\"{LEFT}\" y2=\"{bottom}\"/>",
            TOP - 8.0
        ),
    );
    for (number, site) in plan.sites.iter().enumerate() {
        bars(&mut svg, site, TOP + SITE_HEIGHT * number as f64, longest);
    }
    svg + "</svg>\n"
}

fn bars(svg: &mut String, site: &SitePlan, top: f64, longest: Duration) {
    let name = escaped(&shortened(&site.name));
    let clients = text::count(site.clients.into(), "client");
    let what = if site.count > 1 { format!("{} × {clients}", site.count) } else { clients };
    put(svg, format_args!("<text x=\"16\" y=\"{}\">{name}</text>", top + 18.0));
    put(svg, format_args!("<text class=\"small\" x=\"16\" y=\"{}\">{what}</text>", top + 34.0));
    for (number, (takes, class)) in takes(site).into_iter().zip(CLASSES).enumerate() {
        let y = top + (BAR_HEIGHT + 2.0) * number as f64;
        let share = takes.as_secs_f64() / longest.as_secs_f64().max(f64::MIN_POSITIVE);
        let width = (share * BAR_MAX).max(BAR_MIN);
        put(
            svg,
            format_args!(
                "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR_HEIGHT}\"/>"
            ),
        );
        let x = LEFT + width + 6.0;
        put(
            svg,
            format_args!(
                "<text class=\"small\" x=\"{x:.1}\" y=\"{}\">{}</text>",
                y + 11.0,
                text::span(takes)
            ),
        );
    }
}

fn takes(site: &SitePlan) -> [Duration; 3] {
    let ways = site.ways.map(|course| course.done.saturating_sub(site.start));
    [ways.mesh, ways.cache, ways.alone]
}

fn shortened(name: &str) -> String {
    match name.chars().count() {
        0..=NAME_MAX => name.into(),
        _ => name.chars().take(NAME_MAX - 1).chain(['…']).collect(),
    }
}

/// As text of an XML document; what XML cannot hold is left out.
fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn put(svg: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(svg, "{line}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_text_and_beside_the_bars() {
        assert_eq!(escaped("R&D <\u{1}lab>"), "R&amp;D &lt;lab&gt;");
        assert_eq!(shortened("lyon"), "lyon");
        assert_eq!(shortened(&"x".repeat(30)).chars().count(), NAME_MAX);
    }
}
