//! Workloads with a sidecar, and the selectors that match their pods.

use crate::yaml::{Map, Value};

/// A workload that has a sidecar.
#[derive(Debug)]
pub(crate) struct InjectedWorkload {
    /// `Deployment/web`
    pub(crate) object: String,
    pub(crate) namespace: Option<String>,
    pub(crate) labels: Map,
    /// The application's container.
    pub(crate) container: String,
    /// The application's port, and the names of that port.
    pub(crate) port: Option<u16>,
    pub(crate) port_names: Vec<String>,
    pub(crate) earlier: PriorPorts,
}

/// The ports of the proxy of an earlier injection, where they differ from those of now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PriorPorts {
    pub(crate) client: Option<u16>,
    pub(crate) probes: Option<u16>,
}

impl InjectedWorkload {
    /// Whether it may be in `namespace`. An object without one gets that of the user who applies it, which may be
    /// any.
    pub(super) fn is_in(&self, namespace: Option<&str>) -> bool {
        namespace.is_none() || self.namespace.is_none() || namespace == self.namespace.as_deref()
    }

    /// Whether a Service with this selector selects its pods.
    pub(super) fn has_labels(&self, labels: &Map) -> bool {
        has_all(&self.labels, labels)
    }

    /// Whether a LabelSelector matches its pods.
    pub(super) fn is_selected_by(&self, selector: Option<&Value>) -> bool {
        selects(selector, &self.labels)
    }

    /// Whether a port, by number or name, is the application's.
    pub(super) fn is_server_at(&self, port: &str) -> bool {
        match port.parse::<u16>() {
            Ok(number) => Some(number) == self.port,
            Err(_) => self.port_names.iter().any(|name| name == port),
        }
    }

    /// Whether its proxy was at this port before it moved.
    pub(super) fn proxy_was_at(&self, port: &str) -> bool {
        self.earlier.client.is_some_and(|earlier| port.parse() == Ok(earlier))
    }

    /// The end of "the server's port 3000", where the port is known.
    pub(super) fn port_in_words(&self) -> String {
        self.port.map(|port| format!("'s port {port}")).unwrap_or_default()
    }
}

/// Whether a LabelSelector matches these labels. A selector that is left out matches all.
pub(super) fn selects(selector: Option<&Value>, labels: &Map) -> bool {
    let Some(selector) = selector else { return true };
    let matches = selector.at(&["matchLabels"]).and_then(Value::as_map);
    let expressions = selector.list_at(&["matchExpressions"]);
    matches.is_none_or(|wanted| has_all(labels, wanted))
        && expressions.iter().all(|expression| fits(expression, labels))
}

fn has_all(labels: &Map, wanted: &Map) -> bool {
    wanted.0.iter().all(|(key, value)| labels.get(&key.text).and_then(Value::as_text) == value.as_text())
}

fn fits(expression: &Value, labels: &Map) -> bool {
    let Some(key) = expression.text_at(&["key"]) else { return false };
    let own = labels.get(key).and_then(Value::as_text);
    let is_listed = || expression.list_at(&["values"]).iter().any(|value| value.as_text() == own);
    match expression.text_at(&["operator"]) {
        Some("In") => own.is_some() && is_listed(),
        Some("NotIn") => own.is_none() || !is_listed(),
        Some("Exists") => own.is_some(),
        Some("DoesNotExist") => own.is_none(),
        // The API server refuses any other operator.
        _ => false,
    }
}
