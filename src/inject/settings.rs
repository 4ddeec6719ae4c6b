//! The parts of the proxy's configuration that the manifest depends on: addresses, the drain, the admin token.
//!
//! # Invariants
//! 1. What is written into a ConfigMap was accepted by [`Config`], which the proxy reads it with.
//!
//! # Not here
//! What settings mean ([`crate::config`]).

use std::time::Duration;

use sha2::{Digest, Sha256};

use super::options::{Family, Options};
use super::read;
use super::refusal::FieldError;
use crate::config::{Config, Target};
use crate::yaml::{self, Map, Scalar, Style, Value};

/// A configuration whose text is known.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// Its name in errors.
    source: String,
    tree: Map,
}

/// How long a drain takes, each rounded up to seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Drain {
    pub(super) delay: u64,
    pub(super) spread: u64,
    pub(super) timeout: u64,
}

/// Where `upstream.url` of a configuration points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UpstreamTarget {
    /// It is not set.
    Unspecified,
    /// To a port on loopback, so in the same pod.
    SamePod(u16),
    /// To a Unix socket or another host.
    Elsewhere,
}

impl Settings {
    /// Reads `text`; `source` is its name in errors.
    pub(super) fn read(source: &str, text: &str) -> Result<Self, FieldError> {
        accepted(source, text)?;
        let unreadable = |what: String| unusable(source, what);
        let mut documents = read::read(text).map_err(|error| unreadable(error.what))?;
        let tree = match documents.pop().map(|document| document.value) {
            None => Map::default(),
            Some(Value::Map(map)) => map,
            Some(other) => return Err(unreadable(other.describe())),
        };
        Ok(Self { source: source.to_owned(), tree })
    }

    /// Resets the addresses that an earlier injection set, and with `url` that of the application.
    pub(super) fn without_addresses(mut self, url: bool) -> Self {
        let mut sections = vec![("listen", "address"), ("admin", "address")];
        if url && self.upstream_target() != UpstreamTarget::Elsewhere {
            sections.push(("upstream", "url"));
        }
        for (section, key) in sections {
            if let Some(Value::Map(section)) = self.tree.get_mut(section)
                && let Some(value) = section.get_mut(key)
            {
                // If it were removed, it would be added again behind its neighbours.
                *value = Value::Scalar(Scalar::plain("null"));
            }
        }
        self
    }

    pub(super) fn upstream_target(&self) -> UpstreamTarget {
        let Some(url) = self.text_at("upstream", "url") else { return UpstreamTarget::Unspecified };
        let section = Value::map([("upstream", Value::map([("url", quoted(url))]))]);
        let config = Config::from_yaml(&yaml::write([&section])).ok();
        // The last route is the fallback, which has the global upstream.
        match config.as_ref().and_then(|config| config.routes.last()).map(|route| &route.upstream.target) {
            Some(Target::Tcp { host, port }) if matches!(&**host, "127.0.0.1" | "localhost" | "::1") => {
                UpstreamTarget::SamePod(*port)
            }
            Some(Target::Tcp { .. } | Target::Unix(_)) | None => UpstreamTarget::Elsewhere,
        }
    }

