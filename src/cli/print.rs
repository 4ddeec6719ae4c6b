//! `schema`, `completions` and `man`: descriptions of the program, for other programs.

use anyhow::Context;
use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::output::print;
use crate::config;

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// A command's own page; without it that of the program, which lists them
    command: Option<String>,
}

/// The JSON Schema of a configuration.
pub(super) fn schema() -> anyhow::Result<()> {
    print(config::schema())
}

/// A script that makes a shell complete our command line.
pub(super) fn completions(args: &CompletionsArgs, mut program: Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "outrigger", &mut script);
    print(&script)
}

/// A page for `man`, in roff.
pub(super) fn man(args: &ManArgs, mut program: Command) -> anyhow::Result<()> {
    // This gives commands their full names, such as `outrigger-check`.
    program.build();
    let command = match &args.command {
        None => program,
        Some(name) => {
            let names = program.get_subcommands().map(Command::get_name).collect::<Vec<_>>().join(", ");
            let found = program.find_subcommand(name).cloned();
            found.with_context(|| format!("there is no command {name:?}; there are {names}"))?
        }
    };
    let mut page = Vec::new();
    Man::new(command).render(&mut page).context("cannot make the page")?;
    print(&page)
}
