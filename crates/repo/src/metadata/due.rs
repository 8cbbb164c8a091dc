//! Signatures in time: which roles are to be signed anew before they expire, and by whom.

use super::{Metadata, MetadataError, keys_of};
use crate::role::{RoleName, Threshold};
use std::collections::BTreeMap;

impl Metadata {
    /// For how many days new signatures are believed, by role.
    pub(crate) fn set_valid_days(&mut self, days: &BTreeMap<RoleName, u32>) -> Result<(), MetadataError> {
        for role in days.keys() {
            self.threshold(role)?;
        }
        self.valid_days.clone_from(days);
        Ok(())
    }

    /// Lets every role be signed anew that is due and that the keys at hand can sign; those, and those that are due
    /// and cannot be signed here. Changes that wait for signatures bring new ones themselves.
    pub(crate) async fn renew_due(&mut self) -> Result<(Vec<RoleName>, Vec<RoleName>), MetadataError> {
        let root = (RoleName::Root, self.in_force.root.signed.expires);
        let roles = self.in_force.roles.iter().map(|(role, signed)| (role.clone(), signed.signed.expires));
        let due: Vec<RoleName> = roles
            .chain([root, (RoleName::Snapshot, self.in_force.snapshot.signed.expires)])
            .filter(|(role, expires)| self.is_due(role, *expires))
            .map(|(role, _)| role)
            .collect();
        let (mut renewed, mut left) = (Vec::new(), Vec::new());
        for role in due {
            // What was interrupted comes first; the next refresh looks after root.
            if role == RoleName::Root && self.unfinished.is_some() {
                continue;
            }
            let keys = keys_of(&role, self.root(), self.in_force.delegations());
            let can_sign = keys.is_some_and(|keys| keys.is_met_by(&self.signers));
            if can_sign && self.check_not_pending([&role]).await.is_ok() {
                self.renew(&role)?;
                renewed.push(role);
            } else {
                left.push(role);
            }
        }
        Ok((renewed, left))
    }

    /// How many keys `role` has, and how many must sign.
    pub(crate) fn threshold(&self, role: &RoleName) -> Result<Threshold, MetadataError> {
        let keys = keys_of(role, &self.in_force.root.signed, self.in_force.delegations());
        keys.map(|keys| keys.threshold()).ok_or_else(|| MetadataError::NoGroup { group: role.to_string() })
    }
}
