//! Which pages may connect.

/// `policy.origins`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    /// Any of these.
    pub allow: Vec<OriginPattern>,
    /// Whether a request without `Origin` may come in: a browser always sends one.
    pub missing: bool,
}

/// Which pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Those that have no origin of their own and send `null`: sandboxed frames, `data:` URLs, files.
    Null,
    /// Those of an origin, or of several that differ in one part.
    Of {
        /// In lower case.
        scheme: String,
        /// In lower case, without brackets, without the `*.` and without the root's dot. Empty for `file` alone.
        host: String,
        /// Any name below `host`, at whatever depth, and not `host` itself.
        subdomains: bool,
        /// Never the default left out: 80 and 443 stand here too. 0: none, of a scheme that has no default. `None`: any.
        port: Option<u16>,
    },
}

impl OriginPattern {
    /// The port of an origin of `scheme` (in lower case) that names none.
    pub fn default_port(scheme: &str) -> u16 {
        match scheme {
            "http" => 80,
            "https" => 443,
            _ => 0,
        }
    }
}
