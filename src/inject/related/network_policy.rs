//! NetworkPolicies: a peer that may reach the server has to reach the proxy.
//!
//! # Invariants
//! 1. The proxy's port is added to a rule for the peers that it names, and for no others.
//! 2. What is admitted to the server stays admitted, with a warning: only the operator knows who needs it.

use super::context::Context;
use crate::inject::injected::{InjectedWorkload, PriorPorts};
use crate::inject::options::{Options, Ports};
use crate::inject::refusal::Location;
use crate::yaml::{Map, Value};

/// Adds the proxy's port to `policy`, or warns that it is missing.
pub(super) fn retarget(policy: &mut Value, context: &Context<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    let namespace = policy.text_at(&["metadata", "namespace"]).map(str::to_owned);
    for target in context.targets.iter().filter(|target| target.is_in(namespace.as_deref())) {
        let selects_target = target.is_selected_by(policy.at(&["spec", "podSelector"]));
        if selects_target {
            warnings.extend(ingress(policy, target, context.options));
        }
        warnings.extend(egress(policy, target, selects_target, context.options));
    }
    warnings
}

/// Policies that block the port of health and metrics, each with its warning.
pub(super) fn blocked_probes<'a>(
    policies: &[(&'a Location, &Value)],
    context: &Context<'_>,
) -> Vec<(&'a Location, String)> {
    let probes = context.options.ports.probes;
    let mut warnings = Vec::new();
    for target in context.targets {
        let is_about = |policy: &Value| {
            target.is_in(policy.text_at(&["metadata", "namespace"]))
                && target.is_selected_by(policy.at(&["spec", "podSelector"]))
                && is_of_type(policy, "Ingress")
        };
        let own = Vec::from_iter(policies.iter().filter(|(_, policy)| is_about(policy)));
        let admits = |rule: &Value| Rule::read(rule).admits(probes);
        let is_open = own.iter().any(|(_, policy)| policy.list_at(&["spec", "ingress"]).iter().any(admits));
        // A policy that names no port at all admitted nothing before either.
        let names_ports = |rule: &Value| !rule.list_at(&["ports"]).is_empty();
        let first =
            own.iter().find(|(_, policy)| policy.list_at(&["spec", "ingress"]).iter().any(names_ports));
        if let Some((location, _)) = first.filter(|_| !is_open) {
            warnings.push((
                *location,
                format!(
                    "none of its rules admits the proxy's port {probes} to {}, where its health and metrics are: add \
                     one for your Prometheus, and for the kubelet where the network filters that",
                    target.object
                ),
            ));
        }
    }
    warnings
}

/// Rules for connections to the pods.
fn ingress(policy: &mut Value, target: &InjectedWorkload, options: &Options) -> Vec<String> {
    if !is_of_type(policy, "Ingress") {
        return Vec::new();
    }
    let client = options.ports.client;
    let mut warnings = Vec::new();
    let rules = rules_of(policy, "ingress");
    let has_way = |rules: &[Value], rule: &Value| {
        rules
            .iter()
            .any(|other| other.at(&["from"]) == rule.at(&["from"]) && Rule::read(other).admits(client))
    };
    let (mut admits_server, mut lacks) = (false, false);
    for index in 0..rules.len() {
        let Some(rule) = rules.get(index) else { break };
        if let Some(moved) = with_moved_ports(rule, target.earlier, options.ports) {
            if options.services {
                replace(rules, index, moved);
            } else if let Some(earlier) = target.earlier.client.or(target.earlier.probes) {
                warnings.push(format!(
                    "it admits {earlier}, where the proxy of {} was: --service moves that to {}",
                    target.object,
                    if target.earlier.client.is_some() { client } else { options.ports.probes }
                ));
            }
        }
        let Some(rule) = rules.get(index) else { break };
        if !Rule::read(rule).names_server(target) {
            continue;
        }
        admits_server = true;
        if has_way(rules, rule) {
            continue;
        }
        if options.services {
            widen(rules, index, client);
        } else {
            lacks = true;
        }
    }
    let server = target.port.unwrap_or_default();
    if lacks {
        warnings.push(format!(
            "it admits clients to the server's port {server} of {}, but not the proxy's {client}: --service adds it",
            target.object
        ));
    } else if admits_server {
        warnings.push(format!(
            "it goes on admitting the server's port {server} of {}, so whoever it names can go past the proxy: take \
             that port out once nobody needs it",
            target.object
        ));
    }
    warnings
}

/// Rules for connections from the policy's pods, which are clients here.
fn egress(
    policy: &mut Value,
    target: &InjectedWorkload,
    selects_target: bool,
    options: &Options,
) -> Vec<String> {
    if !is_of_type(policy, "Egress") {
        return Vec::new();
    }
    let client = options.ports.client;
    let server = target.port.unwrap_or_default();
    let rules = rules_of(policy, "egress");
    let mut warnings = Vec::new();
    for index in 0..rules.len() {
        let Some(rule) = rules.get(index) else { break };
        let peers = rule.list_at(&["to"]);
        let is_selected = peers.iter().any(|peer| {
            let selector = peer.at(&["podSelector"]);
            selector.is_some() && target.is_selected_by(selector)
        });
        let may_be_meant = !selects_target
            && (peers.is_empty()
                || peers.iter().any(|peer| {
                    peer.at(&["namespaceSelector"]).is_some() && peer.at(&["podSelector"]).is_none()
                }));
        if !(is_selected || may_be_meant) {
            continue;
        }
        if let Some(moved) = with_moved_ports(rule, target.earlier, options.ports).filter(|_| is_selected)
            && options.services
        {
            replace(rules, index, moved);
        }
        let Some(rule) = rules.get(index).map(Rule::read) else { break };
        if !rule.names_server(target) || rule.admits(client) {
            continue;
        }
        match (is_selected, options.services) {
            (true, true) => widen(rules, index, client),
            (true, false) => warnings.push(format!(
                "it lets its pods reach the server's port {server} of {}, but not the proxy's {client}: --service \
                 adds it",
                target.object
            )),
            (false, _) => warnings.push(format!(
                "it lets its pods reach port {server} of others: if the pods of {} are meant, it has to let them \
                 reach the proxy's {client}, too",
                target.object
            )),
        }
    }
    warnings
}

/// The ports of a rule. A rule without ports admits all of them.
struct Rule<'a>(&'a [Value]);

