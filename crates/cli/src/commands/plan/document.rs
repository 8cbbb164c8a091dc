//! A plan as JSON. Bytes are bytes, times are seconds; later versions only add to it.

use branchmesh_plan::{Course, Plan, SitePlan, Total, Ways};
use serde_json::{Map, Value, json};
use std::time::Duration;

pub fn json(plan: &Plan) -> Value {
    let releases: Vec<Value> = plan
        .images
        .iter()
        .map(|image| json!({"image": image.name, "size_bytes": image.size, "new_bytes": image.new}))
        .collect();
    json!({
        "releases": releases,
        "repository_bytes": plan.repository_bytes,
        "simulated_sites": plan.simulated,
        "sites": plan.sites.iter().map(site).collect::<Vec<_>>(),
        "total": ways(&plan.total, total),
    })
}

fn site(site: &SitePlan) -> Value {
    json!({
        "name": site.name,
        "count": site.count,
        "clients": site.clients,
        "seed": site.has_seed,
        "lacks_bytes": site.lacks,
        "start_seconds": seconds(site.start),
        "each": ways(&site.ways, |course| one(site, course)),
    })
}

fn one(site: &SitePlan, course: &Course) -> Value {
    json!({
        "wan_bytes": course.wan_bytes,
        "wan_bytes_with_headers": course.wire_bytes,
        "line_used_seconds": seconds(course.line()),
        "takes_seconds": seconds(course.done.saturating_sub(site.start)),
        "done_seconds": seconds(course.done),
    })
}

fn total(total: &Total) -> Value {
    json!({
        "wan_bytes": total.wan_bytes,
        "wan_bytes_with_headers": total.wire_bytes,
        "peak_downloads": total.downloads_peak,
        "peak_bytes_per_second": total.rate_peak,
        "done_seconds": seconds(total.done),
    })
}

fn ways<T>(ways: &Ways<T>, value: impl Fn(&T) -> Value) -> Value {
    let named = ways.named().into_iter().map(|(name, way)| (name.to_owned(), value(way)));
    Value::Object(named.collect::<Map<_, _>>())
}

/// To the tenth: more than a plan can promise.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}
