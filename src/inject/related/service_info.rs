//! Services and their ports, as other objects refer to them.

use super::kind::{Kind, kind_of};
use crate::inject::injected::InjectedWorkload;
use crate::inject::names;
use crate::inject::options::Options;
use crate::yaml::{Map, Value};

/// A Service, as other objects refer to it.
pub(super) struct ServiceInfo {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) labels: Map,
    pub(super) ports: Vec<ServicePort>,
}

/// One of its ports.
pub(super) struct ServicePort {
    pub(super) number: Option<u16>,
    pub(super) name: Option<String>,
    /// Whether it leads to a server behind a sidecar, or to its proxy.
    pub(super) targets_pods: bool,
    /// Whether it leads to the proxy, or will when all is done.
    pub(super) targets_proxy: bool,
}

impl ServiceInfo {
    /// Reads any Service. Where it selects none of the `targets`, no port leads to them.
    pub(super) fn read(object: &Value, targets: &[InjectedWorkload], options: &Options) -> Option<Self> {
        if kind_of(object) != Kind::Service {
            return None;
        }
        let text = |path: &[&str]| object.text_at(path).map(str::to_owned);
        let selected = Vec::from_iter(selected(object, targets));
        let port = |port: &Value| {
            let leads_to_server = selected.iter().any(|target| targets_server(port, target));
            let leads_to_proxy = !selected.is_empty() && targets_client_port(port, options);
            ServicePort {
                number: port.port_at(&["port"]),
                name: port.text_at(&["name"]).map(str::to_owned),
                targets_pods: leads_to_server || leads_to_proxy,
                targets_proxy: leads_to_proxy || leads_to_server && options.services,
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
    pub(super) fn port(&self, port: &str) -> Option<&ServicePort> {
        let matches = |own: &&ServicePort| {
            own.name.as_deref() == Some(port) || own.number.is_some_and(|number| port.parse() == Ok(number))
        };
        self.ports.iter().find(matches)
    }
}

pub(super) fn selected<'a>(
    service: &Value,
    targets: &'a [InjectedWorkload],
) -> impl Iterator<Item = &'a InjectedWorkload> + use<'a> {
    let selector = service.at(&["spec", "selector"]).and_then(Value::as_map).cloned();
    let namespace = service.text_at(&["metadata", "namespace"]).map(str::to_owned);
    let selector = selector.filter(|selector| !selector.0.is_empty());
    targets.iter().filter(move |target| {
        target.is_in(namespace.as_deref())
            && selector.as_ref().is_some_and(|selector| target.has_labels(selector))
    })
}

/// Whether a port leads to the server, or to an earlier port of its proxy.
pub(super) fn targets_server(port: &Value, target: &InjectedWorkload) -> bool {
    tcp_target(port).is_some_and(|port| target.is_server_at(port) || target.proxy_was_at(port))
}

/// Where a port leads. Without a `targetPort` that is the port that the Service has itself.
pub(super) fn tcp_target(port: &Value) -> Option<&str> {
    let is_tcp = port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
    port.text_at(&["targetPort"]).or_else(|| port.text_at(&["port"])).filter(|_| is_tcp)
}

pub(super) fn targets_client_port(port: &Value, options: &Options) -> bool {
    port.text_at(&["targetPort"])
        .is_some_and(|target| target == names::CLIENT_PORT || target.parse() == Ok(options.ports.client))
}
