//! The handle of the network shell: starting, calling, stopping it.

use crate::{
    ask::{self, BlockStream, RequestError},
    book::{Source, Whom},
    carrier::{self, Carrier, Wiring},
    control::{Control, Inputs, ListenAddresses},
    dialler,
    event::Event,
    goodbye::Goodbye,
    identity::Credentials,
    limits::{ADDRESSES_PER_HINT_MAX, COMMANDS_MAX, EVENTS_MAX},
    link::NoteError,
    refusals::Refusals,
};
use branchmesh_wire::{Identity, IndexId, NodeId, Note, Request, Status};
use bytes::Bytes;
use quinn::Connection;
use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// How long `start` waits for the first concrete address.
const ADDRESS_PATIENCE: Duration = Duration::from_secs(2);
/// How long `shutdown` waits for the control plane to say goodbye for both.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// Ports tried when any will do: the one that UDP gets may be taken for TCP.
const PORT_ATTEMPTS: usize = 16;

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// Address and port for both planes: UDP for data, TCP for discovery and gossip. Port 0 takes any.
    pub listen: SocketAddr,
    /// The site, which the certificate must name as well.
    pub site: String,
    /// `host:port` of nodes to begin with; looked up again and again.
    pub bootstrap: Vec<String>,
    /// Whether to look for nodes on the local network.
    pub mdns: bool,
}

/// The mesh could not be started.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// Somebody else listens there.
    #[error("{address} is taken; is another agent running? Otherwise choose another port (setting `listen`)")]
    PortTaken {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Configuration and certificate disagree.
    #[error(
        "the site is {configured:?} in the configuration, but {certified:?} in the certificate; correct one of them"
    )]
    OtherSite {
        /// In the configuration.
        configured: String,
        /// In the certificate.
        certified: String,
    },
    /// TLS, QUIC or libp2p refused its configuration.
    #[error("the network layers cannot be set up: {0}")]
    Setup(io::Error),
}

