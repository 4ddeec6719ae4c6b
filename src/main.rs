//! Parses the command line and runs one command.

use std::process::ExitCode;

use clap::Parser;

/// Gives memory back soon after a burst of handshakes, which glibc's does not; tuned at build time in
/// `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    outrigger::cli::Cli::parse().run()
}
