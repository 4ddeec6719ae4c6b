//! Objects beside the workloads: what leads clients to a server follows it to the proxy, and the rest is told.
//!
//! Who is meant by a port decides. Clients have to come to the proxy; who asks the server for its metrics is left
//! where it is. With [`Options::services`] an object that leads clients is changed, without it is told what would be.
//!
//! # Invariants
//! 1. To follow twice is to follow once, and a proxy that moved is followed as if it had been there from the beginning.
//! 2. Nothing becomes unreachable in silence, and no way past the proxy stays without a word.
//!
//! # Not here
//! The pods themselves ([`super::workload`]).

mod backend;
mod mention;
mod monitor;
mod network_policy;
mod scaler;
mod service;
mod target;

pub(super) use self::mention::annotations;
use self::service::Front;
pub(super) use self::target::{Earlier, Target};
use super::options::Options;
use super::refusal::{Location, Warning};
use super::stream::Object;
use crate::yaml::Value;

/// What every object is held against.
struct Scene<'a> {
    targets: &'a [Target],
    /// The Services of the stream as they were, with what each of their ports leads to.
    fronts: Vec<Front>,
    options: &'a Options,
}

/// Leads what is in `objects` to the proxies of `targets`. Answers what is worth a word.
pub(super) fn follow<'a>(
    objects: impl Iterator<Item = &'a mut Object>,
    targets: &[Target],
    options: &Options,
) -> Vec<Warning> {
    let mut objects: Vec<_> = objects.collect();
    let fronts = objects.iter().filter_map(|object| Front::read(&object.value, targets, options)).collect();
    let scene = Scene { targets, fronts, options };
    let mut warnings = Vec::new();
    let mut tell = |location: &Location, told: Vec<String>| {
        warnings.extend(told.into_iter().map(|what| Warning { location: location.clone(), what }));
    };
    for object in &mut objects {
        tell(&object.location, one(&mut object.value, &scene));
    }
    // Only when all policies are as they will be it is known what none of them admits.
    let policies = objects.iter().filter(|object| kind_of(&object.value) == Kind::NetworkPolicy);
    let policies = Vec::from_iter(policies.map(|object| (&object.location, &object.value)));
    for (location, what) in network_policy::shut_probes(&policies, &scene) {
        tell(location, vec![what]);
    }
    warnings.sort_by_key(|warning| (warning.location.document, warning.location.item));
    warnings
}

fn one(object: &mut Value, scene: &Scene<'_>) -> Vec<String> {
    match kind_of(object) {
        Kind::Service => service::lead(object, scene),
        Kind::NetworkPolicy => network_policy::follow(object, scene),
        Kind::Ingress => backend::follow(object, backend::Style::Ingress, scene),
        Kind::Route => backend::follow(object, backend::Style::Route, scene),
        Kind::ServiceMonitor => monitor::told(object, scene),
        Kind::Scaler => scaler::told(object, scene),
        Kind::PodMonitor => mention::of_earlier(object, scene),
        Kind::Custom => mention::of_server(object, scene),
        Kind::Other => Vec::new(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    NetworkPolicy,
    Ingress,
    /// Of the Gateway API, whatever its protocol.
    Route,
    ServiceMonitor,
    PodMonitor,
    /// A HorizontalPodAutoscaler, or one of KEDA.
    Scaler,
    /// Something whose meaning is not known here, and that may name a port.
    Custom,
    /// Something that is known to name none, or another workload with ports of its own.
    Other,
}

fn kind_of(object: &Value) -> Kind {
    let version = object.text_at(&["apiVersion"]).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, object.text_at(&["kind"]).unwrap_or_default()) {
        ("", "Service") => Kind::Service,
        ("networking.k8s.io", "NetworkPolicy") => Kind::NetworkPolicy,
        ("networking.k8s.io", "Ingress") if version.ends_with("/v1") => Kind::Ingress,
        ("gateway.networking.k8s.io", kind) if kind.ends_with("Route") => Kind::Route,
        ("monitoring.coreos.com", "ServiceMonitor") => Kind::ServiceMonitor,
        ("monitoring.coreos.com", "PodMonitor") => Kind::PodMonitor,
        ("autoscaling", "HorizontalPodAutoscaler") | ("keda.sh", "ScaledObject") => Kind::Scaler,
        ("", "Endpoints") | ("discovery.k8s.io" | "networking.k8s.io" | "extensions", _) => Kind::Custom,
        ("apiextensions.k8s.io" | "rbac.authorization.k8s.io", _) => Kind::Other,
        // Groups of Kubernetes' own without a dot have workloads, jobs and budgets.
        (group, _) if group.contains('.') => Kind::Custom,
        _ => Kind::Other,
    }
}
