//! What an earlier injection has left in a pod template: its annotations, and its sidecar.

use super::injected::PriorPorts;
use super::names;
use super::options::Ports;
use super::settings::Drain;
use crate::yaml::{Map, Value};

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
            drain: Drain::from_annotation(text(Self::DRAIN)?)?,
            app_sleep: text(Self::SLEPT).and_then(|seconds| seconds.parse().ok()),
        })
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
        annotations.set(Self::DRAIN, Value::text(drain.to_annotation()));
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
