//! Autoscalers: one that measures whole pods now counts the sidecar too.

use super::context::Context;
use crate::yaml::Value;

/// Warnings about `scaler`.
pub(super) fn warnings(scaler: &Value, context: &Context<'_>) -> Vec<String> {
    let wanted = scaler.at(&["spec", "scaleTargetRef"]);
    let Some((wanted, name)) = wanted.and_then(|wanted| Some((wanted, wanted.text_at(&["name"])?))) else {
        return Vec::new();
    };
    let object = format!("{}/{name}", wanted.text_at(&["kind"]).unwrap_or("Deployment"));
    let namespace = scaler.text_at(&["metadata", "namespace"]);
    let Some(target) =
        context.targets.iter().find(|target| target.object == object && target.is_in(namespace))
    else {
        return Vec::new();
    };
    let resources = Vec::from_iter(resources(scaler));
    if resources.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "it scales on {} of whole pods, which the sidecar is part of now: a ContainerResource metric of the container \
         {} counts the server alone (Kubernetes 1.27 and newer)",
        resources.join(" and "),
        target.container
    )]
}

/// The resources that it sums over all containers of a pod.
fn resources(scaler: &Value) -> Vec<String> {
    let text = |value: &Value, path: &[&str]| value.text_at(path).map(str::to_owned);
    if scaler.text_at(&["kind"]) == Some("ScaledObject") {
        let of_pods = |trigger: &&Value| {
            matches!(trigger.text_at(&["type"]), Some("cpu" | "memory"))
                && trigger.text_at(&["metadata", "containerName"]).is_none()
        };
        let triggers = scaler.list_at(&["spec", "triggers"]).iter().filter(of_pods);
        return triggers.filter_map(|trigger| text(trigger, &["type"])).collect();
    }
    let metrics = scaler.list_at(&["spec", "metrics"]);
    if metrics.is_empty() {
        // Version 1 has nothing else; in later versions it is the default.
        return vec!["cpu".to_owned()];
    }
    let of_pods = metrics.iter().filter(|metric| metric.text_at(&["type"]) == Some("Resource"));
    of_pods.filter_map(|metric| text(metric, &["resource", "name"])).collect()
}
