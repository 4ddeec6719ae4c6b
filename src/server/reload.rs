//! Reads the configuration again while the proxy runs, in one way whatever the cause.
//!
//! # Invariants
//! 1. A configuration that is wrong changes nothing: everything is read, checked and made before anything is replaced.
//! 2. A request sees the old configuration or the new one, as a whole. Connections that are open keep the one that they
//!    began with.
//! 3. Settings that cannot change while the process runs keep their initial values, and a warning names them.
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
    /// Requests a reload; several requests before it begins are one.
    pub fn request(&self) {
        self.0.notify_one();
    }
}

/// Reads again whatever the configuration was read from.
#[derive(Debug)]
pub(super) struct Reloader {
    sources: Arc<Sources>,
    /// The last configuration that was valid.
    read: Arc<Config>,
    /// The files that it was read from.
    files: Vec<PathBuf>,
    requests: Reload,
    /// The errors that were logged for a configuration that is wrong and has not changed since.
    reported: Option<String>,
}

/// Why the configuration is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// It was requested: by SIGHUP, as a rule.
    Requested,
    /// One of the files has changed.
    FileChanged,
    /// There are new paths to watch: a file may have changed before it was watched.
    NewPaths,
}

/// What the thread that reads the configuration needs.
struct ReadJob {
    cause: Cause,
    sources: Arc<Sources>,
    /// The last configuration that was valid.
    previous: Arc<Config>,
    /// The configuration that the process began with.
    initial: Arc<Config>,
    /// The files of `previous`.
    known_files: Vec<PathBuf>,
}

/// The result of reading it.
struct Outcome {
    result: Result<Change, ConfigErrors>,
    files: Vec<PathBuf>,
    watched_paths: WatchedPaths,
}

enum Change {
    Same,
    New {
        snapshot: Box<Snapshot>,
        read: Box<Config>,
        warnings: Vec<config::Warning>,
        needs_restart: Vec<&'static str>,
    },
}

impl Reloader {
    /// `read` is the configuration that the process began with, read from `sources`.
    pub(super) fn new(sources: Sources, read: Config, requests: Reload) -> Self {
        Self { sources: Arc::new(sources), read: Arc::new(read), files: Vec::new(), requests, reported: None }
    }

    /// Reloads whenever there is cause to, for ever; it is started again after a panic.
    pub(super) async fn run(mut self, state: Arc<State>) {
        let initial = Arc::clone(&self.read);
        while catch_panic(TaskKind::Reload, &state.metrics, self.watch_and_reload(&state, &initial))
            .await
            .is_err()
        {
            sleep(PAUSE).await;
        }
    }

    async fn watch_and_reload(&mut self, state: &Arc<State>, initial: &Arc<Config>) {
        let mut watch = Watch::new();
        // This finds what has changed since the start as well.
        let mut cause = Cause::NewPaths;
        loop {
            let has_new_paths = self.reload(cause, state, initial, &mut watch).await;
            cause = if has_new_paths {
                Cause::NewPaths
            } else {
                tokio::select! {
                    () = self.requests.0.notified() => Cause::Requested,
                    () = watch.changed() => Cause::FileChanged,
                }
            };
        }
    }

