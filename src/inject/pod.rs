//! What is in a pod template: containers, ports, hooks, and what an earlier injection left there.

use super::fields::field;
use super::injected::PriorPorts;
use super::names;
use super::options::{Options, Ports};
use super::refusal::FieldError;
use super::settings::{Drain, UpstreamTarget};
use crate::yaml::{Map, Value};

/// The application in a pod.
#[derive(Debug)]
pub(super) struct App {
    pub(super) container: String,
    /// The port that it listens on; `None` if it is not in this pod, or not known here.
    pub(super) port: Option<u16>,
    /// The names that its container gives that port.
    pub(super) port_names: Vec<String>,
}

/// What an earlier injection has recorded in annotations of the pod template.
#[derive(Debug)]
pub(super) struct PriorInjection {
    pub(super) container: String,
    pub(super) port: Option<u16>,
    /// `terminationGracePeriodSeconds` without the drain.
    pub(super) grace: u64,
    pub(super) drain: Drain,
    /// How long the application's preStop hook sleeps, if an injection has added it.
    pub(super) app_sleep: Option<u64>,
}

impl PriorInjection {
    const CONTAINER: &str = "outrigger/app-container";
    const PORT: &str = "outrigger/app-port";
    const GRACE: &str = "outrigger/app-grace-period-seconds";
    const SLEPT: &str = "outrigger/app-sleep-seconds";
    const DRAIN: &str = "outrigger/drain-seconds";

    /// `None` if nothing was injected before.
    pub(super) fn read(template: &Value) -> Option<Self> {
        let text = |key| template.text_at(&["metadata", "annotations", key]);
        Some(Self {
            container: text(Self::CONTAINER)?.to_owned(),
            port: text(Self::PORT).and_then(|port| port.parse().ok()),
            grace: text(Self::GRACE)?.parse().ok()?,
            drain: Drain::from_words(text(Self::DRAIN)?)?,
            app_sleep: text(Self::SLEPT).and_then(|seconds| seconds.parse().ok()),
        })
    }

    /// Whether the application can still listen on the recorded port.
    pub(super) fn still_holds(&self, spec: &Value) -> bool {
        let mut containers = spec.list_at(&["containers"]).iter();
        let app = containers.find(|container| container.text_at(&["name"]) == Some(&*self.container));
        app.zip(self.port).is_none_or(|(app, port)| ContainerPorts::read(app).may_have(port))
    }

    pub(super) fn write(&self, annotations: &mut Map) {
        let Self { container, port, grace, drain, app_sleep } = self;
        annotations.set(Self::CONTAINER, Value::text(&**container));
        let mut number = |key, number: Option<u64>| match number {
            Some(number) => annotations.set(key, Value::text(number.to_string())),
            None => drop(annotations.remove(key)),
        };
        number(Self::PORT, port.map(u64::from));
        number(Self::GRACE, Some(*grace));
        number(Self::SLEPT, *app_sleep);
        annotations.set(Self::DRAIN, Value::text(drain.to_words()));
    }
}

impl App {
    pub(super) fn find(
        spec: &Value,
        prior: Option<&PriorInjection>,
        options: &Options,
        upstream: UpstreamTarget,
        prefix: &str,
    ) -> Result<Self, FieldError> {
        let containers = field(prefix, "spec.containers");
        let mut others = Vec::new();
        for (index, container) in spec.list_at(&["containers"]).iter().enumerate() {
            match container.text_at(&["name"]) {
                Some(names::NAME) => {}
                Some(name) => others.push((name, container)),
                None => {
                    let at = format!("{containers}[{index}].name");
                    return Err(FieldError::mismatch(at, "nothing", "the container's name"));
                }
            }
        }
        let names = Vec::from_iter(others.iter().map(|(name, _)| *name)).join(", ");
        let find = |wanted: &str| others.iter().find(|(name, _)| *name == wanted).copied();
        let chosen = match (&options.container, prior.and_then(|prior| find(&prior.container)), &*others) {
            (Some(wanted), ..) => find(wanted).ok_or_else(|| {
                let remedy = "say --container with one of them, or leave this object out with --only";
                FieldError::new(&*containers, format!("no container {wanted:?}"), &*names, remedy)
            })?,
            (None, Some(remembered), _) => remembered,
            (None, None, [only]) => *only,
            (None, None, []) => {
                return Err(FieldError::mismatch(
                    containers,
                    "no container of yours",
                    "a container with the server",
                ));
            }
            (None, None, _) => {
                let remedy = "say which one is the WebSocket server: --container NAME";
                return Err(FieldError::new(containers, "several containers", names, remedy));
            }
        };
        let (name, container) = chosen;
        let ports = ContainerPorts::read(container);
        let field = format!("{containers}[{name}].ports");
        let port = match (&options.upstream_port, upstream) {
            (Some(wanted), upstream) => {
                let port = ports.find(wanted, &field)?;
                if let UpstreamTarget::SamePod(in_url) = upstream
                    && in_url != port
                {
                    let found = format!("{port}, and upstream.url says {in_url}");
                    let remedy = "leave one of the two out";
                    return Err(FieldError::new("--upstream-port", found, "the same port in both", remedy));
                }
                Some(port)
            }
            (None, UpstreamTarget::SamePod(port)) => Some(port),
            (None, UpstreamTarget::Elsewhere) => ports.only(),
            (None, UpstreamTarget::Unspecified) => {
                let remembered = prior.and_then(|prior| prior.port).filter(|port| ports.may_have(*port));
                Some(remembered.or_else(|| ports.only()).ok_or_else(|| ports.ambiguous(&field))?)
            }
        };
        let is_it = |(own, _): &&(u16, Option<&str>)| Some(*own) == port;
        let port_names =
            ports.0.iter().filter(is_it).filter_map(|(_, name)| name.map(str::to_owned)).collect();
        Ok(Self { container: name.to_owned(), port, port_names })
    }
}

