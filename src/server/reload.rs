//! Reads the configuration again while the proxy runs: one road, whatever asked for it.
//!
//! # Invariants
//! 1. What is wrong changes nothing: everything is read, checked and made before anything is replaced.
//! 2. Whoever comes sees the old configuration or the new one, as a whole. Connections that are open keep
//!    what they began with.
//! 3. What cannot change while the process runs keeps the value it began with, and is named in a warning.
//!
//! # Not here
//! Signals (the command line's), and how files are watched ([`crate::config::Watch`]).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use super::state::{Snapshot, State};
use crate::config::{self, Config, ConfigErrors, LogFormat, Sources, Watch, WatchedPaths};
use crate::telemetry::panics::{PAUSE, catch_panic};
use crate::telemetry::{Metrics, ReloadOutcome, TaskKind};

/// Asks the server to read its configuration again, whether or not a file has changed.
#[derive(Debug, Clone, Default)]
pub struct Reload(Arc<Notify>);

impl Reload {
    /// Soon, and once if it is asked for several times before.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Reads again whatever the configuration was read from.
#[derive(Debug)]
pub(super) struct Reloader {
    sources: Arc<Sources>,
    /// What was read last and was good.
    read: Arc<Config>,
    /// Its files.
    files: Vec<PathBuf>,
    asked: Reload,
    /// The errors that were logged for a configuration that is wrong and has not changed since.
    reported: Option<String>,
}

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// SIGHUP, as a rule.
    Asked,
    /// Something has happened to one of the files.
    Files,
    /// There are more files to watch than before: one of them may have changed before it was watched.
    Gap,
}

/// What it takes to read it again.
struct Work {
    cause: Cause,
    sources: Arc<Sources>,
    /// What was good last.
    before: Arc<Config>,
    /// What the process began with.
    began: Arc<Config>,
    /// Its files.
    known: Vec<PathBuf>,
}

/// What came of reading it.
struct Outcome {
    result: Result<Change, ConfigErrors>,
    files: Vec<PathBuf>,
    places: WatchedPaths,
}

enum Change {
    Same,
    New {
        snapshot: Box<Snapshot>,
        read: Box<Config>,
        warnings: Vec<config::Warning>,
        fixed: Vec<&'static str>,
    },
}

impl Reloader {
    /// `read`: what the process began with, and where it was read from.
    pub(super) fn new(sources: Sources, read: Config, asked: Reload) -> Self {
        Self { sources: Arc::new(sources), read: Arc::new(read), files: Vec::new(), asked, reported: None }
    }

    /// Reloads whenever there is cause to, for ever; after a panic it begins anew.
    pub(super) async fn run(mut self, state: Arc<State>) {
        let began = Arc::clone(&self.read);
        while catch_panic(TaskKind::Reload, &state.metrics, self.follow(&state, &began)).await.is_err() {
            sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self, state: &Arc<State>, began: &Arc<Config>) {
        let mut watch = Watch::new();
        // This finds what has changed since the start as well.
        let mut cause = Cause::Gap;
        loop {
            let is_gap = self.reload(cause, state, began, &mut watch).await;
            cause = if is_gap {
                Cause::Gap
            } else {
                tokio::select! {
                    () = self.asked.0.notified() => Cause::Asked,
                    () = watch.changed() => Cause::Files,
                }
            };
        }
    }

    /// Reads once. Whether there are places that were not watched while it was read.
    async fn reload(
        &mut self,
        cause: Cause,
        state: &Arc<State>,
        began: &Arc<Config>,
        watch: &mut Watch,
    ) -> bool {
        let work = Work {
            cause,
            sources: Arc::clone(&self.sources),
            before: Arc::clone(&self.read),
            began: Arc::clone(began),
            known: self.files.clone(),
        };
        let shared = Arc::clone(state);
        // Files may be slow to read, and keys to make.
        let Outcome { result, files, places } = match spawn_blocking(move || read(&work, &shared)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                state.metrics.on_panic(TaskKind::Reload);
                error!("the configuration could not be read again: the one before still holds");
                state.metrics.process.on_reload(ReloadOutcome::Failed);
                return false;
            }
        };
        if result.is_ok() {
            self.files = files;
        }
        let is_gap = watch.follow(places).await;
        match result {
            Ok(Change::Same) => {
                self.reported = None;
                match cause {
                    Cause::Asked => info!("the configuration is unchanged"),
                    Cause::Files => debug!("the configuration is unchanged"),
                    Cause::Gap => return is_gap,
                }
                state.metrics.process.on_reload(ReloadOutcome::Unchanged);
            }
            Ok(Change::New { snapshot, read, warnings, fixed }) => {
                self.reported = None;
                self.read = Arc::new(*read);
                for warning in &warnings {
                    warn!("{warning}");
                }
                warn_exposed(&self.read);
                show_limits(&self.read, &state.metrics);
                state.budget.set_limit(self.read.max_buffered);
                state.replace(*snapshot);
                state.metrics.process.on_reload(ReloadOutcome::Applied);
                info!(
                    routes = self.read.routes.len(),
                    "the configuration has changed and holds for whoever comes from now on"
                );
                if !fixed.is_empty() {
                    warn!(keys = %fixed.join(", "), "these settings have changed too, and take a restart");
                }
            }
            Err(errors) => {
                let reported = errors.to_string();
                if cause == Cause::Gap && self.reported.as_ref() == Some(&reported) {
                    return is_gap;
                }
                state.metrics.process.on_reload(ReloadOutcome::Failed);
                log_errors(&reported, began.log.format);
                self.reported = Some(reported);
            }
        }
        is_gap
    }
}

