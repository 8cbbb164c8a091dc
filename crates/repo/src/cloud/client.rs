//! One client per provider. What the providers have in common is set here once: certificates, proxy, bounds.

use super::Purpose;
use crate::{
    access::{Access, AccessError, Proxy},
    origin::{CONNECT_MAX, STALL_MAX, root_cause},
};
use object_store::{BackoffConfig, Certificate, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use std::{sync::Arc, time::Duration};
use url::Url;

/// How long one request of a publisher may take: a pack of 32 MiB on a line of 0.5 Mbit/s.
const UPLOAD_MAX: Duration = Duration::from_secs(10 * 60);
/// Retries of a publisher's request, and how long after its beginning the last may start: a server that restarts
/// is back by then. What signs a request is good for minutes, not for longer.
const UPLOAD_RETRIES_MAX: usize = 8;
const UPLOAD_RETRY_MAX: Duration = Duration::from_secs(90);
/// Retries of a reader's request: for an answer that was lost, not for a server that is away.
const READ_RETRIES_MAX: usize = 2;
const READ_RETRY_MAX: Duration = Duration::from_secs(10);
/// The first pause between tries, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(8);
/// Connections that are kept open between requests: as many as ranges are fetched at once.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// A provider's builder, filled from its environment variables, and finished alike for each provider: only where
/// plain HTTP was asked for by the provider's own variable (`AWS_ALLOW_HTTP=true`) is it kept from what the
/// environment says about connections.
macro_rules! client {
    ($builder:expr, $key:path, $url:expr, $access:expr, $purpose:expr) => {{
        let builder = $builder;
        let plain = builder.get_config_value(&$key(ClientConfigKey::AllowHttp));
        let options = options($access, $purpose, plain.is_some_and(|value| value == "true"));
        let built = builder
            .with_url($url.as_str())
            .with_client_options(options.map_err(|error| crate::cloud::in_full(&error))?)
            .with_retry(retries($purpose))
            .build()
            .map_err(|error| root_cause(&error))?;
        Ok(Arc::new(built))
    }};
}

#[cfg(feature = "s3")]
pub(super) fn s3(url: &Url, access: &Access, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
    client!(AmazonS3Builder::from_env(), AmazonS3ConfigKey::Client, url, access, purpose)
}

#[cfg(feature = "gcs")]
pub(super) fn gcs(url: &Url, access: &Access, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
    client!(GoogleCloudStorageBuilder::from_env(), GoogleConfigKey::Client, url, access, purpose)
}

#[cfg(feature = "azure")]
pub(super) fn azure(url: &Url, access: &Access, purpose: Purpose) -> Result<Arc<dyn ObjectStore>, String> {
    use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
    client!(MicrosoftAzureBuilder::from_env(), AzureConfigKey::Client, url, access, purpose)
}

/// How connections are made. Whatever the environment says about certificates is replaced.
fn options(access: &Access, purpose: Purpose, plain_http: bool) -> Result<ClientOptions, AccessError> {
    let agent = concat!("branchmesh/", env!("CARGO_PKG_VERSION"));
    let mut options = ClientOptions::new()
        .with_config(ClientConfigKey::UserAgent, agent)
        .with_connect_timeout(CONNECT_MAX)
        .with_pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .with_allow_http(plain_http);
    options = match purpose {
        Purpose::Reading => options.with_timeout_disabled().with_read_timeout(STALL_MAX),
        Purpose::Publishing => options.with_timeout(UPLOAD_MAX),
    };
    if let Some((path, pem)) = access.ca_pem()? {
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|_| AccessError::Useless { path: path.into(), what: "certificate (PEM)" })?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
        options = options.with_no_system_certificates(true);
    }
    Ok(match access.proxy.url()? {
        Some(url) => options.with_proxy_url(url),
        // object_store has no word for "no proxy": one that is used for no host comes to the same.
        None if access.proxy == Proxy::None => {
            options.with_proxy_url("http://127.0.0.1:9").with_proxy_excludes("*")
        }
        None => options,
    })
}

fn retries(purpose: Purpose) -> RetryConfig {
    let (max_retries, retry_timeout) = match purpose {
        Purpose::Reading => (READ_RETRIES_MAX, READ_RETRY_MAX),
        Purpose::Publishing => (UPLOAD_RETRIES_MAX, UPLOAD_RETRY_MAX),
    };
    let backoff = BackoffConfig { init_backoff: PAUSE_MIN, max_backoff: PAUSE_MAX, base: 2.0 };
    RetryConfig { backoff, max_retries, retry_timeout }
}
