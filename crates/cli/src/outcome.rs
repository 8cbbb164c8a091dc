//! What became of a change of the signed metadata: in force, or waiting for the signatures of others.

use branchmesh_repo::{Missing, RoleName};

/// Says `done` if the change is in force, and whose signatures it waits for otherwise.
pub fn tell(done: &str, missing: &[Missing]) {
    if missing.is_empty() {
        eprintln!("{done}");
    }
    tell_missing(missing);
}

/// Says whose signatures a change waits for, if any.
pub fn tell_missing(missing: &[Missing]) {
    if missing.is_empty() {
        return;
    }
    eprintln!("not in force yet; it waits in the repository for signatures:");
    for missing in missing {
        eprintln!("  {missing}");
    }
    let is_online = |role: &RoleName| matches!(role, RoleName::Snapshot | RoleName::Timestamp);
    let command = if missing.iter().all(|missing| is_online(&missing.role)) { "refresh" } else { "sign" };
    eprintln!("whoever has such a key runs `branchmesh repo {command}`");
}
