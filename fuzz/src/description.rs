//! Sealed descriptions of releases, as metadata carries them: who has no key learns nothing, and who has it is
//! not fooled.

use crate::{input::Input, sample};

/// Input: the place (the target's name) with its length before it, then what is sealed, or said to be.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (place, text) = (input.part(), input.rest());
    let key = sample::group_key();
    assert!(key.open_description(place, text).is_err(), "bytes that nobody sealed were opened");

    let sealed = key.seal_description(place, text);
    assert_eq!(key.open_description(place, &sealed).ok().as_deref(), Some(text));
    assert!(key.open_description(&[place, b"0"].concat(), &sealed).is_err(), "it opens elsewhere");
    for length in [sealed.len() - 1, 11, 0] {
        assert!(key.open_description(place, &sealed[..length]).is_err(), "a part of it opens");
    }
}
