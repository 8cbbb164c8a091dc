//! Members and outsiders that break the rules.

use crate::support::{IdentityFiles, Node, Organisation, PATIENCE};
use branchmesh_mesh::Event;
use branchmesh_wire::{Hello, Message, Note, Refusal, Request, ResponseHead, limits::WIRE_VERSION};
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, crypto::rustls::QuicClientConfig};
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
};
use tokio::time::timeout;

/// A quinn client made by hand. It takes any server, so that tests see what the server does.
pub struct Outsider {
    endpoint: Endpoint,
    config: quinn::ClientConfig,
}

impl Outsider {
    pub fn new(identity: Option<&IdentityFiles>) -> Self {
        let tls = QuicClientConfig::try_from(tls_client(identity, b"branchmesh/1")).unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { endpoint, config: quinn::ClientConfig::new(Arc::new(tls)) }
    }

    pub fn address(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, ConnectionError> {
        self.endpoint.connect_with(self.config.clone(), address, "node.invalid").unwrap().await
    }

    /// A member in good standing so far: greeted, and connected.
    async fn connect_and_greet(&self, address: SocketAddr) -> Neighbour {
        let connection = self.connect(address).await.unwrap();
        let mut notes = connection.open_uni().await.unwrap();
        notes.write_all(&framed(&Hello::new("by hand"))).await.unwrap();
        let mut their_notes = connection.accept_uni().await.unwrap();
        let hello = Hello::from_bytes(&read_frame(&mut their_notes).await).unwrap();
        assert_eq!(hello.version, WIRE_VERSION);
        Neighbour { connection, notes, _their_notes: their_notes }
    }
}

struct Neighbour {
    connection: Connection,
    notes: quinn::SendStream,
    _their_notes: RecvStream,
}

/// The TLS configuration of an outsider, with or without a certificate.
pub fn tls_client(identity: Option<&IdentityFiles>, alpn: &[u8]) -> rustls::ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(DangerousAnyServer(provider)));
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(files) => {
            let chain = CertificateDer::pem_file_iter(files.path("node.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_file(files.path("node.key")).unwrap();
            builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[derive(Debug)]
struct DangerousAnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for DangerousAnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let body = message.to_bytes();
    [&(body.len() as u32).to_le_bytes()[..], &body].concat()
}

async fn read_frame(stream: &mut RecvStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await.unwrap();
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut body).await.unwrap();
    body
}

fn close_code(error: &ConnectionError) -> Option<u64> {
    match error {
        ConnectionError::ApplicationClosed(close) => Some(close.error_code.into()),
        _ => None,
    }
}

const PROTOCOL_FAULT: u64 = 5;

#[tokio::test]
async fn notes_that_break_the_protocol_end_the_connection() {
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;
    let files = organisation.issue("pc-2", "lyon");
    let id = files.load().identity().node;
    let outsider = Outsider::new(Some(&files));
    let just_too_long = u32::try_from(Note::MAX + 1).unwrap().to_le_bytes();
    for bytes in [&u32::MAX.to_le_bytes()[..], &just_too_long, &[3, 0, 0, 0, 255, 255, 255], &[0, 0, 0, 0]] {
        let mut neighbour = outsider.connect_and_greet(node.address()).await;
        node.connected(id).await;
        neighbour.notes.write_all(bytes).await.unwrap();
        // The length alone is enough: nothing was waited for, so nothing was allocated.
        let error = neighbour.connection.closed().await;
        assert_eq!(close_code(&error), Some(PROTOCOL_FAULT), "{bytes:?}: {error}");
        assert_eq!(node.disconnected(id).await, "a message broke the protocol");
    }
}

#[tokio::test]
async fn requests_that_break_the_protocol_are_refused_alone() {
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;
    let files = organisation.issue("pc-2", "lyon");
    let neighbour = Outsider::new(Some(&files)).connect_and_greet(node.address()).await;
    for bytes in [&u32::MAX.to_le_bytes()[..], &[3, 0, 0, 0, 255, 255, 255], &[0, 0, 0, 0]] {
        let (mut send, mut receive) = neighbour.connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        let head = ResponseHead::from_bytes(&read_frame(&mut receive).await).unwrap();
        assert_eq!(head, ResponseHead::Refused(Refusal::Malformed), "{bytes:?}");
    }
    // Endless requests are cut off after the first message, and the connection lives on.
    let (mut send, _receive) = neighbour.connection.open_bi().await.unwrap();
    send.write_all(&framed(&Request::Metadata { name: "root.json".into() })).await.unwrap();
    let (_, _, reply) = node.request().await;
    let flood = async {
        let garbage = vec![0; 1 << 20];
        while send.write_all(&garbage).await.is_ok() {}
    };
    timeout(PATIENCE, flood).await.expect("the stream was never stopped");
    reply.refuse(Refusal::NotHere).await;
    assert_eq!(neighbour.connection.close_reason(), None);
}

#[tokio::test]
async fn a_greeting_of_another_version_is_answered_with_goodbye() {
    const OTHER_VERSION: u64 = 4;
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;
    let files = organisation.issue("pc-2", "lyon");
    let connection = Outsider::new(Some(&files)).connect(node.address()).await.unwrap();
    let mut notes = connection.open_uni().await.unwrap();
    let hello = Hello { version: WIRE_VERSION + 1, program: "from the future".into() };
    notes.write_all(&framed(&hello)).await.unwrap();
    assert_eq!(close_code(&connection.closed().await), Some(OTHER_VERSION));
    let (_, reason) = node.refused().await;
    assert!(reason.contains("version 2"), "{reason}");
    assert!(node.leftovers().is_empty());
}

#[tokio::test]
async fn a_member_that_does_not_greet_is_let_go() {
    const TOO_SLOW: u64 = 12;
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;
    let files = organisation.issue("pc-2", "lyon");
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(std::time::Duration::from_secs(1)));
    let mut outsider = Outsider::new(Some(&files));
    outsider.config.transport_config(Arc::new(transport));
    let connection = outsider.connect(node.address()).await.unwrap();
    let error = timeout(PATIENCE, connection.closed()).await.unwrap();
    assert_eq!(close_code(&error), Some(TOO_SLOW), "{error}");
    assert!(node.leftovers().is_empty());
}

