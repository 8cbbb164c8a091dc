//! The line of a file with a group's content key.

use branchmesh_image::GroupKey;

/// Input: the text of the file.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(key) = text.parse::<GroupKey>() else { return };
    let line = key.to_line();
    assert!(text.trim().eq_ignore_ascii_case(line.trim()), "the key is another one than the text");
    let again: GroupKey = line.parse().expect("what was written reads back");
    assert_eq!(*again.to_line(), *line);
}
