//! The roles of the signed metadata (TUF section 2.1): who says what, and for how long.
//!
//! Besides TUF's four there is one role for each group, delegated by targets: the group's team signs its own
//! releases, and can say nothing about others. A role's name is a part of file names, and of patterns.

use branchmesh_image::path::{self, NameError};
use std::{fmt, num::NonZeroU64, str::FromStr};
use tough::schema::RoleType;

/// Most bytes of a group's name: with a version and `.json` it is still a metadata file's name.
pub const GROUP_NAME_MAX: usize = 64;
/// Most keys of one role: more people than sign anything together.
const ROLE_KEYS_MAX: u64 = 32;

/// A role, by the name that its file has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Names the keys of the other three.
    Root,
    /// The public releases, and the keys of the groups.
    Targets,
    /// Which versions of targets and groups belong together.
    Snapshot,
    /// That this is still the newest state.
    Timestamp,
    /// The releases of one group.
    Group(String),
}

/// How many keys a role has, and how many of them must sign. Its text is `NEEDED/KEYS`, such as `2/3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    needed: NonZeroU64,
    keys: u64,
}

/// Text that names no role, or no threshold.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// A name that no file can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A name that cannot be a group's.
    #[error(
        "{0:?} cannot be a group: use up to {GROUP_NAME_MAX} letters, digits, - and _, and not root, targets, snapshot or timestamp"
    )]
    Group(String),
    /// Not a threshold.
    #[error("{0:?} is no threshold: write NEEDED/KEYS, such as 2/3, with at most {ROLE_KEYS_MAX} keys")]
    Threshold(String),
}

impl RoleName {
    /// TUF's four roles. Each has keys of its own.
    pub(crate) const TOP: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// The role of a group.
    pub fn group(name: &str) -> Result<Self, RoleError> {
        path::check_name(name)?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let is_taken = Self::TOP.iter().any(|role| role.to_string().eq_ignore_ascii_case(name));
        if name.len() > GROUP_NAME_MAX || !name.chars().all(is_plain) || is_taken {
            return Err(RoleError::Group(name.chars().take(GROUP_NAME_MAX).collect()));
        }
        Ok(Self::Group(name.into()))
    }

    /// The role that signs the releases of `group`, or the public ones.
    pub(crate) fn of_releases(group: Option<&str>) -> Result<Self, RoleError> {
        group.map_or(Ok(Self::Targets), Self::group)
    }

    /// What tough calls it. A group's role has the form of targets.
    pub(crate) fn kind(&self) -> RoleType {
        match self {
            Self::Root => RoleType::Root,
            Self::Snapshot => RoleType::Snapshot,
            Self::Timestamp => RoleType::Timestamp,
            Self::Targets | Self::Group(_) => RoleType::Targets,
        }
    }

    /// Its entry in the snapshot.
    pub(crate) fn file(&self) -> String {
        format!("{self}.json")
    }

    /// The file of one version of it.
    pub(crate) fn versioned_file(&self, version: NonZeroU64) -> String {
        format!("{version}.{self}.json")
    }

    /// The name of its key with this number, counted from 1.
    pub(crate) fn key_name(&self, number: u64) -> String {
        let name = match self {
            Self::Group(group) => format!("group-{group}"),
            Self::Root | Self::Targets | Self::Snapshot | Self::Timestamp => self.to_string(),
        };
        if number == 1 { name } else { format!("{name}-{number}") }
    }

    /// How long a signature of it is believed, in days, unless somebody asks for less.
    ///
    /// The timestamp's time is how long an attacker who holds back new releases goes unnoticed; the publisher
    /// must publish or refresh within it.
    pub(crate) fn valid_days(&self) -> u32 {
        match self {
            Self::Root | Self::Targets | Self::Group(_) => 365,
            Self::Snapshot => 90,
            Self::Timestamp => 30,
        }
    }
}

impl fmt::Display for RoleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
            Self::Group(name) => name,
        })
    }
}

impl FromStr for RoleName {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        match Self::TOP.into_iter().find(|role| role.to_string() == text) {
            Some(role) => Ok(role),
            None => Self::group(text),
        }
    }
}

impl Threshold {
    /// One key, which must sign.
    pub const ONE: Self = Self { needed: NonZeroU64::MIN, keys: 1 };

    /// `needed` of `keys`, as metadata in force says.
    pub(crate) fn of(needed: NonZeroU64, keys: u64) -> Self {
        Self { needed, keys }
    }

    /// How many keys must sign.
    pub(crate) fn needed(self) -> NonZeroU64 {
        self.needed
    }

    /// How many keys there are.
    pub(crate) fn keys(self) -> u64 {
        self.keys
    }
}

impl FromStr for Threshold {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        let parsed = text.split_once('/').and_then(|(needed, keys)| {
            let (needed, keys) = (needed.parse::<NonZeroU64>().ok()?, keys.parse::<u64>().ok()?);
            (needed.get() <= keys && keys <= ROLE_KEYS_MAX).then_some(Self { needed, keys })
        });
        parsed.ok_or_else(|| RoleError::Threshold(text.chars().take(GROUP_NAME_MAX).collect()))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.needed, self.keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_plain_words_and_no_other_role() {
        assert_eq!("targets".parse::<RoleName>().unwrap(), RoleName::Targets);
        assert_eq!("finance-2".parse::<RoleName>().unwrap(), RoleName::Group("finance-2".into()));
        let long = "x".repeat(GROUP_NAME_MAX + 1);
        for bad in
            ["", "Root", "TIMESTAMP", "a.b", "a/b", "a*", "[a]", "{a}", "gr\u{fc}n", "con", "a b", &long]
        {
            assert!(RoleName::group(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn thresholds_can_be_met() {
        assert_eq!("1/1".parse::<Threshold>().unwrap(), Threshold::ONE);
        assert_eq!("2/3".parse::<Threshold>().unwrap().to_string(), "2/3");
        for bad in ["", "2", "0/1", "3/2", "1/33", "-1/2", "2/3/4"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad:?} was accepted");
        }
    }
}