/// Reads everything again and makes a snapshot of it, if it has changed.
fn read(work: &Work, state: &State) -> Outcome {
    let Work { cause, sources, before, began, known } = work;
    let file = sources.file.as_deref();
    let metadata = file.and_then(|file| std::fs::metadata(file).ok());
    // A pipe that a shell has made for us was read to its end.
    if metadata.is_some_and(|metadata| !metadata.is_file()) {
        let what = "not a regular file: it cannot be read a second time";
        let result = if *cause == Cause::Gap { Ok(Change::Same) } else { Err(unusable(file, what)) };
        return Outcome { result, files: known.clone(), places: WatchedPaths::of(known) };
    }
    let config::Loaded { config, warnings, is_file_blank, mut files } = config::read(sources);
    let result = config.and_then(|read| {
        if read == **before {
            return Ok(Change::Same);
        }
        // At a start it means the defaults; now it is far more likely about to be written, or a template's that got no
        // values: no guard may fall for that. What was read says so, not what the file holds before or after it.
        if is_file_blank {
            return Err(unusable(file, "empty; if the defaults are meant, put a comment in it"));
        }
        let mut config = read.clone();
        let fixed = hold(&mut config, began);
        let snapshot =
            Snapshot::new(config, Some(&state.snapshot()), &state.metrics, &state.budget, &state.hubs)
                .map_err(ConfigErrors::from)?;
        Ok(Change::New { snapshot: Box::new(snapshot), read: Box::new(read), warnings, fixed })
    });
    if result.is_err() {
        // It may not be known which files it would have named.
        files.extend(known.iter().cloned());
    }
    files.sort();
    files.dedup();
    let places = WatchedPaths::of(&files);
    Outcome { result, files, places }
}

fn unusable(file: Option<&Path>, what: &str) -> ConfigErrors {
    ConfigErrors::unusable("", format!("{}: {what}", file.unwrap_or(Path::new("")).display()))
}

/// Puts back what cannot change while the process runs, and names what would have changed.
fn hold(config: &mut Config, began: &Config) -> Vec<&'static str> {
    let mut fixed = Vec::new();
    let mut keep = |key, differs: bool| {
        if differs {
            fixed.push(key);
        }
    };
    let (listen, admin, log) = (&began.listen, &began.admin, &began.log);
    keep("listen.address or listen.unix", config.listen.address != listen.address);
    keep("listen.workers", config.listen.workers != listen.workers);
    keep("admin.address", config.admin.address != admin.address);
    keep("admin.probe_address", config.admin.probe_address != admin.probe_address);
    keep("admin.token or admin.token_file", config.admin.token != admin.token);
    keep("admin.hosts", config.admin.hosts != admin.hosts);
    keep("admin.ready_needs_upstream", config.admin.ready_needs_upstream != admin.ready_needs_upstream);
    keep("admin.max_publish", config.admin.max_publish != admin.max_publish);
    keep("log.level", config.log.level != log.level);
    keep("log.format", config.log.format != log.format);
    keep("log.connections", config.log.connections != log.connections);
    keep("log.requests", config.log.requests != log.requests);
    keep("metrics.prefix", config.metrics_prefix != began.metrics_prefix);
    config.listen.address = listen.address.clone();
    config.listen.workers = listen.workers;
    config.admin = admin.clone();
    config.log = log.clone();
    config.metrics_prefix.clone_from(&began.metrics_prefix);
    fixed
}

