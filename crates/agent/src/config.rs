//! The agent's settings.
//!
//! A [`Layer`] is what was written down somewhere, every setting optional; [`Settings`] is what it means. Flags
//! stand above `BRANCHMESH_…` variables, these above the file, the file above the defaults.

mod layer;
mod settings;

pub use crate::choices::{RoleSetting, Update, WanSetting};
pub use layer::{IdentityLayer, Layer, TrustLayer};
pub use settings::{HTTP_DEFAULT, Settings};

use branchmesh_repo::SubscriptionError;
use std::path::PathBuf;

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path} cannot be read")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not TOML, an unknown setting, or a value of the wrong kind. The text names line and setting.
    #[error("the configuration {path} is wrong: {reason}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong, with the line.
        reason: String,
    },
    /// A setting without a default was not given.
    #[error(
        "the setting {name} is missing: give it in the configuration file, as --{flag} or in BRANCHMESH_{variable}"
    )]
    Missing {
        /// Its name in the file.
        name: &'static str,
        /// Its flag.
        flag: String,
        /// The end of its variable's name.
        variable: String,
    },
    /// A number that makes no sense.
    #[error("the setting {name} is {value}: give a number from {min} to {max}")]
    OutOfBounds {
        /// Its name in the file.
        name: &'static str,
        /// What was given.
        value: u32,
        /// The smallest that makes sense.
        min: u32,
        /// The largest.
        max: u32,
    },
    /// A subscription that is none.
    #[error("the setting subscribe is wrong")]
    Subscription(#[from] SubscriptionError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Limit, LimitSchedule};
    use std::{path::Path, time::Duration};

    const MINIMAL: &str = "data_dir = \"data\"\nsite = \"lyon\"\n[identity]\nca = \"ca.pem\"\ncert = \"node.pem\"\n\
                           key = \"node.key\"\n[trust]\nroot = \"root.json\"\n";

    fn load(text: &str) -> Result<Layer, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("branchmesh.toml");
        std::fs::write(&path, text).unwrap();
        let mut layer = Layer::from_file(&path)?;
        let relative =
            |path: PathBuf| path.strip_prefix(folder.path()).map(Path::to_path_buf).unwrap_or(path);
        layer.data_dir = layer.data_dir.map(relative);
        Ok(layer)
    }

    #[test]
    fn a_minimal_file_is_enough_and_relative_to_its_folder() {
        let settings = load(MINIMAL).unwrap().settle().unwrap();
        assert_eq!(settings.data_dir, Path::new("data"));
        assert_eq!(settings.listen.port(), 8740);
        assert_eq!(settings.poll, Duration::from_secs(60));
        assert!(settings.mdns && settings.trim);
    }

    #[test]
    fn a_typo_is_named_with_its_line() {
        let error = load(&format!("datadir = \"x\"\n{MINIMAL}")).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("datadir"), "{error}");
        let error = load(&format!("wan_limit = \"20 bananas\"\n{MINIMAL}")).unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("20 bananas"), "{error}");
        let error = load(&format!("{MINIMAL}rot = \"x\"\n")).unwrap_err().to_string();
        assert!(error.contains("rot"), "{error}");
    }

    #[test]
    fn a_schedule_that_says_too_little_is_refused_with_what_to_write() {
        let wan_limit = |text: &str| load(&format!("wan_limit = \"{text}\"\n{MINIMAL}"));
        let error = wan_limit("20:00-06:00 50Mbit/s").unwrap_err().to_string();
        assert!(error.contains("line 1") && error.contains("20:00-06:00 50Mbit/s, off"), "{error}");
        let nights = wan_limit("20:00-06:00 50Mbit/s, off").unwrap().settle().unwrap().wan_limit;
        assert_ne!(nights, LimitSchedule::from(Limit::Off));
        assert_eq!(load(MINIMAL).unwrap().settle().unwrap().wan_limit, LimitSchedule::default());
    }

    #[test]
    fn a_number_of_fetchers_that_makes_no_sense_is_refused() {
        for (number, is_right) in [(0, false), (1, true), (16, true), (17, false)] {
            let settled = load(&format!("fetchers = {number}\n{MINIMAL}")).unwrap().settle();
            assert_eq!(settled.is_ok(), is_right, "{number}");
            if let Err(error) = settled {
                assert!(error.to_string().contains("fetchers") && error.to_string().contains("1 to 16"));
            }
        }
    }

    #[test]
    fn a_missing_setting_is_named_with_its_flag_and_variable() {
        let error = load("site = \"lyon\"").unwrap().settle().unwrap_err().to_string();
        assert!(error.contains("data_dir") && error.contains("--data-dir"), "{error}");
        assert!(error.contains("BRANCHMESH_DATA_DIR"), "{error}");
    }

    #[test]
    fn facts_are_what_the_machine_is_and_what_somebody_says_of_it() {
        let file =
            load(&format!("{MINIMAL}[facts]\nvirtualization-engine = \"6.1\"\nowner = \"it\"\n")).unwrap();
        let flags = Layer { facts: vec![("owner".into(), "sales".into())], ..Layer::default() };
        let facts = flags.over(file).settle().unwrap().facts;
        let fact = |name: &str| facts.get(name).map(String::as_str);
        assert_eq!(fact("virtualization-engine"), Some("6.1"));
        assert_eq!(fact("owner"), Some("sales"));
        assert_eq!(fact("os"), Some(std::env::consts::OS));
    }

    #[test]
    fn flags_stand_above_the_file() {
        let flags = Layer { site: Some("paris".into()), ..Layer::default() };
        let settings = flags.over(load(MINIMAL).unwrap()).settle().unwrap();
        assert_eq!(settings.site, "paris");
    }
}
