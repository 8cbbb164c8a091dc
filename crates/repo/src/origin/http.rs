//! Files from a web server.
//!
//! reqwest directly, and not object_store's HTTP store: the difference between "206 and the right range", "200
//! and the whole file" and "200 and a login page" must be seen before a body is read, and each wait needs its
//! own bound. object_store hides the head of an answer behind one error kind and retries by itself.

use super::{
    carrier::Body,
    error::{OriginError, root_cause},
};
use crate::{
    access::{Access, Login, remove_userinfo},
    address::shown,
    layout::TIMESTAMP,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::{
    Client, Response, StatusCode,
    header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_RANGE, CONTENT_TYPE, HeaderName, RANGE},
    redirect,
};
use std::{ops::Range, time::Duration};
use tokio::time::timeout;
use url::Url;

/// How long a connection may take to be made: several round trips of a satellite line, with a lost packet.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long nothing may come. A server that spins up a disk needs some seconds, nobody needs more than this.
pub(crate) const STALL_MAX: Duration = Duration::from_secs(20);
/// Redirects that are followed, as to a nearer mirror.
const REDIRECTS_MAX: usize = 5;
/// Connections that are kept open between requests: as many as ranges are fetched at once.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// A web server and the client for it.
#[derive(Clone)]
pub(super) struct Http {
    client: Client,
    /// With user and password, if the settings name none and the URL does: reqwest makes a header of them.
    base: Url,
    login: Login,
    /// How long an answer may pause.
    pub(super) stall_max: Duration,
}

impl Http {
    /// `base` ends with a slash.
    pub(super) fn open(mut base: Url, access: &Access) -> Result<Self, OriginError> {
        let url = shown(&base);
        let bad_access = |source| OriginError::Access { url: url.clone(), source };
        let login = access.login().map_err(bad_access)?;
        if login.is_somebody() {
            // The settings stand above the URL.
            remove_userinfo(&mut base);
        }
        if base.scheme() == "http" && (login.is_somebody() || base.password().is_some()) {
            tracing::warn!(url, "the password or token for it crosses the network in the clear; use https");
        }
        let builder = || {
            let builder = Client::builder()
                .connect_timeout(CONNECT_MAX)
                .redirect(redirect::Policy::custom(follow))
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .user_agent(concat!("branchmesh/", env!("CARGO_PKG_VERSION")));
            access.apply(builder)
        };
        let mut client = builder().map_err(bad_access)?.build();
        if client.is_err() && base.scheme() == "http" {
            // A machine without any CA certificate can still read from plain HTTP.
            client = builder().map_err(bad_access)?.tls_certs_only([]).build();
        }
        let client = client.map_err(|error| OriginError::BadUrl {
            url: url.clone(),
            reason: format!("the HTTP client cannot be set up: {}", root_cause(&error)),
        })?;
        Ok(Self { client, base, login, stall_max: STALL_MAX })
    }

    /// The whole file at `path`.
    pub(super) async fn whole(&self, path: &str, max: usize) -> Result<Body, OriginError> {
        let response = self.answer(path, None).await?;
        let url = self.shown(path);
        if response.status() != StatusCode::OK {
            return Err(OriginError::Status { url, status: response.status().as_u16() });
        }
        if response.content_length().is_some_and(|length| length > max as u64) {
            return Err(OriginError::TooLarge { url, max });
        }
        Ok(self.body(path, response))
    }

    /// The bytes `range` of the file at `path`.
    pub(super) async fn range(&self, path: &str, range: &Range<u64>) -> Result<Body, OriginError> {
        let response = self.answer(path, Some(range)).await?;
        let url = self.shown(path);
        if response.status() == StatusCode::OK {
            return Err(OriginError::NoRanges { url });
        }
        if response.status() != StatusCode::PARTIAL_CONTENT {
            return Err(OriginError::Status { url, status: response.status().as_u16() });
        }
        let expected = format!("bytes {}", inclusive(range));
        let found = header(&response, &CONTENT_RANGE);
        if found.split('/').next() != Some(&expected) {
            return Err(OriginError::WrongRange { url, expected, found });
        }
        Ok(self.body(path, response))
    }

