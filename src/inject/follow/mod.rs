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
mod front;
mod kind;
mod mention;
mod monitor;
mod network_policy;
mod scaler;
mod scene;
mod service;

use self::front::Front;
use self::kind::{Kind, kind_of};
pub(super) use self::mention::annotations;
use self::scene::Scene;
use super::injected::Target;
use super::object::Object;
use super::options::Options;
use super::refusal::{Location, Warning};
use crate::yaml::Value;

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
