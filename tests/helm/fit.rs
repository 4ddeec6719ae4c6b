//! What no type can say: documents of one rendering name each other, and names have their bounds.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::engine::Document;

type Result = std::result::Result<(), String>;

/// What does not fit, if anything does not.
pub fn check(documents: &[Document]) -> Result {
    let mut names = BTreeSet::new();
    for found in documents {
        let document = &found.document;
        let kind = text(&document["kind"]);
        let name = text(&document["metadata"]["name"]);
        is_label(name, "a name")?;
        ensure(names.insert((kind, name)), || format!("{kind} {name} is there twice"))?;
        check_labels(&document["metadata"]["labels"])?;
        match kind {
            "Deployment" => check_deployment(document)?,
            "Pod" => check_pod(&document["spec"])?,
            "Ingress" => backends_of(document, "service").try_for_each(|service| {
                leads_to_a_port(documents, &service["name"], &service["port"]["number"])
            })?,
            "HTTPRoute" => backends_of(document, "backendRefs").try_for_each(|found| {
                let mut all = list(found).iter();
                all.try_for_each(|one| leads_to_a_port(documents, &one["name"], &one["port"]))
            })?,
            _ => {}
        }
    }
    for deployment in documents.iter().filter(|found| found.document["kind"] == "Deployment") {
        for found in documents {
            check_against(&deployment.document, &found.document)?;
        }
    }
    Ok(())
}

fn check_deployment(deployment: &Value) -> Result {
    let template = &deployment["spec"]["template"];
    check_labels(&template["metadata"]["labels"])?;
    selects(&deployment["spec"]["selector"]["matchLabels"], template)?;
    check_pod(&template["spec"])
}

fn check_pod(pod: &Value) -> Result {
    let ordinary = list(&pod["containers"]);
    ensure(!ordinary.is_empty(), || "a pod without a container".into())?;
    for container in ordinary {
        ensure(container.get("restartPolicy").is_none(), || {
            "an ordinary container with a restartPolicy".into()
        })?;
    }
    let (mut names, mut ports) = (BTreeSet::new(), BTreeSet::new());
    let volumes: BTreeSet<_> = list(&pod["volumes"]).iter().map(|volume| text(&volume["name"])).collect();
    ensure(volumes.len() == list(&pod["volumes"]).len(), || "two volumes have the same name".into())?;
    for container in list(&pod["initContainers"]).iter().chain(ordinary) {
        let name = text(&container["name"]);
        is_label(name, "a container's name")?;
        ensure(names.insert(name), || format!("two containers are called {name}"))?;
        ensure(!text(&container["image"]).is_empty(), || format!("{name} has no image"))?;
        for port in list(&container["ports"]) {
            let name = text(&port["name"]);
            ensure(name.len() <= 15, || format!("the port's name {name} is too long"))?;
            ensure(ports.insert(name.to_owned()), || format!("two ports are called {name}"))?;
            ensure(ports.insert(port["containerPort"].to_string()), || format!("two ports are {port}"))?;
        }
        let mut paths = BTreeSet::new();
        for mount in list(&container["volumeMounts"]) {
            let volume = text(&mount["name"]);
            ensure(volumes.contains(volume), || format!("{name} mounts {volume}, which is no volume"))?;
            ensure(paths.insert(text(&mount["mountPath"])), || {
                format!("{name} mounts two volumes at {mount}")
            })?;
        }
        let variables = list(&container["env"]).iter().map(|variable| text(&variable["name"]));
        ensure(BTreeSet::from_iter(variables).len() == list(&container["env"]).len(), || {
            "a variable is set twice".into()
        })?;
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            let port = &container[probe]["httpGet"]["port"];
            // Also a probe of the server may go to the proxy's port, so only its own containers' are asked for.
            if name == "outrigger" {
                ensure(ports.contains(&port.to_string()), || {
                    format!("{probe} goes to {port}, which is no port")
                })?;
            }
        }
    }
    Ok(())
}

