//! TLS configurations for both planes: mutual, TLS 1.3 only, no resumption, no early data.
//!
//! Each handshake gets a configuration of its own, which costs some pointers, so that its failure can be
//! explained. Without resumption every connection shows its certificate: an expired one cannot live on in tickets.

use crate::trust::{Trust, Verdict, Verifier};
use rustls::{
    ClientConfig, Error, ServerConfig,
    client::Resumption,
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use std::sync::Arc;

/// Protocol of the data plane.
pub(crate) const ALPN_DATA: &[u8] = b"branchmesh/1";
/// Protocol of the control plane: a handshake for one plane is of no use on the other.
pub(crate) const ALPN_CONTROL: &[u8] = b"branchmesh-control/1";
/// Nodes have no names; TLS clients must give one. It is not sent.
pub(crate) const SERVER_NAME: &str = "node.branchmesh.invalid";

/// This node's side of TLS.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    trust: Arc<Trust>,
    own: Arc<SingleCertAndKey>,
}

impl Tls {
    /// Shows `own` to peers and believes `trust`.
    pub(crate) fn new(trust: Arc<Trust>, own: Arc<CertifiedKey>) -> Self {
        Self { trust, own: Arc::new(SingleCertAndKey::from(own)) }
    }

    /// Whom it believes.
    pub(crate) fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// For one outgoing handshake.
    pub(crate) fn client(&self, alpn: &[u8]) -> Result<(ClientConfig, Verdict), Error> {
        let (verifier, verdict) = Verifier::new(self.trust.clone());
        let mut config = ClientConfig::builder_with_provider(self.trust.provider().clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.enable_sni = false;
        config.resumption = Resumption::disabled();
        Ok((config, verdict))
    }

    /// For one incoming handshake.
    pub(crate) fn server(&self, alpn: &[u8]) -> Result<(ServerConfig, Verdict), Error> {
        let (verifier, verdict) = Verifier::new(self.trust.clone());
        let mut config = ServerConfig::builder_with_provider(self.trust.provider().clone())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.own.clone());
        config.alpn_protocols = vec![alpn.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((config, verdict))
    }
}
