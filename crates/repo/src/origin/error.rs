//! What can go wrong between a node and an origin, told apart so that an administrator knows where to look.

use crate::{access::AccessError, excerpt::ExcerptError};
use branchmesh_image::{BlockError, BlockId};
use std::{error::Error, io};

/// Why an origin did not give what it was asked for. Every variant names the URL.
#[derive(Debug, thiserror::Error)]
pub enum OriginError {
    /// Not the address of a repository.
    #[error(
        "{url:?} is not a repository's address: {reason}; write a folder's path, file:///…, https://…, s3://BUCKET/…, gs://BUCKET/… or az://CONTAINER/…"
    )]
    BadUrl {
        /// What was configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No answer at all: name resolution, connection, TLS, time-out, or a line that broke.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// The innermost cause.
        reason: String,
    },
    /// The settings for getting there cannot be used.
    #[error("the access to {url} is not set up")]
    Access {
        /// What was asked for.
        url: String,
        /// Which setting.
        #[source]
        source: AccessError,
    },
    /// Its certificate was not issued by a CA that is believed here.
    #[error(
        "the certificate of {url} is not trusted ({reason}); if your own CA issued it, name that CA's certificate in the setting `ca` of [access], or with --origin-ca"
    )]
    Untrusted {
        /// What was asked for.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cloud wants credentials, and there are none here.
    #[error(
        "there are no credentials for {url}: set the provider's variables, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; AWS_SKIP_SIGNATURE=true reads a public bucket"
    )]
    NoCredentials {
        /// What was asked for.
        url: String,
    },
    /// A cloud answered with something else than the file.
    #[error("{url} was answered with HTTP status {status}: {words}")]
    Cloud {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the provider says.
        words: String,
    },
    /// The answer began, or should have, and then nothing came.
    #[error("{url} sent nothing for {seconds} s; the line or the server is stuck")]
    Stalled {
        /// What was asked for.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The origin works, but doesn't have the file.
    #[error("{url} does not exist there: the origin is incomplete, or its URL is wrong")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The origin, or a proxy before it, wants credentials, or forbids it.
    #[error("{url} was refused (HTTP {status}): {}", denial(*.status))]
    Denied {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// A web page came instead of the file.
    #[error("{url} was answered with {content_type}: a login page or a proxy is in the way")]
    WebPage {
        /// What was asked for.
        url: String,
        /// The content type that came.
        content_type: String,
    },
    /// The server sends whole files only. Nothing of the file was read.
    #[error(
        "{url} was answered with the whole file: the server does not support range requests; switch them on"
    )]
    NoRanges {
        /// What was asked for.
        url: String,
    },
    /// The server answered with another range than it was asked for, or with none.
    #[error("{url} was answered with the range {found:?} instead of {expected:?}")]
    WrongRange {
        /// What was asked for.
        url: String,
        /// The range that was asked for.
        expected: String,
        /// The range that came.
        found: String,
    },
    /// Another HTTP status, such as 500.
    #[error("{url} was answered with HTTP status {status}; the server's log should say why")]
    Status {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The file ends before it should.
    #[error("{url} is too short: bytes up to {expected} are needed; copy it to the origin again")]
    Truncated {
        /// What was asked for.
        url: String,
        /// Where the file should reach at least.
        expected: u64,
    },
    /// The file is larger than such a file can be. It was not read.
    #[error("{url} is larger than {max} bytes, which no such file is")]
    TooLarge {
        /// What was asked for.
        url: String,
        /// The limit.
        max: usize,
    },
    /// The bytes came, and are not what the index promises. Others may have them intact.
    #[error(
        "{url} holds a damaged block {block} at byte {offset}; take it from elsewhere and repair the origin"
    )]
    Damaged {
        /// The pack or index part.
        url: String,
        /// Where in it.
        offset: u64,
        /// Which block.
        block: BlockId,
        /// The two hashes.
        #[source]
        source: Box<BlockError>,
    },
    /// The head of a pack's excerpt is damaged, so that nobody knows what its bytes are.
    #[error("{url} cannot be used: its blocks must come from elsewhere; export the bundle again")]
    Excerpt {
        /// The excerpt.
        url: String,
        /// What is wrong with it.
        #[source]
        source: ExcerptError,
    },
    /// A local origin cannot be read.
    #[error("{url} cannot be read")]
    Io {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OriginError {
    /// Whether the origin answers at all: then other files may still be had from it.
    #[must_use]
    pub fn is_about_one_file(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Truncated { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. }
            | Self::Excerpt { .. }
            | Self::WrongRange { .. } => true,
            Self::BadUrl { .. }
            | Self::Unreachable { .. }
            | Self::Access { .. }
            | Self::Untrusted { .. }
            | Self::NoCredentials { .. }
            | Self::Cloud { .. }
            | Self::Stalled { .. }
            | Self::Denied { .. }
            | Self::WebPage { .. }
            | Self::NoRanges { .. }
            | Self::Status { .. }
            | Self::Io { .. } => false,
        }
    }

    /// What a failure below HTTP means; `reason` is its innermost cause.
    pub(crate) fn from_transport(url: String, reason: String) -> Self {
        // rustls says so; neither reqwest nor object_store has a kind for it.
        if reason.contains("invalid peer certificate") {
            return Self::Untrusted { url, reason };
        }
        if reason.contains("proxy authorization required") {
            return Self::Denied { url, status: 407 };
        }
        Self::Unreachable { url, reason }
    }
}

/// What a status of refusal asks for.
fn denial(status: u16) -> &'static str {
    match status {
        401 => "the server wants a user and password, or a token, or refuses those that were sent",
        407 => "the proxy wants a user and password, or refuses those that were sent",
        511 => "the network wants a login before it lets anything through",
        _ => "the server or a proxy denies access",
    }
}

/// The innermost cause of an error, which is the one that says what to do.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
