//! The control plane: one task that owns the libp2p swarm, for discovery and gossip.
//!
//! It follows the data plane: for every link there is to be a libp2p connection, dialled by the side that dialled the
//! link. When that TCP connection ends, the peer's process has most likely died, and its link is closed at once
//! instead of after the idle time-out. Nothing here ever waits for the owner of the mesh.

use crate::{
    behaviour::{Behaviour, BehaviourEvent},
    book::{Source, Whom, backoff},
    carrier::Carrier,
    event::Event,
    gossip::{Gossip, GossipError},
    identity::Credentials,
    limits::ADDRESSES_PER_HINT_MAX,
    pace::Pace,
    refusals::Refusals,
    upgrade::{multiaddr, socket_address, transport},
};
use branchmesh_wire::Status;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, TransportError,
    core::transport::ListenerId,
    gossipsub::{self, IdentTopic, MessageAcceptance},
    identify, mdns,
    swarm::{
        self, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot, watch};

/// How often connections are compared with links.
const TICK: Duration = Duration::from_millis(250);
/// The side that did not dial a link waits so long for the other's libp2p connection.
const ACCEPTOR_PATIENCE: Duration = Duration::from_secs(3);
/// A libp2p connection without a link is closed after this: members that cannot carry data are of no use.
const LINKLESS_MAX: Duration = Duration::from_secs(10);
/// Connections without streams stay: links decide, not libp2p's idea of idleness.
const NEVER_IDLE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long the last gossip has to get out when the program stops.
const FAREWELL: Duration = Duration::from_millis(200);
/// The system names its addresses in one go; this much later no more is to be expected.
const ADDRESSES_TOGETHER: Duration = Duration::from_millis(50);
/// What links tell the control plane.
#[derive(Debug)]
pub(crate) enum Command {
    /// A neighbour is connected.
    LinkUp {
        /// Who.
        peer: PeerId,
        /// Its data address; TCP has the same port.
        address: SocketAddr,
        /// Whether this side dialled.
        dialled: bool,
    },
    /// A neighbour is gone.
    LinkDown {
        /// Who.
        peer: PeerId,
    },
}

/// Where this node listens, kept up to date.
pub(crate) type ListenAddresses = Arc<Mutex<Vec<SocketAddr>>>;

/// What the control task is fed with.
pub(crate) struct Inputs {
    /// From the links.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The newest status of this node; older ones need not be told any more.
    pub(crate) status: watch::Receiver<Option<Status>>,
    /// The program stops.
    pub(crate) stop: oneshot::Receiver<()>,
}

/// A libp2p connection that there should be.
#[derive(Debug)]
struct Wanted {
    address: SocketAddr,
    failures: u32,
    due: Instant,
}

/// A libp2p connection that there is.
#[derive(Debug)]
struct Established {
    since: Instant,
    last_wanted: Instant,
}

/// The swarm and its book-keeping.
pub(crate) struct Control {
    swarm: Swarm<Behaviour>,
    gossip: Gossip,
    topic: IdentTopic,
    wanted: HashMap<PeerId, Wanted>,
    established: HashMap<PeerId, Established>,
    listen_addresses: ListenAddresses,
    listeners: HashMap<Multiaddr, ListenerId>,
    pace: Pace,
    /// The newest status could not be sent for want of peers.
    unsent: bool,
}

