//! Documents as Kubernetes' own types, strictly: what a type does not know is an error, although serde lets it pass.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What is wrong with a document, if anything is.
pub fn check(document: &Value) -> Result<(), String> {
    let text = |key: &str| document[key].as_str().ok_or_else(|| format!("no {key}"));
    match (text("apiVersion")?, text("kind")?) {
        ("v1", "ConfigMap") => strict::<ConfigMap>(document),
        ("v1", "Pod") => strict::<Pod>(document),
        ("v1", "Service") => strict::<Service>(document),
        ("v1", "ServiceAccount") => strict::<ServiceAccount>(document),
        ("apps/v1", "Deployment") => strict::<Deployment>(document),
        ("autoscaling/v2", "HorizontalPodAutoscaler") => strict::<HorizontalPodAutoscaler>(document),
        ("networking.k8s.io/v1", "NetworkPolicy") => strict::<NetworkPolicy>(document),
        ("networking.k8s.io/v1", "Ingress") => strict::<Ingress>(document),
        ("gateway.networking.k8s.io/v1", "HTTPRoute") => strict::<Custom<HttpRoute>>(document),
        ("policy/v1", "PodDisruptionBudget") => strict::<PodDisruptionBudget>(document),
        ("monitoring.coreos.com/v1", "ServiceMonitor") => strict::<Custom<ServiceMonitor>>(document),
        ("monitoring.coreos.com/v1", "PodMonitor") => strict::<Custom<PodMonitor>>(document),
        ("monitoring.coreos.com/v1", "PrometheusRule") => strict::<Custom<PrometheusRule>>(document),
        (version, kind) => Err(format!("this chart makes no {version} {kind}")),
    }
}

/// Reads a document as `T` and writes it again: what is lost on the way was no field of it.
fn strict<T: DeserializeOwned + Serialize>(document: &Value) -> Result<(), String> {
    let typed = T::deserialize(document).map_err(|error| error.to_string())?;
    let again = serde_json::to_value(typed).map_err(|error| error.to_string())?;
    compare("", document, &again)
}

fn compare(path: &str, given: &Value, kept: &Value) -> Result<(), String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => compare_maps(path, given, kept),
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            let items = given.iter().zip(kept).enumerate();
            items
                .into_iter()
                .try_for_each(|(at, (given, kept))| compare(&format!("{path}[{at}]"), given, kept))
        }
        _ if given == kept => Ok(()),
        _ => Err(format!("{path} is {given}, which Kubernetes reads as {kept}")),
    }
}

fn compare_maps(path: &str, given: &Map<String, Value>, kept: &Map<String, Value>) -> Result<(), String> {
    // What is null is not there.
    for (key, value) in given.iter().filter(|(_, value)| !value.is_null()) {
        let path = format!("{path}.{key}");
        match kept.get(key) {
            Some(kept) => compare(&path, value, kept)?,
            None => return Err(format!("{path} is no field")),
        }
    }
    Ok(())
}

/// A resource that is none of Kubernetes' own; of its spec as much as this chart uses.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Custom<S> {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: S,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ServiceMonitor {
    selector: LabelSelector,
    target_labels: Option<Vec<String>>,
    pod_target_labels: Option<Vec<String>>,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct PodMonitor {
    selector: LabelSelector,
    pod_target_labels: Option<Vec<String>>,
    pod_metrics_endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Endpoint {
    port: String,
    path: String,
    interval: String,
    scrape_timeout: Option<String>,
    relabelings: Option<Vec<Relabeling>>,
    metric_relabelings: Option<Vec<Relabeling>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Relabeling {
    action: String,
    regex: Option<String>,
    source_labels: Option<Vec<String>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct PrometheusRule {
    groups: Vec<Group>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Group {
    name: String,
    rules: Vec<Alert>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    alert: String,
    expr: String,
    r#for: Option<String>,
    labels: Map<String, Value>,
    annotations: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct HttpRoute {
    parent_refs: Vec<ParentRef>,
    hostnames: Option<Vec<String>>,
    rules: Vec<RouteRule>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ParentRef {
    name: String,
    namespace: Option<String>,
    section_name: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RouteRule {
    matches: Vec<RouteMatch>,
    filters: Option<Vec<Value>>,
    timeouts: Option<RouteTimeouts>,
    backend_refs: Vec<BackendRef>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RouteMatch {
    path: RoutePath,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RoutePath {
    r#type: String,
    value: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RouteTimeouts {
    request: Option<String>,
    backend_request: Option<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct BackendRef {
    name: String,
    port: u16,
}

/// What the types let pass and the API server does not.
#[test]
fn a_field_that_kubernetes_does_not_know_is_told() {
    let service = |spec: Value| serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
    assert_eq!(check(&service(serde_json::json!({"type": "ClusterIP", "ports": [{"port": 80}]}))), Ok(()));
    let misspelt = check(&service(serde_json::json!({"ports": [{"port": 80, "targetport": 8080}]})));
    assert_eq!(misspelt, Err(".spec.ports[0].targetport is no field".to_owned()));
    let wrong = check(&service(serde_json::json!({"ports": [{"port": "80"}]}))).unwrap_err();
    assert!(wrong.contains("invalid type: string"), "{wrong}");
    let custom = serde_json::json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {}, "spec": {"groups": [], "group": []}});
    assert!(check(&custom).unwrap_err().contains("unknown field `group`"));
}
