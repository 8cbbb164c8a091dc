//! Names that come from outside and become paths: checked once, for all systems that a release may land on.
//!
//! A release that was published on Linux is put on Windows disks, so the strictest rules hold everywhere: no
//! separators inside a component, no reserved device names, no trailing dots, no control characters.

/// Most bytes of an image's or release's name, and of one component of a file's path.
pub const COMPONENT_MAX: usize = 200;
/// Most components of a file's path.
pub const DEPTH_MAX: usize = 32;

/// A name that is not safe to use as a path on every system.
#[derive(Debug, thiserror::Error)]
#[error("{name:?} cannot be used as a name: {reason}")]
pub struct NameError {
    name: String,
    reason: &'static str,
}

/// Checks an image's name, a release's name or one component of a path.
pub fn check_component(name: &str) -> Result<(), NameError> {
    let fail = |reason| Err(NameError { name: name.chars().take(COMPONENT_MAX).collect(), reason });
    if name.is_empty() || name == "." || name == ".." {
        return fail("it is empty or means a folder itself");
    }
    if name.len() > COMPONENT_MAX {
        return fail("it is longer than 200 bytes");
    }
    if name.chars().any(|c| c.is_control() || r#"/\:*?"<>|"#.contains(c)) {
        return fail(r#"it holds a control character or one of / \ : * ? " < > |"#);
    }
    if name.ends_with(['.', ' ']) || name.starts_with(' ') {
        return fail("it begins with a space, or ends with a dot or a space, which Windows drops");
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_ascii_uppercase();
    let numbered = |device: &str| {
        stem.strip_prefix(device).is_some_and(|n| n.len() == 1 && n.chars().all(|c| c.is_ascii_digit()))
    };
    if ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT") {
        return fail("Windows reserves it for a device");
    }
    Ok(())
}

/// Checks an image's or release's name: a component that also holds no `@`, which separates the two.
pub fn check_name(name: &str) -> Result<(), NameError> {
    check_component(name)?;
    if name.contains('@') || name.starts_with('-') || name == "*" {
        return Err(NameError { name: name.into(), reason: "it holds @, or begins with -" });
    }
    Ok(())
}

/// Checks a file's path inside a release: components joined by `/`, relative, without `..`.
pub fn check_path(path: &str) -> Result<(), NameError> {
    if path.split('/').count() > DEPTH_MAX {
        let name = path.chars().take(COMPONENT_MAX).collect();
        return Err(NameError { name, reason: "it has more than 32 components" });
    }
    path.split('/').try_for_each(check_component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_or_break_windows_are_refused() {
        for good in ["disk.vmdk", "a/b/c", "xp finance.vhd", ".config", "COM", "console.log", "COM10"] {
            assert!(check_path(good).is_ok(), "{good:?} was refused");
        }
        let deep = vec!["a"; 33].join("/");
        let long = "a".repeat(201);
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            r"a\b",
            "C:",
            "c:/x",
            "a\0b",
            "nul",
            "NUL.txt",
            "com1",
            "lpt9.log",
            "end.",
            "end ",
            " x",
            "a\nb",
            "what?",
            &deep,
            &long,
        ] {
            assert!(check_path(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(check_name("xp@7").is_err());
        assert!(check_name("-rf").is_err());
        assert!(check_name("xp-finance").is_ok());
    }
}
