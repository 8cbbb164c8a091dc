//! From changes to a state in force: signing, checking, and writing in the order in which readers stay unharmed.
//!
//! What is written before `timestamp.json` is not looked at by anyone, and that file is replaced in one step, only
//! if nobody else did since this publisher looked. A new root takes effect by being there, so it comes in two steps
//! that are each harmless: first everything is signed with the old keys and the new, then the root is put. Only
//! where the old keys are gone does the root come first; until `timestamp.json` follows, readers then stay with what
//! they have. What a publisher leaves that is killed in between, [`unfinished`](super::unfinished) goes on with.

use super::{
    Metadata, MetadataError, SPEC_VERSION, keys_of,
    signing::{self, KeySet, Missing},
};
use crate::{
    layout::{self, METADATA_MAX, ROOT, TIMESTAMP},
    role::RoleName,
    source::{MetadataSource, SourceError},
    trust::load_once,
    tuf::{ALL_FILES_MAX, Files, TrustError},
};
use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use std::{collections::BTreeMap, num::NonZeroU64};
use tough::schema::{
    Delegations, Metafile, Role, Root, Signed, Snapshot, Targets, Timestamp as TimestampRole,
};

const DAY_SECONDS: i64 = 24 * 60 * 60;
/// Versions that killed publishers may have left behind without putting them in force.
const SKIPPED_MAX: u64 = 1000;
/// The next refresh renews what has less than a third of its time left.
const RENEWAL_PART: i64 = 3;

/// What came of a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The version of the timestamp that put it in force; `None` if it waits.
    pub in_force: Option<u64>,
    /// The signatures that are waited for.
    pub missing: Vec<Missing>,
}

/// Roles that shall come in force together.
#[derive(Clone, Default)]
pub(super) struct Proposal {
    pub(super) root: Option<Signed<Root>>,
    pub(super) roles: BTreeMap<RoleName, Signed<Targets>>,
}

impl Metadata {
    /// Signs the changes, and puts them in force if the keys at hand suffice, or aside if they don't.
    pub(crate) async fn commit(self) -> Result<Outcome, MetadataError> {
        let root = self.next_root.as_ref().map(|_| RoleName::Root);
        self.check_not_pending(self.changes.keys().chain(&root)).await?;
        let proposal = self.sign_changes().await?;
        let missing = self.missing(&proposal);
        if missing.is_empty() {
            let version = self.put_in_force(&proposal).await?;
            return Ok(Outcome { in_force: Some(version), missing });
        }
        self.stage(&proposal).await?;
        if let Err(overtaken) = self.place.check_unchanged(&self.mark).await {
            // gc may have counted what is needed without these releases.
            self.unstage(&proposal).await?;
            return Err(overtaken.into());
        }
        Ok(Outcome { in_force: None, missing })
    }

    /// Signs the changes with the keys at hand, which must suffice; the version of the new timestamp.
    pub(crate) async fn commit_here(self) -> Result<u64, MetadataError> {
        let proposal = self.sign_changes().await?;
        match self.missing(&proposal).into_iter().next() {
            None => self.put_in_force(&proposal).await,
            Some(missing) => Err(MetadataError::NoKey { role: missing.role, named: missing.absent }),
        }
    }

    async fn sign_changes(&self) -> Result<Proposal, MetadataError> {
        let mut proposal = Proposal { root: self.unfinished.clone(), ..Proposal::default() };
        if let Some(root) = &self.next_root {
            let expires = self.expiry(&RoleName::Root);
            let mut signed = unsigned(Root { expires, ..root.clone() });
            // It signs for itself: the proposal says which keys it will have.
            proposal.root = Some(signed.clone());
            self.sign(&RoleName::Root, &mut signed, &proposal).await?;
            proposal.root = Some(signed);
        }
        // Targets come before the groups, whose keys they name.
        for (role, targets) in &self.changes {
            let (version, expires) = (self.free_version(role).await?, self.expiry(role));
            proposal.roles.insert(role.clone(), unsigned(Targets { version, expires, ..targets.clone() }));
        }
        for role in self.changes.keys() {
            let Some(mut signed) = proposal.roles.get(role).cloned() else { continue };
            self.sign(role, &mut signed, &proposal).await?;
            proposal.roles.insert(role.clone(), signed);
        }
        Ok(proposal)
    }

    /// Adds the signatures of the keys at hand: those that `role` has now, and those that it will have.
    pub(super) async fn sign<R: Role>(
        &self,
        role: &RoleName,
        signed: &mut Signed<R>,
        proposal: &Proposal,
    ) -> Result<(), MetadataError> {
        let before = keys_of(role, &self.in_force.root.signed, self.in_force.delegations());
        let after = keys_of(role, self.root_after(proposal), self.delegations_after(proposal));
        for keys in before.iter().chain(&after) {
            keys.sign(signed, &self.signers).await?;
        }
        if signed.signatures.is_empty() {
            let named = after.or(before).map(|keys| keys.ids()).unwrap_or_default();
            return Err(MetadataError::NoKey { role: role.clone(), named });
        }
        Ok(())
    }