/// The TCP ports that a container names.
struct ContainerPorts<'a>(Vec<(u16, Option<&'a str>)>);

impl<'a> ContainerPorts<'a> {
    fn read(container: &'a Value) -> Self {
        let is_tcp = |port: &&Value| port.text_at(&["protocol"]).is_none_or(|protocol| protocol == "TCP");
        let ports = container.list_at(&["ports"]).iter().filter(is_tcp);
        Self(
            ports
                .filter_map(|port| Some((port.port_at(&["containerPort"])?, port.text_at(&["name"]))))
                .collect(),
        )
    }

    fn only(&self) -> Option<u16> {
        match &*self.0 {
            [(port, _)] => Some(*port),
            _ => None,
        }
    }

    /// A container may leave its ports out. If it declares any, the server's port is among them.
    fn may_have(&self, port: u16) -> bool {
        self.0.is_empty() || self.0.iter().any(|(own, _)| *own == port)
    }

    /// By number or name.
    fn find(&self, wanted: &str, field: &str) -> Result<u16, FieldError> {
        let number = wanted.parse().ok().filter(|port| *port != 0 && self.may_have(*port));
        let named = || self.0.iter().find(|(_, name)| *name == Some(wanted)).map(|(port, _)| *port);
        number.or_else(named).ok_or_else(|| {
            let remedy = "say --upstream-port with one of them, or name the port in the container";
            FieldError::new(field, format!("no port {wanted}"), self.in_words(), remedy)
        })
    }

    fn ambiguous(&self, field: &str) -> FieldError {
        let (found, remedy) = match self.0.is_empty() {
            true => (
                "no port",
                "say where the server listens: --upstream-port NUMBER, or leave it out with --only",
            ),
            false => ("several ports", "say which one is the WebSocket server's: --upstream-port"),
        };
        FieldError::new(field, found, self.in_words(), remedy)
    }

    fn in_words(&self) -> String {
        let one = |(port, name): &(u16, Option<&str>)| match name {
            Some(name) => format!("{port} ({name})"),
            None => port.to_string(),
        };
        match self.0.is_empty() {
            true => "a number from 1 to 65535".into(),
            false => Vec::from_iter(self.0.iter().map(one)).join(", "),
        }
    }
}

/// The pod's spec, if a sidecar can be put into it.
pub(super) fn spec<'a>(object: &'a Value, template: &[&str], prefix: &str) -> Result<&'a Value, FieldError> {
    let spec = match object.at(template).and_then(|root| root.at(&["spec"])) {
        Some(spec @ Value::Map(_)) => spec,
        other => {
            let found = other.map_or_else(|| "nothing".into(), Value::in_words);
            return Err(FieldError::mismatch(field(prefix, "spec"), found, "a map with `containers`"));
        }
    };
    for key in ["containers", "initContainers", "volumes"] {
        match spec.at(&[key]) {
            Some(Value::List(list)) if list.iter().all(|item| item.as_map().is_some()) => {}
            None if key != "containers" => {}
            other => {
                let found = other.map_or_else(|| "nothing".into(), Value::in_words);
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

/// The sidecar of an earlier injection.
pub(super) fn sidecar(spec: &Value) -> Option<&Value> {
    let all = spec.list_at(&["initContainers"]).iter().chain(spec.list_at(&["containers"]));
    all.into_iter().find(|container| container.text_at(&["name"]) == Some(names::NAME))
}

/// The ports of the proxy in `sidecar` that differ from those of now.
pub(super) fn moved_ports(sidecar: &Value, now: Ports) -> PriorPorts {
    let at = |name: &str| {
        let mut ports = sidecar.list_at(&["ports"]).iter();
        ports.find(|port| port.text_at(&["name"]) == Some(name))?.port_at(&["containerPort"])
    };
    PriorPorts {
        client: at(names::CLIENT_PORT).filter(|port| *port != now.client),
        probes: at(names::PROBE_PORT).filter(|port| *port != now.probes),
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

/// The ConfigMap that the sidecar of an earlier injection reads.
pub(super) fn mounted_config_map(spec: &Value) -> Option<&str> {
    let mut volumes = spec.list_at(&["volumes"]).iter();
    let volume = volumes.find(|volume| volume.text_at(&["name"]) == Some(names::VOLUME))?;
    volume.text_at(&["configMap", "name"])
}

/// The file with the admin token that a sidecar's hook names.
pub(super) fn token_file(sidecar: &Value) -> Option<String> {
    hook_flag(sidecar, "--token-file").map(str::to_owned)
}

/// The admin port that a sidecar's hook names.
pub(super) fn admin_port(sidecar: &Value) -> Option<u16> {
    hook_flag(sidecar, "--admin")?.rsplit(':').next()?.parse().ok()
}

fn hook_flag<'a>(sidecar: &'a Value, flag: &str) -> Option<&'a str> {
    let command = sidecar.list_at(&["lifecycle", "preStop", "exec", "command"]);
    command.iter().filter_map(Value::as_text).skip_while(|word| *word != flag).nth(1)
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