    /// Reads once. Answers whether there are paths that were not watched while it was read.
    async fn reload(
        &mut self,
        cause: Cause,
        state: &Arc<State>,
        initial: &Arc<Config>,
        watch: &mut Watch,
    ) -> bool {
        let job = ReadJob {
            cause,
            sources: Arc::clone(&self.sources),
            previous: Arc::clone(&self.read),
            initial: Arc::clone(initial),
            known_files: self.files.clone(),
        };
        let shared = Arc::clone(state);
        // Files may be slow to read, and keys to make.
        let Outcome { result, files, watched_paths } = match spawn_blocking(move || read(&job, &shared)).await
        {
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
        let has_new_paths = watch.follow(watched_paths).await;
        match result {
            Ok(Change::Same) => {
                self.reported = None;
                match cause {
                    Cause::Requested => info!("the configuration is unchanged"),
                    Cause::FileChanged => debug!("the configuration is unchanged"),
                    Cause::NewPaths => return has_new_paths,
                }
                state.metrics.process.on_reload(ReloadOutcome::Unchanged);
            }
            Ok(Change::New { snapshot, read, warnings, needs_restart }) => {
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
                if !needs_restart.is_empty() {
                    warn!(keys = %needs_restart.join(", "), "these settings have changed too, and take a restart");
                }
            }
            Err(errors) => {
                let reported = errors.to_string();
                if cause == Cause::NewPaths && self.reported.as_ref() == Some(&reported) {
                    return has_new_paths;
                }
                state.metrics.process.on_reload(ReloadOutcome::Failed);
                log_errors(&reported, initial.log.format);
                self.reported = Some(reported);
            }
        }
        has_new_paths
    }
}

/// Reads everything again and makes a snapshot of it, if it has changed.
fn read(job: &ReadJob, state: &State) -> Outcome {
    let ReadJob { cause, sources, previous, initial, known_files } = job;
    let file = sources.file.as_deref();
    let metadata = file.and_then(|file| std::fs::metadata(file).ok());
    // A pipe (a shell's process substitution) was read to its end.
    if metadata.is_some_and(|metadata| !metadata.is_file()) {
        let what = "not a regular file: it cannot be read a second time";
        let result = if *cause == Cause::NewPaths { Ok(Change::Same) } else { Err(unusable(file, what)) };
        return Outcome { result, files: known_files.clone(), watched_paths: WatchedPaths::of(known_files) };
    }
    let config::Loaded { config, warnings, is_file_blank, mut files } = config::read(sources);
    let result = config.and_then(|read| {
        if read == **previous {
            return Ok(Change::Same);
        }
        // At a start it means the defaults; now it is far more likely about to be written, or a template's that got no
        // values: no guard may fall for that. What was read says so, not what the file holds before or after it.
        if is_file_blank {
            return Err(unusable(file, "empty; if the defaults are meant, put a comment in it"));
        }
        let mut config = read.clone();
        let needs_restart = keep_fixed_settings(&mut config, initial);
        let snapshot = Snapshot::new(
            config,
            Some(&state.snapshot()),
            &state.metrics,
            &state.budget,
            (&state.hubs, &state.sessions),
        )
        .map_err(ConfigErrors::from)?;
        Ok(Change::New { snapshot: Box::new(snapshot), read: Box::new(read), warnings, needs_restart })
    });
    if result.is_err() {
        // It may not be known which files it would have named.
        files.extend(known_files.iter().cloned());
    }
    files.sort();
    files.dedup();
    let watched_paths = WatchedPaths::of(&files);
    Outcome { result, files, watched_paths }
}

fn unusable(file: Option<&Path>, what: &str) -> ConfigErrors {
    ConfigErrors::unusable("", format!("{}: {what}", file.unwrap_or(Path::new("")).display()))
}

/// Restores the settings that cannot change while the process runs, and answers the keys of those that differ.
fn keep_fixed_settings(config: &mut Config, initial: &Config) -> Vec<&'static str> {
    let mut needs_restart = Vec::new();
    let mut keep = |key, differs: bool| {
        if differs {
            needs_restart.push(key);
        }
    };
    let (listen, admin, log) = (&initial.listen, &initial.admin, &initial.log);
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
    keep("metrics.prefix", config.metrics_prefix != initial.metrics_prefix);
    config.listen.address = listen.address.clone();
    config.listen.workers = listen.workers;
    config.admin = admin.clone();
    config.log = log.clone();
    config.metrics_prefix.clone_from(&initial.metrics_prefix);
    needs_restart
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

/// Logs a warning for each thing that the configuration leaves exposed.
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
        let initial = Config::default();
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
            assert_eq!(keep_fixed_settings(&mut config, &initial), expected, "{yaml}");
            if expected.is_empty() {
                assert_eq!(config, read, "{yaml}");
            } else {
                assert_eq!(config, initial, "{yaml}");
            }
        }
    }
}
