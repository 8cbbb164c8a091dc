//! The repository: plain files that anything can serve, made by a publisher and believed by nobody unread.
//!
//! The writing side ([`init()`], [`publish()`], [`promote`], [`refresh`]) puts packs, index parts and signed metadata
//! into a folder, in an order in which a reader sees the old state or the new one, never half of one. The
//! reading side takes them back from any origin: [`Trust`] verifies the metadata (TUF) into a [`Catalog`],
//! [`load_index`] reads a release's index, and [`Origin`] gives index parts and blocks, each verified. Between the two,
//! [`export`] puts the part of a repository that a site lacks into a folder, which is then an [`Origin`] itself.
//!
//! Nothing in here knows nodes or sites: a node's mesh gives metadata and index parts through the same traits
//! as an origin does.

mod access;
mod address;
mod bundle;
mod catalog;
mod cloud;
mod content_keys;
mod contents;
mod diff;
mod disk;
mod excerpt;
mod file_content;
mod framed;
mod gc;
mod holdings;
mod index_io;
mod init;
mod keys;
mod layout;
mod metadata;
mod new_roots;
mod origin;
mod pack;
mod place;
mod publish;
mod references;
mod requirement;
mod role;
mod roles;
mod source;
mod source_files;
mod subscription;
mod trust;
mod tuf;
mod verify;
mod withdraw;

pub use access::{Access, AccessError, Proxy};
pub use address::Address;
pub use bundle::{ExportError, ExportOptions, Exported, export};
pub use catalog::{Catalog, CatalogEntry, Sealed, SealedGroup, SealedRelease};
pub use content_keys::ContentKeys;
pub use contents::{Contents, ContentsError};
pub use diff::{Change, Difference, FileDifference};
pub use excerpt::{ExcerptError, ExcerptHead};
pub use gc::{Collected, GcError, GcOptions, gc};
pub use holdings::{HOLDINGS_MAX, Holdings, HoldingsError};
pub use index_io::{INDEX_BLOCKS_MAX, LoadIndexError, load_index, load_release};
pub use init::{InitError, init, init_with};
pub use keys::{KeyError, KeyStore, Keys, PublicKey, SigningKey};
pub use layout::METADATA_MAX;
pub use metadata::{MetadataError, Missing, Outcome, Staged, StagedRole};
pub use origin::{Origin, OriginError, Throttle};
pub use place::PlaceError;
pub use publish::{BlockTableError, Progress, PublishError, PublishOptions, Published, promote, publish};
pub use requirement::{Facts, Requirement, RequirementError, Unmet};
pub use role::{GROUP_NAME_MAX, RoleError, RoleName, Threshold};
pub use roles::{Refreshed, delegate, drop_staged, refresh, rotate, sign};
pub use source::{MetadataSource, PartSource, SourceError};
pub use source_files::FileError;
pub use subscription::{Selector, Subscription, SubscriptionError};
pub use trust::{Trust, read_catalog};
pub use tuf::TrustError;
pub use verify::{Damage, DamageKind, FileCount, Verification, VerifyError, verify};
pub use withdraw::{WithdrawError, demote, remove_release};