    pub(super) fn shown(&self, path: &str) -> String {
        shown(&self.url(path))
    }

    /// The head of an answer that is neither a refusal nor a web page.
    async fn answer(&self, path: &str, range: Option<&Range<u64>>) -> Result<Response, OriginError> {
        let url = || self.shown(path);
        let request = self.client.get(self.url(path)).header(ACCEPT_ENCODING, "identity");
        let authorised = self.login.authorise(request);
        let mut request = authorised.map_err(|source| OriginError::Access { url: url(), source })?;
        if path.ends_with(TIMESTAMP) {
            // The one file that changes. A proxy on the way may keep it, but must ask whether it is still so.
            request = request.header(CACHE_CONTROL, "no-cache");
        }
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={}", inclusive(range)));
        }
        let response = timeout(self.stall_max, request.send())
            .await
            .map_err(|_| OriginError::Stalled { url: url(), seconds: self.stall_max.as_secs() })?
            .map_err(|error| OriginError::from_transport(url(), cause(&error)))?;
        let status = response.status();
        let refused = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            StatusCode::NETWORK_AUTHENTICATION_REQUIRED,
        ];
        if refused.contains(&status) {
            return Err(OriginError::Denied { url: url(), status: status.as_u16() });
        }
        if status == StatusCode::NOT_FOUND || status == StatusCode::GONE {
            return Err(OriginError::NotFound { url: url() });
        }
        if status == StatusCode::RANGE_NOT_SATISFIABLE {
            let expected = range.map_or(0, |range| range.end);
            return Err(OriginError::Truncated { url: url(), expected });
        }
        let content_type = header(&response, &CONTENT_TYPE);
        if status.is_success() && content_type.to_ascii_lowercase().contains("html") {
            return Err(OriginError::WebPage { url: url(), content_type });
        }
        Ok(response)
    }

    fn body(&self, path: &str, response: Response) -> Body {
        let (url, stall_max) = (self.shown(path), self.stall_max);
        let chunks = stream::unfold(Some(response), move |response| {
            let url = url.clone();
            async move {
                let mut response = response?;
                let chunk = next_chunk(&mut response, url, stall_max).await.transpose()?;
                let rest = chunk.is_ok().then_some(response);
                Some((chunk, rest))
            }
        });
        chunks.boxed()
    }

    fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path()));
        url
    }
}

/// Follows a redirect, but not from HTTPS to plain HTTP: somebody on the way could take it from there.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let leaves_tls = attempt.previous().last().is_some_and(|from| from.scheme() == "https")
        && attempt.url().scheme() != "https";
    if leaves_tls {
        return attempt.error("the server redirects from https to http");
    }
    if attempt.previous().len() > REDIRECTS_MAX {
        return attempt.error("too many redirects");
    }
    attempt.follow()
}

async fn next_chunk(
    response: &mut Response,
    url: String,
    stall_max: Duration,
) -> Result<Option<Bytes>, OriginError> {
    match timeout(stall_max, response.chunk()).await {
        Err(_) => Err(OriginError::Stalled { url, seconds: stall_max.as_secs() }),
        Ok(Err(error)) => Err(OriginError::from_transport(url, cause(&error))),
        Ok(Ok(chunk)) => Ok(chunk),
    }
}

/// A range as HTTP writes it: with its last byte.
fn inclusive(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}

fn cause(error: &reqwest::Error) -> String {
    if error.is_timeout() && error.is_connect() {
        return format!("no connection within {} s", CONNECT_MAX.as_secs());
    }
    root_cause(error)
}

fn header(response: &Response, name: &HeaderName) -> String {
    /// A header is quoted in an error message: no more of it than a person reads.
    const SHOWN_MAX: usize = 80;
    let value = response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    value.unwrap_or_default().chars().take(SHOWN_MAX).collect()
}
