//! What it takes to get to a repository beside its URL: whom to believe, who asks, and which way.
//!
//! Secrets are named, not held: passwords and tokens lie in files that are read when a request is made, so that
//! a token which another program renews is never used after its end, and none shows in a process list. There is
//! no setting here, and must be none, that accepts a server without checking its certificate.

use reqwest::{Certificate, ClientBuilder, RequestBuilder};
use std::{
    convert::Infallible,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};
use url::Url;
use zeroize::Zeroizing;

/// Bytes of a password or a token: the largest signed tokens have some KiB.
const SECRET_MAX: usize = 16 << 10;
/// Bytes of a file of certificates: all public CAs together have 230 KiB.
const CA_MAX: usize = 1 << 20;

/// How to get to a repository on the network. By default: the system's CAs, no credentials, and the proxy that
/// the environment names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Certificates (PEM) of the CAs to believe, instead of the system's.
    pub ca: Option<PathBuf>,
    /// User name for HTTP basic credentials.
    pub user: Option<String>,
    /// File with the user's password.
    pub password_file: Option<PathBuf>,
    /// File with a bearer token.
    pub token_file: Option<PathBuf>,
    /// The proxy.
    pub proxy: Proxy,
}

/// Which proxy stands between here and a repository.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Proxy {
    /// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
    #[default]
    Environment,
    /// None, whatever the environment says.
    None,
    /// This one: `http://[user:password@]host:port`.
    Url(String),
}

/// Why the settings of an access cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// Two settings that exclude each other, or half of a pair.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A file of secrets or certificates cannot be read.
    #[error("{path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its content is not what it should be.
    #[error("{path} holds no {what}")]
    Useless {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// The proxy's address makes no sense.
    #[error("the proxy must be `none` or http://[user:password@]host:port")]
    Proxy,
}

/// The user name and password, or the token, that requests carry beside what their URL says.
#[derive(Clone)]
pub(crate) enum Login {
    Nobody,
    Password { user: String, file: PathBuf },
    Token(PathBuf),
}

impl Access {
    /// Checks all that can be checked before a request is made; reads every file once.
    pub(crate) fn check(&self) -> Result<(), AccessError> {
        self.login()?.check()?;
        self.ca_pem()?;
        self.proxy.url().map(drop)
    }

    /// Who asks.
    pub(crate) fn login(&self) -> Result<Login, AccessError> {
        match (&self.user, &self.password_file, &self.token_file) {
            (None, None, None) => Ok(Login::Nobody),
            (None, None, Some(token)) => Ok(Login::Token(token.clone())),
            (Some(user), Some(file), None) => Ok(Login::Password { user: user.clone(), file: file.clone() }),
            (Some(_), None, None) => Err(AccessError::Contradiction("a user needs a password_file")),
            (None, Some(_), None) => Err(AccessError::Contradiction("a password_file needs a user")),
            (_, _, Some(_)) => Err(AccessError::Contradiction(
                "a request carries a user and password, or a token: remove one of them",
            )),
        }
    }

    /// Lets `builder` believe the configured CAs only, and go through the configured proxy.
    pub(crate) fn apply(&self, mut builder: ClientBuilder) -> Result<ClientBuilder, AccessError> {
        if let Some((path, pem)) = self.ca_pem()? {
            let useless = || AccessError::Useless { path: path.to_owned(), what: "certificate (PEM)" };
            builder = builder.tls_certs_only(Certificate::from_pem_bundle(&pem).map_err(|_| useless())?);
        }
        match self.proxy.url()? {
            None if self.proxy == Proxy::None => Ok(builder.no_proxy()),
            None => Ok(builder),
            Some(url) => Ok(builder.proxy(reqwest::Proxy::all(url).map_err(|_| AccessError::Proxy)?)),
        }
    }

    /// The configured CA file and its content, which has at least one certificate.
    pub(crate) fn ca_pem(&self) -> Result<Option<(&Path, Vec<u8>)>, AccessError> {
        let Some(path) = self.ca.as_deref() else { return Ok(None) };
        let pem = read_bounded(path, CA_MAX, "certificate (PEM)")?;
        let certificates = pem::parse_many(&pem).unwrap_or_default();
        if !certificates.iter().any(|part| part.tag() == "CERTIFICATE") {
            return Err(AccessError::Useless { path: path.into(), what: "certificate (PEM)" });
        }
        Ok(Some((path, pem)))
    }
}

impl Proxy {
    /// Its URL, if one is configured.
    pub(crate) fn url(&self) -> Result<Option<Url>, AccessError> {
        let Self::Url(text) = self else { return Ok(None) };
        let url = Url::parse(text).map_err(|_| AccessError::Proxy)?;
        match (url.scheme(), url.host()) {
            ("http" | "https", Some(_)) => Ok(Some(url)),
            _ => Err(AccessError::Proxy),
        }
    }
}

impl FromStr for Proxy {
    type Err = Infallible;

    /// `none`, or a URL, which is checked when it is used: a message about it must not quote its password.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "none" { Self::None } else { Self::Url(text.into()) })
    }
}

impl Login {
    /// Reads its file once, to tell early what is wrong with it.
    fn check(&self) -> Result<(), AccessError> {
        match self {
            Self::Nobody => Ok(()),
            Self::Password { file, .. } => secret(file, "password").map(drop),
            Self::Token(file) => secret(file, "token").map(drop),
        }
    }

