//! What this node and its site hold, for a bundle that leaves it out.
//!
//! This node's own disk says all that it holds, for whatever release. Of the members, what they have said in their
//! have-maps counts: the releases whose index is known here. So the best node to ask is a seed.

use crate::{
    happening::{Happening, SiteMaps},
    run::Loop,
    shared::Shared,
};
use branchmesh_repo::Holdings;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{sync::oneshot, task::spawn_blocking};

/// What this node holds, or the whole site; `None` while the agent stops.
pub(crate) async fn holdings(shared: Arc<Shared>, of_site: bool) -> Option<Vec<u8>> {
    let site = if of_site {
        let (answer, answered) = oneshot::channel();
        shared.tell(Happening::SiteMaps(answer)).await;
        answered.await.ok()?
    } else {
        SiteMaps { members: 1, maps: Vec::new() }
    };
    // Millions of blocks may have to be named.
    spawn_blocking(move || collect(&shared, &site).to_bytes()).await.ok()
}

/// What the neighbours hold, by what they say, and this node.
pub(crate) fn site_maps(agent: &Loop) -> SiteMaps {
    let members = agent.exchange.members(agent.now());
    let connected = members.iter().filter(|member| member.connected).count();
    let map = |release| Some((release, agent.exchange.held_on_site(&release)?));
    SiteMaps {
        members: u32::try_from(connected + 1).unwrap_or(u32::MAX),
        maps: agent.exchange.releases().filter_map(map).collect(),
    }
}

fn collect(shared: &Shared, site: &SiteMaps) -> Holdings {
    let identity = shared.mesh.identity();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut holdings = Holdings::new(&identity.site, &identity.name, now);
    holdings.members = site.members;
    for (pack, extents) in shared.store.holdings() {
        holdings.insert_all(pack, &extents);
    }
    for (release, map) in &site.maps {
        let Some(held) = shared.held(release) else { continue };
        map.iter().filter_map(|block| held.block(block)).for_each(|block| holdings.insert(&block.location()));
    }
    holdings
}
