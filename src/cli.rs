//! The commands: `run`, `check`, `demo`, `inject`, those that ask a running proxy ([`admin`], [`health`]), and those
//! that print what is made of the program itself ([`mod@print`]).
//!
//! Exit codes: 0 done; 1 it failed; 2 the configuration or the command line is wrong.

mod admin;
mod configuration;
mod demo;
mod health;
mod inject;
mod notify;
mod output;
mod print;
mod runtime;
mod serving;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use self::configuration::{config_file, start_error};
use self::output::{print, warn};
use self::runtime::{run_on_workers, runtime};
use self::serving::serve;
use crate::admin::client::ClientError;
use crate::config::{self, ConfigErrors, Loaded, Sources};
use crate::server::{Overview, Reload, Server};
use crate::telemetry::logging;

/// A sidecar reverse proxy that makes existing WebSocket servers resilient without changing them.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy until it is told to stop
    Run(Settings),
    /// Print the effective configuration, or everything that is wrong with it
    Check(CheckArgs),
    /// A demo server, the proxy before it, and what to open in a browser
    Demo(demo::DemoArgs),
    /// Ask a running proxy to let its clients go; it stays, and takes none in, until a signal ends it
    Drain(admin::DrainArgs),
    /// Ask a running proxy whether it is well, for health checks that run a command
    Health(health::HealthArgs),
    /// List the channels of a running proxy's broadcasts
    Channels(admin::ChannelsArgs),
    /// List the clients of a running proxy's broadcasts, those furthest behind first
    Subscribers(admin::SubscribersArgs),
    /// Say something to the clients of a running proxy
    Publish(admin::PublishArgs),
    /// Put the proxy as a sidecar into Kubernetes manifests
    Inject(inject::InjectArgs),
    /// Print the JSON Schema of a configuration, for editors
    Schema,
    /// Print a script that makes a shell complete this command line
    Completions(print::CompletionsArgs),
    /// Print a page for man(1)
    Man(print::ManArgs),
}

/// Where settings come from; each of them may also come from `OUTRIGGER__…` in the environment.
#[derive(Debug, Args)]
struct Settings {
    /// YAML file [env: OUTRIGGER_CONFIG]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients come in [default: 0.0.0.0:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The WebSocket server [default: http://127.0.0.1:3000]
    #[arg(long, value_name = "URL")]
    upstream: Option<String>,
    /// Health, metrics, drain [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
}

impl Settings {
    fn sources(self) -> Sources {
        Sources {
            file: config_file(self.config),
            // A variable that is not UTF-8 is not left out: it is refused where it is read, like any wrong value.
            env: std::env::vars_os()
                .map(|(key, value)| {
                    (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
                })
                .collect(),
            listen: self.listen,
            upstream: self.upstream,
            admin: self.admin,
        }
    }
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    settings: Settings,
    /// Print problems and warnings only
    #[arg(long, short)]
    quiet: bool,
}

impl Cli {
    /// Runs the command; what went wrong is told on standard error.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Run(settings) => run(settings.sources()),
            Command::Check(args) => check(args),
            Command::Demo(args) => demo::run(&args),
            Command::Drain(args) => admin::drain(&args),
            Command::Health(args) => health::health(&args),
            Command::Channels(args) => admin::channels(args),
            Command::Subscribers(args) => admin::subscribers(args),
            Command::Publish(args) => admin::publish(args),
            Command::Inject(args) => inject::run(args),
            Command::Schema => print::schema(),
            Command::Completions(args) => print::completions(&args, Self::command()),
            Command::Man(args) => print::man(&args, Self::command()),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // If standard error is closed nobody can be told.
                let _ = writeln!(io::stderr(), "outrigger: {}", with_causes(&error));
                let is_usage = error.is::<ConfigErrors>()
                    || matches!(error.downcast_ref(), Some(ClientError::Address { .. }));
                ExitCode::from(if is_usage { 2 } else { 1 })
            }
        }
    }
}

/// What went wrong, and what caused it, each once: most errors tell their cause themselves.
fn with_causes(error: &anyhow::Error) -> String {
    let mut told = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

fn run(sources: Sources) -> anyhow::Result<()> {
    ignore_hangups()?;
    let warnings = config::env_warnings(&sources);
    // These variables may be why the configuration is wrong.
    let reading = config::read(&sources);
    let config = reading.config.inspect_err(|_| warn(&warnings))?;
    let logging = logging::init(&config.log)?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    for warning in &reading.warnings {
        tracing::warn!("{warning}");
    }
    run_on_workers(config.listen.workers, async |workers| {
        let reload = Reload::default();
        let hangups = on_hangups(reload.clone())?;
        let configuration = sources.to_string();
        let server = Server::bind_reloading(config, sources, reload, workers).await.map_err(start_error)?;
        let serving = serve(server, &logging, |server| {
            let Overview { upstreams, tls } = server.overview();
            tracing::info!(
                listen = %server.listening_on(),
                admin = %server.admin_address(),
                %configuration,
                upstreams,
                tls,
                version = env!("CARGO_PKG_VERSION"),
                "ready"
            );
            // It serves all the same. A supervisor that waits in vain ends the process some day, and the log has said
            // why.
            if let Err(error) = notify::ready() {
                tracing::error!(
                    "cannot tell the socket in NOTIFY_SOCKET that this process is ready: {error}"
                );
            }
            Ok(())
        });
        tokio::select! {
            result = serving => result,
            () = hangups => Ok(()),
        }
    })?
}

/// Above what `check` prints without a file: that is where a new one begins.
const STARTER: &str = "# yaml-language-server: $schema=outrigger.schema.json\n\
                       # `outrigger schema > outrigger.schema.json` writes that file, and editors know every setting.\n";

fn check(CheckArgs { settings, quiet }: CheckArgs) -> anyhow::Result<()> {
    let sources = settings.sources();
    warn(&config::env_warnings(&sources));
    let text = config::effective(&sources)?;
    let Loaded { config, warnings, .. } = config::read(&sources);
    let config = config?;
    let exposure_warnings = config.exposure_warnings();
    runtime()?.block_on(Server::check(config)).map_err(start_error)?;
    warn(&warnings);
    warn(&exposure_warnings);
    if quiet {
        return Ok(());
    }
    let starter = if sources.file.is_none() { STARTER } else { "" };
    print(format!("{starter}{text}"))
}

/// SIGHUP would end the process until somebody listens for it. Whoever has listened once has changed that for
/// good, and what is read from now on is new anyway.
fn ignore_hangups() -> anyhow::Result<()> {
    let listening = runtime()?.block_on(async { signal(SignalKind::hangup()) });
    listening.map(drop).context("cannot wait for SIGHUP")
}

/// Each SIGHUP has the configuration read again. Never completes.
fn on_hangups(reload: Reload) -> anyhow::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            reload.request();
        }
        std::future::pending::<()>().await;
    })
}
