//! Telling somebody how far a publication is.

/// Is told how far a publication is, in bytes of plaintext. `()` doesn't listen.
pub trait Progress: Send + Sync {
    /// So many bytes are to be read.
    fn total(&self, bytes: u64);
    /// So many more are done.
    fn advance(&self, bytes: u64);
}

impl Progress for () {
    fn total(&self, _: u64) {}
    fn advance(&self, _: u64) {}
}
