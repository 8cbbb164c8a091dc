//! Looking into a repository: the options that all such commands share, and what they open.

use crate::{access::ToRepository, failure::Failure};
use branchmesh_repo::{
    Address, Catalog, CatalogEntry, ContentKeys, Contents, KeyError, Origin, Subscription, read_catalog,
};
use std::{
    error::Error,
    path::{Path, PathBuf},
};

/// Options of commands that read a repository.
#[derive(clap::Args)]
pub struct Reading {
    /// The repository's first root of trust; without it, root.json beside the keys, and without keys the one that
    /// the repository itself offers
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Folder of a publisher's keys: opens the releases of all groups whose content keys it holds
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Content key of a group, to open its releases; may be given several times
    #[arg(long = "content-key", value_name = "G=FILE", value_parser = group_and_file)]
    content_keys: Vec<(String, PathBuf)>,
    #[command(flatten)]
    access: ToRepository,
}

/// A repository that is looked into.
pub struct Repository {
    /// Where it is.
    pub origin: Origin,
    /// Its verified metadata.
    pub catalog: Catalog,
    /// What opens the releases of groups.
    pub keys: ContentKeys,
}

impl Reading {
    /// The repository at `url`.
    pub fn address(&self, url: &str) -> Address {
        self.access.address(url)
    }

    /// Reads and verifies the metadata of the repository at `url`.
    pub async fn open(&self, url: &str) -> Result<Repository, Failure> {
        let fail = |error: &dyn Error| Failure::failed("the repository cannot be read", error);
        let root = self.root_of_trust()?;
        let keys = self.content_keys().map_err(|error| fail(&error))?;
        let origin = Origin::open(self.address(url)).map_err(|error| fail(&error))?;
        let catalog = read_catalog(&origin, root.as_deref(), &keys).await.map_err(|error| fail(&error))?;
        Ok(Repository { origin, catalog, keys })
    }

    /// The root of trust that was given. Says so if there is none: whoever can replace the whole repository can then
    /// replace the root, too.
    pub fn root_of_trust(&self) -> Result<Option<Vec<u8>>, Failure> {
        let beside_keys = self.keys.as_ref().map(|keys| keys.join("root.json"));
        let Some(path) = self.root.clone().or(beside_keys) else {
            eprintln!(
                "note: this believes the root of trust that the repository itself offers; give yours with --root"
            );
            return Ok(None);
        };
        let unreadable = |error| Failure::failed(&format!("{} cannot be read", path.display()), &error);
        std::fs::read(&path).map(Some).map_err(unreadable)
    }

    /// The content keys that were given.
    pub fn content_keys(&self) -> Result<ContentKeys, KeyError> {
        let folder = self.keys.as_deref().map(ContentKeys::in_folder).transpose()?;
        let mut keys = folder.unwrap_or_default();
        for (group, path) in &self.content_keys {
            keys.add_file(group, Path::new(path))?;
        }
        Ok(keys)
    }
}

impl Repository {
    /// The release that `name` (NAME, NAME@CHANNEL or NAME@RELEASE) means.
    pub fn find(&self, name: &str) -> Result<&CatalogEntry, Failure> {
        let subscription: Subscription = name.parse().map_err(|error| Failure::usage(&error))?;
        let Subscription::Image { image, selector } = &subscription else {
            return Err(Failure::because("* is not one release: write NAME@V"));
        };
        self.catalog.resolve(image, selector).ok_or_else(|| self.unknown(name))
    }

    /// The release that `name` means, and its index.
    pub async fn contents(&self, name: &str) -> Result<Contents, Failure> {
        let entry = self.find(name)?;
        let loaded = Contents::load(entry, &self.keys, &self.origin).await;
        loaded.map_err(|error| Failure::failed(&format!("{name} cannot be looked into"), &error))
    }

    fn unknown(&self, name: &str) -> Failure {
        Failure::because(format!(
            "{name} is not in {}; `branchmesh repo list` shows what is",
            self.origin.url()
        ))
    }
}

fn group_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((group, path)) if !group.is_empty() && !path.is_empty() => Ok((group.into(), path.into())),
        Some(_) | None => Err("write GROUP=FILE".into()),
    }
}
