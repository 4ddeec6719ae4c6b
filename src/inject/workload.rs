//! One workload: finds the application in its pods, and puts the proxy in front of it.
//!
//! # Invariants
//! 1. A second injection with the same options changes nothing. What the first one replaced is remembered in
//!    annotations of the pod template.
//! 2. Nothing that an operator has put there is replaced: a name or a port that is taken is refused.

use super::app::{self, App};
use super::fields;
use super::injected::PriorPorts;
use super::names;
use super::options::{Configuration, DEFAULT_CONFIGURATION, Options, Sleep};
use super::pod;
use super::prior::{self, PriorInjection};
use super::refusal::FieldError;
use super::related;
use super::secrets;
use super::settings::{Drain, Settings, UpstreamTarget};
use super::sidecar;
use crate::yaml::{Map, Value};

/// The result for a workload.
#[derive(Debug)]
pub(super) struct Injected {
    /// Labels of its pods.
    pub(super) labels: Map,
    /// The application's container.
    pub(super) container: String,
    /// The application's port, where it is known, and the names of that port.
    pub(super) port: Option<u16>,
    pub(super) port_names: Vec<String>,
    /// The ports of an earlier proxy.
    pub(super) earlier: PriorPorts,
    /// Name and text of the ConfigMap that has to be written.
    pub(super) config_map: Option<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// Puts the sidecar into `object`, or brings an earlier one up to date. `named` finds the text of a ConfigMap
/// of the manifest.
pub(super) fn inject(
    object: &mut Value,
    template: &'static [&'static str],
    options: &Options,
    named: impl Fn(&str) -> Option<String>,
) -> Result<Injected, FieldError> {
    let prefix = template.join(".");
    let spec = pod::spec(object, template, &prefix)?;
    let prior = object.at(template).and_then(PriorInjection::read);
    pod::refuse_name_conflicts(spec, prior.as_ref(), &prefix)?;
    let mut warnings = Vec::new();

    let source = Source::find(object, spec, prior.as_ref(), options, named, &mut warnings)?;
    let app = App::find(spec, prior.as_ref(), options, source.upstream, &prefix)?;
    pod::refuse_taken_ports(spec, &app, options, &prefix)?;
    let app_grace = app_grace(spec, prior.as_ref(), &prefix)?;
    let drain = source.drain;
    let settings = match source.settings {
        Some(settings) if source.is_managed => Some(settings.with_addresses(options, app.port)?),
        other => other,
    };
    let earlier = prior.as_ref().and_then(|_| prior::sidecar(spec)).cloned();
    let token_file = match &settings {
        Some(settings) => settings.token_file().map(str::to_owned),
        // Only the hook of the earlier sidecar names it.
        None => earlier.as_ref().and_then(prior::token_file),
    };
    let container = sidecar::container(options, token_file.as_deref(), earlier.as_ref());

    secrets::refuse_taken(&options.secrets, spec, earlier.as_ref(), &prefix)?;
    let files = settings.as_ref().map(Settings::files).unwrap_or_default();
    warnings.extend(secrets::missing(files, &container));
    let moved =
        earlier.as_ref().map(|earlier| prior::moved_ports(earlier, options.ports)).unwrap_or_default();
    warnings.extend(pod::open_host_ports(spec, &app));
    let annotations = object.at(template).and_then(|root| root.at(&["metadata", "annotations"]));
    warnings.extend(related::annotations(annotations, app.port, options));

    let app_sleep_before = prior.as_ref().and_then(|prior| prior.app_sleep);
    let root = fields::map_at(object, template, &prefix)?;
    let spec = root.map_mut("spec").map_err(|found| FieldError::mismatch("spec", found, "a map"))?;
    let mismatch =
        |field: &'static str| move |found| FieldError::mismatch(field, found, "what Kubernetes has there");
    insert_container(spec, container, options.native_sidecar).map_err(mismatch("containers"))?;
    pod::retarget_probes(spec, moved, options.ports);
    let volumes = spec.list_mut("volumes").map_err(mismatch("volumes"))?;
    put_named(volumes, sidecar::volume(&source.map));
    secrets::put_volumes(&options.secrets, volumes);
    let sleep = add_hook(spec, &app.container, drain, app_sleep_before, options, &mut warnings)
        .map_err(mismatch("lifecycle"))?;
    spec.set("terminationGracePeriodSeconds", Value::number(app_grace.saturating_add(drain.grace())));

    let metadata = root.map_mut("metadata").map_err(mismatch("metadata"))?;
    let labels = metadata.map_mut("labels").map_err(mismatch("labels"))?;
    labels.set(LABEL, Value::text(label(&source.map)));
    let labels = labels.clone();
    let annotations = metadata.map_mut("annotations").map_err(mismatch("annotations"))?;
    let prior = PriorInjection {
        container: app.container.clone(),
        port: app.port,
        grace: app_grace,
        drain,
        app_sleep: sleep,
    };
    prior.write(annotations);
    if let Some(settings) = settings.as_ref().filter(|_| source.is_managed) {
        annotations.set(CHECKSUM, Value::text(settings.checksum()));
    }
    let config_map = settings.filter(|_| source.is_managed).map(|settings| (source.map, settings.text()));
    let App { container, port, port_names } = app;
    Ok(Injected { labels, container, port, port_names, earlier: moved, config_map, warnings })
}

