//! Services, as whatever refers to them sees them.

use super::kind::{Kind, kind_of};
use crate::inject::injected::Target;
use crate::inject::names;
use crate::inject::options::Options;
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
        if kind_of(object) != Kind::Service {
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

pub(super) fn selected<'a>(
    service: &Value,
    targets: &'a [Target],
) -> impl Iterator<Item = &'a Target> + use<'a> {
    let selector = service.at(&["spec", "selector"]).and_then(Value::as_map).cloned();
    let namespace = service.text_at(&["metadata", "namespace"]).map(str::to_owned);
    let selector = selector.filter(|selector| !selector.0.is_empty());
    targets.iter().filter(move |target| {
        target.is_in(namespace.as_deref())
            && selector.as_ref().is_some_and(|selector| target.has_labels(selector))
    })
}

/// Whether it leads to the server, or to where its proxy was.
pub(super) fn is_past(port: &Value, target: &Target) -> bool {
    tcp_target(port).is_some_and(|port| target.is_server_at(port) || target.was_at(port))
}

/// Where a port leads. Without a `targetPort` that is the port that the Service has itself.
pub(super) fn tcp_target(port: &Value) -> Option<&str> {
    let is_tcp = port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
    port.text_at(&["targetPort"]).or_else(|| port.text_at(&["port"])).filter(|_| is_tcp)
}

pub(super) fn is_here(port: &Value, options: &Options) -> bool {
    port.text_at(&["targetPort"])
        .is_some_and(|target| target == names::CLIENT_PORT || target.parse() == Ok(options.ports.client))
}
