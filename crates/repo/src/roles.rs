//! Looking after a repository's roles: fresh signatures, new keys, groups, and changes that several people sign.

use crate::{
    address::Address,
    keys::Keys,
    metadata::{Metadata, MetadataError, Outcome, Staged},
    place::Place,
    role::{RoleName, Threshold},
};
use std::collections::BTreeMap;

/// What a refresh came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// The version of the new timestamp.
    pub version: u64,
    /// The roles of releases, and root, that were signed anew.
    pub renewed: Vec<RoleName>,
    /// Roles that expire soon, and cannot be signed with the keys at hand.
    pub due: Vec<RoleName>,
}

/// Signs the timestamp anew, and with it every role that expires soon and whose keys are at hand. `valid_days` says
/// for how long, where it is not as usual; the roles that it names are signed in any case. Puts changes in force that
/// have all signatures and waited for this.
pub async fn refresh(
    repo: &Address,
    keys: &Keys,
    valid_days: &BTreeMap<RoleName, u32>,
) -> Result<Refreshed, MetadataError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    if metadata.finish_staged().await?.is_some() {
        metadata = Metadata::load(&place, keys).await?;
    }
    metadata.set_valid_days(valid_days)?;
    let (renewed, due) = metadata.renew_due().await?;
    let outcome = metadata.commit_here().await?;
    Ok(Refreshed { version: outcome, renewed, due })
}

/// Makes the role of a group. Its keys, signing and content, are made in the folder of `team`.
pub async fn delegate(
    repo: &Address,
    keys: &Keys,
    group: &str,
    team: &Keys,
    threshold: Threshold,
) -> Result<Outcome, MetadataError> {
    let role = RoleName::group(group)?;
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    if metadata.has_group(group) {
        return Err(MetadataError::GroupExists { group: group.into() });
    }
    metadata.check_may_change(&RoleName::Targets).await?;
    metadata.delegate(group, &team.role_keys(&role, threshold.keys())?, threshold)?;
    team.group(group, false)?;
    team.add_root_json(&keys.read_root_json()?)?;
    metadata.commit().await
}

/// Gives `role` other keys, those in the folder of `new`, which are made where they are missing; as many, and as many
/// of them needed, as before, unless `threshold` says otherwise.
pub async fn rotate(
    repo: &Address,
    keys: &Keys,
    role: &RoleName,
    new: &Keys,
    threshold: Option<Threshold>,
) -> Result<Outcome, MetadataError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    let mut metadata = Metadata::load(&place, keys).await?;
    let owner = if matches!(role, RoleName::Group(_)) { RoleName::Targets } else { RoleName::Root };
    metadata.check_may_change(&owner).await?;
    let threshold = match threshold {
        Some(threshold) => threshold,
        None => metadata.threshold(role)?,
    };
    let keys_of_role = match new.folder() == keys.folder() {
        true => new.more_role_keys(role, threshold.keys())?,
        false => new.role_keys(role, threshold.keys())?,
    };
    metadata.rekey(role, &keys_of_role, threshold)?;
    new.add_root_json(&keys.read_root_json()?)?;
    metadata.commit().await
}

/// Adds signatures to the changes that wait for them, after `show` has shown what they are, and puts in force what is
/// complete then.
pub async fn sign(repo: &Address, keys: &Keys, show: impl FnOnce(&Staged)) -> Result<Outcome, MetadataError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    Metadata::load(&place, keys).await?.sign_staged(show).await
}

/// Takes back all changes that wait for signatures; their files.
pub async fn drop_staged(repo: &Address) -> Result<Vec<String>, MetadataError> {
    let place = Place::open(repo)?;
    let _lock = place.lock()?;
    Metadata::drop_staged(&place).await
}
