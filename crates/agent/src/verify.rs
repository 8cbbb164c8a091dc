//! Compares the files of a release that is in place with what was published, when somebody asks for it.

use crate::shared::{Held, Shared};
use branchmesh_repo::{Selector, Subscription};
use branchmesh_store::{ChangedFile, FileChange, StoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// Name of the image.
    pub image: String,
    /// The release.
    pub release: String,
    /// Files that it has.
    pub files: usize,
    /// Bytes that were compared.
    pub bytes: u64,
    /// Files that are not as they were published.
    pub changed: Vec<ChangedView>,
}

/// A file that is not as it was published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangedView {
    /// Its path in the release.
    pub path: String,
    /// `missing`, `length` or `content`.
    pub change: String,
    /// With `length`: its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// With `content`: where the first difference lies, to a block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// With `content`: bytes of the blocks that are different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Why nothing is compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerifyError {
    /// No such release is on this node.
    #[error("this node has no {0}: branchmesh status shows what it has")]
    NotHere(Subscription),
    /// The files are not there, or cannot be examined.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was cut off.
    #[error("the agent is stopping")]
    Stopping,
}

/// Reads all files of a release. `NAME` alone means the active one.
pub(crate) async fn verify(shared: &Arc<Shared>, about: &Subscription) -> Result<VerifyAnswer, VerifyError> {
    let worker = Arc::clone(shared);
    let held = find(shared, about)?.ok_or_else(|| VerifyError::NotHere(about.clone()))?;
    let (image, release) = (held.entry.image.clone(), held.entry.release.clone());
    let inspected = tokio::task::spawn_blocking(move || worker.store.inspect(&held.index, &mut |_| ())).await;
    let inspection = inspected.map_err(|_| VerifyError::Stopping)??;
    let changed = inspection.changed.into_iter().map(view).collect();
    Ok(VerifyAnswer { image, release, files: inspection.files, bytes: inspection.bytes, changed })
}

fn find(shared: &Shared, about: &Subscription) -> Result<Option<Arc<Held>>, StoreError> {
    let Subscription::Image { image, selector } = about else { return Ok(None) };
    let release = match selector {
        Selector::Current => shared.store.current(image)?,
        Selector::Named(name) => Some(name.clone()),
    };
    let Some(release) = release else { return Ok(None) };
    let of_image: Vec<Arc<Held>> =
        shared.all_held().into_iter().filter(|held| held.entry.image == *image).collect();
    let on_channel = of_image
        .iter()
        .find(|held| matches!(selector, Selector::Named(_)) && held.entry.channels.contains(&release));
    Ok(on_channel.or_else(|| of_image.iter().find(|held| held.entry.release == release)).cloned())
}

fn view(file: ChangedFile) -> ChangedView {
    let plain = |change: &str| ChangedView {
        path: file.path,
        change: change.into(),
        length: None,
        first: None,
        bytes: None,
    };
    match file.change {
        FileChange::Missing => plain("missing"),
        FileChange::Length(length) => ChangedView { length: Some(length), ..plain("length") },
        FileChange::Content { first, bytes } => {
            ChangedView { first: Some(first), bytes: Some(bytes), ..plain("content") }
        }
    }
}
