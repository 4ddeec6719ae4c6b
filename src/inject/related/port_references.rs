//! Objects of unknown meaning that name a port: the field is reported.

use std::collections::BTreeMap;

use super::context::Context;
use crate::inject::injected::InjectedWorkload;
use crate::inject::options::Options;
use crate::yaml::{Map, Value};

/// How many fields of one object are reported.
const MAX_PLACES: usize = 5;
/// How many servers are named with them.
const MAX_OWNERS: usize = 3;

/// Annotations of meshes and load balancers that name the server's port. Those of scrapers are left out: they are
/// meant for the server.
pub(crate) fn annotations(annotations: Option<&Value>, port: Option<u16>, options: &Options) -> Vec<String> {
    const LEFT: [&str; 3] = ["prometheus.io/", "outrigger/", "kubectl.kubernetes.io/"];
    let Some((annotations, port)) = annotations.and_then(Value::as_map).zip(port) else { return Vec::new() };
    let names = |key: &str, value: &str| {
        let mut words = value.split(|c: char| !c.is_ascii_alphanumeric());
        key.to_ascii_lowercase().contains("port")
            && !LEFT.iter().any(|left| key.starts_with(left))
            && words.any(|word| word.parse() == Ok(port))
    };
    let named = annotations
        .0
        .iter()
        .filter(|(key, value)| value.as_text().is_some_and(|value| names(&key.text, value)));
    named
        .map(|(key, _)| {
            format!(
                "the annotation {} names {port}, where the server is: left as it is. {}",
                key.text,
                meant(options)
            )
        })
        .collect()
}

/// Fields that name the port of a server, or one where its proxy was.
pub(super) fn server_ports(object: &Value, context: &Context<'_>) -> Vec<String> {
    let server = |target: &InjectedWorkload| {
        target.port.map(|port| (port, format!("where the server of {} listens", target.object)))
    };
    find(object, context, |target| server(target).into_iter().chain(earlier(target)).collect())
}

/// Fields that name a port of an earlier proxy. A field with the server's port is meant for the server.
pub(super) fn prior_ports(object: &Value, context: &Context<'_>) -> Vec<String> {
    find(object, context, |target| earlier(target).collect())
}

fn earlier(target: &InjectedWorkload) -> impl Iterator<Item = (u16, String)> {
    let ports = [target.earlier.client, target.earlier.probes];
    ports.into_iter().flatten().map(|port| (port, format!("where the proxy of {} was", target.object)))
}

fn find(
    object: &Value,
    context: &Context<'_>,
    ports: impl Fn(&InjectedWorkload) -> Vec<(u16, String)>,
) -> Vec<String> {
    let namespace = object.text_at(&["metadata", "namespace"]);
    // Many servers have the same port; the object is searched once for all of them.
    let mut owners: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (port, whose) in context.targets.iter().filter(|target| target.is_in(namespace)).flat_map(ports) {
        owners.entry(port).or_default().push(whose);
    }
    let mut warnings = Vec::new();
    for (port, mut whose) in owners {
        let mut search = Search { port, namespace, context, places: Vec::new() };
        search.map(object.as_map(), "", false);
        if search.places.is_empty() {
            continue;
        }
        if whose.len() > MAX_OWNERS {
            let rest = whose.len() - MAX_OWNERS;
            whose.truncate(MAX_OWNERS);
            whose.push(format!("that of {rest} more"));
        }
        let (places, whose) = (search.places.join(", "), whose.join(" and "));
        warnings.push(format!("{places} names {port}, {whose}: left as it is. {}", meant(context.options)));
    }
    warnings
}

fn meant(options: &Options) -> String {
    format!(
        "What is meant for clients has to be the proxy's {}, what is meant for its health {}",
        options.ports.client, options.ports.probes
    )
}

struct Search<'a> {
    port: u16,
    namespace: Option<&'a str>,
    context: &'a Context<'a>,
    places: Vec<String>,
}

impl Search<'_> {
    /// The recursion is as deep as the reader lets a manifest be.
    fn map(&mut self, map: Option<&Map>, path: &str, is_port: bool) {
        let Some(map) = map else { return };
        for (key, value) in &map.0 {
            if path.is_empty() && matches!(&*key.text, "metadata" | "status") {
                continue;
            }
            let location = if path.is_empty() { key.text.clone() } else { format!("{path}.{}", key.text) };
            let is_named_so = key.text.parse() == Ok(self.port) && is_port;
            let is_port_key = is_port_key(&key.text);
            match value {
                _ if is_named_so => self.found(location),
                Value::Scalar(_) if is_port_key && self.is_it(value) && !self.is_port_of_a_service(map) => {
                    self.found(location);
                }
                Value::Scalar(_) => {}
                Value::List(list) => self.list(list, &location, is_port_key),
                Value::Map(inner) => self.map(Some(inner), &location, is_port_key),
            }
        }
    }

    fn list(&mut self, list: &[Value], path: &str, is_port: bool) {
        for (index, value) in list.iter().enumerate() {
            let location = format!("{path}[{index}]");
            match value {
                Value::Scalar(_) if is_port && self.is_it(value) => self.found(location),
                Value::Scalar(_) => {}
                Value::List(inner) => self.list(inner, &location, is_port),
                Value::Map(inner) => self.map(Some(inner), &location, is_port),
            }
        }
    }

    fn is_it(&self, value: &Value) -> bool {
        value.as_text().is_some_and(|text| text.parse() == Ok(self.port))
    }

    fn found(&mut self, location: String) {
        if self.places.len() < MAX_PLACES {
            self.places.push(location);
        }
    }

    /// Whether `map` refers to a Service of the manifest and a port of that Service, which leads to the proxy.
    fn is_port_of_a_service(&self, map: &Map) -> bool {
        let mut names =
            ["name", "serviceName", "service"].into_iter().filter_map(|key| map.get(key)?.as_text());
        names.any(|name| {
            let front = self.context.services.iter().find(|front| front.is(name, self.namespace));
            front.is_some_and(|front| front.port(&self.port.to_string()).is_some())
        })
    }
}

/// `port`, `targetPorts`, `portLevelMtls`; not `portrait`.
fn is_port_key(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    let is_end = lower.ends_with("port") || lower.ends_with("ports");
    let next = key.strip_prefix("port").and_then(|rest| rest.chars().next());
    is_end || next.is_some_and(|next| next.is_ascii_uppercase() || next == '_')
}
