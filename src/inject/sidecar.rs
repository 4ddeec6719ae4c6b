//! The proxy's container, with the same keys as the chart's (`helm/outrigger/templates/_sidecar.tpl`).

use super::names::{self, CLIENT_PORT, FOLDER, NAME, PROBE_PORT, VOLUME};
use super::options::{Family, Options};
use super::secrets;
use crate::yaml::{Map, Value};

/// The container. It keeps what an operator may have added to an `earlier` one: resources, variables and mounts.
pub(super) fn container(options: &Options, token_file: Option<&str>, earlier: Option<&Value>) -> Value {
    let ports = options.ports;
    let list_of_earlier = |key: &str| earlier.map(|earlier| earlier.list_at(&[key])).unwrap_or_default();
    let mut map = Map::default();
    map.set("name", Value::text(NAME));
    map.set("image", Value::text(&*options.image));
    map.set("imagePullPolicy", Value::text("IfNotPresent"));
    if options.native_sidecar {
        map.set("restartPolicy", Value::text("Always"));
    }
    map.set("command", Value::texts(["/outrigger"]));
    map.set("args", Value::texts(["run", "--config", &names::configuration_path()]));
    map.set(
        "ports",
        Value::List(vec![
            Value::map([
                ("name", Value::text(CLIENT_PORT)),
                ("containerPort", Value::number(ports.client.into())),
            ]),
            Value::map([
                ("name", Value::text(PROBE_PORT)),
                ("containerPort", Value::number(ports.probes.into())),
            ]),
        ]),
    );
    map.set("env", Value::List(env(options, list_of_earlier("env"))));
    if let [_, ..] = list_of_earlier("envFrom") {
        map.set("envFrom", Value::List(list_of_earlier("envFrom").to_vec()));
    }
    map.set("lifecycle", Value::map([("preStop", drain_hook(ports.admin, token_file))]));
    map.set("startupProbe", probe("/healthz", ports.probes, [1, 1, 30]));
    map.set("readinessProbe", probe("/readyz", ports.probes, [2, 1, 2]));
    map.set("livenessProbe", probe("/healthz", ports.probes, [10, 3, 6]));
    let resources = earlier.and_then(|earlier| earlier.at(&["resources"])).cloned();
    map.set("resources", resources.unwrap_or_else(default_resources));
    map.set("securityContext", security_context());
    let mounts =
        list_of_earlier("volumeMounts").iter().filter(|mount| mount.text_at(&["name"]) != Some(VOLUME));
    let own = Value::map([
        ("name", Value::text(VOLUME)),
        ("mountPath", Value::text(FOLDER)),
        ("readOnly", Value::boolean(true)),
    ]);
    let others = secrets::mounts(&options.secrets, mounts);
    map.set("volumeMounts", Value::List(std::iter::once(own).chain(others).collect()));
    Value::Map(map)
}

/// The volume with the configuration.
pub(super) fn volume(config_map: &str) -> Value {
    Value::map([
        ("name", Value::text(VOLUME)),
        ("configMap", Value::map([("name", Value::text(config_map))])),
    ])
}

/// Health and metrics are on the pod's address; all other admin routes stay on loopback.
fn env(options: &Options, earlier: &[Value]) -> Vec<Value> {
    const POD_IP: &str = "POD_IP";
    const PROBES: &str = "OUTRIGGER__ADMIN__PROBE_ADDRESS";
    let probes = match options.family {
        Family::V4 => format!("$(POD_IP):{}", options.ports.probes),
        Family::V6 => format!("[$(POD_IP)]:{}", options.ports.probes),
    };
    let field = Value::map([("fieldPath", Value::text("status.podIP"))]);
    let own = [
        Value::map([("name", Value::text(POD_IP)), ("valueFrom", Value::map([("fieldRef", field)]))]),
        Value::map([("name", Value::text(PROBES)), ("value", Value::text(probes))]),
    ];
    let is_own = |variable: &&Value| matches!(variable.text_at(&["name"]), Some(POD_IP | PROBES));
    own.into_iter().chain(earlier.iter().filter(|variable| !is_own(variable)).cloned()).collect()
}

fn drain_hook(admin: u16, token_file: Option<&str>) -> Value {
    let url = format!("http://127.0.0.1:{admin}");
    let mut command = vec!["/outrigger", "drain", "--wait", "--admin", &url];
    if let Some(file) = token_file {
        command.extend(["--token-file", file]);
    }
    let command = command.into_iter().map(Value::text).collect();
    Value::map([("exec", Value::map([("command", Value::List(command))]))])
}

/// `period` and `timeout` are seconds; so many `failures` in a row count.
fn probe(path: &str, port: u16, [period, timeout, failures]: [u64; 3]) -> Value {
    let get = Value::map([("path", Value::text(path)), ("port", Value::number(port.into()))]);
    Value::map([
        ("httpGet", get),
        ("periodSeconds", Value::number(period)),
        ("timeoutSeconds", Value::number(timeout)),
        ("failureThreshold", Value::number(failures)),
    ])
}

/// A CPU limit would delay every client's messages, so there is none.
fn default_resources() -> Value {
    Value::map([
        ("requests", Value::map([("cpu", Value::text("250m")), ("memory", Value::text("256Mi"))])),
        ("limits", Value::map([("memory", Value::text("512Mi"))])),
    ])
}

/// The restricted Pod Security Standard.
fn security_context() -> Value {
    Value::map([
        ("allowPrivilegeEscalation", Value::boolean(false)),
        ("capabilities", Value::map([("drop", Value::texts(["ALL"]))])),
        ("readOnlyRootFilesystem", Value::boolean(true)),
        ("runAsNonRoot", Value::boolean(true)),
        ("runAsUser", Value::number(65532)),
        ("runAsGroup", Value::number(65532)),
        ("seccompProfile", Value::map([("type", Value::text("RuntimeDefault"))])),
    ])
}