#[tokio::test]
async fn a_member_that_opens_connections_without_greeting_keeps_nobody_out() {
    const FULL: u64 = 10;
    let organisation = Organisation::new();
    // The node with the higher id waits for the other's greeting; the lower one would see duplicates at once.
    let mut identities = [organisation.issue("pc-a", "lyon"), organisation.issue("pc-b", "lyon")];
    identities.sort_by_key(|files| files.load().identity().node);
    let [files, higher] = identities;
    let mut node = Node::start(higher.load(), &[]).await;
    let outsider = Outsider::new(Some(&files));
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(outsider.connect(node.address()).await.unwrap());
    }
    for connection in &connections[4..] {
        assert_eq!(close_code(&connection.closed().await), Some(FULL));
    }
    let mut other = organisation.start("pc-2", &[&node]).await;
    node.meet(&mut other).await;
}

#[tokio::test]
async fn half_open_handshakes_make_newcomers_prove_their_address_and_keep_nobody_out() {
    const FLOOD: usize = 100;
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;

    // First flights of honest clients, caught before they reach anybody.
    let trap = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let outsiders: Vec<Outsider> = (0..FLOOD).map(|_| Outsider::new(None)).collect();
    let mut first_flights = HashMap::new();
    let mut datagram = vec![0; 2000];
    for outsider in &outsiders {
        let config = outsider.config.clone();
        let _connecting =
            outsider.endpoint.connect_with(config, trap.local_addr().unwrap(), "node.invalid").unwrap();
        while !first_flights.contains_key(&outsider.address()) {
            let (length, from) = trap.recv_from(&mut datagram).await.unwrap();
            first_flights.entry(from).or_insert_with(|| datagram[..length].to_vec());
        }
    }

    // Sent by senders that never answer.
    let mut senders = Vec::new();
    for first_flight in first_flights.values() {
        let sender = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        sender.send_to(first_flight, node.address()).await.unwrap();
        senders.push(sender);
    }
    // RFC 9000, 17.2.5: a Retry packet begins with 0b1111.
    let mut retries = 0;
    for sender in &senders {
        let (_, from) = timeout(PATIENCE, sender.recv_from(&mut datagram)).await.expect("no answer").unwrap();
        assert_eq!(from, node.address());
        retries += usize::from(datagram[0] >> 4 == 0b1111);
    }
    assert!(retries > FLOOD / 2 && retries < FLOOD, "{retries} of {FLOOD}");

    let mut other = organisation.start("pc-2", &[&node]).await;
    node.meet(&mut other).await;
}

#[tokio::test]
async fn garbage_on_the_ports_does_nothing() {
    let organisation = Organisation::new();
    let mut node = organisation.start("pc-1", &[]).await;
    let address = node.address();
    tokio::task::spawn_blocking(move || {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in [0, 1, 20, 1200, 1500] {
            udp.send_to(&vec![0xc5; length], address).unwrap();
        }
        for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x13/multistream/1.0.0\n", &[0; 10_000]] {
            let mut tcp = TcpStream::connect(address).unwrap();
            tcp.set_read_timeout(Some(PATIENCE)).unwrap();
            // The node may hang up in the middle.
            let _ = tcp.write_all(garbage);
            let mut answer = Vec::new();
            let _ = tcp.read_to_end(&mut answer);
            // At most a TLS alert: record type 21, two bytes of version, two of length, two of alert.
            assert!(answer.is_empty() || (answer[0] == 21 && answer.len() == 7), "{answer:?}");
        }
    })
    .await
    .unwrap();
    // Half-open connections are held by nobody for long, and others get in meanwhile.
    let _half_open: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut other = organisation.start("pc-2", &[&node]).await;
    node.meet(&mut other).await;
    let leftovers = node.leftovers();
    assert!(!leftovers.iter().any(|event| matches!(event, Event::Refused { .. })), "{leftovers:?}");
}