    pub(super) fn drain(&self) -> Result<Drain, FieldError> {
        let section = self.tree.get("drain").cloned().map(|section| Value::map([("drain", section)]));
        let text = section.map(|section| yaml::write([&section])).unwrap_or_default();
        let drain =
            Config::from_yaml(&text).map_err(|errors| unusable(&self.source, errors.to_string()))?.drain;
        let seconds = |time: Duration| u64::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u64::MAX);
        Ok(Drain {
            delay: seconds(drain.delay),
            spread: seconds(drain.spread),
            timeout: seconds(drain.timeout),
        })
    }

    /// Every file that a setting names, with the setting's key.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        let mut files = Vec::new();
        find_files(&Value::Map(self.tree.clone()), "", &mut files);
        files
    }

    /// The file with the token that the drain needs.
    pub(super) fn token_file(&self) -> Option<&str> {
        self.text_at("admin", "token_file")
    }

    /// Sets the addresses that `options` ask for, and the application at `port` unless the configuration has its
    /// address.
    pub(super) fn with_addresses(mut self, options: &Options, port: Option<u16>) -> Result<Self, FieldError> {
        let client = match options.family {
            Family::V4 => format!("0.0.0.0:{}", options.ports.client),
            Family::V6 => format!("[::]:{}", options.ports.client),
        };
        let admin = format!("127.0.0.1:{}", options.ports.admin);
        self.refuse("listen", "unix", "nothing here", "leave it out: Services and probes need a port")?;
        let remedy = "leave it out; --port NUMBER changes it, with what hangs on it";
        self.put("listen", "address", &client, remedy)?;
        let remedy = "leave it out; --admin-port NUMBER changes it, with the drain's hook";
        self.put("admin", "address", &admin, remedy)?;
        let remedy = "leave it out; --probe-port NUMBER changes it, with the probes";
        self.refuse("admin", "probe_address", "nothing here", remedy)?;
        self.refuse_token()?;
        if let (UpstreamTarget::Unspecified, Some(port)) = (self.upstream_target(), port) {
            self.put("upstream", "url", &format!("http://127.0.0.1:{port}"), "")?;
        }
        accepted(&self.source, &self.text())?;
        Ok(self)
    }

    /// Refuses a configuration without the addresses that probes, hooks and Services rely on.
    pub(super) fn check_addresses(&self, options: &Options) -> Result<(), FieldError> {
        let keys = [("listen", options.ports.client, 8080), ("admin", options.ports.admin, 9090)];
        for ((section, port, default), flag) in keys.into_iter().zip(["--port", "--admin-port"]) {
            let given = self.text_at(section, "address");
            let found = given.map_or(Some(default), |address| address.rsplit(':').next()?.parse().ok());
            if found != Some(port) {
                let found = given
                    .map_or_else(|| format!("the default port {default}"), |address| format!("{address:?}"));
                return Err(FieldError::new(
                    format!("{}: {section}.address", self.source),
                    found,
                    format!("port {port}"),
                    format!("change it there, or say {flag} here"),
                ));
            }
        }
        Ok(())
    }

    pub(super) fn text(&self) -> String {
        yaml::write([&Value::Map(self.tree.clone())])
    }

    /// A checksum of the settings that a running proxy does not reload.
    pub(super) fn checksum(&self) -> String {
        let sections = ["listen", "admin", "log", "metrics"].map(|key| {
            let section = self.tree.get(key).cloned();
            Value::map([(key, section.unwrap_or_else(|| Value::Map(Map::default())))])
        });
        Sha256::digest(yaml::write(&sections)).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn text_at(&self, section: &str, key: &str) -> Option<&str> {
        self.tree.get(section)?.text_at(&[key])
    }

    fn put(&mut self, section: &str, key: &str, value: &str, remedy: &str) -> Result<(), FieldError> {
        if let Some(given) = self.text_at(section, key) {
            if given == value {
                return Ok(());
            }
            let field = format!("{}: {section}.{key}", self.source);
            return Err(FieldError::new(field, format!("{given:?}"), value, remedy));
        }
        let map = self.tree.map_mut(section).map_err(|found| unusable(&self.source, found))?;
        map.set(key, Value::text(value));
        Ok(())
    }

    fn refuse(&self, section: &str, key: &str, accepted: &str, remedy: &str) -> Result<(), FieldError> {
        match self.text_at(section, key) {
            None => Ok(()),
            Some(given) => {
                let field = format!("{}: {section}.{key}", self.source);
                Err(FieldError::new(field, format!("{given:?}"), accepted, remedy))
            }
        }
    }

    fn refuse_token(&self) -> Result<(), FieldError> {
        match self.text_at("admin", "token") {
            None => Ok(()),
            Some(_) => Err(FieldError::new(
                format!("{}: admin.token", self.source),
                "a token, not shown",
                "admin.token_file: everybody may read a ConfigMap",
                "put it into a Secret: --secret NAME:PATH mounts that, and admin.token_file names its file",
            )),
        }
    }
}

impl Drain {
    /// How long the application has to stay: all hooks of a pod run at the same time. One second is for the last
    /// Close.
    pub(super) fn app_sleep(self) -> u64 {
        self.delay.saturating_add(self.spread).saturating_add(1)
    }

    /// What the drain adds to the application's own time.
    pub(super) fn grace(self) -> u64 {
        self.delay.saturating_add(self.timeout)
    }

    /// The value of the annotation.
    pub(super) fn to_annotation(self) -> String {
        format!("delay={},spread={},timeout={}", self.delay, self.spread, self.timeout)
    }

    /// Reads what [`Drain::to_annotation`] has written.
    pub(super) fn from_annotation(words: &str) -> Option<Self> {
        let mut parts = words.split(',');
        let mut part = |key: &str| parts.next()?.strip_prefix(key)?.strip_prefix('=')?.parse().ok();
        Some(Self { delay: part("delay")?, spread: part("spread")?, timeout: part("timeout")? })
    }
}

/// Settings that name a file are called `file` or `…_file`.
fn find_files(value: &Value, path: &str, files: &mut Vec<(String, String)>) {
    match value {
        Value::Scalar(_) => {}
        Value::List(list) => {
            for (index, item) in list.iter().enumerate() {
                find_files(item, &format!("{path}[{index}]"), files);
            }
        }
        Value::Map(map) => {
            for (key, value) in &map.0 {
                let location =
                    if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
                match value.as_text().filter(|_| key.text == "file" || key.text.ends_with("_file")) {
                    Some(file) => files.push((location, file.to_owned())),
                    None => find_files(value, &location, files),
                }
            }
        }
    }
}

/// Checks a configuration. Files that it names are in the pod, so they may be missing here.
fn accepted(source: &str, text: &str) -> Result<(), FieldError> {
    match Config::from_yaml(text) {
        Err(errors) if !errors.iter().all(|error| error.is_file_problem()) => {
            Err(unusable(source, errors.to_string()))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn unusable(source: &str, found: impl Into<String>) -> FieldError {
    let found = found.into().trim_end().replace('\n', "\n    ");
    FieldError::new(source, found, "what `outrigger check` accepts", "mend the configuration")
}

fn quoted(text: &str) -> Value {
    Value::Scalar(Scalar { text: text.to_owned(), style: Style::Double })
}
