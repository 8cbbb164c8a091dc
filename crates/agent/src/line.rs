//! The site's line to the WAN, as this node may use it: one token bucket for all WAN origins, because the setting
//! `wan_limit` is about the line, and a gate that the loop closes and opens by the hours.
//!
//! With several fetchers each has an equal share of the limit for its own, whether or not the others use theirs. A
//! share that grew while others are idle could not be taken back before they have begun, and then the site would
//! use more than it may.

use crate::{throttle::TokenBucket, units::Limit};
use async_trait::async_trait;
use branchmesh_image::{BlobRef, IndexId, VerifiedBlock};
use branchmesh_repo::{MetadataSource, Origin, PartSource, SourceError, Throttle};
use bytes::Bytes;
use std::future::Future;
use tokio::sync::watch;

/// The line.
pub(crate) struct Line {
    fetchers: u32,
    bucket: TokenBucket,
    is_open: watch::Sender<bool>,
}

impl Line {
    /// A line that `fetchers` members may use at the same time, closed until [`set`](Self::set) says otherwise.
    pub fn new(fetchers: u32) -> Self {
        Self { fetchers, bucket: TokenBucket::new(Limit::Off), is_open: watch::Sender::new(false) }
    }

    /// What the whole site may take from now on.
    pub fn set(&self, limit: Limit) {
        self.bucket.set(limit.share(self.fetchers));
        self.is_open.send_replace(limit != Limit::Off);
    }

    pub fn is_open(&self) -> bool {
        *self.is_open.borrow()
    }

    /// Does something over the line, and drops it unfinished when the line closes.
    async fn while_open<T>(
        &self,
        use_of_it: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let mut is_open = self.is_open.subscribe();
        tokio::select! {
            biased;
            _ = is_open.wait_for(|is_open| !is_open) => Err(SourceError::LineClosed),
            answer = use_of_it => answer,
        }
    }
}

#[async_trait]
impl Throttle for Line {
    async fn take(&self, bytes: u32) {
        self.bucket.take(u64::from(bytes)).await;
    }
}

/// A WAN origin, which is neither asked nor listened to while the line is closed.
pub(crate) struct OverLine<'a> {
    pub line: &'a Line,
    pub origin: &'a Origin,
}

#[async_trait]
impl MetadataSource for OverLine<'_> {
    async fn metadata(&self, name: &str, max: usize) -> Result<Option<Bytes>, SourceError> {
        self.line.while_open(self.origin.metadata(name, max)).await
    }
}

#[async_trait]
impl PartSource for OverLine<'_> {
    async fn part(&self, release: IndexId, blob: &BlobRef) -> Result<VerifiedBlock, SourceError> {
        self.line.while_open(self.origin.part(release, blob)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rate;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_done_over_the_line_ends_when_it_closes() {
        let line = Arc::new(Line::new(1));
        let refused = line.while_open::<()>(async { unreachable!("the line is closed") }).await;
        assert!(matches!(refused, Err(SourceError::LineClosed)));
        line.set(Limit::default());
        assert_eq!(line.while_open(async { Ok(7) }).await.unwrap(), 7);
        let using = tokio::spawn({
            let line = Arc::clone(&line);
            async move { line.while_open::<()>(std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        // Another rate closes nothing.
        line.set(Limit::Rate(Rate(Some(1000))));
        tokio::task::yield_now().await;
        assert!(!using.is_finished());
        line.set(Limit::Off);
        assert!(matches!(using.await.unwrap(), Err(SourceError::LineClosed)));
    }
}
