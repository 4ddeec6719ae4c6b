//! Objects around the workloads: those that lead clients to a server are pointed to its proxy, and the rest is warned
//! of.
//!
//! It depends on who uses a port. Clients have to reach the proxy; a scraper of the server's metrics still reaches
//! the server. With [`Options::services`] an object that leads clients is changed; without it, a warning says what
//! would be changed.
//!
//! # Invariants
//! 1. Retargeting is idempotent, and where the proxy's ports have changed the result is as if they had always been
//!    those of now.
//! 2. Nothing becomes unreachable without a warning, and no way past the proxy stays without one.
//!
//! # Not here
//! The pods themselves ([`super::workload`]).

mod backend;
mod context;
mod kind;
mod monitor;
mod network_policy;
mod port_references;
mod scaler;
mod service;
mod service_info;

use self::context::Context;
use self::kind::{Kind, kind_of};
pub(super) use self::port_references::annotations;
use self::service_info::ServiceInfo;
use super::injected::InjectedWorkload;
use super::object::Object;
use super::options::Options;
use super::refusal::{Location, Warning};
use crate::yaml::Value;

/// Points `objects` to the proxies of `targets`. Answers the warnings.
pub(super) fn retarget<'a>(
    objects: impl Iterator<Item = &'a mut Object>,
    targets: &[InjectedWorkload],
    options: &Options,
) -> Vec<Warning> {
    let mut objects: Vec<_> = objects.collect();
    let services =
        objects.iter().filter_map(|object| ServiceInfo::read(&object.value, targets, options)).collect();
    let context = Context { targets, services, options };
    let mut warnings = Vec::new();
    let mut warn = |location: &Location, found: Vec<String>| {
        warnings.extend(found.into_iter().map(|what| Warning { location: location.clone(), what }));
    };
    for object in &mut objects {
        warn(&object.location, retarget_object(&mut object.value, &context));
    }
    // Which ports no policy admits is known only when all of them are changed.
    let policies = objects.iter().filter(|object| kind_of(&object.value) == Kind::NetworkPolicy);
    let policies = Vec::from_iter(policies.map(|object| (&object.location, &object.value)));
    for (location, what) in network_policy::blocked_probes(&policies, &context) {
        warn(location, vec![what]);
    }
    warnings.sort_by_key(|warning| (warning.location.document, warning.location.item));
    warnings
}

fn retarget_object(object: &mut Value, context: &Context<'_>) -> Vec<String> {
    match kind_of(object) {
        Kind::Service => service::retarget(object, context),
        Kind::NetworkPolicy => network_policy::retarget(object, context),
        Kind::Ingress => backend::retarget(object, backend::Style::Ingress, context),
        Kind::Route => backend::retarget(object, backend::Style::Route, context),
        Kind::ServiceMonitor => monitor::warnings(object, context),
        Kind::Scaler => scaler::warnings(object, context),
        Kind::PodMonitor => port_references::prior_ports(object, context),
        Kind::Custom => port_references::server_ports(object, context),
        Kind::Other => Vec::new(),
    }
}
