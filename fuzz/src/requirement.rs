//! What a release needs of a machine, as text, and whether a machine has it.

use crate::input::Input;
use branchmesh_repo::{Facts, Requirement};

/// Input: a requirement with its length before it, then a machine's value for the fact `engine`.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (Ok(text), Ok(value)) = (std::str::from_utf8(input.part()), std::str::from_utf8(input.rest())) else {
        return;
    };
    let Ok(requirement) = text.parse::<Requirement>() else { return };
    let again: Requirement = requirement.to_string().parse().expect("what was written reads back");
    assert_eq!(again, requirement);
    assert!(requirement.check(&Facts::new()).is_err(), "a fact that is missing meets {requirement}");
    let facts = Facts::from([("engine".to_owned(), value.to_owned())]);
    if let Err(unmet) = requirement.check(&facts) {
        assert!(unmet.to_string().contains(&requirement.to_string()));
    }
}
