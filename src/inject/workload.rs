//! One workload: finds the application in its pods, and puts the proxy before it.
//!
//! # Invariants
//! 1. A second injection with the same options changes nothing. What the first one replaced is remembered in
//!    annotations of the pod template.
//! 2. Nothing that somebody else put there is replaced: a name or a port that is taken is refused.

use super::options::{Configuration, DEFAULT_CONFIGURATION, Options, Sleep};
use super::pod::{self, App, Memory};
use super::refusal::Fault;
use super::settings::{Behind, Drain, Settings};
use super::sidecar;
use super::value::{Map, Value};

/// What came of a workload.
#[derive(Debug)]
pub(super) struct Injected {
    /// Labels of its pods.
    pub(super) labels: Map,
    /// The application's port, where it is known, and the names it has.
    pub(super) port: Option<u16>,
    pub(super) port_names: Vec<String>,
    /// Name and text of the ConfigMap that is to be written.
    pub(super) config_map: Option<(String, String)>,
    pub(super) warnings: Vec<String>,
}

/// What kind of object runs pods that stay: where their template is. Jobs end, and serve nobody.
pub(super) fn template_of(kind: &str) -> Option<&'static [&'static str]> {
    match kind {
        "Pod" => Some(&[]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "ReplicationController" => {
            Some(&["spec", "template"])
        }
        _ => None,
    }
}

/// Puts the sidecar into `object`, or brings an earlier one up to date. `named` finds the text of a ConfigMap
/// that is in the stream.
pub(super) fn inject(
    object: &mut Value,
    template: &'static [&'static str],
    options: &Options,
    named: impl Fn(&str) -> Option<String>,
) -> Result<Injected, Fault> {
    let prefix = template.join(".");
    let spec = pod::spec(object, template, &prefix)?;
    let memory = Memory::read(object.at(template).unwrap_or(object));
    pod::refuse_foreign_names(spec, memory.as_ref(), &prefix)?;
    let mut warnings = Vec::new();

    let source = source(object, spec, memory.as_ref(), options, named, &mut warnings)?;
    let app = App::find(spec, memory.as_ref(), options, source.behind(), &prefix)?;
    pod::refuse_taken_ports(spec, &app, options, &prefix)?;
    let own_grace = own_grace(spec, memory.as_ref(), &prefix)?;
    let drain = source.drain()?;
    let settings = match source.settings {
        Some(settings) if source.is_ours => Some(settings.with_addresses(options, app.port)?),
        other => other,
    };
    let earlier = memory.as_ref().and_then(|_| pod::sidecar(spec)).cloned();
    let token_file = match &settings {
        Some(settings) => settings.token_file().map(str::to_owned),
        // Known from nowhere but the hook that is there.
        None => earlier.as_ref().and_then(pod::token_file),
    };
    let container = sidecar::container(options, token_file.as_deref(), earlier.as_ref());

    let slept = memory.as_ref().and_then(|memory| memory.slept);
    let root = pod::map_at(object, template, &prefix)?;
    let spec = root.map_mut("spec").map_err(|found| Fault::shape("spec", found, "a map"))?;
    let shape = |field: &'static str| move |found| Fault::shape(field, found, "what Kubernetes has there");
    place(spec, container, options.native_sidecar).map_err(shape("containers"))?;
    let volumes = spec.list_mut("volumes").map_err(shape("volumes"))?;
    put_named(volumes, sidecar::volume(&source.map));
    let sleep =
        add_hook(spec, &app.container, drain, slept, options, &mut warnings).map_err(shape("lifecycle"))?;
    spec.set("terminationGracePeriodSeconds", Value::number(own_grace.saturating_add(drain.grace())));

    let metadata = root.map_mut("metadata").map_err(shape("metadata"))?;
    let labels = metadata.map_mut("labels").map_err(shape("labels"))?;
    labels.set(LABEL, Value::text(label(&source.map)));
    let labels = labels.clone();
    let annotations = metadata.map_mut("annotations").map_err(shape("annotations"))?;
    let memory = Memory { container: app.container, port: app.port, grace: own_grace, drain, slept: sleep };
    memory.write(annotations);
    if let Some(settings) = settings.as_ref().filter(|_| source.is_ours) {
        annotations.set(CHECKSUM, Value::text(settings.checksum()));
    }
    let config_map = settings.filter(|_| source.is_ours).map(|settings| (source.map, settings.text()));
    Ok(Injected { labels, port: app.port, port_names: app.port_names, config_map, warnings })
}

/// A label of the pod, by which the chart's monitors and policies find it.
const LABEL: &str = "outrigger-sidecar";
/// An annotation that changes when the pod has to be replaced for a new configuration.
const CHECKSUM: &str = "checksum/outrigger-config";

/// Where a workload's configuration comes from.
struct Source {
    /// The ConfigMap's name.
    map: String,
    /// What it holds, where that is known.
    settings: Option<Settings>,
    /// Whether it is written along.
    is_ours: bool,
    /// The drain of a configuration that is not at hand.
    assumed: Option<Drain>,
}

impl Source {
    fn behind(&self) -> Behind {
        self.settings.as_ref().map_or(Behind::Unsaid, Settings::behind)
    }

    fn drain(&self) -> Result<Drain, Fault> {
        match (&self.settings, self.assumed) {
            (Some(settings), _) => settings.drain(),
            (None, Some(drain)) => Ok(drain),
            (None, None) => Settings::read("the default configuration", DEFAULT_CONFIGURATION)?.drain(),
        }
    }
}