    /// The signatures that `proposal` lacks to be put in force here and now.
    pub(super) fn missing(&self, proposal: &Proposal) -> Vec<Missing> {
        let mut missing = Vec::new();
        let root = self.root_after(proposal);
        if let Some(signed) = &proposal.root {
            let old = KeySet::of_root(&self.in_force.root.signed, &RoleName::Root);
            let new = KeySet::of_root(root, &RoleName::Root);
            missing.extend(old.into_iter().chain(new).find_map(|keys| keys.missing(&RoleName::Root, signed)));
        }
        let delegations = self.delegations_after(proposal);
        let unchanged = self.in_force.roles.iter().filter(|(role, _)| !proposal.roles.contains_key(role));
        for (role, signed) in proposal.roles.iter().chain(unchanged) {
            let Some(keys) = keys_of(role, root, delegations) else {
                missing.push(Missing { role: role.clone(), signed: 0, needed: 1, absent: Vec::new() });
                continue;
            };
            missing.extend(keys.missing(role, signed));
        }
        let snapshot = self.needs_snapshot(proposal).then_some(RoleName::Snapshot);
        for role in snapshot.into_iter().chain([RoleName::Timestamp]) {
            missing
                .extend(keys_of(&role, root, None).and_then(|keys| keys.missing_here(&role, &self.signers)));
        }
        missing
    }

    /// Writes a complete proposal; the version of the new timestamp.
    pub(super) async fn put_in_force(&self, proposal: &Proposal) -> Result<u64, MetadataError> {
        let mut files = Files::new();
        let snapshot = match self.needs_snapshot(proposal) {
            false => self.in_force.snapshot_file.clone(),
            true => self.new_snapshot(proposal, &mut files).await?,
        };
        let timestamp = next(&RoleName::Timestamp, self.in_force.timestamp.get())?;
        let mut role = TimestampRole::new(SPEC_VERSION.into(), timestamp, self.expiry(&RoleName::Timestamp));
        role.meta.insert("snapshot.json".into(), snapshot);
        let mut role = unsigned(role);
        self.sign(&RoleName::Timestamp, &mut role, proposal).await?;
        let is_seamless = self.is_valid_for_old_keys(proposal, &role);

        let mut all = files.clone();
        all.insert(TIMESTAMP.into(), signing::to_bytes(&role)?);
        if let Some(root) = &proposal.root {
            all.insert(RoleName::Root.versioned_file(root.signed.version), signing::to_bytes(root)?);
        }
        self.check_readable(&all).await?;
        for (name, bytes) in files {
            self.put_versioned(&name, bytes).await?;
        }
        if !is_seamless {
            self.put_root(proposal).await?;
        }
        let bytes = all.remove(TIMESTAMP).unwrap_or_default();
        self.place.put_timestamp(&self.mark, bytes).await?;
        if is_seamless {
            self.put_root(proposal).await?;
        }
        Ok(timestamp.get())
    }

    /// A snapshot of the state that `proposal` leads to. Adds it and the files that it names to `files`.
    async fn new_snapshot(&self, proposal: &Proposal, files: &mut Files) -> Result<Metafile, MetadataError> {
        let version = self.free_version(&RoleName::Snapshot).await?;
        let mut role = Snapshot::new(SPEC_VERSION.into(), version, self.expiry(&RoleName::Snapshot));
        role.meta.clone_from(&self.in_force.snapshot.signed.meta);
        for (name, signed) in &proposal.roles {
            let bytes = signing::to_bytes(signed)?;
            if bytes.len() > METADATA_MAX {
                return Err(MetadataError::TooLarge { role: name.clone(), bytes: bytes.len() });
            }
            role.meta.insert(name.file(), signing::described(&bytes, signed.signed.version));
            files.insert(name.versioned_file(signed.signed.version), bytes);
        }
        let total: u64 = role.meta.values().filter_map(|file| file.length).sum();
        if total > ALL_FILES_MAX as u64 / 2 {
            return Err(MetadataError::TooLarge { role: RoleName::Snapshot, bytes: total as usize });
        }
        let mut role = unsigned(role);
        self.sign(&RoleName::Snapshot, &mut role, proposal).await?;
        let bytes = signing::to_bytes(&role)?;
        let described = signing::described(&bytes, version);
        files.insert(RoleName::Snapshot.versioned_file(version), bytes);
        Ok(described)
    }

    /// Whether `proposal` changes what the snapshot says, or how it must be signed, or the snapshot is due.
    fn needs_snapshot(&self, proposal: &Proposal) -> bool {
        let keys = keys_of(&RoleName::Snapshot, self.root_after(proposal), None);
        let is_valid = keys.as_ref().is_some_and(|keys| keys.is_met(&self.in_force.snapshot));
        let can_renew = keys.is_some_and(|keys| keys.is_met_by(&self.signers));
        let is_due = self.is_due(&RoleName::Snapshot, self.in_force.snapshot.signed.expires);
        !proposal.roles.is_empty() || !is_valid || (is_due && can_renew)
    }

