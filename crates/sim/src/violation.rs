//! What a checker can see that must not be, and how it is told to people.

use crate::host::HostId;
use std::fmt;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A block was fetched over the WAN although a member in reach held it.
    FetchedThoughHeld {
        /// Who fetched.
        host: HostId,
        /// The block.
        block: u32,
        /// Who held it.
        holder: HostId,
    },
    /// A block was fetched over the WAN although another member was fetching it.
    FetchedTwice {
        /// Who fetched.
        host: HostId,
        /// The block.
        block: u32,
        /// Who was fetching it already.
        other: HostId,
    },
    /// A host got nothing for too long while a source was in reach.
    Waits {
        /// Who waits.
        host: HostId,
        /// Who holds what it lacks; `None` for the origin.
        holder: Option<HostId>,
    },
    /// A limit was passed.
    Limit {
        /// Who passed it.
        host: HostId,
        /// Which.
        what: &'static str,
    },
    /// A host used the line, or said that it does, while it was closed to it.
    LineClosed {
        /// Who.
        host: HostId,
    },
    /// The site took more of the line than it may.
    LineLimit,
    /// An exchange claims to hold a block that is not on its disk.
    ClaimsWhatIsNotThere {
        /// Who.
        host: HostId,
    },
    /// An exchange complained about an honest member, or refused what its agent rightly told it.
    HonestAccused {
        /// Of what.
        complaint: String,
    },
    /// A timer that is not in the future.
    TimerInThePast {
        /// Whose.
        host: HostId,
    },
    /// An error in the log.
    ErrorLogged {
        /// As it stands there.
        line: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FetchedThoughHeld { host, block, holder } => {
                write!(f, "{host} fetches block {block} over the WAN, which {holder} holds")
            }
            Self::FetchedTwice { host, block, other } => {
                write!(f, "{host} fetches block {block} over the WAN, which {other} is fetching")
            }
            Self::Waits { host, holder: Some(holder) } => {
                write!(f, "{host} waits, and {holder} holds what it lacks")
            }
            Self::Waits { host, holder: None } => write!(f, "{host} waits, and the origin has what it lacks"),
            Self::Limit { host, what } => write!(f, "{host} passes a limit: {what}"),
            Self::LineClosed { host } => write!(f, "{host} uses the line, which is closed to it"),
            Self::LineLimit => write!(f, "the site takes more of the line than it may"),
            Self::ClaimsWhatIsNotThere { host } => write!(f, "{host} claims a block that is not on its disk"),
            Self::HonestAccused { complaint } => write!(f, "an honest member is accused: {complaint}"),
            Self::ErrorLogged { line } => write!(f, "an error is logged: {line}"),
            Self::TimerInThePast { host } => write!(f, "{host} wants to be woken in the past"),
        }
    }
}
