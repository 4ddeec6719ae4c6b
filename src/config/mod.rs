//! The configuration: what an operator may write, and its checked form, which the rest of the program reads.
//!
//! A configuration goes through four rooms: [`layers`] reads file, environment and flags into trees
//! and lays them on top of one another; [`raw`] says which keys there are and what their defaults
//! are; there each section is checked; what comes out is [`model`], the types the program reads.
//!
//! # Invariants
//! 1. Everything that is wrong is reported in one run, with its location and what is accepted.
//! 2. Nothing is ignored: a key that is unknown, or that nothing acts on, is an error.
//!
//! # Not here
//! What a change means for connections that are open ([`crate::server`]).

mod cgroup;
mod de;
mod emit;
mod env;
mod error;
mod exposure;
mod files;
mod host;
mod layers;
mod model;
mod problems;
mod raw;
mod schema;
mod secret;
mod shape;
mod sources;
#[cfg(test)]
mod tests;
mod tree;
mod unused;
mod watch;
mod yaml;

use std::path::PathBuf;

pub(crate) use env::{FILE_VARIABLE, env_warnings};
pub use error::{ConfigError, ConfigErrors};
pub(crate) use host::{Host, without_port};

pub use model::*;
pub(crate) use raw::read_duration;
pub(crate) use schema::schema;
pub use secret::Secret;
pub use sources::Sources;
pub(crate) use unused::Warning;
pub(crate) use watch::{Watch, WatchedPaths};

use self::error::Problem;
use self::layers::{Layers, merge};
use self::problems::Problems;
use self::raw::{RawConfig, RawPolicy, RawRoute, RawUpstream};
use self::tree::{Kind, Location, Node, Path};
use self::unused::RawSettings;

/// Reads the sources, merges them and checks the result.
///
/// # Errors
/// Everything that is wrong with the sources.
#[expect(clippy::needless_pass_by_value, reason = "sources may hold a token and are done with")]
pub(crate) fn load(sources: Sources) -> Result<Config, ConfigErrors> {
    read(&sources).config
}

/// What was loaded, and what it was loaded from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// As [`load`] has it.
    pub(crate) config: Result<Config, ConfigErrors>,
    /// Settings that nothing acts on; empty where the configuration is wrong.
    pub(crate) warnings: Vec<Warning>,
    /// Whether the file has neither a setting nor a comment in it.
    pub(crate) is_file_blank: bool,
    /// Every file that was looked at, whether it could be read or not: a change of any of them is a reason to load
    /// again.
    pub(crate) files: Vec<PathBuf>,
}

/// As [`load`], with what a caller needs who loads again later.
pub(crate) fn read(sources: &Sources) -> Loaded {
    let layers = Layers::read(sources);
    let is_file_blank = layers.is_file_blank;
    let (checked, named) = layers.check();
    let (config, warnings) = match checked {
        Ok(Checked { config, warnings, .. }) => (Ok(config), warnings),
        Err(errors) => (Err(errors), Vec::new()),
    };
    Loaded { config, warnings, is_file_blank, files: sources.file.iter().cloned().chain(named).collect() }
}

/// The merged configuration as YAML: every key, secrets as `***`.
///
/// # Errors
/// As [`load`] has it.
pub(crate) fn effective(sources: &Sources) -> Result<String, ConfigErrors> {
    let Checked { mut raw, .. } = Layers::read(sources).check().0?;
    raw.routes.iter_mut().for_each(RawRoute::fill_in_name);
    emit::to_yaml(&raw).map_err(|error| {
        let problem = Problem::Syntax(error.to_string());
        ConfigErrors::new(vec![ConfigError { location: None, key: String::new(), problem }])
    })
}

impl Config {
    /// The defaults, overridden by `text`, which stands for a file.
    ///
    /// # Errors
    /// As [`load`] has it.
    pub fn from_yaml(text: &str) -> Result<Self, ConfigErrors> {
        Layers::inline(text).check().0.map(|checked| checked.config)
    }
}

impl Default for Config {
    /// The configuration without a file, a variable or a flag.
    fn default() -> Self {
        match load(Sources::default()) {
            Ok(config) => config,
            Err(errors) => unreachable!("the defaults are in range: {errors}"),
        }
    }
}