/// A node's place in the mesh. Dropping it cuts all connections; [`shutdown`](Self::shutdown) says goodbye first.
pub struct Mesh {
    carrier: Arc<Carrier>,
    addresses: ListenAddresses,
    status: watch::Sender<Option<Status>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    control: Mutex<Option<JoinHandle<()>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mesh {
    /// Listens, and begins to look for others. The receiver must be read: while it is full, neighbours wait.
    pub async fn start(
        config: MeshConfig,
        credentials: Credentials,
    ) -> Result<(Self, mpsc::Receiver<Event>), MeshError> {
        let certified = &credentials.identity().site;
        if *certified != config.site {
            return Err(MeshError::OtherSite { configured: config.site, certified: certified.clone() });
        }
        let (socket, address) = bind_both(config.listen)?;
        let (events, owner) = mpsc::channel(EVENTS_MAX);
        let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
        let refusals = Arc::new(Refusals::new(events.clone()));
        let wiring = Wiring { events, control: commands, refusals: refusals.clone() };
        let carrier = Carrier::new(credentials.member(), credentials.tls().clone(), socket, wiring)
            .map_err(MeshError::Setup)?;
        let mut control = Control::new(&credentials, refusals, config.mdns).map_err(MeshError::Setup)?;
        control
            .listen(address)
            .map_err(|error| MeshError::Listen { address, source: io::Error::other(error.to_string()) })?;
        control.wait_for_addresses(&carrier, ADDRESS_PATIENCE).await;

        let addresses = control.listen_addresses();
        let (status, status_updates) = watch::channel(None);
        let (stop, stopped) = oneshot::channel();
        let inputs = Inputs { commands: command_queue, status: status_updates, stop: stopped };
        let control = tokio::spawn(control.run(inputs, carrier.clone()));
        let tasks = vec![
            tokio::spawn(carrier.clone().accept()),
            tokio::spawn(dialler::run(carrier.clone())),
            tokio::spawn(dialler::resolve(carrier.clone(), config.bootstrap)),
        ];
        let (stop, control) = (Mutex::new(Some(stop)), Mutex::new(Some(control)));
        Ok((Self { carrier, addresses, status, stop, control, tasks }, owner))
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        self.carrier.me()
    }

    /// Where this node can be reached now: concrete addresses, without loopback if there is any other.
    #[must_use]
    pub fn listen_addresses(&self) -> Vec<SocketAddr> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the whole site. Only the newest status counts: one that could not be sent yet is replaced.
    pub fn gossip(&self, status: Status) {
        self.status.send_replace(Some(status.bounded()));
    }

    /// Queues a note for a neighbour. Notes arrive in order, or the neighbour is disconnected.
    #[allow(clippy::needless_pass_by_value)] // It is queued: who could say that it is still theirs?
    pub fn note(&self, node: NodeId, note: Note) -> Result<(), NoteError> {
        self.carrier.links().get(node).ok_or(NoteError::NotConnected)?.note(&note)
    }

    /// Asks a neighbour for an index part or for metadata, of at most `limit` bytes.
    pub async fn request_part(
        &self,
        node: NodeId,
        request: Request,
        limit: usize,
    ) -> Result<Bytes, RequestError> {
        ask::bytes(&self.connection(node)?, &request, limit).await
    }

    /// Asks a neighbour for blocks of a release, in ascending order, each with its encoded length.
    pub async fn request_blocks(
        &self,
        node: NodeId,
        release: IndexId,
        blocks: Vec<(u32, u32)>,
    ) -> Result<BlockStream, RequestError> {
        ask::blocks(&self.connection(node)?, release, blocks).await
    }

    /// Says where a node may be found. It is dialled soon, unless it is connected or was just tried.
    pub fn dial(&self, addresses: Vec<SocketAddr>, node: NodeId) {
        for address in addresses.into_iter().take(ADDRESSES_PER_HINT_MAX) {
            self.carrier.dialler().offer(address, Whom::Node(node), Source::Owner);
        }
    }

    /// Hangs up, and does not dial this node for some minutes. It may dial us.
    pub fn disconnect(&self, node: NodeId) {
        self.carrier.dialler().unwanted(node);
        if let Some(link) = self.carrier.links().get(node) {
            link.close(Goodbye::Unwanted);
        }
    }

    /// Sends what was gossiped last, says goodbye to all neighbours, and stops.
    pub async fn shutdown(&self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(stop) = take(&self.stop) {
            // It fails if the control task has ended already.
            let _ = stop.send(());
        }
        if let Some(mut control) = take(&self.control)
            && timeout(SHUTDOWN_PATIENCE, &mut control).await.is_err()
        {
            control.abort();
        }
        self.carrier.close().await;
    }

    fn connection(&self, node: NodeId) -> Result<Connection, RequestError> {
        let link = self.carrier.links().get(node).ok_or(RequestError::NotConnected)?;
        Ok(link.connection().clone())
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.carrier.endpoint().close(Goodbye::Stopping.code(), &[]);
        for task in &self.tasks {
            task.abort();
        }
        if let Some(control) = take(&self.control) {
            control.abort();
        }
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("identity", self.identity()).finish_non_exhaustive()
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A UDP socket on `address` whose port is free for TCP as well.
fn bind_both(address: SocketAddr) -> Result<(UdpSocket, SocketAddr), MeshError> {
    let mut attempts = PORT_ATTEMPTS;
    loop {
        attempts -= 1;
        let bound = carrier::bind(address).and_then(|socket| {
            let actual = socket.local_addr()?;
            // libp2p shares ports with whoever allows it; this probe does not.
            drop(TcpListener::bind(actual)?);
            Ok((socket, actual))
        });
        match bound {
            Ok(bound) => return Ok(bound),
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                return Err(MeshError::Listen { address, source: error });
            }
            Err(_) if address.port() == 0 && attempts > 0 => {}
            Err(_) => return Err(MeshError::PortTaken { address }),
        }
    }
}