/// Whatever is meant for the pods of this Deployment finds them.
fn check_against(deployment: &Value, document: &Value) -> Result {
    let template = &deployment["spec"]["template"];
    let spec = &document["spec"];
    let what = text(&document["kind"]);
    match what {
        "Service" => {
            selects(&spec["selector"], template)?;
            for port in list(&spec["ports"]) {
                let target = &port["targetPort"];
                ensure(target.is_u64(), || format!("targetPort {target} is no number"))?;
                let is_there = containers(template).any(|container| {
                    list(&container["ports"]).iter().any(|port| port["containerPort"] == *target)
                });
                ensure(is_there, || format!("targetPort {target} is nobody's port"))?;
            }
            Ok(())
        }
        "PodDisruptionBudget" | "PodMonitor" => {
            selects(&spec["selector"]["matchLabels"], template)?;
            for endpoint in list(&spec["podMetricsEndpoints"]) {
                let is_there = containers(template).any(|container| {
                    list(&container["ports"]).iter().any(|port| port["name"] == endpoint["port"])
                });
                ensure(is_there, || format!("{endpoint} names nobody's port"))?;
            }
            Ok(())
        }
        "NetworkPolicy" => selects(&spec["podSelector"]["matchLabels"], template),
        "HorizontalPodAutoscaler" => {
            let target = &spec["scaleTargetRef"];
            ensure(target["name"] == deployment["metadata"]["name"], || format!("{target} is not there"))?;
            let is_ours = deployment["metadata"]["labels"]["helm.sh/chart"].is_string();
            ensure(!(is_ours && deployment["spec"].get("replicas").is_some()), || {
                "replicas would be set back with each upgrade".into()
            })
        }
        // The pod that `helm test` starts must not get clients.
        "Pod" => match selects(&deployment["spec"]["selector"]["matchLabels"], document) {
            Ok(()) => Err("the test's pod is taken for one of the Deployment's".into()),
            Err(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Every value under this key, however deep.
fn backends_of<'a>(value: &'a Value, key: &'a str) -> Box<dyn Iterator<Item = &'a Value> + 'a> {
    match value {
        Value::Object(map) => Box::new(map.iter().flat_map(move |(name, inner)| {
            let here = (name == key).then_some(inner);
            let below = here.is_none().then(|| backends_of(inner, key));
            here.into_iter().chain(below.into_iter().flatten())
        })),
        Value::Array(all) => Box::new(all.iter().flat_map(move |inner| backends_of(inner, key))),
        _ => Box::new(std::iter::empty()),
    }
}

/// What leads clients in leads them to a port of a Service that is there.
fn leads_to_a_port(documents: &[Document], name: &Value, port: &Value) -> Result {
    let services = documents.iter().map(|found| &found.document).filter(|found| found["kind"] == "Service");
    let mut named = services.filter(|service| service["metadata"]["name"] == *name);
    let has = |service: &Value| list(&service["spec"]["ports"]).iter().any(|own| own["port"] == *port);
    ensure(named.any(has), || format!("it leads to port {port} of the Service {name}, which is not there"))
}

fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    list(&template["spec"]["initContainers"]).iter().chain(list(&template["spec"]["containers"]))
}

fn selects(selector: &Value, of: &Value) -> Result {
    let selector = selector.as_object().filter(|labels| !labels.is_empty());
    let Some(selector) = selector else { return Err("a selector that takes every pod".into()) };
    let labels = &of["metadata"]["labels"];
    let fits = selector.iter().all(|(key, value)| labels[key] == *value);
    ensure(fits, || format!("{selector:?} does not find the pods: {labels}"))
}

fn check_labels(labels: &Value) -> Result {
    for (key, value) in labels.as_object().unwrap_or(&Map::new()) {
        let value = value.as_str().ok_or_else(|| format!("the label {key} is {value}, which is no text"))?;
        let is_inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_edge = |c: char| c.is_ascii_alphanumeric();
        let fits = value.len() <= 63 && value.chars().all(is_inside);
        let edges = value.starts_with(is_edge) && value.ends_with(is_edge);
        ensure(value.is_empty() || fits && edges, || format!("the label {key} cannot be {value:?}"))?;
    }
    Ok(())
}

/// RFC 1123, as Kubernetes wants names.
fn is_label(name: &str, what: &str) -> Result {
    let is_edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let fits = name.len() <= 63 && name.chars().all(|c| is_edge(c) || c == '-');
    ensure(fits && name.starts_with(is_edge) && name.ends_with(is_edge), || {
        format!("{name:?} cannot be {what}")
    })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn ensure(is_so: bool, problem: impl FnOnce() -> String) -> Result {
    if is_so { Ok(()) } else { Err(problem()) }
}
