//! ServiceMonitors: they scrape the server's metrics, and stay as they are. One that names a port of the Service
//! reaches the proxy with it, which passes plain HTTP on.

use super::context::Context;
use crate::inject::injected::selects;
use crate::yaml::Value;

/// Warnings about `monitor`.
pub(super) fn warnings(monitor: &Value, context: &Context<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    for front in &context.services {
        let is_seen = selects(monitor.at(&["spec", "selector"]), &front.labels)
            && is_looked_into(monitor, front.namespace.as_deref());
        for endpoint in monitor.list_at(&["spec", "endpoints"]).iter().filter(|_| is_seen) {
            let Some(name) = endpoint.text_at(&["port"]) else { continue };
            let is_led =
                front.ports.iter().any(|port| port.targets_proxy && port.name.as_deref() == Some(name));
            if !is_led {
                continue;
            }
            let server = context.targets.iter().filter(|target| target.is_in(front.namespace.as_deref()));
            let server = server.filter_map(|target| target.port).next().unwrap_or_default();
            warnings.push(format!(
                "its endpoint {name} asks the server through the proxy, as the Service {} leads there: its metrics \
                 come as long as plain HTTP passes (policy.http). `targetPort: {server}` in place of `port` asks the \
                 server itself; the proxy has its own on port {}",
                front.name, context.options.ports.probes
            ));
        }
    }
    warnings
}

/// Whether `monitor` selects Services of `namespace`; by default those of its own.
fn is_looked_into(monitor: &Value, namespace: Option<&str>) -> bool {
    let names = monitor.list_at(&["spec", "namespaceSelector", "matchNames"]);
    if monitor.is_true_at(&["spec", "namespaceSelector", "any"]) {
        return true;
    }
    if !names.is_empty() {
        return namespace.is_none_or(|namespace| names.iter().any(|name| name.as_text() == Some(namespace)));
    }
    let own = monitor.text_at(&["metadata", "namespace"]);
    own.is_none() || namespace.is_none() || own == namespace
}
