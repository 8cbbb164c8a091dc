//! The indexes of all releases: which can be read, and what is wrong with the others.

use super::{
    FileCount, Reader, VerifyError,
    damage::{DamageKind, Damages},
};
use crate::{
    catalog::CatalogEntry,
    contents::ContentsError,
    index_io::LoadIndexError,
    layout,
    origin::root_cause,
    references::References,
    source::{PartSource, SourceError},
};
use branchmesh_image::{BlobRef, BlockId, Cipher, Decoder, IndexError, IndexPiece, IndexRoot};
use std::collections::HashMap;

/// What the indexes say.
pub(super) struct Survey {
    /// The releases whose index is whole.
    pub readable: Vec<CatalogEntry>,
    /// Their index parts.
    pub parts: FileCount,
    /// What they refer to.
    pub references: References,
}

/// Reads every index once.
pub(super) async fn survey(reader: &Reader, damages: &mut Damages) -> Result<Survey, VerifyError> {
    let mut readable = Vec::new();
    let mut references = References::default();
    let mut parts: HashMap<BlockId, u32> = HashMap::new();
    for entry in &reader.catalog.releases {
        match reader.contents(entry).await {
            Ok(contents) => {
                parts.extend(contents.parts().map(|part| (part.id, part.encoded_len)));
                references.add(&contents);
                readable.push(entry.clone());
            }
            // The key opened the release's description: an index that it does not open is a publisher's mistake.
            Err(ContentsError::WrongKey { source, .. } | ContentsError::Index { source, .. }) => {
                examine(reader, entry, source, damages).await?;
            }
            Err(error @ ContentsError::NoKey { .. }) => return Err(error.into()),
        }
    }
    let bytes = parts.values().map(|bytes| u64::from(*bytes)).sum();
    let parts = FileCount { files: parts.len() as u64, bytes };
    Ok(Survey { readable, parts, references })
}

/// Names each bad part of an index that cannot be read: reading ends at the first one.
async fn examine(
    reader: &Reader,
    entry: &CatalogEntry,
    error: LoadIndexError,
    damages: &mut Damages,
) -> Result<(), VerifyError> {
    let mut bad = Vec::new();
    let mut pieces = Vec::new();
    match plain(reader, entry, &entry.root).await?.and_then(|bytes| decoded(IndexRoot::from_bytes(&bytes))) {
        Ok(root) => pieces = root.pieces,
        Err(kind) => bad.push((entry.root, kind)),
    }
    for piece in pieces {
        let table = plain(reader, entry, &piece).await?;
        if let Err(kind) = table.and_then(|bytes| decoded(IndexPiece::from_bytes(&bytes))) {
            bad.push((piece, kind));
        }
    }
    if bad.is_empty() {
        // Each part alone is in order; together they are no index.
        bad.push((entry.root, undecodable(error)));
    }
    for (part, kind) in bad {
        damages.part(layout::index_path(&part.id), kind, entry.name());
    }
    Ok(())
}

/// Reads and opens one part; the outer error is about the origin.
async fn plain(
    reader: &Reader,
    entry: &CatalogEntry,
    part: &BlobRef,
) -> Result<Result<Vec<u8>, DamageKind>, VerifyError> {
    let block = match reader.origin.part(entry.id(), part).await {
        Ok(block) => block,
        Err(SourceError::Origin(error)) => return Ok(Err(DamageKind::of(&error).ok_or(error)?)),
        Err(SourceError::Members(words)) => return Ok(Err(DamageKind::Unreadable(words))),
        Err(error @ SourceError::LineClosed) => {
            return Ok(Err(DamageKind::Unreadable(error.to_string())));
        }
    };
    // Whoever comes here has the key: without it, there is nothing to examine.
    let cipher = reader.keys.cipher(entry.group.as_deref()).unwrap_or(Cipher::None);
    Ok(Decoder::new(cipher).and_then(|mut decoder| decoder.decode(part, &block)).map_err(undecodable))
}

fn decoded<T>(result: Result<T, IndexError>) -> Result<T, DamageKind> {
    result.map_err(undecodable)
}

fn undecodable(error: impl std::error::Error) -> DamageKind {
    DamageKind::Undecodable(root_cause(&error))
}
