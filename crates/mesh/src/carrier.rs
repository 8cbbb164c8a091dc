//! The data plane: one quinn endpoint, incoming handshakes, and what all links share.

use crate::{
    certificate::Member,
    control::Command,
    dialler::Dialler,
    event::Event,
    goodbye::{self, Goodbye, own_alert, refused_with_alert},
    greeting::{Greeters, Outcome, greet},
    limits::{
        HANDSHAKES_BEFORE_RETRY, HANDSHAKES_MAX, IDLE_TIMEOUT, INCOMING_BUFFER, INCOMING_MAX, KEEP_ALIVE,
        MTU_MAX, PACKETS_PER_ACK, RECEIVE_WINDOW, REQUESTS_MAX, SEND_WINDOW, SOCKET_BUFFER, STREAM_WINDOW,
        STREAMS_PER_PEER_MAX,
    },
    links::Links,
    refusals::Refusals,
    tls::{ALPN_DATA, SERVER_NAME, Tls},
    trust::{Distrust, Verdict, alert_words},
};
use branchmesh_wire::Identity;
use libp2p::PeerId;
use quinn::{
    AckFrequencyConfig, ConnectionError, Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig,
    TokioRuntime, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

/// A control connection may be seen this much before the link that it belongs to.
const CONTROL_AHEAD: Duration = Duration::from_millis(500);
/// How long a stopping program waits for its goodbye to arrive.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);
/// TLS alert of RFC 8446 for a client without a certificate.
const ALERT_CERTIFICATE_REQUIRED: u8 = 116;

/// What links, dialler and control plane share.
#[derive(Debug)]
pub(crate) struct Carrier {
    me: Identity,
    tls: Tls,
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    links: Links,
    dialler: Dialler,
    greeters: Greeters,
    refusals: Arc<Refusals>,
    events: mpsc::Sender<Event>,
    control: mpsc::Sender<Command>,
    places: Arc<Semaphore>,
}

/// Where the parts of a carrier report to.
pub(crate) struct Wiring {
    /// The owner of the mesh.
    pub(crate) events: mpsc::Sender<Event>,
    /// The control plane.
    pub(crate) control: mpsc::Sender<Command>,
    /// Refused peers.
    pub(crate) refusals: Arc<Refusals>,
}

impl Carrier {
    /// Serves and dials on `socket`.
    pub(crate) fn new(
        me: &Member,
        tls: Tls,
        socket: UdpSocket,
        wiring: Wiring,
    ) -> Result<Arc<Self>, io::Error> {
        let transport = Arc::new(transport_config());
        let (server, _) = tls.server(ALPN_DATA).map_err(io::Error::other)?;
        let server = server_config(server, &transport)?;
        let endpoint =
            Endpoint::new(EndpointConfig::default(), Some(server), socket, Arc::new(TokioRuntime))?;
        Ok(Arc::new(Self {
            dialler: Dialler::new(me, endpoint.local_addr()?),
            me: me.identity.clone(),
            tls,
            endpoint,
            transport,
            links: Links::default(),
            greeters: Greeters::default(),
            refusals: wiring.refusals,
            events: wiring.events,
            control: wiring.control,
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
        }))
    }

    pub(crate) fn me(&self) -> &Identity {
        &self.me
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    pub(crate) fn dialler(&self) -> &Dialler {
        &self.dialler
    }

    pub(crate) fn greeters(&self) -> &Greeters {
        &self.greeters
    }

    pub(crate) fn events(&self) -> &mpsc::Sender<Event> {
        &self.events
    }

    pub(crate) fn control(&self) -> &mpsc::Sender<Command> {
        &self.control
    }

    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        &self.places
    }

    /// Accepts connections until the endpoint is closed.
    pub(crate) async fn accept(self: Arc<Self>) {
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX as usize));
        while let Some(incoming) = self.endpoint.accept().await {
            let in_progress = HANDSHAKES_MAX as usize - handshakes.available_permits();
            if in_progress >= HANDSHAKES_BEFORE_RETRY as usize && incoming.may_retry() {
                // It comes back with a token that proves its address, if there is anybody. `may_retry` was asked.
                let _ = incoming.retry();
                continue;
            }
            match handshakes.clone().try_acquire_owned() {
                Ok(place) => drop(tokio::spawn(self.clone().welcome(incoming, place))),
                // Without an answer: a flood with false senders must not make us one of its weapons.
                Err(_) => incoming.ignore(),
            }
        }
    }

    /// Dials the data plane at `address`.
    pub(crate) async fn dial(self: &Arc<Self>, address: SocketAddr) -> Outcome {
        let outcome = self.try_dial(address).await.unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        if let Outcome::Refused(reason) = &outcome {
            self.refusals.report(address, reason);
        }
        outcome
    }

    /// The last libp2p connection to `peer`, made at `since`, is gone: so is the process behind it, most likely.
    pub(crate) fn control_lost(&self, peer: &PeerId, since: Instant) {
        let Some(link) = self.links.of_peer(peer) else { return };
        // A younger link belongs to the next life of the peer.
        if link.since() <= since + CONTROL_AHEAD {
            link.close(Goodbye::ControlLost);
        }
    }

    /// Says goodbye to all neighbours.
    pub(crate) async fn close(&self) {
        self.endpoint.close(Goodbye::Stopping.code(), &[]);
        // Waits until they have heard it, or have had the time to.
        let _ = timeout(GOODBYE_PATIENCE, self.endpoint.wait_idle()).await;
    }

    async fn try_dial(self: &Arc<Self>, address: SocketAddr) -> io::Result<Outcome> {
        let (client, verdict) = self.tls.client(ALPN_DATA).map_err(io::Error::other)?;
        let client = QuicClientConfig::try_from(client).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(client));
        config.transport_config(self.transport.clone());
        let connecting =
            self.endpoint.connect_with(config, address, SERVER_NAME).map_err(io::Error::other)?;
        Ok(match connecting.await {
            Ok(connection) => greet(self, connection, true).await,
            Err(error) => handshake_failed(&error, &verdict),
        })
    }

    async fn welcome(self: Arc<Self>, incoming: Incoming, place: OwnedSemaphorePermit) {
        let address = incoming.remote_address();
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let outcome = self
            .try_welcome(incoming, place)
            .await
            .unwrap_or_else(|error| Outcome::Failed(error.to_string()));
        match outcome {
            Outcome::Refused(reason) => self.refusals.report(address, &reason),
            Outcome::Failed(reason) => tracing::debug!(%address, %reason, "an incoming connection failed"),
            Outcome::Joined(_) | Outcome::Duplicate(_) | Outcome::Myself => {}
        }
    }

    async fn try_welcome(
        self: &Arc<Self>,
        incoming: Incoming,
        place: OwnedSemaphorePermit,
    ) -> io::Result<Outcome> {
        let (server, verdict) = self.tls.server(ALPN_DATA).map_err(io::Error::other)?;
        let server = server_config(server, &self.transport)?;
        let connecting = match incoming.accept_with(Arc::new(server)) {
            Ok(connecting) => connecting,
            Err(error) => return Ok(handshake_failed(&error, &verdict)),
        };
        let connected = connecting.await;
        // From here on it is a member, whose connections are counted as such.
        drop(place);
        Ok(match connected {
            Ok(connection) => greet(self, connection, false).await,
            Err(error) => handshake_failed(&error, &verdict),
        })
    }
}

