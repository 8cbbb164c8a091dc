//! Buckets and containers of clouds, through `object_store`.
//!
//! Endpoint, region and credentials come from the providers' own environment variables (`AWS_…`, `GOOGLE_…`,
//! `AZURE_…`), CA and proxy from the [`Access`]. The variables that would switch the checking of
//! certificates off are overruled.

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod client;
#[cfg(test)]
pub(crate) mod memory;
mod provider;

use crate::{
    access::Access,
    address::{Provider, shown},
    origin::{OriginError, root_cause},
};
use object_store::ObjectStore;
use std::{error::Error, sync::Arc};
use url::Url;

/// Most of a provider's own words that an error message quotes.
const QUOTED_MAX: usize = 160;

/// What a client is for: the two need other bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Large answers, which may take as long as they come: every pause is bounded. Retries are few, because the
    /// exchange has its own.
    Reading,
    /// Large requests, whose progress cannot be seen: the whole of each is bounded. Retries outlast the restart
    /// of a server, because nobody sits beside an upload over night.
    Publishing,
}

/// A repository in a cloud. Paths are relative to the repository.
#[derive(Clone)]
pub(crate) struct Cloud {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// For people; ends with a slash.
    pub(crate) url: String,
}

impl Cloud {
    /// The repository at `url`, which ends with a slash. Nothing is asked yet.
    pub(crate) fn open(
        provider: Provider,
        url: &Url,
        access: &Access,
        purpose: Purpose,
    ) -> Result<Self, OriginError> {
        let shown = shown(url);
        let store = provider::open(provider, url, access, purpose)
            .map_err(|reason| OriginError::BadUrl { url: shown.clone(), reason })?;
        Ok(Self { store, url: shown })
    }
}

/// What an error of a cloud means.
pub(crate) fn failed(url: String, error: &object_store::Error) -> OriginError {
    if let object_store::Error::NotFound { .. } = error {
        return OriginError::NotFound { url };
    }
    let whole = in_full(error);
    // Where a machine in a cloud asks who it is: elsewhere nobody answers there.
    if whole.contains("169.254.") || whole.contains("metadata.google.internal") {
        return OriginError::NoCredentials { url };
    }
    let reason = root_cause(error);
    match status(&reason) {
        Some(status @ (401 | 403 | 407)) => OriginError::Denied { url, status },
        Some(416) => OriginError::Truncated { url, expected: 0 },
        Some(status) => OriginError::Cloud { url, status, words: words(&reason) },
        None if reason.contains("URL scheme is not allowed") => {
            let reason = "plain http is refused; use https, or set AWS_ALLOW_HTTP=true".into();
            OriginError::BadUrl { url, reason }
        }
        None => OriginError::from_transport(url, reason),
    }
}

/// The HTTP status in the words of an answer that `object_store` did not like: it gives no other access to it.
fn status(reason: &str) -> Option<u16> {
    let (_, rest) = reason.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// What a provider said in its answer's `<Message>`, or at all.
fn words(reason: &str) -> String {
    let message = reason.split_once("<Message>").and_then(|(_, rest)| rest.split_once("</Message>"));
    let words = message.map_or(reason, |(message, _)| message);
    words.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(QUOTED_MAX).collect()
}

/// An error and all its causes.
fn in_full(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> OriginError {
        let source = Box::new(std::io::Error::other(text.to_owned()));
        failed("s3://bucket/x".into(), &object_store::Error::Generic { store: "S3", source })
    }

    #[test]
    fn what_a_cloud_answers_gets_a_name() {
        let busy = "Server returned non-2xx status code: 503 Service Unavailable: <Error><Code>SlowDown</Code>\
                    <Message>Reduce your rate</Message></Error>";
        let error = meaning(busy);
        assert!(
            matches!(&error, OriginError::Cloud { status: 503, words, .. } if words == "Reduce your rate")
        );
        assert!(matches!(
            meaning("Server returned non-2xx status code: 407 Proxy"),
            OriginError::Denied { status: 407, .. }
        ));
        assert!(matches!(
            meaning("Server returned non-2xx status code: 416 Range"),
            OriginError::Truncated { .. }
        ));
        assert!(matches!(meaning("GET http://169.254.169.254/latest"), OriginError::NoCredentials { .. }));
        assert!(matches!(meaning("connection refused"), OriginError::Unreachable { .. }));
        for odd in ["status code: ", "status code: 5", "status code: é00", "<Message>", ""] {
            assert!(matches!(meaning(odd), OriginError::Unreachable { .. }), "{odd}");
        }
    }

    #[test]
    fn a_long_answer_is_quoted_in_part() {
        let OriginError::Cloud { words, .. } = meaning(&format!("status code: 500 {}", "\n".repeat(10_000)))
        else {
            panic!("another error");
        };
        assert!(words.len() <= QUOTED_MAX && !words.contains('\n'));
    }
}
