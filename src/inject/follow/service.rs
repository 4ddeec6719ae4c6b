//! Services that lead to pods with a sidecar: whether they lead to the proxy, and making them do so.

use super::front::{is_here, is_past, selected, tcp_target};
use super::mention;
use super::scene::Scene;
use crate::inject::injected::Target;
use crate::inject::options::Options;
use crate::yaml::Value;

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
