//! Where things lie in a repository. The same for HQ's server, a USB stick and a prestage folder.
//!
//! ```text
//! metadata/   root.json N.root.json N.targets.json N.snapshot.json timestamp.json
//! indexes/    ab/<64 hex>        one file per index part, named by the BlockId of its encoded bytes
//! packs/      ab/<64 hex>.pack   encoded blocks back to back, named by their PackId
//!             ab/<64 hex>.excerpt   some of a pack's blocks, in bundles only
//! ```

use branchmesh_image::{BlockId, PackId};

/// Most bytes of one metadata file: targets of some ten thousand releases.
pub const METADATA_MAX: usize = 8 << 20;

/// The file that is written last, and that changes with every publication.
pub(crate) const TIMESTAMP: &str = "timestamp.json";
/// The repository's current root of trust.
pub(crate) const ROOT: &str = "root.json";

/// The first root of trust: what a repository is known by. Its name and content never change.
pub(crate) const FIRST_ROOT: &str = "1.root.json";

/// The folder of the signed metadata.
pub(crate) const METADATA: &str = "metadata";
/// The folder of all index parts.
pub(crate) const INDEXES: &str = "indexes";
/// The folder of all packs.
pub(crate) const PACKS: &str = "packs";
/// The folder of changes that wait for signatures.
pub(crate) const STAGED: &str = "staged";

/// Longest name of a metadata file: a role's name and a version number.
const METADATA_NAME_MAX: usize = 128;

/// Path of a metadata file.
pub(crate) fn metadata_path(name: &str) -> String {
    format!("metadata/{name}")
}

/// Path of an index part.
pub(crate) fn index_path(part: &BlockId) -> String {
    let name = part.to_string();
    format!("indexes/{}/{name}", &name[..2])
}

/// Path of a pack.
pub(crate) fn pack_path(pack: &PackId) -> String {
    let name = pack.to_string();
    format!("packs/{}/{name}.pack", &name[..2])
}

/// Path of an excerpt of a pack, in a bundle.
pub(crate) fn excerpt_path(pack: &PackId) -> String {
    let name = pack.to_string();
    format!("packs/{}/{name}.excerpt", &name[..2])
}

/// The pack that lies at `path`; `None` for other files.
pub(crate) fn pack_of(path: &str) -> Option<PackId> {
    let pack = path.rsplit('/').next()?.strip_suffix(".pack")?.parse().ok()?;
    (path == pack_path(&pack)).then_some(pack)
}

/// The index part that lies at `path`; `None` for other files.
pub(crate) fn part_of(path: &str) -> Option<BlockId> {
    let part: BlockId = path.rsplit('/').next()?.parse().ok()?;
    (index_path(&part) == path).then_some(part)
}

/// Version and role of the file at `path`, if its name has both: `…/7.targets.json`.
pub(crate) fn version_of(path: &str) -> Option<(u64, &str)> {
    let (version, role) = path.rsplit('/').next()?.strip_suffix(".json")?.split_once('.')?;
    Some((version.parse().ok()?, role))
}

/// Whether a write that was under way when its process was killed left the file at `path`: `NAME#NUMBER`.
pub(crate) fn is_unfinished(path: &str) -> bool {
    path.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.chars().all(|digit| digit.is_ascii_digit()))
}

/// Whether `name` can be a metadata file's name. Names come from peers too, and become paths and URLs.
pub(crate) fn is_metadata_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.len() <= METADATA_NAME_MAX
        && name.ends_with(".json")
        && !name.starts_with('.')
        && !name.contains("..")
        && name.chars().all(plain)
}

/// Whether the file `name`, once published, never changes: versioned names don't, `timestamp.json` does.
pub(crate) fn is_versioned_name(name: &str) -> bool {
    name.split_once('.').is_some_and(|(version, rest)| {
        !version.is_empty() && version.chars().all(|c| c.is_ascii_digit()) && rest.contains(".json")
    })
}

/// Whether `name` is that of a numbered root of trust.
pub(crate) fn is_root_name(name: &str) -> bool {
    root_version(name).is_some()
}

/// The version of the root of trust in the file `name`.
pub(crate) fn root_version(name: &str) -> Option<u64> {
    name.strip_suffix(ROOT)?.strip_suffix('.')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_spread_over_256_folders() {
        let pack = PackId([0xab; 32]);
        assert_eq!(pack_path(&pack), format!("packs/ab/{}.pack", "ab".repeat(32)));
        assert_eq!(pack_of(&pack_path(&pack)), Some(pack));
        for other in ["", "packs/ab", "packs/cd/x.pack", &pack_path(&pack).replace("/ab/", "/aa/")] {
            assert_eq!(pack_of(other), None, "{other:?}");
        }
        assert_eq!(index_path(&BlockId([1; 32])), format!("indexes/01/{}", "01".repeat(32)));
        assert_eq!(part_of(&index_path(&BlockId([1; 32]))), Some(BlockId([1; 32])));
        assert_eq!(part_of(&pack_path(&pack)), None);
    }

    #[test]
    fn names_that_could_leave_the_folder_are_no_metadata() {
        for good in ["timestamp.json", "1.root.json", "12.group-finance.json"] {
            assert!(is_metadata_name(good), "{good:?} was refused");
        }
        for bad in
            ["", "../x.json", "a/b.json", r"a\b.json", "..json", ".json", "x.json?y", "root.key", "%2e.json"]
        {
            assert!(!is_metadata_name(bad), "{bad:?} was accepted");
        }
    }

    #[test]
    fn names_of_versions_and_of_unfinished_files_are_told_apart() {
        assert_eq!(version_of("metadata/12.targets.json"), Some((12, "targets")));
        assert_eq!(version_of("staged/3.finance.json"), Some((3, "finance")));
        for other in ["metadata/timestamp.json", "metadata/root.json", "x.targets.json", "1.targets"] {
            assert_eq!(version_of(other), None, "{other:?}");
        }
        assert!(is_unfinished("packs/ab/abab.pack#1"));
        assert!(!is_unfinished("packs/ab/abab.pack") && !is_unfinished("packs/ab#1/abab.pack"));
    }

    #[test]
    fn only_numbered_files_are_immutable() {
        assert!(is_versioned_name("7.snapshot.json"));
        assert!(!is_versioned_name("timestamp.json"));
        assert!(!is_versioned_name(".json"));
    }
}