fn source(
    object: &Value,
    spec: &Value,
    memory: Option<&Memory>,
    options: &Options,
    named: impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Source, Fault> {
    let own_name = config_map_name(object)?;
    let read = |text: &str, source: &str| Settings::read(source, text);
    let given = match &options.configuration {
        Configuration::Text(text) => Some(read(text, "--config")?),
        Configuration::Named(name) => {
            let settings = match named(name) {
                Some(text) => Some(read(&text, &format!("ConfigMap {name}"))?),
                None => {
                    warnings.push(format!(
                        "what is in the ConfigMap {name} is not known here: taken to have the ports {} and {} and \
                         the chart's drain (delay 10s, spread 5s, timeout 30s). Put it into the stream to have it \
                         read",
                        options.ports.client, options.ports.admin
                    ));
                    None
                }
            };
            if let Some(settings) = &settings {
                settings.check_addresses(options)?;
            }
            return Ok(Source { map: name.clone(), settings, is_ours: false, assumed: None });
        }
        Configuration::Default => None,
    };
    if let Some(settings) = given {
        return Ok(Source { map: own_name, settings: Some(settings), is_ours: true, assumed: None });
    }
    let Some((memory, map)) = memory.zip(pod::mounted_config_map(spec)) else {
        let settings = Some(read(DEFAULT_CONFIGURATION, "the default configuration")?);
        return Ok(Source { map: own_name, settings, is_ours: true, assumed: None });
    };
    // An earlier injection said where it is, and whoever wants it changed says so.
    let map = map.to_owned();
    match named(&map) {
        Some(text) if map == own_name => {
            let settings = read(&text, &format!("ConfigMap {map}"))?;
            let settings = Some(settings.without_addresses(options.upstream_port.is_some()));
            Ok(Source { map, settings, is_ours: true, assumed: None })
        }
        Some(text) => {
            let settings = read(&text, &format!("ConfigMap {map}"))?;
            settings.check_addresses(options)?;
            Ok(Source { map, settings: Some(settings), is_ours: false, assumed: None })
        }
        None => {
            let earlier = pod::sidecar(spec);
            let ports = earlier.map(|earlier| earlier.list_at(&["ports"])).unwrap_or_default();
            let client = ports.first().and_then(|port| port.port_at(&["containerPort"]));
            let app = options.upstream_port.as_deref().filter(|port| {
                memory.port.is_some_and(|own| port.parse() != Ok(own)) && port.parse::<u16>().is_ok()
            });
            if client != Some(options.ports.client) || app.is_some() {
                return Err(Fault::new(
                    "--port, --upstream-port",
                    format!("ports that are not those of the ConfigMap {map}, which is not in the stream"),
                    "the ports of the earlier injection, or a configuration to put others into",
                    format!("give --config FILE, or put the ConfigMap {map} into the stream"),
                ));
            }
            Ok(Source { map, settings: None, is_ours: false, assumed: Some(memory.drain) })
        }
    }
}

/// `NAME-outrigger`, short enough for a label.
fn config_map_name(object: &Value) -> Result<String, Fault> {
    let name =
        object.text_at(&["metadata", "name"]).or_else(|| object.text_at(&["metadata", "generateName"]));
    let Some(name) = name else {
        return Err(Fault::shape("metadata.name", "nothing", "the object's name"));
    };
    let short: String = name.chars().take(52).collect();
    Ok(format!("{}-outrigger", short.trim_end_matches(['-', '.'])))
}

/// A label's value has 63 characters at most.
fn label(name: &str) -> String {
    let short: String = name.chars().take(63).collect();
    short.trim_end_matches(['-', '.']).to_owned()
}

/// What the application had for itself, before an injection added the drain.
fn own_grace(spec: &Value, memory: Option<&Memory>, prefix: &str) -> Result<u64, Fault> {
    const DEFAULT: u64 = 30;
    if let Some(memory) = memory {
        return Ok(memory.grace);
    }
    match spec.at(&["terminationGracePeriodSeconds"]) {
        None => Ok(DEFAULT),
        Some(value) => value.as_text().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let field = pod::field(prefix, "spec.terminationGracePeriodSeconds");
            Fault::shape(field, value.in_words(), "a number of seconds")
        }),
    }
}

/// The sidecar in its list, and in no other. Behind other init containers: it starts when they are done or up, and
/// ends before they do.
fn place(spec: &mut Map, container: Value, native: bool) -> Result<(), String> {
    let (here, there) = match native {
        true => ("initContainers", "containers"),
        false => ("containers", "initContainers"),
    };
    if let Some(Value::List(list)) = spec.get_mut(there) {
        let before = list.len();
        list.retain(|item| item.text_at(&["name"]) != Some(sidecar::NAME));
        if list.is_empty() && before > 0 {
            spec.remove(there);
        }
    }
    put_named(spec.list_mut(here)?, container);
    Ok(())
}

/// In place of the item of the same name, else behind all.
fn put_named(list: &mut Vec<Value>, item: Value) {
    let name = item.text_at(&["name"]);
    match list.iter().position(|other| other.text_at(&["name"]) == name) {
        Some(index) => {
            if let Some(place) = list.get_mut(index) {
                *place = item;
            }
        }
        None => list.push(item),
    }
}

/// Lets the application wait while clients are let go. Answers for how long, where the hook is ours.
fn add_hook(
    spec: &mut Map,
    app: &str,
    drain: Drain,
    slept: Option<u64>,
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
    if given.is_some() && (seconds.is_none() || seconds != slept) {
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
