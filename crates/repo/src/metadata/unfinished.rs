//! A change of keys that was killed half way: the new root is there, and what it vouches for is not.
//!
//! This can only happen where the old keys were gone, so that nothing could be signed with both. Readers stay with
//! what they have. Here, the state before is read under the root before, to be signed with the new keys.

use super::{Metadata, MetadataError, keys_of};
use crate::{
    layout::{self, METADATA_MAX},
    new_roots::NewRoots,
    role::RoleName,
    source::{MetadataSource, SourceError},
    trust::load_once,
    tuf::{Files, ROOT_UPDATES_MAX, TrustError, Verified},
};
use async_trait::async_trait;
use bytes::Bytes;
use tough::schema::{Root, Signed};

/// Loads the state in force; with the root that it does not match yet, if there is one.
pub(super) async fn load(
    anchor: &[u8],
    source: &dyn MetadataSource,
) -> Result<(Verified, Option<Signed<Root>>), TrustError> {
    let error = match load_once(anchor, source).await {
        Ok(verified) => return Ok((verified, None)),
        Err(error @ TrustError::BadSignature { .. }) => error,
        Err(error) => return Err(error),
    };
    let roots = NewRoots::after(anchor, &all_roots(anchor, source).await?);
    let Some(newest) = roots.newest().and_then(|bytes| serde_json::from_slice::<Signed<Root>>(bytes).ok())
    else {
        return Err(error);
    };
    let hidden = RoleName::Root.versioned_file(newest.signed.version);
    match load_once(anchor, &Without { hidden, below: source }).await {
        Ok(verified) => Ok((verified, Some(newest))),
        Err(_) => Err(error),
    }
}

impl Metadata {
    /// Lets everything be signed anew that the interrupted change of keys left with the old signatures.
    pub(super) fn go_on(&mut self) -> Result<(), MetadataError> {
        let Some(root) = &self.unfinished else { return Ok(()) };
        let keys = keys_of(&RoleName::Targets, &root.signed, None);
        let targets = self.in_force.roles.get(&RoleName::Targets);
        let is_valid = keys.zip(targets).is_some_and(|(keys, targets)| keys.is_met(targets));
        if is_valid { Ok(()) } else { self.renew(&RoleName::Targets) }
    }
}

async fn all_roots(anchor: &[u8], source: &dyn MetadataSource) -> Result<Files, TrustError> {
    let mut roots = Files::new();
    let first = serde_json::from_slice::<Signed<Root>>(anchor).map_or(1, |root| root.signed.version.get());
    for version in (first..first.saturating_add(ROOT_UPDATES_MAX)).skip(1) {
        let name = format!("{version}.{}", layout::ROOT);
        let Some(bytes) = source.metadata(&name, METADATA_MAX).await? else { break };
        roots.insert(name, bytes);
    }
    Ok(roots)
}

/// A source without one of its files.
struct Without<'a> {
    hidden: String,
    below: &'a dyn MetadataSource,
}

#[async_trait]
impl MetadataSource for Without<'_> {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        if name == self.hidden { Ok(None) } else { self.below.metadata(name, max).await }
    }
}
