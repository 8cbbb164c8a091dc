//! Which versions of the metadata somebody may still go by, and which are superseded.

use crate::{layout, place::Listed, role::RoleName};
use std::collections::BTreeMap;

/// The versioned files of the metadata folder, without those of root: a node that was off for years follows them
/// one by one.
pub(super) struct History {
    /// Roles that somebody may go by, with their files; whether each is in force.
    pub kept: Vec<(RoleName, String, bool)>,
    /// Files that nobody needs any more.
    pub superseded: Vec<Listed>,
}

struct Version {
    role: RoleName,
    number: u64,
    file: Listed,
}

impl History {
    /// Sorts `files` by whether they were in force after `cutoff` (Unix seconds). `in_force` are the versions that
    /// are now.
    pub(super) fn of(files: Vec<Listed>, in_force: &BTreeMap<RoleName, u64>, cutoff: u64) -> Self {
        let versions: Vec<Version> = files.into_iter().filter_map(Version::of).collect();
        let is_in_force = |version: &Version| in_force.get(&version.role) == Some(&version.number);
        let is_young = |version: &Version| version.file.modified > cutoff;
        let snapshot =
            versions.iter().find(|version| version.role == RoleName::Snapshot && is_in_force(version));
        let mut at_cutoff: BTreeMap<RoleName, u64> = BTreeMap::new();
        if snapshot.is_none_or(is_young) {
            // The state has changed since: until then, the newest versions of that time were in force.
            for version in versions.iter().filter(|version| !is_young(version)) {
                let newest = at_cutoff.entry(version.role.clone()).or_default();
                *newest = version.number.max(*newest);
            }
        }
        let mut history = Self { kept: Vec::new(), superseded: Vec::new() };
        for version in versions {
            let was_in_force = at_cutoff.get(&version.role) == Some(&version.number);
            if is_in_force(&version) || is_young(&version) || was_in_force {
                let now = is_in_force(&version);
                history.kept.push((version.role, version.file.path, now));
            } else {
                history.superseded.push(version.file);
            }
        }
        history
    }
}

impl Version {
    fn of(file: Listed) -> Option<Self> {
        let (number, role) = layout::version_of(&file.path)?;
        let role: RoleName = role.parse().ok()?;
        match role {
            RoleName::Targets | RoleName::Snapshot | RoleName::Group(_) => Some(Self { role, number, file }),
            RoleName::Root | RoleName::Timestamp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded(files: &[(&str, u64)], in_force: &[(&str, u64)], cutoff: u64) -> Vec<String> {
        let files = files.iter().map(|&(name, modified)| Listed {
            path: format!("metadata/{name}.json"),
            size: 1,
            modified,
        });
        let in_force = in_force.iter().map(|(role, version)| (role.parse().unwrap(), *version)).collect();
        let history = History::of(files.collect(), &in_force, cutoff);
        let name = |file: &Listed| file.path["metadata/".len()..].trim_end_matches(".json").to_owned();
        history.superseded.iter().map(name).collect()
    }

    #[test]
    fn what_was_in_force_within_the_grace_period_stays() {
        let files = [
            ("1.root", 0),
            ("root", 0),
            ("timestamp", 30),
            ("1.targets", 10),
            ("1.snapshot", 10),
            ("2.targets", 20),
            ("2.snapshot", 20),
            ("3.targets", 30),
            ("3.snapshot", 30),
        ];
        let now = [("targets", 3), ("snapshot", 3)];
        let none: [&str; 0] = [];
        assert_eq!(superseded(&files, &now, 5), none);
        assert_eq!(superseded(&files, &now, 15), none, "version 1 was in force until 20");
        assert_eq!(superseded(&files, &now, 20), ["1.targets", "1.snapshot"]);
        assert_eq!(superseded(&files, &now, 25), ["1.targets", "1.snapshot"]);
        let all_older = ["1.targets", "1.snapshot", "2.targets", "2.snapshot"];
        assert_eq!(superseded(&files, &now, 30), all_older);
    }

    #[test]
    fn a_role_that_did_not_change_stays_and_what_never_came_into_force_goes() {
        let files = [
            ("1.targets", 10),
            ("1.snapshot", 10),
            ("1.finance", 10),
            ("2.finance", 12),
            ("2.snapshot", 12),
            ("3.finance", 15),
        ];
        let now = [("targets", 1), ("snapshot", 2), ("finance", 2)];
        assert_eq!(superseded(&files, &now, 40), ["1.snapshot", "1.finance", "3.finance"]);
        assert_eq!(superseded(&files, &now, 11), [""; 0]);
        assert_eq!(superseded(&files, &now, 14), ["1.snapshot", "1.finance"]);
    }
}
