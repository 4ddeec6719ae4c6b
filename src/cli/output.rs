//! What commands write to standard output and standard error.

use std::fmt::Display;
use std::io::{self, Write};

use anyhow::Context;

/// Writes `bytes` to standard output.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    io::stdout().write_all(bytes.as_ref()).context("cannot write to standard output")
}

/// Writes warnings to standard error, since standard output may be on its way into a file.
pub(super) fn warn<T: Display>(warnings: &[T]) {
    for warning in warnings {
        // If standard error is closed nobody can be told.
        let _ = writeln!(io::stderr(), "outrigger: warning: {warning}");
    }
}