/// Logs what is wrong with a configuration: in JSON, for machines, in one line; in text, for people, as `check` tells
/// it, each line in one of its own.
fn log_errors(reported: &str, format: LogFormat) {
    const HEADING: &str = "the configuration is wrong: the one before still holds";
    match format {
        LogFormat::Json => error!(problems = reported, "{HEADING}"),
        LogFormat::Text => {
            error!("{HEADING}");
            for line in reported.lines().filter(|line| !line.trim().is_empty()) {
                error!("{line}");
            }
        }
    }
}

/// Warns of what the configuration leaves open.
pub(super) fn warn_exposed(config: &Config) {
    for what in config.exposure_warnings() {
        warn!("{what}");
    }
}

/// Shows the bounds that the configuration sets in the metrics.
pub(super) fn show_limits(config: &Config, metrics: &Metrics) {
    metrics.process.set_limit("header_bytes", config.listen.max_header_bytes as u64);
    metrics.process.set_limit("handshakes", config.listen.max_handshakes as u64);
    metrics.process.set_limit("idle_http", config.listen.max_idle_http as u64);
    let per_ip = config.listen.max_idle_http_per_ip.map(|count| count as f64);
    metrics.process.set_route_limit("idle_http_per_ip", "", per_ip);
    metrics.process.set_limit("refusals_closing", config.listen.max_refusals as u64);
    metrics.process.set_limit("memory", config.max_buffered as u64);
    // Of the upstream that all routes without one of their own share.
    if let Some(fallback) = config.routes.last() {
        metrics.process.set_limit("dials", fallback.upstream.max_dials as u64);
        metrics.process.set_limit("upstream_header_bytes", fallback.upstream.max_header_bytes as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_restart_is_named_and_keeps_its_value_while_the_rest_changes() {
        let began = Config::default();
        let cases = [
            ("listen: { address: '127.0.0.1:1' }", vec!["listen.address or listen.unix"]),
            ("listen: { unix: /tmp/a.sock }", vec!["listen.address or listen.unix"]),
            ("listen: { workers: 77 }", vec!["listen.workers"]),
            ("admin: { address: '127.0.0.1:1' }", vec!["admin.address"]),
            ("admin: { probe_address: '127.0.0.1:1' }", vec!["admin.probe_address"]),
            ("admin: { token: x }", vec!["admin.token or admin.token_file"]),
            ("admin: { hosts: [ops.example] }", vec!["admin.hosts"]),
            ("admin: { ready_needs_upstream: true }", vec!["admin.ready_needs_upstream"]),
            ("admin: { max_publish: 1KiB }", vec!["admin.max_publish"]),
            (
                "log: { level: warn, format: text, connections: off, requests: all }",
                vec!["log.level", "log.format", "log.connections", "log.requests"],
            ),
            ("metrics: { prefix: edge }", vec!["metrics.prefix"]),
            ("listen: { keep_alive: 3s }\ndrain: { spread: 1s }\npolicy: { max_frame: 1KiB }", vec![]),
        ];
        for (yaml, expected) in cases {
            let read = Config::from_yaml(yaml).unwrap_or_else(|errors| panic!("{errors}"));
            let mut config = read.clone();
            assert_eq!(hold(&mut config, &began), expected, "{yaml}");
            if expected.is_empty() {
                assert_eq!(config, read, "{yaml}");
            } else {
                assert_eq!(config, began, "{yaml}");
            }
        }
    }
}
