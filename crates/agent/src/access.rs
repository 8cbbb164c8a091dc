//! How to get to the repositories: the section `[access]` of the settings, which is also the `--origin-…` flags of
//! every command that reads or writes a repository.

use branchmesh_repo::{Access, Proxy};
use serde::{Deserialize, Deserializer};
use std::path::{Path, PathBuf};

/// Section `[access]`: whom to believe, who asks, and which way. Secrets lie in files, because flags and
/// variables show in process lists.
#[derive(Clone, Debug, Default, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AccessLayer {
    /// CA certificates (PEM) to believe for https and clouds, instead of the system's
    #[arg(id = "origin_ca", long = "origin-ca", env = "BRANCHMESH_ORIGIN_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// User name for web servers that want one
    #[arg(id = "origin_user", long = "origin-user", env = "BRANCHMESH_ORIGIN_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// File with that user's password
    #[arg(
        id = "origin_password_file",
        long = "origin-password-file",
        env = "BRANCHMESH_ORIGIN_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,
    /// File with a bearer token for web servers that want one; read again for each request
    #[arg(
        id = "origin_token_file",
        long = "origin-token-file",
        env = "BRANCHMESH_ORIGIN_TOKEN_FILE",
        value_name = "FILE"
    )]
    pub token_file: Option<PathBuf>,
    /// Proxy, http://HOST:PORT, or `none`; without it, what `HTTPS_PROXY` and its like say
    #[arg(
        id = "origin_proxy",
        long = "origin-proxy",
        env = "BRANCHMESH_ORIGIN_PROXY",
        hide_env_values = true,
        value_name = "URL"
    )]
    #[serde(default, deserialize_with = "proxy")]
    pub proxy: Option<Proxy>,
}

impl AccessLayer {
    /// Makes relative paths relative to `folder`.
    pub(crate) fn anchor(&mut self, folder: &Path) {
        let paths = [&mut self.ca, &mut self.password_file, &mut self.token_file];
        for path in paths.into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }

    /// This layer on top of `below`. Who asks is one decision: a token here is not mixed with a password there.
    pub(crate) fn over(self, below: Self) -> Self {
        let names_somebody = self.user.is_some() || self.password_file.is_some() || self.token_file.is_some();
        let who = if names_somebody { Self::default() } else { below.clone() };
        Self {
            ca: self.ca.or(below.ca),
            user: self.user.or(who.user),
            password_file: self.password_file.or(who.password_file),
            token_file: self.token_file.or(who.token_file),
            proxy: self.proxy.or(below.proxy),
        }
    }

    /// What it means. Whether that makes sense is checked when a repository is opened with it.
    #[must_use]
    pub fn settle(self) -> Access {
        let Self { ca, user, password_file, token_file, proxy } = self;
        Access { ca, user, password_file, token_file, proxy: proxy.unwrap_or_default() }
    }
}

fn proxy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Proxy>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(Some(text.parse().unwrap_or_else(|never| match never {})))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(text: &str) -> AccessLayer {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_name_another_user_than_the_file_and_keep_its_ca_and_proxy() {
        let file = layer("ca = \"ca.pem\"\nuser = \"anna\"\npassword_file = \"word\"\nproxy = \"none\"");
        let flags = layer("token_file = \"token\"");
        let access = flags.over(file.clone()).settle();
        assert_eq!(access.ca.as_deref(), Some(Path::new("ca.pem")));
        assert_eq!(access.proxy, Proxy::None);
        assert_eq!((access.user, access.password_file), (None, None));
        assert_eq!(access.token_file.as_deref(), Some(Path::new("token")));

        let access = layer("proxy = \"http://proxy:3128\"").over(file).settle();
        assert_eq!(access.user.as_deref(), Some("anna"));
        assert_eq!(access.proxy, Proxy::Url("http://proxy:3128".into()));
    }

    #[test]
    fn nothing_that_switches_checking_off_is_known() {
        for text in ["insecure = true", "verify = false", "password = \"x\"", "token = \"x\""] {
            assert!(toml::from_str::<AccessLayer>(text).is_err(), "{text}");
        }
    }
}
