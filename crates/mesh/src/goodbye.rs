//! Why a data connection is closed, as a number on the wire and in words for people.

use crate::trust::alert_words;
use quinn::{ConnectionError, VarInt};

/// Application close codes of `branchmesh/1`. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The program stops.
    Stopping = 0,
    /// The pair has a connection already.
    Duplicate = 1,
    /// The other side chose a newer connection.
    Replaced = 2,
    /// Nodes of different sites do not talk.
    OtherSite = 3,
    /// Different versions of the messages.
    OtherVersion = 4,
    /// A message that breaks the protocol.
    ProtocolFault = 5,
    /// The other side does not read its notes.
    NotReading = 6,
    /// The libp2p connection of the same pair went away: the process is most likely dead.
    ControlLost = 7,
    /// The certificate of the other side ran out.
    Expired = 8,
    /// The owner of the mesh hung up.
    Unwanted = 9,
    /// Too many connections.
    Full = 10,
    /// The certificate names no node.
    NoIdentity = 11,
    /// The greeting took too long.
    TooSlow = 12,
}

impl Goodbye {
    const ALL: [Self; 13] = [
        Self::Stopping,
        Self::Duplicate,
        Self::Replaced,
        Self::OtherSite,
        Self::OtherVersion,
        Self::ProtocolFault,
        Self::NotReading,
        Self::ControlLost,
        Self::Expired,
        Self::Unwanted,
        Self::Full,
        Self::NoIdentity,
        Self::TooSlow,
    ];

    /// The number on the wire.
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    /// The meaning of a number from the wire.
    pub(crate) fn from_code(code: VarInt) -> Option<Self> {
        Self::ALL.into_iter().find(|goodbye| goodbye.code() == code)
    }

    /// In words, said of "the connection".
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Stopping => "the program stopped",
            Self::Duplicate => "there was a connection already",
            Self::Replaced => "a newer connection replaced it",
            Self::OtherSite => "the nodes are of different sites",
            Self::OtherVersion => "the nodes speak different versions of the protocol",
            Self::ProtocolFault => "a message broke the protocol",
            Self::NotReading => "notes were not read",
            Self::ControlLost => "the control connection went away",
            Self::Expired => "the certificate ran out",
            Self::Unwanted => "the connection was no longer wanted",
            Self::Full => "there were too many connections",
            Self::NoIdentity => "the certificate names no node",
            Self::TooSlow => "the greeting took too long",
        }
    }
}

/// What the other side, or the network, did to a connection, in words. Texts of the other side are not repeated.
#[allow(clippy::wildcard_enum_match_arm)] // quinn has its own words for the rest.
pub(crate) fn words(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(close) => match Goodbye::from_code(close.error_code) {
            Some(goodbye) => format!("the other side closed it: {}", goodbye.words()),
            None => format!("the other side closed it with code {}", close.error_code),
        },
        ConnectionError::TimedOut => "nothing was heard for too long".into(),
        ConnectionError::Reset => "the other side has restarted".into(),
        ConnectionError::LocallyClosed => "this side closed it".into(),
        other => match refused_with_alert(other) {
            Some(alert) => alert_words(alert),
            None => other.to_string(),
        },
    }
}

/// The alert with which the other side ended TLS, if it did.
pub(crate) fn refused_with_alert(error: &ConnectionError) -> Option<u8> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    alert_of(u64::from(close.error_code))
}

/// The alert with which this side ended TLS, if it did.
pub(crate) fn own_alert(error: &ConnectionError) -> Option<u8> {
    let ConnectionError::TransportError(error) = error else { return None };
    alert_of(u64::from(error.code))
}

/// RFC 9001, 4.8: alerts travel as 0x100 + alert.
fn alert_of(code: u64) -> Option<u8> {
    code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_they_were() {
        for (number, goodbye) in (0u32..).zip(Goodbye::ALL) {
            assert_eq!(goodbye.code(), VarInt::from_u32(number));
            assert_eq!(Goodbye::from_code(goodbye.code()), Some(goodbye));
        }
        assert_eq!(Goodbye::from_code(VarInt::from_u32(4711)), None);
    }
}
