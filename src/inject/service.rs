//! Services that lead to pods with a sidecar: whether they lead to the proxy, and making them do so.

use super::options::Options;
use super::value::{Map, Value};

/// Pods with a sidecar.
#[derive(Debug)]
pub(super) struct Target {
    /// `Deployment/web`
    pub(super) object: String,
    pub(super) namespace: Option<String>,
    pub(super) labels: Map,
    /// The application's port, and the names it has.
    pub(super) port: Option<u16>,
    pub(super) port_names: Vec<String>,
}

/// Leads `service` to the proxies of those `targets` that it selects. Answers what is worth a word.
pub(super) fn lead(service: &mut Value, targets: &[Target], options: &Options) -> Vec<String> {
    let Some(Value::Map(selector)) = service.at(&["spec", "selector"]).cloned() else { return Vec::new() };
    let namespace = service.text_at(&["metadata", "namespace"]).map(str::to_owned);
    let selected = targets.iter().filter(|target| {
        let same = namespace.is_none() || target.namespace.is_none() || namespace == target.namespace;
        let has = |(key, value): &(_, Value)| {
            let key: &super::value::Scalar = key;
            target.labels.get(&key.text).and_then(Value::as_text) == value.as_text()
        };
        same && !selector.0.is_empty() && selector.0.iter().all(has)
    });
    let mut warnings = Vec::new();
    for target in selected {
        let Leads { past, here } = leads(service, target, options);
        let headless = service.text_at(&["spec", "clusterIP"]) == Some("None");
        if headless && (past > 0 || here > 0) {
            warnings.push(format!(
                "it has no address of its own, so clients choose the port of {} themselves: tell them {}",
                target.object, options.ports.client
            ));
        } else if past + here == 0 {
            warnings.push(format!(
                "it selects the pods of {}, but none of its ports leads to the server{}: left as it is",
                target.object,
                target.port.map(|port| format!("'s port {port}")).unwrap_or_default()
            ));
        } else if past > 0 && !options.services {
            warnings.push(format!(
                "it still leads to {} past the proxy: --service moves its targetPort to {}",
                target.object, options.ports.client
            ));
        }
        if options.services {
            turn(service, target, options.ports.client);
        }
    }
    warnings
}

/// How many ports of a Service lead to the application itself, and how many to its proxy.
struct Leads {
    past: usize,
    here: usize,
}

fn leads(service: &Value, target: &Target, options: &Options) -> Leads {
    let mut leads = Leads { past: 0, here: 0 };
    for port in service.list_at(&["spec", "ports"]) {
        leads.past += usize::from(is_past(port, target));
        leads.here += usize::from(port.port_at(&["targetPort"]) == Some(options.ports.client));
    }
    leads
}

/// A number, since not every cluster looks for names in init containers.
fn turn(service: &mut Value, target: &Target, client: u16) {
    let Value::Map(map) = service else { return };
    let Ok(Ok(ports)) = map.map_mut("spec").map(|spec| spec.list_mut("ports")) else { return };
    for port in ports {
        if is_past(port, target)
            && let Value::Map(port) = port
        {
            port.set("targetPort", Value::number(client.into()));
        }
    }
}

/// Without a `targetPort` a Service leads to the port that it has itself.
fn is_past(port: &Value, target: &Target) -> bool {
    let is_tcp = port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
    let leads_to = port.text_at(&["targetPort"]).or_else(|| port.text_at(&["port"]));
    is_tcp
        && leads_to.is_some_and(|leads_to| match leads_to.parse::<u16>() {
            Ok(number) => Some(number) == target.port,
            Err(_) => target.port_names.iter().any(|name| name == leads_to),
        })
}
