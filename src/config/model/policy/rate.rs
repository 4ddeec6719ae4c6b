//! Token buckets.

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Tokens a second, above 0.
    pub per_second: f64,
    /// Most tokens at once, at least 1.
    pub burst: u32,
}
