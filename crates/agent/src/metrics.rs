//! The status as Prometheus metrics.

use crate::status::StatusView;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};
use std::{fmt, sync::atomic::AtomicU64};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReleaseLabels {
    image: String,
    release: String,
    source: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    image: String,
    release: String,
    state: String,
}

/// Writes `status` in the OpenMetrics text format.
pub fn render(status: &StatusView) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("branchmesh");
    gauge(&mut registry, "site_members", "Live nodes of the site, with this one", status.site.members as f64);
    let fetchers = status.site.fetchers.len() as f64;
    gauge(&mut registry, "site_fetchers", "Nodes of the site that use the WAN now", fetchers);
    if let Some(ratio) = status.site.amplification {
        gauge(
            &mut registry,
            "site_amplification_ratio",
            "WAN bytes per unique byte that the site lacked",
            ratio,
        );
    }
    gauge(&mut registry, "uptime_seconds", "Time since the agent started", status.node.uptime_seconds as f64);
    gauge(
        &mut registry,
        "problems",
        "Things that are wrong with this node",
        status.node.problems.len() as f64,
    );
    let rates = [("wan", status.site.wan_rate), ("lan", status.site.lan_rate)];
    for (source, rate) in rates {
        let name = format!("{source}_receive_bytes_per_second");
        gauge(&mut registry, &name, "Rate at which blocks arrive", rate as f64);
    }

    let bytes = Family::<ReleaseLabels, Gauge<f64, AtomicU64>>::default();
    let total = Family::<StateLabels, Gauge<f64, AtomicU64>>::default();
    for release in &status.releases {
        let labels =
            |source| ReleaseLabels { image: release.image.clone(), release: release.release.clone(), source };
        for (source, value) in
            [("wan", release.bytes.wan), ("lan", release.bytes.lan), ("trimmed", release.bytes.trimmed)]
        {
            bytes.get_or_create(&labels(source)).set(value as f64);
        }
        let state = StateLabels {
            image: release.image.clone(),
            release: release.release.clone(),
            state: release.state.clone(),
        };
        total.get_or_create(&state).set(release.bytes.total as f64);
    }
    registry.register_with_unit("release", "Encoded bytes that are here, by source", Unit::Bytes, bytes);
    registry.register_with_unit(
        "release_size",
        "Encoded bytes of a release, by its state",
        Unit::Bytes,
        total,
    );

    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{BytesView, ReleaseView};

    #[test]
    fn hostile_names_cannot_break_the_format() {
        let release = ReleaseView {
            image: "a\"b\nbranchmesh_problems 99".into(),
            release: "1".into(),
            bytes: BytesView { total: 10, have: 7, wan: 7, lan: 0, trimmed: 0 },
            ..ReleaseView::default()
        };
        let text = render(&StatusView { releases: vec![release], ..StatusView::default() }).unwrap();
        assert!(text.contains(r#"image="a\"b\nbranchmesh_problems 99""#), "{text}");
        assert!(!text.lines().any(|line| line == "branchmesh_problems 99"));
        assert!(text.ends_with("# EOF\n"));
    }
}
