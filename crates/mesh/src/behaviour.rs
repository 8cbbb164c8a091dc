//! The libp2p protocols in use, with their limits.

use crate::{
    gossip::ENVELOPE_MAX,
    limits::{CONNECTIONS_MAX, CONTROL_CONNECTIONS_PER_PEER_MAX, HANDSHAKES_MAX},
    pace::Mdns,
};
use libp2p::{
    connection_limits::{self, ConnectionLimits},
    gossipsub::{self, IdentTopic, IdentityTransform, MessageAuthenticity, WhitelistSubscriptionFilter},
    identify,
    identity::Keypair,
    swarm::NetworkBehaviour,
};
use std::{collections::HashSet, io, time::Duration};

/// What gossipsub adds to a message: author, signature, key, topic, sequence number.
const GOSSIP_OVERHEAD: usize = 1024;
/// How often gossipsub mends its mesh and offers what others may have missed.
const GOSSIP_HEARTBEAT: Duration = Duration::from_millis(700);
/// Messages that wait for one slow peer; statuses are soon out of date.
const GOSSIP_QUEUE_MAX: usize = 512;
/// All of them.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) gossipsub: gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>,
    identify: identify::Behaviour,
    pub(crate) mdns: Mdns,
}

impl Behaviour {
    /// Subscribed to `topic` and to no other: peers cannot make us remember topics.
    pub(crate) fn new(keypair: &Keypair, topic: &IdentTopic, mdns: Mdns) -> io::Result<Self> {
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
            mdns,
        })
    }
}
