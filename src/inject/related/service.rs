//! Services that select pods with a sidecar: their ports are pointed to the proxy.

use super::context::Context;
use super::port_references;
use super::service_info::{selected, targets_client_port, targets_server, tcp_target};
use crate::inject::injected::InjectedWorkload;
use crate::inject::options::Options;
use crate::yaml::Value;

/// Points `service` to the proxies of the targets that it selects. Answers the warnings.
pub(super) fn retarget(service: &mut Value, context: &Context<'_>) -> Vec<String> {
    let client = context.options.ports.client;
    let mut warnings = Vec::new();
    for target in selected(service, context.targets) {
        let PortCounts { server, prior_proxy, proxy } = count_ports(service, target, context.options);
        let headless = service.text_at(&["spec", "clusterIP"]) == Some("None");
        if headless && (server > 0 || proxy > 0) {
            warnings.push(format!(
                "it has no address of its own, so clients choose the port of {} themselves: tell them {client}",
                target.object
            ));
        } else if server + proxy + prior_proxy == 0 {
            warnings.push(format!(
                "it selects the pods of {}, but none of its ports leads to the server{}: left as it is",
                target.object,
                target.port_in_words()
            ));
        } else if !context.options.services {
            if server > 0 {
                warnings.push(format!(
                    "it still leads to {} past the proxy: --service moves its targetPort to {client}",
                    target.object
                ));
            }
            if let Some(earlier) = target.earlier.client.filter(|_| prior_proxy > 0) {
                warnings.push(format!(
                    "it still leads to port {earlier}, where the proxy of {} was: --service moves its targetPort to \
                     {client}",
                    target.object
                ));
            }
        }
        let annotations = service.at(&["metadata", "annotations"]);
        warnings.extend(port_references::annotations(annotations, target.port, context.options));
        if context.options.services {
            set_target_ports(service, target, client);
        }
    }
    warnings
}

/// How many ports of a Service lead to the application, to an earlier port of its proxy, and to its proxy.
struct PortCounts {
    server: usize,
    prior_proxy: usize,
    proxy: usize,
}

fn count_ports(service: &Value, target: &InjectedWorkload, options: &Options) -> PortCounts {
    let mut counts = PortCounts { server: 0, prior_proxy: 0, proxy: 0 };
    for port in service.list_at(&["spec", "ports"]) {
        counts.proxy += usize::from(targets_client_port(port, options));
        let leads_to = tcp_target(port);
        counts.server += usize::from(leads_to.is_some_and(|port| target.is_server_at(port)));
        counts.prior_proxy += usize::from(leads_to.is_some_and(|port| target.proxy_was_at(port)));
    }
    counts
}

/// Sets `targetPort`: a number, since not every cluster resolves names of init containers' ports.
fn set_target_ports(service: &mut Value, target: &InjectedWorkload, client: u16) {
    let Value::Map(map) = service else { return };
    let Ok(Ok(ports)) = map.map_mut("spec").map(|spec| spec.list_mut("ports")) else { return };
    for port in ports {
        if targets_server(port, target)
            && let Value::Map(port) = port
        {
            port.set("targetPort", Value::number(client.into()));
        }
    }
}