/// Binds the data plane's socket.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        // One socket for both families; Windows and some Linux settings need to be told.
        socket.set_only_v6(false)?;
    }
    // Systems cap these (Linux: net.core.rmem_max); smaller buffers only cost speed.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn transport_config() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU_MAX);
    let idle = IdleTimeout::try_from(IDLE_TIMEOUT).expect("some seconds are a valid idle time-out");
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(PACKETS_PER_ACK - 1));
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_PER_PEER_MAX))
        // The notes.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(idle))
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks))
        .allow_spin(false);
    config
}

fn server_config(
    tls: rustls::ServerConfig,
    transport: &Arc<TransportConfig>,
) -> io::Result<quinn::ServerConfig> {
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config
        .transport_config(transport.clone())
        // PCs of a branch do not roam within a connection; a new address makes a new one.
        .migration(false)
        .max_incoming(INCOMING_MAX)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER * INCOMING_MAX as u64);
    Ok(config)
}

/// Why TLS did not come about.
fn handshake_failed(error: &ConnectionError, verdict: &Verdict) -> Outcome {
    if let Some(distrust) = verdict.distrust() {
        return Outcome::Refused(distrust);
    }
    if own_alert(error) == Some(ALERT_CERTIFICATE_REQUIRED) {
        return Outcome::Refused(Distrust::NoCertificate);
    }
    if let Some(alert) = refused_with_alert(error) {
        return Outcome::Refused(Distrust::RefusedUs(alert_words(alert)));
    }
    Outcome::Failed(goodbye::words(error))
}
