//! What is in a pod template: containers, ports and hooks, and what keeps a sidecar out of it.

use super::app::App;
use super::fields::field;
use super::injected::PriorPorts;
use super::names;
use super::options::{Options, Ports};
use super::prior::PriorInjection;
use super::refusal::FieldError;
use crate::yaml::{Map, Value};

/// The pod's spec, if a sidecar can be put into it.
pub(super) fn spec<'a>(object: &'a Value, template: &[&str], prefix: &str) -> Result<&'a Value, FieldError> {
    let spec = match object.at(template).and_then(|root| root.at(&["spec"])) {
        Some(spec @ Value::Map(_)) => spec,
        other => {
            let found = other.map_or_else(|| "nothing".into(), Value::describe);
            return Err(FieldError::mismatch(field(prefix, "spec"), found, "a map with `containers`"));
        }
    };
    for key in ["containers", "initContainers", "volumes"] {
        match spec.at(&[key]) {
            Some(Value::List(list)) if list.iter().all(|item| item.as_map().is_some()) => {}
            None if key != "containers" => {}
            other => {
                let found = other.map_or_else(|| "nothing".into(), Value::describe);
                return Err(FieldError::mismatch(
                    field(prefix, &format!("spec.{key}")),
                    found,
                    "a list of maps",
                ));
            }
        }
    }
    if spec.is_true_at(&["hostNetwork"]) {
        return Err(FieldError::new(
            field(prefix, "spec.hostNetwork"),
            "true",
            "a network of the pod's own: every port would be the node's, and the operators' routes open to \
             every process on it",
            "take it out, or run the proxy in pods of its own (the chart's mode standalone)",
        ));
    }
    Ok(spec)
}

/// Refuses a pod that uses the sidecar's names for something else.
pub(super) fn refuse_name_conflicts(
    spec: &Value,
    prior: Option<&PriorInjection>,
    prefix: &str,
) -> Result<(), FieldError> {
    if prior.is_some() {
        return Ok(());
    }
    let lists = [("containers", names::NAME), ("initContainers", names::NAME), ("volumes", names::VOLUME)];
    for (key, name) in lists {
        if spec.list_at(&[key]).iter().any(|item| item.text_at(&["name"]) == Some(name)) {
            return Err(FieldError::new(
                field(prefix, &format!("spec.{key}")),
                format!("{name:?}, which `outrigger inject` did not put there"),
                format!("any other name; {name} is the sidecar's"),
                "rename it, or take it out if it is a sidecar from a chart or a copied manifest",
            ));
        }
    }
    Ok(())
}

/// Refuses a pod that uses one of the proxy's ports: containers of a pod share them.
pub(super) fn refuse_taken_ports(
    spec: &Value,
    app: &App,
    options: &Options,
    prefix: &str,
) -> Result<(), FieldError> {
    let taken = |field: String, port: u16, flag: &str| {
        let accepted = format!(
            "any port but the proxy's: {}",
            options.ports.all().map(|(_, own)| own.to_string()).join(", ")
        );
        FieldError::new(
            field,
            format!("{port}, which is the proxy's"),
            accepted,
            format!("move the proxy with {flag}"),
        )
    };
    // An init container that ends before the proxy starts does not hold its port then.
    let stays = |container: &&Value| container.text_at(&["restartPolicy"]) == Some("Always");
    let init = spec.list_at(&["initContainers"]).iter().filter(stays).map(|item| ("initContainers", item));
    let containers = spec.list_at(&["containers"]).iter().map(|item| ("containers", item));
    for (key, container) in containers.chain(init) {
        let name = container.text_at(&["name"]).unwrap_or_default();
        if name == names::NAME {
            continue;
        }
        for port in container.list_at(&["ports"]) {
            if let Some(port) = port.port_at(&["containerPort"])
                && let Some(flag) = options.ports.flag_of(port)
            {
                return Err(taken(field(prefix, &format!("spec.{key}[{name}].ports")), port, flag));
            }
        }
    }
    match app.port.and_then(|port| Some((port, options.ports.flag_of(port)?))) {
        Some((port, flag)) => Err(taken("the server's port".into(), port, flag)),
        None => Ok(()),
    }
}

/// Probes and hooks of other containers that use a port of the proxy use its port of now. A name in them is a port of
/// their own container.
pub(super) fn retarget_probes(spec: &mut Map, earlier: PriorPorts, now: Ports) {
    const CHECKS: [&str; 3] = ["startupProbe", "readinessProbe", "livenessProbe"];
    const HOOKS: [&str; 2] = ["postStart", "preStop"];
    if earlier == PriorPorts::default() {
        return;
    }
    for list in ["initContainers", "containers"] {
        let Some(Value::List(containers)) = spec.get_mut(list) else { continue };
        for container in containers {
            if container.text_at(&["name"]) == Some(names::NAME) {
                continue;
            }
            let Value::Map(container) = container else { continue };
            for check in CHECKS {
                if let Some(Value::Map(action)) = container.get_mut(check) {
                    retarget_action(action, earlier, now);
                }
            }
            let Some(Value::Map(hooks)) = container.get_mut("lifecycle") else { continue };
            for hook in HOOKS {
                if let Some(Value::Map(action)) = hooks.get_mut(hook) {
                    retarget_action(action, earlier, now);
                }
            }
        }
    }
}

fn retarget_action(action: &mut Map, earlier: PriorPorts, now: Ports) {
    for how in ["httpGet", "tcpSocket", "grpc"] {
        let Some(request) = action.get_mut(how) else { continue };
        let to = match request.port_at(&["port"]) {
            Some(port) if Some(port) == earlier.client => now.client,
            Some(port) if Some(port) == earlier.probes => now.probes,
            _ => continue,
        };
        if let Value::Map(request) = request {
            request.set("port", Value::number(to.into()));
        }
    }
}

/// Warns of host ports that lead to the server: no Service is involved, so nothing else changes them.
pub(super) fn open_host_ports(spec: &Value, app: &App) -> Vec<String> {
    let mut containers = spec.list_at(&["containers"]).iter();
    let own = containers.find(|container| container.text_at(&["name"]) == Some(&*app.container));
    let ports = own.map(|own| own.list_at(&["ports"])).unwrap_or_default();
    let is_server = |port: &&Value| app.port.is_some() && port.port_at(&["containerPort"]) == app.port;
    let open = ports.iter().filter(is_server).filter_map(|port| port.port_at(&["hostPort"]));
    open.map(|port| {
        format!(
            "hostPort {port} of the container {} leads to the server past the proxy: take it out, and lead clients \
             by a Service",
            app.container
        )
    })
    .collect()
}

/// How long a hook sleeps, if that is all it does.
pub(super) fn sleep_seconds(hook: &Value) -> Option<u64> {
    if let Some(seconds) = hook.text_at(&["sleep", "seconds"]) {
        return seconds.parse().ok();
    }
    match hook.list_at(&["exec", "command"]) {
        [program, seconds]
            if program.as_text().is_some_and(|text| matches!(text, "sleep" | "/bin/sleep")) =>
        {
            seconds.as_text()?.parse().ok()
        }
        _ => None,
    }
}
