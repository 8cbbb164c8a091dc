//! Where a repository is, and what it takes to get in: one value for readers and publishers.

use std::{fmt, path::Path};

/// A repository's address: a folder, or a URL. `From` makes one from text.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// `http(s)://…`, `file:///…`, or the path of a folder.
    pub url: String,
    /// What the server or a proxy on the way asks for.
    pub access: Access,
}

/// What it takes to get to a repository, beside its URL.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Access {}

impl Address {
    /// The same repository, with other ways in.
    #[must_use]
    pub fn with(mut self, access: Access) -> Self {
        self.access = access;
        self
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

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access(..)")
    }
}
