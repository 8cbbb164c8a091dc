//! The first metadata of a repository.

use super::{
    MetadataError, SPEC_VERSION,
    commit::{in_days, unsigned},
    edit::{self, FirstKeys},
    signing::{self, KeySet},
};
use crate::{
    keys::{Keys, Signers},
    layout::{self, ROOT},
    place::Place,
    role::{RoleName, Threshold},
};
use bytes::Bytes;
use std::{collections::BTreeMap, num::NonZeroU64};
use tough::schema::{Role, Root, Snapshot, Targets, Timestamp as TimestampRole};

/// Makes the metadata of a new repository in `place`, with keys that are in `keys` or are made there.
pub(crate) async fn create(
    place: &Place,
    keys: &Keys,
    thresholds: &BTreeMap<RoleName, Threshold>,
) -> Result<(), MetadataError> {
    let mark = place.mark().await?;
    let keys_of_role = |role: RoleName| {
        let threshold = thresholds.get(&role).copied().unwrap_or(Threshold::ONE);
        let keys = keys.role_keys(&role, threshold.keys())?;
        Ok(FirstKeys { role, keys, threshold })
    };
    let named = RoleName::TOP.into_iter().map(keys_of_role).collect::<Result<_, MetadataError>>()?;
    let signers = keys.signers()?;
    let root = Root { expires: in_days(RoleName::Root.valid_days()), ..edit::first_root(named)? };
    let signed = sign_first(&RoleName::Root, root.clone(), &root, &signers).await?;
    keys.write_root_json(&signed)?;
    // Of two who make a repository in one bucket, the second must not put his root over the first one's.
    let file = RoleName::Root.versioned_file(root.version);
    if !place.put_new(&layout::metadata_path(&file), signed.clone()).await? {
        return Err(MetadataError::Overtaken { file });
    }
    place.put(&layout::metadata_path(ROOT), signed.clone()).await?;

    let first = NonZeroU64::MIN;
    let expires = |role: &RoleName| in_days(role.valid_days());
    let targets = Targets { expires: expires(&RoleName::Targets), ..edit::empty_targets() };
    let targets = sign_first(&RoleName::Targets, targets, &root, &signers).await?;
    let mut snapshot = Snapshot::new(SPEC_VERSION.into(), first, expires(&RoleName::Snapshot));
    snapshot.meta.insert(RoleName::Targets.file(), signing::described(&targets, first));
    let snapshot = sign_first(&RoleName::Snapshot, snapshot, &root, &signers).await?;
    let mut timestamp = TimestampRole::new(SPEC_VERSION.into(), first, expires(&RoleName::Timestamp));
    timestamp.meta.insert(RoleName::Snapshot.file(), signing::described(&snapshot, first));
    let timestamp = sign_first(&RoleName::Timestamp, timestamp, &root, &signers).await?;
    for (role, bytes) in [(RoleName::Targets, targets), (RoleName::Snapshot, snapshot)] {
        place.put(&layout::metadata_path(&role.versioned_file(first)), bytes).await?;
    }
    Ok(place.put_timestamp(&mark, timestamp).await?)
}

async fn sign_first<R: Role>(
    name: &RoleName,
    role: R,
    root: &Root,
    signers: &Signers,
) -> Result<Bytes, MetadataError> {
    let mut signed = unsigned(role);
    if let Some(keys) = KeySet::of_root(root, name) {
        keys.sign(&mut signed, signers).await?;
    }
    signing::to_bytes(&signed)
}