    /// Lets a request carry it. reqwest marks the header as secret, and drops it when a redirect leads to
    /// another host, port or scheme.
    pub(crate) fn authorise(&self, request: RequestBuilder) -> Result<RequestBuilder, AccessError> {
        Ok(match self {
            Self::Nobody => request,
            Self::Password { user, file } => {
                request.basic_auth(user, Some(secret(file, "password")?.as_str()))
            }
            Self::Token(file) => request.bearer_auth(secret(file, "token")?.as_str()),
        })
    }

    /// Whether the settings name somebody.
    pub(crate) fn is_somebody(&self) -> bool {
        !matches!(self, Self::Nobody)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "Environment",
            Self::None => "None",
            // Its URL may hold a password.
            Self::Url(_) => "Url(..)",
        })
    }
}

/// Removes user and password from a URL.
pub(crate) fn remove_userinfo(url: &mut Url) {
    // Neither can fail for a URL with a host, and one without has neither.
    let _ = url.set_username("");
    let _ = url.set_password(None);
}

/// The first line of a file of secrets.
fn secret(path: &Path, what: &'static str) -> Result<Zeroizing<String>, AccessError> {
    let useless = || AccessError::Useless { path: path.into(), what };
    let bytes = Zeroizing::new(read_bounded(path, SECRET_MAX, what)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| useless())?;
    let line = text.lines().next().unwrap_or_default().trim();
    let is_sendable = !line.is_empty() && line.chars().all(|letter| !letter.is_control());
    is_sendable.then(|| Zeroizing::new(line.to_owned())).ok_or_else(useless)
}

fn read_bounded(path: &Path, max: usize, what: &'static str) -> Result<Vec<u8>, AccessError> {
    let failed = |source| AccessError::Unreadable { path: path.into(), source };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > max as u64 {
        return Err(AccessError::Useless { path: path.into(), what });
    }
    fs::read(path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// The `Authorization` header that a request to `url` carries.
    fn header(access: &Access, url: &str) -> Option<String> {
        let client = reqwest::Client::builder().tls_certs_only([]).build().unwrap();
        let login = access.login().unwrap();
        let request = login.authorise(client.get(url)).unwrap().build().unwrap();
        assert_eq!(request.url().as_str(), "http://host/", "the URL keeps its password");
        let value = request.headers().get("authorization")?;
        assert!(value.is_sensitive(), "it could be logged");
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_request_carries_what_the_settings_or_the_url_say() {
        let (password, token) = (file("s3cret \n"), file("first\n"));
        let by_password = Access {
            user: Some("anna".into()),
            password_file: Some(password.path().into()),
            ..Access::default()
        };
        let by_token = Access { token_file: Some(token.path().into()), ..Access::default() };
        assert_eq!(header(&Access::default(), "http://host/"), None);
        // base64 of anna:s3cret
        assert_eq!(header(&by_password, "http://host/").unwrap(), "Basic YW5uYTpzM2NyZXQ=");
        assert_eq!(
            header(&Access::default(), "http://anna:s3cr%65t@host/").unwrap(),
            "Basic YW5uYTpzM2NyZXQ="
        );
        assert_eq!(header(&by_token, "http://host/").unwrap(), "Bearer first");
        fs::write(token.path(), "second").unwrap();
        assert_eq!(header(&by_token, "http://host/").unwrap(), "Bearer second");
    }

    #[test]
    fn settings_that_make_no_sense_are_refused_before_any_request() {
        let secret = Some(file("x").into_temp_path());
        let path = || secret.as_deref().map(PathBuf::from);
        let half = Access { user: Some("anna".into()), ..Access::default() };
        assert!(matches!(half.check(), Err(AccessError::Contradiction(_))));
        let half = Access { password_file: path(), ..Access::default() };
        assert!(matches!(half.check(), Err(AccessError::Contradiction(_))));
        let both = Access {
            user: Some("anna".into()),
            password_file: path(),
            token_file: path(),
            ..Access::default()
        };
        assert!(matches!(both.check(), Err(AccessError::Contradiction(_))));
        let absent = Access { token_file: Some("/no/such/file".into()), ..Access::default() };
        assert!(matches!(absent.check(), Err(AccessError::Unreadable { .. })));
        let no_certificate = Access { ca: path(), ..Access::default() };
        assert!(matches!(no_certificate.check(), Err(AccessError::Useless { .. })));
        for empty in ["", "\n\n", "a\u{7}b", &"x".repeat(SECRET_MAX + 1)] {
            let token = file(empty);
            let access = Access { token_file: Some(token.path().into()), ..Access::default() };
            assert!(matches!(access.check(), Err(AccessError::Useless { .. })), "{empty:?}");
        }
        for proxy in ["socks5://host:1", "host", "http://", "nonsense://"] {
            let access = Access { proxy: proxy.parse().unwrap(), ..Access::default() };
            assert!(matches!(access.check(), Err(AccessError::Proxy)), "{proxy}");
        }
    }

    #[test]
    fn secrets_are_not_in_what_is_logged() {
        let access = Access {
            user: Some("anna".into()),
            proxy: "http://anna:s3cret@proxy:3128".parse().unwrap(),
            ..Access::default()
        };
        let address = crate::Address::from("https://anna:s3cret@host/repo").with(access.clone());
        let logged = format!("{access:?} {:?} {address:?} {}", access.proxy, address.shown());
        assert!(!logged.contains("s3cret") && !logged.contains("anna"), "{logged}");
        let wrong = Access { proxy: "ftp://anna:s3cret@proxy".parse().unwrap(), ..Access::default() };
        assert!(!wrong.check().unwrap_err().to_string().contains("s3cret"));
    }
}
