//! The transport of the control plane: TCP, TLS with the organisation's CA from the first byte on, yamux.
//!
//! libp2p's own TLS accepts any self-signed key, and its way of agreeing on a security protocol talks in clear
//! before. Here a stranger sees a TLS handshake fail and nothing else.

use crate::{
    certificate::Member,
    limits::HANDSHAKE_TIMEOUT,
    refusals::Refusals,
    tls::{ALPN_CONTROL, SERVER_NAME, Tls},
    trust::{Distrust, Verdict, distrust},
};
use futures::{AsyncRead, AsyncWrite};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::{
    Multiaddr, PeerId, Transport,
    core::{
        connection::ConnectedPoint,
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade},
    },
    multiaddr::Protocol,
    tcp, yamux,
};
use rustls_pki_types::{CertificateDer, ServerName};
use std::{io, net::SocketAddr, sync::Arc};

/// Makes control connections for nodes of one site.
#[derive(Clone)]
struct Upgrade {
    tls: Tls,
    site: String,
    refusals: Arc<Refusals>,
}

/// The transport for nodes of `site`.
pub(crate) fn transport(tls: Tls, site: String, refusals: Arc<Refusals>) -> Boxed<(PeerId, StreamMuxerBox)> {
    let upgrade = Upgrade { tls, site, refusals };
    let secured = tcp::tokio::Transport::new(tcp::Config::new())
        .and_then(move |socket, point| upgrade.secure(socket, point))
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    TransportTimeout::new(secured, HANDSHAKE_TIMEOUT).boxed()
}

/// The IP address and TCP port of a libp2p address that has nothing else in it.
#[allow(clippy::wildcard_enum_match_arm)] // libp2p knows forty more kinds.
pub(crate) fn socket_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else { return None };
    match parts.next() {
        None | Some(Protocol::P2p(_)) => Some(SocketAddr::new(ip, port)),
        Some(_) => None,
    }
}

/// The other way round.
pub(crate) fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

impl Upgrade {
    async fn secure<S>(
        self,
        socket: S,
        point: ConnectedPoint,
    ) -> io::Result<(PeerId, yamux::Muxer<TlsStream<S>>)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let dialled = point.is_dialer();
        let secured = if dialled { self.connect(socket).await } else { self.accept(socket).await };
        let (peer, stream) = secured.map_err(|reason| {
            if let Some(address) = socket_address(point.get_remote_address()) {
                self.tell(address, &reason);
            }
            io::Error::other(reason)
        })?;
        let yamux = yamux::Config::default();
        let muxer = match dialled {
            true => yamux.upgrade_outbound(stream, "").await?,
            false => yamux.upgrade_inbound(stream, "").await?,
        };
        Ok((peer, muxer))
    }

    async fn connect<S>(&self, socket: S) -> Result<(PeerId, TlsStream<S>), Distrust>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (config, verdict) = self.tls.client(ALPN_CONTROL).map_err(|error| distrust(&error))?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| Distrust::Tls(error.to_string()))?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await;
        let stream = stream.map_err(|error| failed(&error, &verdict))?;
        let peer = self.admit(stream.get_ref().1.peer_certificates())?;
        Ok((peer, TlsStream::Client(stream)))
    }

    async fn accept<S>(&self, socket: S) -> Result<(PeerId, TlsStream<S>), Distrust>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (config, verdict) = self.tls.server(ALPN_CONTROL).map_err(|error| distrust(&error))?;
        let stream = TlsAcceptor::from(Arc::new(config)).accept(socket).await;
        let stream = stream.map_err(|error| failed(&error, &verdict))?;
        let peer = self.admit(stream.get_ref().1.peer_certificates())?;
        Ok((peer, TlsStream::Server(stream)))
    }

    /// Whom a verified certificate names, if it is one of this site.
    fn admit(&self, chain: Option<&[CertificateDer<'_>]>) -> Result<PeerId, Distrust> {
        let leaf = chain.and_then(<[_]>::first).ok_or(Distrust::NoCertificate)?;
        let member = Member::of(leaf)?;
        if member.identity.site != self.site {
            return Err(Distrust::OtherSite(member.identity.site));
        }
        Ok(member.peer)
    }

    /// Port scanners and dropped connections are no news; certificates are.
    fn tell(&self, address: SocketAddr, reason: &Distrust) {
        if matches!(reason, Distrust::Tls(_)) {
            tracing::debug!(%address, %reason, "a control connection failed");
        } else {
            self.refusals.report(address, reason);
        }
    }
}

/// Why TLS did not come about.
fn failed(error: &io::Error, verdict: &Verdict) -> Distrust {
    if let Some(distrust) = verdict.distrust() {
        return distrust;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error) => distrust(error),
        None => Distrust::Tls(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_understood() {
        for (text, expected) in [
            ("/ip4/10.0.0.7/tcp/8740", Some("10.0.0.7:8740")),
            ("/ip6/fe80::1/tcp/8740", Some("[fe80::1]:8740")),
            ("/dns4/evil.example/tcp/8740", None),
            ("/ip4/10.0.0.7/udp/8740/quic-v1", None),
            ("/ip4/10.0.0.7/tcp/8740/ws", None),
            ("/ip4/10.0.0.7", None),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(socket_address(&address), expected.map(|text| text.parse().unwrap()), "{text}");
        }
        let address = "10.0.0.7:8740".parse().unwrap();
        assert_eq!(socket_address(&multiaddr(address)), Some(address));
    }
}
