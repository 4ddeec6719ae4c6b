//! Where settings come from.

use std::fmt;
use std::path::PathBuf;

/// The sources of settings. Later fields override earlier ones, and all override the defaults.
#[derive(Clone, Default)]
pub struct Sources {
    /// The YAML file.
    pub file: Option<PathBuf>,
    /// Environment variables; only those whose names start with `OUTRIGGER__` are settings.
    pub env: Vec<(String, String)>,
    /// `--listen`: an address and port, or `unix:` and a path.
    pub listen: Option<String>,
    /// `--upstream`: `upstream.url`.
    pub upstream: Option<String>,
    /// `--admin`: `admin.address`.
    pub admin: Option<String>,
}

/// Says which sources there are. Of their values it shows the name of the file only.
impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("defaults")?,
        }
        let is_setting = |(name, _): &(String, String)| name.to_ascii_lowercase().starts_with("outrigger__");
        if self.env.iter().any(is_setting) {
            f.write_str(" and the environment")?;
        }
        if self.listen.is_some() || self.upstream.is_some() || self.admin.is_some() {
            f.write_str(" and flags")?;
        }
        Ok(())
    }
}

/// Shows the name of the file only: any other value may hold a token.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("file", &self.file).finish_non_exhaustive()
    }
}
