//! `outrigger health`: the answer is the exit code, for health checks that run a command.

use std::io::{self, Write as _};

use clap::Args;

use super::runtime::{run_on, runtime};
use crate::admin::client::{self, Client, Probe};

#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// Whether clients should be sent there, not only whether it answers
    #[arg(long)]
    ready: bool,
    /// The proxy's admin port, or its probe port
    #[arg(long, value_name = "URL", default_value = client::DEFAULT_ADMIN_URL)]
    admin: String,
}

pub(super) fn health(args: &HealthArgs) -> anyhow::Result<()> {
    let (probe, word) = match args.ready {
        true => (Probe::Readiness, "ready"),
        false => (Probe::Health, "ok"),
    };
    run_on(runtime()?, Client::new(&args.admin, None)?.health(probe))?;
    Ok(writeln!(io::stdout(), "{word}")?)
}