/// A configuration in which nothing is wrong.
struct Checked {
    config: Config,
    raw: RawConfig,
    warnings: Vec<Warning>,
}

impl Layers {
    /// Merges the layers, reads the raw settings and checks them. Answers also which files they name.
    fn check(self) -> (Result<Checked, ConfigErrors>, Vec<PathBuf>) {
        let Self { trees, source_problems, is_unreadable, is_file_blank: _ } = self;
        let merged = merge(&trees);
        let mut problems = Problems::new(trees);
        for source_problem in source_problems {
            problems.add_at(source_problem.location, source_problem.path, source_problem.problem);
        }
        let mut root = merged.unwrap_or_else(|error| {
            problems.add("", Problem::Syntax(error.to_string()));
            Node::empty(Location::Merged)
        });
        if is_unreadable {
            // Settings of the part that was not read would be reported as missing.
            return (Err(problems.into_errors()), Vec::new());
        }
        prefer_unix(&mut root);
        let given = root.take("routes");
        let mut raw: RawConfig = problems.read(&mut root);
        let (routes, overrides) = read_routes(given, &raw, &root, &mut problems);
        raw.routes = routes;
        let given = RawSettings::new(&raw, &overrides);
        let config = raw.clone().validate(overrides, &mut problems);
        let files = problems.files();
        // Routes that are wrong are not among those of `config`.
        let warnings =
            if problems.is_empty() { unused::find(&given, &config, &problems) } else { Vec::new() };
        (problems.finish(Checked { config, raw, warnings }), files)
    }
}

/// `listen.unix` replaces the default address, where no other address is written.
fn prefer_unix(root: &mut Node) {
    let listen = Path::default().key("listen").0;
    let unix = |listen: &Node| {
        matches!(listen.at(&Path::default().key("unix").0), Some(Node { kind: Kind::Scalar(_), .. }))
    };
    if root.at(&listen).is_some_and(unix)
        && let Some(mut section) = root.take("listen")
    {
        if section.at(&Path::default().key("address").0).is_none() {
            section.put("address", Node::new(Kind::Null, Location::Merged));
        }
        root.put("listen", section);
    }
}

/// Reads each route, and its upstream and policy merged over the global ones.
///
/// What was wrong in the global sections was taken out of `root`, so that what is wrong in a merged section is the
/// route's own.
fn read_routes(
    given: Option<Node>,
    raw: &RawConfig,
    root: &Node,
    problems: &mut Problems,
) -> (Vec<RawRoute>, Vec<(RawUpstream, RawPolicy)>) {
    let list = match given.map(|node| node.kind) {
        None => Vec::new(),
        Some(Kind::List(list)) => list,
        Some(other) => {
            let found = match other {
                Kind::Null => "null",
                Kind::Map(_) => "a map",
                Kind::Scalar(_) | Kind::List(_) => "a word",
            };
            problems.refuse("routes", found, "a list of routes, such as [{ path: /ws }]");
            Vec::new()
        }
    };
    let routes = list.into_iter().enumerate().map(|(index, mut node)| {
        problems.within_item("routes", index, |problems| {
            let route: RawRoute = problems.read(&mut node);
            let mut complete = |key: &str| {
                let own =
                    node.take(key).filter(|own| matches!(&own.kind, Kind::Map(map) if !map.is_empty()))?;
                let general = root.at(&Path::default().key(key).0);
                match merge(general.into_iter().chain([&own])) {
                    Ok(merged) => Some(merged),
                    Err(error) => {
                        problems.add(key, Problem::Syntax(error.to_string()));
                        None
                    }
                }
            };
            let (upstream, policy) = (complete("upstream"), complete("policy"));
            let upstream = upstream.map_or_else(
                || raw.upstream.clone(),
                |mut node| problems.within("upstream", |problems| problems.read(&mut node)),
            );
            let policy = policy.map_or_else(
                || raw.policy.clone(),
                |mut node| problems.within("policy", |problems| problems.read(&mut node)),
            );
            (route, (upstream, policy))
        })
    });
    routes.unzip()
}
