//! What people ask of the agent about releases (`get`, `pin`, `unpin`, `activate`, `rollback`), and what they are told.

use branchmesh_repo::{Subscription, Unmet};
use branchmesh_store::StoreError;
use serde::{Deserialize, Serialize};

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Fetch it, whatever the subscriptions say; with `update = "suggest"`, accept it.
    Get,
    /// Keep it until it is unpinned, and fetch it if it is not here.
    Pin,
    /// Keep it no longer than others.
    Unpin,
    /// Make it the current release, and hold it there.
    Activate,
    /// Go back to an older release, and hold it there.
    Rollback,
}

impl Verb {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Get, Self::Pin, Self::Unpin, Self::Activate, Self::Rollback];

    /// Its name, as in the API and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Pin => "pin",
            Self::Unpin => "unpin",
            Self::Activate => "activate",
            Self::Rollback => "rollback",
        }
    }
}

/// The body of `POST /api/v1/get` and of the other verbs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// `NAME`, `NAME@CHANNEL` or `NAME@RELEASE`.
    pub image: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseAnswer {
    /// Name of the image.
    pub image: String,
    /// The release that it is about.
    pub release: String,
    /// Whether anything changed; false if it was so before.
    pub changed: bool,
    /// The release's state now, as in the status.
    pub state: String,
    /// Whether it is pinned now.
    pub pinned: bool,
    /// Whether it is held now: made current by somebody, against what the subscriptions say.
    pub held: bool,
    /// The release that was the current one before, if another one is now.
    pub previous: Option<String>,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// Nothing is known of the repository yet.
    #[error("no metadata of the repository has arrived yet")]
    NotYet,
    /// What is known of it is too old.
    #[error(
        "the signed metadata has expired, so that nothing new is begun: run branchmesh repo refresh there"
    )]
    Expired,
    /// The release is not for this machine.
    #[error("{release} is not for this machine: {unmet}")]
    Unsuitable {
        /// The release.
        release: String,
        /// What it needs.
        unmet: Unmet,
    },
    /// Neither the repository nor this node has such a release.
    #[error("the repository has no {0}: see branchmesh repo list")]
    Unknown(Subscription),
    /// It is not whole, and will not be.
    #[error("{release} is not complete on this node, and the repository has it no longer")]
    Withdrawn {
        /// The release.
        release: String,
    },
    /// Not one image.
    #[error("name one image: NAME, NAME@CHANNEL or NAME@RELEASE")]
    NotOneImage,
    /// It cannot be the current one yet.
    #[error("{release} is not complete on this node ({state}): fetch it first with branchmesh get {release}")]
    NotComplete {
        /// The release.
        release: String,
        /// How far it is.
        state: &'static str,
    },
    /// There is nothing to go back from.
    #[error(
        "no release of {image} is active on this node: name one with branchmesh activate {image}@RELEASE"
    )]
    NothingActive {
        /// The image.
        image: String,
    },
    /// There is nothing to go back to.
    #[error(
        "no complete release of {image} on this node is older than {active}, the active one: fetch one with branchmesh \
         get {image}@RELEASE, then branchmesh activate it"
    )]
    NothingOlder {
        /// The image.
        image: String,
        /// Its active release.
        active: String,
    },
    /// That would not be going back.
    #[error(
        "{release} is not older than {active}, the active release: branchmesh activate {release} makes it current"
    )]
    NotOlder {
        /// The release.
        release: String,
        /// The active one.
        active: String,
    },
    /// Which one?
    #[error("several releases of {image} are pinned ({releases}): name one of them")]
    SeveralPinned {
        /// The image.
        image: String,
        /// Its pinned releases.
        releases: String,
    },
    /// The disk does not take it.
    #[error("it cannot be written down")]
    Disk(#[from] StoreError),
}
