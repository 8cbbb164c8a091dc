//! The files below a URL of a cloud, by the client that speaks the provider's protocol.

#![cfg_attr(
    not(any(feature = "s3", feature = "gcs", feature = "azure")),
    allow(unreachable_code, unused_variables, reason = "without a provider nothing is opened")
)]

use super::Purpose;
#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
use super::client;
use crate::{access::Access, address::Provider};
use object_store::{ObjectStore, path::Path, prefix::PrefixStore};
use std::sync::Arc;
use url::Url;

/// A client for the files below `url`; an error says what is wrong with the address or the environment.
pub(super) fn open(
    provider: Provider,
    url: &Url,
    access: &Access,
    purpose: Purpose,
) -> Result<Arc<dyn ObjectStore>, String> {
    let store = match provider {
        #[cfg(feature = "s3")]
        Provider::S3 => client::s3(url, access, purpose)?,
        #[cfg(feature = "gcs")]
        Provider::Gcs => client::gcs(url, access, purpose)?,
        #[cfg(feature = "azure")]
        Provider::Azure => client::azure(url, access, purpose)?,
        #[cfg(test)]
        Provider::Memory => {
            super::memory::named(url.host_str().unwrap_or_default()).ok_or("no test made that cloud")?
        }
        #[allow(unreachable_patterns, reason = "reached where a feature is switched off")]
        other => return Err(format!("this branchmesh was built without support for {other:?}")),
    };
    let prefix = Path::from_url_path(url.path()).map_err(|error| error.to_string())?;
    Ok(if prefix.as_ref().is_empty() { store } else { Arc::new(PrefixStore::new(store, prefix)) })
}
