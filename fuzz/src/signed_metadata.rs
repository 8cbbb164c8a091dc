//! What somebody could say who has all keys: the signatures are right, the content is anything.

use crate::{
    input::Input,
    world::{GROUP, Memory, World, content_keys, wait},
};
use branchmesh_image::path;
use branchmesh_repo::{Catalog, ContentKeys, read_catalog};
use std::collections::HashSet;

/// Input: a byte that chooses the role, then the JSON that its keys sign. Where `meta` lacks what TUF wants there,
/// it is filled in, so that the reader gets on.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let choice = input.byte();
    let Ok(content) = serde_json::from_slice(input.rest()) else { return };
    let mut world = World::good();
    match choice % 6 {
        0 => world.root = content,
        1 => world.next_root = content,
        2 => world.targets = content,
        3 => world.group = content,
        4 => world.snapshot = content,
        _ => world.timestamp = content,
    }
    let Some(files) = world.files() else { return };
    for keys in [content_keys(), ContentKeys::default()] {
        if let Ok(catalog) = wait(read_catalog(&Memory(&files), Some(&files["1.root.json"]), &keys)) {
            check(&catalog, &keys);
        }
    }
}

/// What every catalog promises to those who rely on it.
fn check(catalog: &Catalog, keys: &ContentKeys) {
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for entry in &catalog.releases {
        let texts = [&entry.image, &entry.release].into_iter().chain(&entry.channels);
        texts.for_each(|name| assert!(path::check_name(name).is_ok(), "{name:?} became a name"));
        assert!(names.insert(entry.name()), "{} is there twice", entry.name());
        assert!(ids.insert(entry.id()), "{} has the index of another release", entry.name());
        if let Some(group) = &entry.group {
            assert!(group == GROUP && keys.get(group).is_some(), "a release of {group} was opened");
        }
        // People and tools rely on these texts as well.
        assert!(entry.requires.len() <= 64 && entry.labels.len() <= 64);
        assert!(entry.labels.iter().all(|(name, value)| !name.contains('\n') && !value.contains('\n')));
    }
    assert!(catalog.sealed.iter().all(|release| release.group == GROUP));
}
