//! How often mDNS asks: often while PCs boot together, seldom later, not at all under a flood.
//!
//! libp2p cannot change the interval of a running mDNS, so that another one takes its place.

use crate::limits::CANDIDATES_MAX;
use libp2p::{
    Multiaddr, PeerId,
    core::transport::ListenerId,
    mdns,
    swarm::{FromSwarm, NetworkBehaviour, NewListenAddr, behaviour::toggle::Toggle},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// mDNS, or none where it is switched off or does not work.
pub(crate) type Mdns = Toggle<mdns::tokio::Behaviour>;

/// mDNS asks often in the beginning: with libp2p's five minutes, PCs that boot together lose each other.
const EAGER: Duration = Duration::from_secs(11);
/// Later it asks seldom; gossip and bootstrap know the rest.
const CALM: Duration = Duration::from_secs(60);
/// Duration of the beginning.
const EAGER_FOR: Duration = Duration::from_secs(180);
/// Silence after a flood of announcements.
const PAUSE: Duration = Duration::from_secs(60);
/// libp2p keeps every announcement until it expires, in a list that it searches: more than this is a flood.
const NODES_MAX: usize = 2 * CANDIDATES_MAX;
/// How long others believe our records. Longer than any node's query interval, so that none expires in between.
const TTL: Duration = Duration::from_secs(150);

/// When mDNS changes its pace, or begins again; `None` if it stays as it is.
#[derive(Debug)]
pub(crate) struct Pace {
    change: Option<Instant>,
}

impl Pace {
    /// Eager.
    pub(crate) fn begin(now: Instant, peer: PeerId) -> (Self, Mdns) {
        (Self { change: Some(now + EAGER_FOR) }, asking(peer, EAGER).into())
    }

    /// No mDNS at all.
    pub(crate) fn never() -> (Self, Mdns) {
        (Self { change: None }, None.into())
    }

    /// Changes what is due.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        mdns: &mut Mdns,
        peer: PeerId,
        listeners: &HashMap<Multiaddr, ListenerId>,
    ) {
        if mdns.as_ref().is_some_and(|mdns| mdns.discovered_nodes().len() > NODES_MAX) {
            tracing::warn!("a flood of mDNS announcements; discovery pauses for {} s", PAUSE.as_secs());
            *mdns = None.into();
            self.change = Some(now + PAUSE);
        } else if self.change.is_some_and(|at| at <= now) {
            self.change = None;
            let mut calm = asking(peer, CALM);
            if let Some(calm) = &mut calm {
                // It missed the swarm's own announcements of these.
                for (addr, listener_id) in listeners {
                    let listener_id = *listener_id;
                    calm.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr { listener_id, addr }));
                }
            }
            *mdns = calm.into();
        }
    }
}

/// mDNS that asks at this interval, or none where the system does not let it.
fn asking(peer: PeerId, query_interval: Duration) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: TTL, query_interval, enable_ipv6: false };
    match mdns::tokio::Behaviour::new(config, peer) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            tracing::warn!(%error, "mDNS does not work here; nodes are found through bootstrap addresses only");
            None
        }
    }
}