    /// Whether readers who have not seen the new root accept the state.
    fn is_valid_for_old_keys(&self, proposal: &Proposal, timestamp: &Signed<TimestampRole>) -> bool {
        let is_met = |role, test: &dyn Fn(&KeySet) -> bool| {
            KeySet::of_root(&self.in_force.root.signed, role).is_some_and(|keys| test(&keys))
        };
        let targets = proposal.roles.get(&RoleName::Targets);
        targets.is_none_or(|signed| is_met(&RoleName::Targets, &|keys| keys.is_met(signed)))
            && is_met(&RoleName::Timestamp, &|keys| keys.is_met(timestamp))
            && (!self.needs_snapshot(proposal)
                || is_met(&RoleName::Snapshot, &|keys| keys.is_met_by(&self.signers)))
    }

    /// Fails unless a reader who begins with the root of trust accepts the state that `files` make of the
    /// repository: a mistake must not reach the nodes.
    async fn check_readable(&self, files: &Files) -> Result<(), MetadataError> {
        let overlay = Overlay { files, below: self.place.origin() };
        Ok(load_once(&self.anchor, &overlay).await.map(drop)?)
    }

    async fn put_root(&self, proposal: &Proposal) -> Result<(), MetadataError> {
        let Some(root) = &proposal.root else { return Ok(()) };
        let bytes = signing::to_bytes(root)?;
        self.put_versioned(&RoleName::Root.versioned_file(root.signed.version), bytes.clone()).await?;
        Ok(self.place.put(&layout::metadata_path(ROOT), bytes).await?)
    }

    /// Puts a file that never changes. It may be there already, if a publisher was killed while it put this state
    /// in force.
    async fn put_versioned(&self, name: &str, bytes: Bytes) -> Result<(), MetadataError> {
        let path = layout::metadata_path(name);
        if self.place.put_new(&path, bytes.clone()).await? {
            return Ok(());
        }
        let there = self.place.origin().metadata(name, METADATA_MAX).await.map_err(TrustError::Source)?;
        if there.as_ref() == Some(&bytes) {
            Ok(())
        } else {
            Err(MetadataError::Overtaken { file: name.into() })
        }
    }

    /// The next version of `role` whose file is not there. Killed publishers leave files of versions that never
    /// came in force; these are passed over.
    async fn free_version(&self, role: &RoleName) -> Result<NonZeroU64, MetadataError> {
        let mut version = next(role, self.in_force.version(role))?;
        for _ in 0..SKIPPED_MAX {
            let path = layout::metadata_path(&role.versioned_file(version));
            if self.place.size(&path).await?.is_none() {
                return Ok(version);
            }
            version = next(role, version.get())?;
        }
        Err(MetadataError::Overtaken { file: role.versioned_file(version) })
    }

    pub(super) fn root_after<'a>(&'a self, proposal: &'a Proposal) -> &'a Root {
        proposal.root.as_ref().map_or(&self.in_force.root.signed, |root| &root.signed)
    }

    pub(super) fn delegations_after<'a>(&'a self, proposal: &'a Proposal) -> Option<&'a Delegations> {
        match proposal.roles.get(&RoleName::Targets) {
            Some(targets) => targets.signed.delegations.as_ref(),
            None => self.in_force.delegations(),
        }
    }

    fn expiry(&self, role: &RoleName) -> Timestamp {
        in_days(self.valid_days(role))
    }

    fn valid_days(&self, role: &RoleName) -> u32 {
        self.valid_days.get(role).copied().unwrap_or_else(|| role.valid_days())
    }

    /// Whether a signature that expires at `expires` is to be renewed: somebody asked for it, or most of its
    /// time is over.
    pub(super) fn is_due(&self, role: &RoleName, expires: Timestamp) -> bool {
        let left = expires.as_second() - Timestamp::now().as_second();
        let whole = i64::from(self.valid_days(role)) * DAY_SECONDS;
        self.valid_days.contains_key(role) || left * RENEWAL_PART < whole
    }
}

/// New files before those of a repository.
struct Overlay<'a> {
    files: &'a Files,
    below: &'a dyn MetadataSource,
}

#[async_trait]
impl MetadataSource for Overlay<'_> {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        match self.files.get(name) {
            Some(bytes) => Ok(Some(bytes.clone()).filter(|bytes| bytes.len() <= max)),
            None => self.below.metadata(name, max).await,
        }
    }
}

pub(super) fn unsigned<R>(role: R) -> Signed<R> {
    Signed { signed: role, signatures: Vec::new() }
}

fn next(role: &RoleName, version: u64) -> Result<NonZeroU64, MetadataError> {
    let next = version.checked_add(1).and_then(NonZeroU64::new);
    next.ok_or_else(|| MetadataError::VersionsUsedUp { role: role.clone() })
}

pub(super) fn in_days(days: u32) -> Timestamp {
    let expiry = Timestamp::now().as_second() + i64::from(days) * DAY_SECONDS;
    // Whole seconds: TUF's dates have no fractions. Only a clock near the year 9999 exceeds the range.
    Timestamp::from_second(expiry).unwrap_or(Timestamp::MAX)
}
