//! Ingresses and routes of the Gateway API: they name a Service and its port, so they need no change. But some
//! controllers accept the pod's port there, as a `targetPort`; it has to become the Service's.

use super::context::Context;
use super::port_references;
use super::service_info::ServicePort;
use crate::yaml::{Map, Value};

/// How an object names a Service and a port of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `service: {name, port: {number, name}}`
    Ingress,
    /// `backendRefs: [{name, port}]`
    Route,
}

/// Gives backends the Service's port where they name the pod's, or warns of them.
pub(super) fn retarget(object: &mut Value, style: Style, context: &Context<'_>) -> Vec<String> {
    let namespace = object.text_at(&["metadata", "namespace"]).map(str::to_owned);
    let mut warnings = Vec::new();
    let mut ports = Vec::new();
    let annotated = object.at(&["metadata", "annotations"]).cloned();
    let Value::Map(map) = object else { return warnings };
    let Some(spec) = map.get_mut("spec") else { return warnings };
    visit_backends(spec, style, &mut |backend| {
        let namespace =
            backend.get("namespace").and_then(Value::as_text).or(namespace.as_deref()).map(str::to_owned);
        warnings.extend(retarget_backend(backend, style, namespace.as_deref(), context, &mut ports));
    });
    warnings.dedup();
    ports.dedup();
    for port in ports {
        warnings.extend(port_references::annotations(annotated.as_ref(), Some(port), context.options));
    }
    warnings
}

/// Every backend below `value`.
fn visit_backends(value: &mut Value, style: Style, visit: &mut impl FnMut(&mut Map)) {
    match value {
        Value::Map(map) => {
            for (key, inner) in &mut map.0 {
                match (style, &*key.text, inner) {
                    (Style::Ingress, "service", Value::Map(backend))
                    | (Style::Route, "backendRef", Value::Map(backend)) => visit(backend),
                    (Style::Route, "backendRefs", Value::List(list)) => {
                        for item in list {
                            if let Value::Map(backend) = item {
                                visit(backend);
                                // A backend may have filters, which have backends of their own.
                                if let Some(filters) = backend.get_mut("filters") {
                                    visit_backends(filters, style, visit);
                                }
                            }
                        }
                    }
                    (_, _, inner) => visit_backends(inner, style, visit),
                }
            }
        }
        Value::List(list) => list.iter_mut().for_each(|inner| visit_backends(inner, style, visit)),
        Value::Scalar(_) => {}
    }
}

/// Adds the servers' ports that the backend leads to to `ports`.
fn retarget_backend(
    backend: &mut Map,
    style: Style,
    namespace: Option<&str>,
    context: &Context<'_>,
    ports: &mut Vec<u16>,
) -> Option<String> {
    if backend.get("kind").and_then(Value::as_text).is_some_and(|kind| kind != "Service") {
        return None;
    }
    let name = backend.get("name")?.as_text()?.to_owned();
    let port = match style {
        Style::Route => backend.get("port")?.as_text()?,
        Style::Ingress => {
            let port = backend.get("port")?;
            port.text_at(&["number"]).or_else(|| port.text_at(&["name"]))?
        }
    }
    .to_owned();
    let front = context.services.iter().find(|front| front.is(&name, namespace));
    let mut targets = context.targets.iter().filter(|target| target.is_in(namespace));
    let Some(front) = front else {
        let target = targets.find(|target| target.is_server_at(&port) || target.proxy_was_at(&port))?;
        return Some(format!(
            "it leads to port {port} of the Service {name}, which is not in the stream: whether that leads to the \
             proxy of {} is not known here. Put the Service into the stream, and say --service",
            target.object
        ));
    };
    let led = front.ports.iter().find(|port| port.targets_pods);
    let known = front.port(&port);
    if known.or(led).is_some_and(|port| port.targets_pods) {
        ports.extend(
            context.targets.iter().filter(|target| target.is_in(namespace)).filter_map(|target| target.port),
        );
    }
    // A port that the Service has itself is that of the Service.
    let is_pods = targets.any(|target| target.is_server_at(&port) || target.proxy_was_at(&port));
    let number = led.filter(|_| known.is_none() && is_pods).and_then(|ServicePort { number, .. }| *number)?;
    if !context.options.services {
        return Some(format!(
            "it leads to {port}, which is no port of the Service {name}: --service makes it {number}, since it is \
             lost as soon as that Service leads to the proxy"
        ));
    }
    let number = Value::number(number.into());
    backend.set(
        "port",
        match style {
            Style::Route => number,
            Style::Ingress => Value::map([("number", number)]),
        },
    );
    None
}
