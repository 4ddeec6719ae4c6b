//! Services that lead to pods with a sidecar: whether they lead to the proxy, and making them do so.

use super::target::Target;
use super::{Scene, mention};
use crate::inject::options::Options;
use crate::inject::sidecar;
use crate::yaml::{Map, Value};

/// A Service, as whatever refers to it sees it.
pub(super) struct Front {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) labels: Map,
    pub(super) ports: Vec<FrontPort>,
}

/// One of its ports.
pub(super) struct FrontPort {
    pub(super) number: Option<u16>,
    pub(super) name: Option<String>,
    /// Whether it leads to a server behind a sidecar, or to its proxy.
    pub(super) leads_to_pods: bool,
    /// Whether it leads to the proxy, or will when all is done.
    pub(super) leads_to_proxy: bool,
}

impl Front {
    /// Any Service; one that leads to none of the `targets` has no port that does.
    pub(super) fn read(object: &Value, targets: &[Target], options: &Options) -> Option<Self> {
        if super::kind_of(object) != super::Kind::Service {
            return None;
        }
        let text = |path: &[&str]| object.text_at(path).map(str::to_owned);
        let selected = Vec::from_iter(selected(object, targets));
        let port = |port: &Value| {
            let past = selected.iter().any(|target| is_past(port, target));
            let here = !selected.is_empty() && is_here(port, options);
            FrontPort {
                number: port.port_at(&["port"]),
                name: port.text_at(&["name"]).map(str::to_owned),
                leads_to_pods: past || here,
                leads_to_proxy: here || past && options.services,
            }
        };
        Some(Self {
            name: text(&["metadata", "name"])?,
            namespace: text(&["metadata", "namespace"]),
            labels: object.at(&["metadata", "labels"]).and_then(Value::as_map).cloned().unwrap_or_default(),
            ports: object.list_at(&["spec", "ports"]).iter().map(port).collect(),
        })
    }

    pub(super) fn is(&self, name: &str, namespace: Option<&str>) -> bool {
        self.name == name
            && (namespace.is_none() || self.namespace.is_none() || namespace == self.namespace.as_deref())
    }

    /// Its port of this number or name.
    pub(super) fn port(&self, port: &str) -> Option<&FrontPort> {
        let is_it = |own: &&FrontPort| {
            own.name.as_deref() == Some(port) || own.number.is_some_and(|number| port.parse() == Ok(number))
        };
        self.ports.iter().find(is_it)
    }
}

/// Leads `service` to the proxies of those targets that it selects. Answers what is worth a word.
pub(super) fn lead(service: &mut Value, scene: &Scene<'_>) -> Vec<String> {
    let client = scene.options.ports.client;
    let mut warnings = Vec::new();
    for target in selected(service, scene.targets) {
        let Leads { past, behind, here } = leads(service, target, scene.options);
        let headless = service.text_at(&["spec", "clusterIP"]) == Some("None");
        if headless && (past > 0 || here > 0) {
            warnings.push(format!(
                "it has no address of its own, so clients choose the port of {} themselves: tell them {client}",
                target.object
            ));
        } else if past + here + behind == 0 {
            warnings.push(format!(
                "it selects the pods of {}, but none of its ports leads to the server{}: left as it is",
                target.object,
                target.port_in_words()
            ));
        } else if !scene.options.services {
            if past > 0 {
                warnings.push(format!(
                    "it still leads to {} past the proxy: --service moves its targetPort to {client}",
                    target.object
                ));
            }
            if let Some(earlier) = target.earlier.client.filter(|_| behind > 0) {
                warnings.push(format!(
                    "it still leads to port {earlier}, where the proxy of {} was: --service moves its targetPort to \
                     {client}",
                    target.object
                ));
            }
        }
        let annotations = service.at(&["metadata", "annotations"]);
        warnings.extend(mention::annotations(annotations, target.port, scene.options));
        if scene.options.services {
            turn(service, target, client);
        }
    }
    warnings
}

fn selected<'a>(service: &Value, targets: &'a [Target]) -> impl Iterator<Item = &'a Target> + use<'a> {
    let selector = service.at(&["spec", "selector"]).and_then(Value::as_map).cloned();
    let namespace = service.text_at(&["metadata", "namespace"]).map(str::to_owned);
    let selector = selector.filter(|selector| !selector.0.is_empty());
    targets.iter().filter(move |target| {
        target.is_in(namespace.as_deref())
            && selector.as_ref().is_some_and(|selector| target.has_labels(selector))
    })
}

/// How many ports of a Service lead to the application itself, to where its proxy was, and to its proxy.
struct Leads {
    past: usize,
    behind: usize,
    here: usize,
}

fn leads(service: &Value, target: &Target, options: &Options) -> Leads {
    let mut leads = Leads { past: 0, behind: 0, here: 0 };
    for port in service.list_at(&["spec", "ports"]) {
        leads.here += usize::from(is_here(port, options));
        let leads_to = tcp_target(port);
        leads.past += usize::from(leads_to.is_some_and(|port| target.is_server_at(port)));
        leads.behind += usize::from(leads_to.is_some_and(|port| target.was_at(port)));
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

/// Whether it leads to the server, or to where its proxy was.
fn is_past(port: &Value, target: &Target) -> bool {
    tcp_target(port).is_some_and(|port| target.is_server_at(port) || target.was_at(port))
}

/// Where a port leads. Without a `targetPort` that is the port that the Service has itself.
fn tcp_target(port: &Value) -> Option<&str> {
    let is_tcp = port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
    port.text_at(&["targetPort"]).or_else(|| port.text_at(&["port"])).filter(|_| is_tcp)
}

fn is_here(port: &Value, options: &Options) -> bool {
    port.text_at(&["targetPort"])
        .is_some_and(|target| target == sidecar::CLIENT_PORT || target.parse() == Ok(options.ports.client))
}
