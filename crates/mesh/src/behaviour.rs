//! The libp2p protocols in use, with their limits.

use crate::{
    gossip::ENVELOPE_MAX,
    limits::{CONNECTIONS_MAX, CONTROL_CONNECTIONS_PER_PEER_MAX, HANDSHAKES_MAX},
};
use libp2p::{
    PeerId,
    connection_limits::{self, ConnectionLimits},
    gossipsub::{self, IdentTopic, IdentityTransform, MessageAuthenticity, WhitelistSubscriptionFilter},
    identify,
    identity::Keypair,
    mdns,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use std::{collections::HashSet, io, time::Duration};

/// What gossipsub adds to a message: author, signature, key, topic, sequence number.
const GOSSIP_OVERHEAD: usize = 1024;
/// How often gossipsub mends its mesh and offers what others may have missed.
const GOSSIP_HEARTBEAT: Duration = Duration::from_millis(700);
/// Messages that wait for one slow peer; statuses are soon out of date.
const GOSSIP_QUEUE_MAX: usize = 512;
/// How long others believe our mDNS records. Longer than any node's query interval, so that none expires in between.
const MDNS_TTL: Duration = Duration::from_secs(150);

/// All of them.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) gossipsub: gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>,
    identify: identify::Behaviour,
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    /// Without mDNS, subscribed to `topic` and to no other: peers cannot make us remember topics.
    pub(crate) fn new(keypair: &Keypair, topic: &IdentTopic) -> io::Result<Self> {
        let config = gossipsub::ConfigBuilder::default()
            .heartbeat_interval(GOSSIP_HEARTBEAT)
            .validation_mode(gossipsub::ValidationMode::Strict)
            // Nothing is relayed before its author was found to be a member of the site.
            .validate_messages()
            .max_transmit_size(ENVELOPE_MAX + GOSSIP_OVERHEAD)
            .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
            .build()
            .map_err(io::Error::other)?;
        let mut gossipsub = gossipsub::Behaviour::new_with_subscription_filter(
            MessageAuthenticity::Signed(keypair.clone()),
            config,
            WhitelistSubscriptionFilter(HashSet::from([topic.hash()])),
        )
        .map_err(io::Error::other)?;
        gossipsub.subscribe(topic).map_err(io::Error::other)?;
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(HANDSHAKES_MAX))
            .with_max_pending_outgoing(Some(HANDSHAKES_MAX))
            .with_max_established(Some(CONNECTIONS_MAX))
            .with_max_established_per_peer(Some(CONTROL_CONNECTIONS_PER_PEER_MAX));
        let identify = identify::Config::new("/branchmesh/1".into(), keypair.public())
            .with_agent_version(concat!("branchmesh ", env!("CARGO_PKG_VERSION")).into());
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            gossipsub,
            identify: identify::Behaviour::new(identify),
            mdns: Toggle::from(None),
        })
    }
}

/// mDNS that asks at this interval, or none where the system does not let it.
pub(crate) fn mdns_behaviour(peer: PeerId, query_interval: Duration) -> Option<mdns::tokio::Behaviour> {
    let config = mdns::Config { ttl: MDNS_TTL, query_interval, enable_ipv6: false };
    match mdns::tokio::Behaviour::new(config, peer) {
        Ok(mdns) => Some(mdns),
        Err(error) => {
            tracing::warn!(%error, "mDNS does not work here; nodes are found through bootstrap addresses only");
            None
        }
    }
}