impl<'a> Rule<'a> {
    fn read(rule: &'a Value) -> Self {
        Self(rule.list_at(&["ports"]))
    }

    fn admits(&self, port: u16) -> bool {
        self.0.is_empty() || self.tcp().any(|entry| covers(entry, port))
    }

    /// Whether one of its ports is the server's, by number, name or range. A rule without ports does not name it.
    fn names_server(&self, target: &InjectedWorkload) -> bool {
        self.tcp().any(|entry| match entry.text_at(&["port"]) {
            None => false,
            Some(port) => target.is_server_at(port) || target.port.is_some_and(|port| covers(entry, port)),
        })
    }

    fn tcp(&self) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(|entry| entry.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP"))
    }
}

fn covers(entry: &Value, port: u16) -> bool {
    match entry.text_at(&["port"]).map(str::parse::<u16>) {
        None => true,
        Some(Ok(first)) => (first..=entry.port_at(&["endPort"]).unwrap_or(first)).contains(&port),
        Some(Err(_)) => false,
    }
}

/// Whether a policy is of this type. Without `policyTypes` it follows from the rules, and Ingress always holds
/// (networking.k8s.io/v1).
fn is_of_type(policy: &Value, wanted: &str) -> bool {
    let types = policy.list_at(&["spec", "policyTypes"]);
    match types.is_empty() {
        true => wanted == "Ingress" || policy.at(&["spec", "egress"]).is_some(),
        false => types.iter().any(|one| one.as_text() == Some(wanted)),
    }
}

/// The rules under `key`; none where there is something else.
fn rules_of<'a>(policy: &'a mut Value, key: &str) -> &'a mut [Value] {
    let Value::Map(map) = policy else { return &mut [] };
    let Some(Value::Map(spec)) = map.get_mut("spec") else { return &mut [] };
    match spec.get_mut(key) {
        Some(Value::List(rules)) => rules,
        _ => &mut [],
    }
}

/// The rule with the proxy's earlier ports replaced by those of now; `None` if it names none of them.
fn with_moved_ports(rule: &Value, earlier: PriorPorts, now: Ports) -> Option<Value> {
    let moved = |entry: &Value| {
        let port = entry.port_at(&["port"]).filter(|_| entry.at(&["endPort"]).is_none());
        let to = match port {
            Some(port) if Some(port) == earlier.client => now.client,
            Some(port) if Some(port) == earlier.probes => now.probes,
            _ => return None,
        };
        let mut entry = entry.as_map()?.clone();
        entry.set("port", Value::number(to.into()));
        Some(Value::Map(entry))
    };
    let ports = rule.list_at(&["ports"]);
    let mut new: Vec<Value> = Vec::new();
    for entry in ports {
        match moved(entry) {
            None => new.push(entry.clone()),
            // The port of now is in the rule already.
            Some(moved) if ports.contains(&moved) || new.contains(&moved) => {}
            Some(moved) => new.push(moved),
        }
    }
    let mut rule: Map = rule.as_map().filter(|_| new != ports)?.clone();
    rule.set("ports", Value::List(new));
    Some(Value::Map(rule))
}

fn replace(rules: &mut [Value], index: usize, rule: Value) {
    if let Some(location) = rules.get_mut(index) {
        *location = rule;
    }
}

fn widen(rules: &mut [Value], index: usize, port: u16) {
    if let Some(Value::Map(rule)) = rules.get_mut(index)
        && let Ok(ports) = rule.list_mut("ports")
    {
        ports.push(Value::map([("port", Value::number(port.into())), ("protocol", Value::text("TCP"))]));
    }
}
