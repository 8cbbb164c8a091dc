//! What may be wrong with SITES.toml, and what to do about it.

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum SitesError {
    /// It is not TOML, or has something in it that is unknown.
    #[error("SITES.toml: {0}")]
    Toml(Box<toml::de::Error>),
    /// Nothing is rolled out.
    #[error("SITES.toml names no release: add [[release]] with image and size")]
    NoReleases,
    /// Nowhere.
    #[error("SITES.toml names no site: add [[site]] with name, clients and wan")]
    NoSites,
    /// An entry without a name.
    #[error("[[{kind}]] number {number} has no {key}: give it one")]
    Nameless {
        /// `release` or `site`.
        kind: &'static str,
        /// From 1.
        number: usize,
        /// What is missing.
        key: &'static str,
    },
    /// An entry.
    #[error("{kind} {name:?}: {problem}")]
    Entry {
        /// `release` or `site`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: Problem,
    },
}

/// What is wrong with a release or a site.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// A key is unknown, missing, or has no such value.
    #[error("{0}")]
    Toml(String),
    /// It is there twice.
    #[error("is there twice: give each its own name; for many equal sites there is count")]
    Twice,
    /// Size and repository.
    #[error("give either size (and new), or release (and older), which are looked up with --repo")]
    SizeOrRelease,
    /// The update is larger than the whole.
    #[error("new is more than size: new is what of size nodes with the older release lack")]
    NewAboveSize,
    /// A number is out of bounds.
    #[error("{key} must be from 1 to {max}")]
    OutOfBounds {
        /// The setting.
        key: &'static str,
        /// Its largest value.
        max: u64,
    },
    /// A rate of nothing.
    #[error("{0} must be a rate such as \"20 Mbit/s\", not 0")]
    NoRate(&'static str),
    /// The exchange cannot use it.
    #[error("wan is below 10 kbit/s, over which releases do not spread: send a stick (branchmesh export)")]
    ThinWan,
    /// Too far away.
    #[error("round_trip is more than 5 s: give what ping shows, such as \"40ms\"")]
    RoundTrip,
    /// No such image.
    #[error("{key} names {image:?}, which no [[release]] has as image")]
    UnknownImage {
        /// `images` or `holds`.
        key: &'static str,
        /// The name.
        image: String,
    },
    /// Holds what it does not get.
    #[error("holds names {0:?}, which is not among its images")]
    HoldsOther(String),
    /// Nobody knows what an update brings.
    #[error("holds names {0:?}, but that release has neither new nor older: give one")]
    NoUpdate(String),
}
