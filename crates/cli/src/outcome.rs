//! What became of a change of the signed metadata: in force, or waiting for the signatures of others.

use branchmesh_repo::Missing;

/// Says `done` if the change is in force, and whose signatures it waits for otherwise.
pub fn tell(done: &str, missing: &[Missing]) {
    if missing.is_empty() {
        eprintln!("{done}");
        return;
    }
    eprintln!("not in force yet: let the others sign with `branchmesh repo sign`");
    for missing in missing {
        eprintln!("  {missing}");
    }
}