impl Control {
    /// A swarm that does not listen yet.
    pub(crate) fn new(
        credentials: &Credentials,
        refusals: Arc<Refusals>,
        mdns: bool,
    ) -> Result<Self, io::Error> {
        let identity = credentials.identity();
        let topic = IdentTopic::new(Gossip::topic(&identity.site));
        let peer = credentials.member().peer;
        let (pace, mdns) = if mdns { Pace::begin(Instant::now(), peer) } else { Pace::never() };
        let behaviour = Behaviour::new(credentials.keypair(), &topic, mdns)?;
        let transport = transport(credentials.tls().clone(), identity.site.clone(), refusals);
        let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(NEVER_IDLE);
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, peer, config),
            gossip: Gossip::new(
                credentials.tls().trust().clone(),
                identity.site.clone(),
                credentials.chain(),
            ),
            topic,
            wanted: HashMap::new(),
            established: HashMap::new(),
            listen_addresses: ListenAddresses::default(),
            listeners: HashMap::new(),
            pace,
            unsent: false,
        })
    }

    /// Listens on TCP; with an unspecified IPv6 address on both families.
    pub(crate) fn listen(&mut self, address: SocketAddr) -> Result<(), TransportError<io::Error>> {
        self.swarm.listen_on(multiaddr(address))?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            let both = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            self.swarm.listen_on(multiaddr(both))?;
        }
        Ok(())
    }

    /// Where it listens, from now on.
    pub(crate) fn listen_addresses(&self) -> ListenAddresses {
        self.listen_addresses.clone()
    }

    /// Waits until the first address is known, but no longer than `patience`; then for the others, which come at once
    /// if they are there.
    pub(crate) async fn wait_for_addresses(&mut self, carrier: &Carrier, patience: Duration) {
        let mut until = tokio::time::Instant::now() + patience;
        while let Ok(event) = tokio::time::timeout_at(until, self.swarm.select_next_some()).await {
            let had_none = self.listeners.is_empty();
            self.on_swarm_event(event, carrier);
            if had_none && !self.listeners.is_empty() {
                until = tokio::time::Instant::now() + ADDRESSES_TOGETHER;
            }
        }
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut inputs: Inputs, carrier: Arc<Carrier>) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_swarm_event(event, &carrier),
                Some(command) = inputs.commands.recv() => self.on_command(&command),
                Ok(()) = inputs.status.changed() => self.publish(&inputs.status),
                _ = ticks.tick() => self.on_tick(),
                _ = &mut inputs.stop => break,
            }
            if self.unsent && !self.established.is_empty() && self.has_listeners_of_gossip() {
                self.publish(&inputs.status);
            }
        }
        if inputs.status.has_changed().unwrap_or(false) {
            self.publish(&inputs.status);
        }
        let flush = async {
            loop {
                self.swarm.select_next_some().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, flush).await;
        // Before the swarm's connections end, or neighbours would take this for a death.
        carrier.close().await;
    }

    fn on_command(&mut self, command: &Command) {
        let now = Instant::now();
        match *command {
            Command::LinkUp { peer, address, dialled } => {
                let due = if dialled { now } else { now + ACCEPTOR_PATIENCE };
                self.wanted.insert(peer, Wanted { address, failures: 0, due });
                self.dial_wanted(now);
            }
            Command::LinkDown { peer } => drop(self.wanted.remove(&peer)),
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.dial_wanted(now);
        self.drop_linkless(now);
        let local = *self.swarm.local_peer_id();
        self.pace.keep(now, &mut self.swarm.behaviour_mut().mdns, local, &self.listeners);
    }

    fn dial_wanted(&mut self, now: Instant) {
        for (peer, wanted) in &mut self.wanted {
            if wanted.due > now || self.established.contains_key(peer) {
                continue;
            }
            wanted.failures += 1;
            wanted.due = now + ACCEPTOR_PATIENCE + backoff(wanted.failures);
            // A port of its own: reusing the listening port on both sides can open one connection from two ends.
            let options = DialOpts::peer_id(*peer)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .addresses(vec![multiaddr(wanted.address)])
                .allocate_new_port()
                .build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%peer, %error, "the control connection was not dialled");
            }
        }
    }

    fn drop_linkless(&mut self, now: Instant) {
        let mut linkless = Vec::new();
        for (peer, established) in &mut self.established {
            if self.wanted.contains_key(peer) {
                established.last_wanted = now;
            } else if now - established.last_wanted > LINKLESS_MAX {
                linkless.push(*peer);
            }
        }
        for peer in linkless {
            tracing::debug!(%peer, "a control connection without a data connection is closed");
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn has_listeners_of_gossip(&self) -> bool {
        let topic = self.topic.hash();
        self.swarm.behaviour().gossipsub.all_peers().any(|(_, topics)| topics.contains(&&topic))
    }

    fn publish(&mut self, status: &watch::Receiver<Option<Status>>) {
        let Some(message) = status.borrow().as_ref().map(|status| self.gossip.seal(status)) else { return };
        let published = self.swarm.behaviour_mut().gossipsub.publish(self.topic.clone(), message);
        self.unsent = matches!(published, Err(gossipsub::PublishError::NoPeersSubscribedToTopic));
        match published {
            Ok(_) | Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => {}
            Err(error) => tracing::debug!(%error, "a status was not gossiped"),
        }
    }

    #[allow(clippy::wildcard_enum_match_arm)] // libp2p has more events than anyone needs.
    fn on_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>, carrier: &Carrier) {
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listeners.insert(address, listener_id);
                self.update_listen_addresses(carrier);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.listeners.remove(&address);
                self.update_listen_addresses(carrier);
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                tracing::error!(?reason, "the control plane no longer listens; restart the program");
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                let now = Instant::now();
                self.established.entry(peer_id).or_insert(Established { since: now, last_wanted: now });
                if let Some(wanted) = self.wanted.get_mut(&peer_id) {
                    (wanted.failures, wanted.due) = (0, now);
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "control connection closed");
                if let Some(established) = self.established.remove(&peer_id) {
                    carrier.control_lost(&peer_id, established.since);
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, .. } => {
                tracing::debug!(peer = ?peer_id, %error, "a control connection failed");
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(address = %send_back_addr, %error, "an incoming control connection failed");
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event, carrier),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent, carrier: &Carrier) {
        match event {
            BehaviourEvent::Mdns(mdns::Event::Discovered(found)) => {
                for (peer, address) in found {
                    offer(carrier, peer, &address);
                }
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                for address in info.listen_addrs.iter().take(ADDRESSES_PER_HINT_MAX) {
                    // Everyone has a loopback address, and it is never the right one from elsewhere.
                    if socket_address(address).is_some_and(|address| !address.ip().is_loopback()) {
                        offer(carrier, peer_id, address);
                    }
                }
            }
            BehaviourEvent::Gossipsub(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            }) => {
                let acceptance = self.on_gossip(&message, carrier);
                self.swarm.behaviour_mut().gossipsub.report_message_validation_result(
                    &message_id,
                    &propagation_source,
                    acceptance,
                );
            }
            BehaviourEvent::Mdns(mdns::Event::Expired(_))
            | BehaviourEvent::Identify(_)
            | BehaviourEvent::Gossipsub(_) => {}
        }
    }

    fn on_gossip(&mut self, message: &gossipsub::Message, carrier: &Carrier) -> MessageAcceptance {
        // Strict validation rules out messages without an author.
        let Some(author) = message.source else { return MessageAcceptance::Reject };
        match self.gossip.open(author, &message.data, Instant::now()) {
            Ok(status) => {
                if carrier.events().try_send(Event::Status { status }).is_err() {
                    tracing::debug!("a status was dropped: the owner of the mesh is busy");
                }
                MessageAcceptance::Accept
            }
            Err(GossipError::TooOften) => MessageAcceptance::Ignore,
            Err(error) => {
                tracing::debug!(%author, %error, "gossip rejected");
                MessageAcceptance::Reject
            }
        }
    }

    fn update_listen_addresses(&self, carrier: &Carrier) {
        let mut addresses: Vec<SocketAddr> = self.listeners.keys().filter_map(socket_address).collect();
        for address in &addresses {
            carrier.dialler().own(*address);
        }
        // A link-local IPv6 address means nothing on another machine.
        addresses.retain(|address| !matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()));
        // Loopback is of use only if there is nothing else: a demo on one machine.
        if addresses.iter().any(|address| !address.ip().is_loopback()) {
            addresses.retain(|address| !address.ip().is_loopback());
        }
        addresses.sort_unstable();
        tracing::debug!(?addresses, "listening");
        *self.listen_addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }
}

fn offer(carrier: &Carrier, peer: PeerId, address: &Multiaddr) {
    if let Some(address) = socket_address(address) {
        carrier.dialler().offer(address, Whom::Peer(peer), Source::Network);
    }
}
