//! Where a repository is, and what it takes to get in: one value for readers and publishers.

use crate::{
    access::{Access, remove_userinfo},
    origin::OriginError,
};
use std::{
    fmt,
    path::{Path, PathBuf},
};
use url::Url;

/// A repository's address: a folder, or a URL. `From` makes one from text.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// `http(s)://…`, `s3://…`, `gs://…`, `az://…`, `file:///…`, or the path of a folder.
    pub url: String,
    /// What the server or a proxy on the way asks for.
    pub access: Access,
}

/// What an address means.
pub(crate) enum Target {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A web server, which can only be read. The URL ends with a slash.
    Web(Url),
    /// A bucket or container of a cloud.
    Cloud(Provider, Url),
}

/// Whose protocol a cloud speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Amazon, and many others.
    S3,
    /// Google.
    Gcs,
    /// Microsoft.
    Azure,
    /// This process.
    #[cfg(test)]
    Memory,
}

impl Address {
    /// The same repository, with other ways in.
    #[must_use]
    pub fn with(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// The URL as it may be logged and shown: without user and password.
    #[must_use]
    pub fn shown(&self) -> String {
        match Url::parse(&self.url) {
            Ok(url) if self.url.contains("://") => shown(&url),
            // No password can stand in a path, and what is no URL goes nowhere.
            _ => self.url.rsplit_once('@').map_or(&*self.url, |(_, rest)| rest).into(),
        }
    }

    /// What it means.
    pub(crate) fn target(&self) -> Result<Target, OriginError> {
        if !self.url.contains("://") {
            return Ok(Target::Folder(PathBuf::from(&self.url)));
        }
        let bad = |reason: String| OriginError::BadUrl { url: self.shown(), reason };
        let mut url = Url::parse(&self.url).map_err(|error| bad(error.to_string()))?;
        let provider = match url.scheme() {
            "file" => {
                let folder = url.to_file_path();
                let folder = folder.map_err(|()| bad("it names no folder of this machine".into()))?;
                return Ok(Target::Folder(folder));
            }
            "http" | "https" => None,
            "s3" | "s3a" => Some(Provider::S3),
            "gs" => Some(Provider::Gcs),
            "az" | "azure" | "abfs" | "abfss" => Some(Provider::Azure),
            #[cfg(test)]
            "memory" => Some(Provider::Memory),
            other => return Err(bad(format!("{other} is not a protocol that repositories are read with"))),
        };
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it names no server or bucket".into()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("files are added to it, so that nothing may follow a ? or #; is that a token? [access] takes one".into()));
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(match provider {
            None => Target::Web(url),
            Some(provider) => Target::Cloud(provider, url),
        })
    }
}

impl From<&str> for Address {
    fn from(url: &str) -> Self {
        Self { url: url.into(), access: Access::default() }
    }
}

impl From<&String> for Address {
    fn from(url: &String) -> Self {
        url.as_str().into()
    }
}

impl From<String> for Address {
    fn from(url: String) -> Self {
        Self { url, access: Access::default() }
    }
}

impl From<&Path> for Address {
    fn from(folder: &Path) -> Self {
        folder.to_string_lossy().into_owned().into()
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the URL's password nor the access is for logs.
        f.write_str("Address(..)")
    }
}

/// A URL as it may be logged and shown: without user and password, and without a query, in which some put theirs.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // `abfss://container@account…`: there the part before the @ is no secret, and without it the rest is wrong.
    if !["abfs", "abfss"].contains(&url.scheme()) {
        remove_userinfo(&mut url);
    }
    url.to_string()
}
