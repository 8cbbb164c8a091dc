//! How people name roles on the command line.

use branchmesh_repo::RoleName;
use std::{fmt::Display, str::FromStr};

/// Reads `ROLE=VALUE`.
pub fn role_and<T: FromStr<Err: Display>>(text: &str) -> Result<(RoleName, T), String> {
    let (role, value) = text.split_once('=').ok_or("write ROLE=VALUE")?;
    let role = role.parse::<RoleName>().map_err(|error| error.to_string())?;
    Ok((role, value.parse().map_err(|error: T::Err| error.to_string())?))
}
