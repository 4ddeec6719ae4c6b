//! Which messages a setting selects.

/// A JSON pointer (RFC 6901), checked: empty, or it begins with `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// Unescaped tokens, outermost first.
    pub tokens: Vec<String>,
}

/// Which messages a rule means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Texts that are JSON and have one of these strings at that place.
    Pointer {
        /// Where to look.
        pointer: Pointer,
        /// What may stand there; never empty.
        values: Vec<String>,
    },
    /// Texts that this matches anywhere; it compiles.
    Regex(String),
    /// So many messages from the start; at least 1.
    First(u64),
}

impl Match {
    /// As every [`Match::Regex`] is compiled, so that what was checked is what is used: an expression cannot
    /// take more memory than this.
    ///
    /// # Errors
    /// It is none, or too large.
    pub fn compile(regex: &str) -> Result<regex::Regex, regex::Error> {
        const MAX_BYTES: usize = 1 << 20;
        regex::RegexBuilder::new(regex).size_limit(MAX_BYTES).dfa_size_limit(MAX_BYTES).build()
    }
}
