//! What a node wants, as people write it: `NAME`, `NAME@CHANNEL`, `NAME@RELEASE`, `*`.

use branchmesh_image::path::{self, NameError};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What is subscribed to. Whether `NAME@X` means a channel or a release is known only with a catalog at hand.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subscription {
    /// `*`: the current release of every image that the node's groups allow.
    All,
    /// One image.
    Image {
        /// Its name.
        image: String,
        /// Which of its releases.
        selector: Selector,
    },
}

/// Which release of an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Selector {
    /// What the channel `stable` points to; the newest release where no channel has that name.
    Current,
    /// The channel of this name; the release of this name where no channel has it.
    Named(String),
}

/// Text that is not a subscription.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a subscription: write NAME, NAME@CHANNEL, NAME@RELEASE or *")]
pub struct SubscriptionError {
    text: String,
    #[source]
    source: NameError,
}

impl FromStr for Subscription {
    type Err = SubscriptionError;

    fn from_str(text: &str) -> Result<Self, SubscriptionError> {
        if text == "*" {
            return Ok(Self::All);
        }
        let (image, name) = text.split_once('@').map_or((text, None), |(image, name)| (image, Some(name)));
        let fail = |source| SubscriptionError { text: text.into(), source };
        path::check_name(image).map_err(fail)?;
        let Some(name) = name else {
            return Ok(Self::Image { image: image.into(), selector: Selector::Current });
        };
        path::check_name(name).map_err(fail)?;
        Ok(Self::Image { image: image.into(), selector: Selector::Named(name.into()) })
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Image { image, selector: Selector::Current } => f.write_str(image),
            Self::Image { image, selector: Selector::Named(name) } => write!(f, "{image}@{name}"),
        }
    }
}

impl TryFrom<String> for Subscription {
    type Error = SubscriptionError;

    fn try_from(text: String) -> Result<Self, SubscriptionError> {
        text.parse()
    }
}

impl From<Subscription> for String {
    fn from(subscription: Subscription) -> Self {
        subscription.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_meant() {
        assert_eq!("*".parse::<Subscription>().unwrap(), Subscription::All);
        for text in ["*", "xp-finance", "xp-finance@stable", "xp finance@7"] {
            assert_eq!(text.parse::<Subscription>().unwrap().to_string(), text);
        }
        for text in ["", "@", "xp@", "@stable", "a@b@c", "a/b", "*@stable", "xp@*"] {
            assert!(text.parse::<Subscription>().is_err(), "{text:?} was accepted");
        }
    }
}