/// A label of the pod, by which the chart's monitors and policies find it.
const LABEL: &str = "outrigger-sidecar";
/// An annotation that changes when the pod has to be replaced for a new configuration.
const CHECKSUM: &str = "checksum/outrigger-config";

/// Where a workload's configuration comes from, and what the pod depends on.
struct Source {
    /// The ConfigMap's name.
    map: String,
    /// Its settings, where they are known.
    settings: Option<Settings>,
    /// Whether the ConfigMap is written into the manifest.
    is_managed: bool,
    upstream: UpstreamTarget,
    drain: Drain,
}

impl Source {
    /// A configuration that is written into the manifest.
    fn managed(map: String, settings: Settings) -> Result<Self, FieldError> {
        let (upstream, drain) = (settings.upstream_target(), settings.drain()?);
        Ok(Self { map, settings: Some(settings), is_managed: true, upstream, drain })
    }

    /// A configuration in a ConfigMap of the manifest, which stays as it is.
    fn external(map: &str, text: &str, options: &Options) -> Result<Self, FieldError> {
        let settings = Settings::read(&format!("ConfigMap {map}"), text)?;
        settings.check_addresses(options)?;
        Ok(Self { is_managed: false, ..Self::managed(map.to_owned(), settings)? })
    }

    fn find(
        object: &Value,
        spec: &Value,
        prior: Option<&PriorInjection>,
        options: &Options,
        named: impl Fn(&str) -> Option<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, FieldError> {
        let own_name = config_map_name(object)?;
        let default = || Settings::read("the default configuration", DEFAULT_CONFIGURATION);
        match &options.configuration {
            Configuration::Text(text) => Self::managed(own_name, Settings::read("--config", text)?),
            Configuration::Named(name) => match named(name) {
                Some(text) => Self::external(name, &text, options),
                None => {
                    let drain = default()?.drain()?;
                    warnings.push(format!(
                        "what is in the ConfigMap {name} is not known here: taken to have the ports {} and {} and \
                         the default drain ({}). Put it into the stream to have it read",
                        options.ports.client,
                        options.ports.admin,
                        drain.to_annotation()
                    ));
                    let upstream = UpstreamTarget::Unspecified;
                    Ok(Self { map: name.clone(), settings: None, is_managed: false, upstream, drain })
                }
            },
            Configuration::Default => match prior.zip(prior::mounted_config_map(spec)) {
                None => Self::managed(own_name, default()?),
                Some((prior, map)) => match named(map) {
                    Some(text) if map == own_name => {
                        let settings = Settings::read(&format!("ConfigMap {map}"), &text)?;
                        let port = options.upstream_port.is_some() || !app::is_still_valid(prior, spec);
                        Self::managed(own_name, settings.without_addresses(port))
                    }
                    Some(text) => Self::external(map, &text, options),
                    None => Self::earlier(map, spec, prior, options),
                },
            },
        }
    }

    /// The configuration of an earlier injection, which is in the cluster only, and stays as it is.
    fn earlier(
        map: &str,
        spec: &Value,
        prior: &PriorInjection,
        options: &Options,
    ) -> Result<Self, FieldError> {
        let sidecar = prior::sidecar(spec);
        let admin = sidecar.and_then(prior::admin_port);
        let client = sidecar.and_then(|sidecar| sidecar.list_at(&["ports"]).first());
        let client = client.and_then(|port| port.port_at(&["containerPort"]));
        let given = [("--port", options.ports.client, client), ("--admin-port", options.ports.admin, admin)];
        for (flag, port, earlier) in given {
            if earlier != Some(port) {
                return Err(FieldError::new(
                    flag,
                    format!("{port}, and the ConfigMap {map}, which says another, is not in the stream"),
                    earlier.map_or_else(|| "a configuration".into(), |port| format!("{port}, as before")),
                    format!("give --config FILE, or put the ConfigMap {map} into the stream"),
                ));
            }
        }
        let upstream = prior.port.map_or(UpstreamTarget::Elsewhere, UpstreamTarget::SamePod);
        Ok(Self { map: map.to_owned(), settings: None, is_managed: false, upstream, drain: prior.drain })
    }
}

/// `NAME-outrigger`, short enough for a label.
fn config_map_name(object: &Value) -> Result<String, FieldError> {
    let name =
        object.text_at(&["metadata", "name"]).or_else(|| object.text_at(&["metadata", "generateName"]));
    let Some(name) = name else {
        return Err(FieldError::mismatch("metadata.name", "nothing", "the object's name"));
    };
    let short: String = name.chars().take(52).collect();
    Ok(format!("{}-outrigger", short.trim_end_matches(['-', '.'])))
}

/// A label's value has 63 characters at most.
fn label(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

/// The grace period of the application alone, without the drain that an injection adds.
fn app_grace(spec: &Value, prior: Option<&PriorInjection>, prefix: &str) -> Result<u64, FieldError> {
    const DEFAULT: u64 = 30;
    if let Some(prior) = prior {
        return Ok(prior.grace);
    }
    match spec.at(&["terminationGracePeriodSeconds"]) {
        None => Ok(DEFAULT),
        Some(value) => value.as_text().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let field = fields::field(prefix, "spec.terminationGracePeriodSeconds");
            FieldError::mismatch(field, value.describe(), "a number of seconds")
        }),
    }
}

