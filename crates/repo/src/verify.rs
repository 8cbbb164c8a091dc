//! Reading a whole repository again: is everything there that its releases need, and is it intact?
//!
//! All metadata is verified, then every index part, then every block of every pack: its hash, and where the
//! content key is here, that it decodes to what the index says. Packs are read in large ranges, several at a
//! time, from a folder as from a web server. Memory does not grow with the repository: blocks are collected for as
//! many packs as fit ([`ToCheck`]), and the indexes are read again for the next ones.

mod damage;
mod packs;
mod survey;
mod to_check;

pub use damage::{Damage, DamageKind};

use crate::{
    address::Address,
    catalog::{Catalog, CatalogEntry, SealedGroup},
    content_keys::ContentKeys,
    contents::{Contents, ContentsError},
    origin::{Origin, OriginError},
    place::{Place, PlaceError},
    publish::Progress,
    references::References,
    trust::read_catalog,
    tuf::TrustError,
};
use branchmesh_image::{PackId, hash::HASH_BYTES};
use damage::Damages;
use packs::check_packs;
use std::time::Duration;
use survey::{Survey, survey};
use to_check::ToCheck;

/// Blocks that are collected at a time: 64 GiB of plaintext, in some 200 MiB of memory.
const BLOCKS_MAX: usize = 1 << 20;
/// How often a line may break before the verification is given up.
const ATTEMPTS_MAX: u32 = 3;
/// What a server needs to come back after a restart.
const ATTEMPT_PAUSE: Duration = Duration::from_secs(2);

/// What a repository was found to be.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What the metadata says. It is properly signed; whether it has expired stands inside.
    pub catalog: Catalog,
    /// Releases whose index is readable, and whose blocks were read.
    pub releases: u64,
    /// Index parts that were read.
    pub parts: FileCount,
    /// Packs that were looked for, and the bytes of their blocks.
    pub packs: FileCount,
    /// Blocks that were looked for.
    pub blocks: u64,
    /// What is damaged or missing, by path.
    pub damages: Vec<Damage>,
    /// What could not be looked into, by group.
    pub unchecked: Vec<SealedGroup>,
    /// Packs and index parts that no release refers to. Not known where files cannot be listed (a web server),
    /// or if not every release could be looked into.
    pub unreferenced: Option<FileCount>,
}

/// How many files, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCount {
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Why a repository cannot be verified: not even its metadata, or it stopped answering.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The metadata is not to be believed.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The repository cannot be read at all, or cannot any more.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// Its files cannot be listed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// An index that was readable a moment ago is not any more.
    #[error(transparent)]
    Contents(#[from] ContentsError),
    /// The program is ending.
    #[error("the verification was interrupted")]
    Interrupted,
}

impl Verification {
    /// Whether everything that could be looked into is as it should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damages.is_empty() && !self.catalog.expired
    }
}

impl FileCount {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.add_all(Self { files: 1, bytes });
    }

    fn add_all(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }
}

/// Reads everything in the repository at `address` again. `root_json` is its root of trust; without one, the
/// root that it offers is believed.
pub async fn verify(
    address: &Address,
    root_json: Option<&[u8]>,
    keys: &ContentKeys,
    progress: &dyn Progress,
) -> Result<Verification, VerifyError> {
    let origin = Origin::open(address.clone())?;
    let catalog = read_catalog(&origin, root_json, keys).await?;
    let reader = Reader { origin, catalog, keys: keys.clone() };
    let mut damages = Damages::default();
    let Survey { readable, parts, references } = survey(&reader, &mut damages).await?;
    let unchecked = reader.catalog.sealed_groups();
    let (mut packs, mut blocks) = (FileCount::default(), 0);
    let mut begin = Some(PackId([0; HASH_BYTES]));
    while let Some(from) = begin {
        let to_check = ToCheck::collect(&reader, &readable, from, BLOCKS_MAX).await?;
        progress.total(packs.bytes + to_check.bytes());
        blocks += to_check.blocks();
        begin = to_check.next();
        packs.add_all(check_packs(&reader, to_check, &mut damages, progress).await?);
    }
    name_releases(&reader, &readable, &mut damages).await?;
    let is_all_known = unchecked.is_empty() && readable.len() == reader.catalog.releases.len();
    let unreferenced = if is_all_known { unreferenced(address, &references).await? } else { None };
    Ok(Verification {
        releases: readable.len() as u64,
        catalog: reader.catalog,
        parts,
        packs,
        blocks,
        damages: damages.into_list(),
        unchecked,
        unreferenced,
    })
}

/// A repository that is being verified.
struct Reader {
    origin: Origin,
    catalog: Catalog,
    keys: ContentKeys,
}

impl Reader {
    /// The index of a release. A line that breaks is given another chance.
    async fn contents(&self, entry: &CatalogEntry) -> Result<Contents, ContentsError> {
        let mut attempt = 1;
        loop {
            match Contents::load(entry, &self.keys, &self.origin).await {
                Err(error) if attempt < ATTEMPTS_MAX && damage::is_about_origin(&error) => {
                    tokio::time::sleep(ATTEMPT_PAUSE).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

/// Finds out which releases the damaged blocks belong to. Only now, because for an intact repository nobody has to
/// remember which release needs which block.
async fn name_releases(
    reader: &Reader,
    readable: &[CatalogEntry],
    damages: &mut Damages,
) -> Result<(), VerifyError> {
    if damages.has_blocks() {
        for entry in readable {
            damages.name_release(&reader.contents(entry).await?);
        }
    }
    Ok(())
}

async fn unreferenced(address: &Address, references: &References) -> Result<Option<FileCount>, VerifyError> {
    let place = match Place::open(address) {
        Ok(place) => place,
        Err(PlaceError::ReadOnly(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut count = FileCount::default();
    for folder in ["packs", "indexes"] {
        for file in place.list(folder).await? {
            if references.has(&file.path) == Some(false) {
                count.add(file.size);
            }
        }
    }
    Ok(Some(count))
}