/// Puts the sidecar into its list, and removes it from the other. It comes behind other init containers: it starts
/// when they are done or up, and ends before they do.
fn insert_container(spec: &mut Map, container: Value, native: bool) -> Result<(), String> {
    let (here, there) = match native {
        true => ("initContainers", "containers"),
        false => ("containers", "initContainers"),
    };
    if let Some(Value::List(list)) = spec.get_mut(there) {
        let before = list.len();
        list.retain(|item| item.text_at(&["name"]) != Some(names::NAME));
        if list.is_empty() && before > 0 {
            spec.remove(there);
        }
    }
    put_named(spec.list_mut(here)?, container);
    Ok(())
}

/// Replaces the item of the same name, or else adds one.
fn put_named(list: &mut Vec<Value>, item: Value) {
    let name = item.text_at(&["name"]);
    match list.iter().position(|other| other.text_at(&["name"]) == name) {
        Some(index) => {
            if let Some(other) = list.get_mut(index) {
                *other = item;
            }
        }
        None => list.push(item),
    }
}

/// Lets the application wait while the proxy drains. Answers for how long, if the hook is the injection's.
fn add_hook(
    spec: &mut Map,
    app: &str,
    drain: Drain,
    app_sleep_before: Option<u64>,
    options: &Options,
    warnings: &mut Vec<String>,
) -> Result<Option<u64>, String> {
    let wanted = drain.app_sleep();
    let containers = spec.list_mut("containers")?;
    let found = containers.iter_mut().find(|item| item.text_at(&["name"]) == Some(app));
    let Some(Value::Map(container)) = found else { return Ok(None) };
    let lifecycle = container.map_mut("lifecycle")?;
    let given = lifecycle.get("preStop").filter(|hook| !hook.is_null());
    let seconds = given.and_then(pod::sleep_seconds);
    if given.is_some() && (seconds.is_none() || seconds != app_sleep_before) {
        if seconds.is_none_or(|seconds| seconds < wanted) {
            warnings.push(format!(
                "the container {app} has a preStop hook of its own, which was kept. It has to last {wanted} s or \
                 longer: all hooks of a pod run at the same time, and a server that stops before its clients were \
                 let go closes all of them at once"
            ));
        }
        return Ok(None);
    }
    let hook = match options.sleep {
        Sleep::Action => Value::map([("sleep", Value::map([("seconds", Value::number(wanted))]))]),
        Sleep::Exec => {
            let command = Value::texts(["sleep", &wanted.to_string()]);
            Value::map([("exec", Value::map([("command", command)]))])
        }
    };
    lifecycle.set("preStop", hook);
    Ok(Some(wanted))
}
