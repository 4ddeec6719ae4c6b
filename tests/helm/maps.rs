//! Maps that are the user's own: each is merged with what the chart says there, key by key. A key that stood twice
//! would be no YAML, which the engine refuses to read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::cases;
use super::engine::{Rendered, rendered};

/// What the chart needs itself, so that a user's word for it is not taken.
const KEPT: [&str; 3] =
    ["app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by"];

#[test]
fn every_map_of_the_users_is_tried_with_a_key_that_the_chart_has_too() {
    let Some(rendered) = rendered() else { return };
    let mut maps = BTreeSet::new();
    maps_of(&rendered.schema["properties"], "", &mut maps);
    // These stand alone, where they stand.
    for alone in ["/selectorLabels", "/nodeSelector"] {
        assert!(maps.remove(alone), "{alone}: {maps:?}");
    }
    assert!(maps.len() > 10, "{maps:?}");
    let values = cases::colliding();
    for map in maps {
        assert!(values.pointer(&map).is_some_and(|own| own["mine"] == "yes"), "{map} is not tried");
    }
}

/// Every property of a schema that is a map of labels or annotations.
fn maps_of(properties: &Value, path: &str, maps: &mut BTreeSet<String>) {
    for (key, property) in properties.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        if matches!(property["$ref"].as_str(), Some("#/$defs/labels" | "#/$defs/annotations")) {
            maps.insert(path.clone());
        }
        maps_of(&property["properties"], &path, maps);
    }
}

/// Metadata of the object of this kind and name, or of the pods of the Deployment.
fn metadata<'a>(rendered: &'a Rendered, case: &str, kind: &str, name: &str) -> &'a Value {
    let outcome = rendered.good(case);
    if kind == "pods" {
        return &outcome.the("Deployment")["spec"]["template"]["metadata"];
    }
    let mut found = outcome.all(kind).map(|document| &document["metadata"]);
    found.find(|metadata| metadata["name"] == name).unwrap_or_else(|| panic!("{case}: no {kind} {name}"))
}

#[test]
fn labels_of_the_users_hold_but_for_those_that_selectors_and_helm_go_by() {
    let Some(rendered) = rendered() else { return };
    for (case, kind, name) in [
        ("maps/podMonitor", "Service", "demo-outrigger"),
        ("maps/podMonitor", "PodMonitor", "demo-outrigger"),
        ("maps/podMonitor", "PrometheusRule", "demo-outrigger"),
        ("maps/podMonitor", "ConfigMap", "demo-outrigger-dashboards"),
        ("maps/podMonitor", "Ingress", "demo-outrigger"),
        ("maps/podMonitor", "HTTPRoute", "demo-outrigger"),
        ("maps/serviceMonitor", "ServiceMonitor", "demo-outrigger"),
        ("maps/serviceMonitor", "Service", "demo-outrigger-metrics"),
        ("maps/serviceMonitor", "pods", ""),
    ] {
        let labels = &metadata(rendered, case, kind, name)["labels"];
        for key in ["mine", "helm.sh/chart", "app.kubernetes.io/version", "grafana_dashboard"] {
            assert_eq!(labels[key], cases::colliding()["podLabels"][key], "{kind} {name}: {key} of {labels}");
        }
        for (key, value) in KEPT.iter().zip(["outrigger", "demo", "Helm"]) {
            // Pods are nothing that Helm manages.
            let is_users = kind == "pods" && *key == "app.kubernetes.io/managed-by";
            assert_eq!(labels[key], if is_users { "mine" } else { value }, "{kind} {name}: {labels}");
        }
        let is_selected_by_it = name == "demo-outrigger-metrics";
        let expected = if is_selected_by_it { "demo-outrigger" } else { "mine" };
        assert_eq!(labels["outrigger-metrics"], expected, "{kind} {name}: {labels}");
    }
}

#[test]
fn annotations_of_the_users_hold_but_for_the_one_that_replaces_pods() {
    let Some(rendered) = rendered() else { return };
    for (kind, name) in [
        ("Service", "demo-outrigger"),
        ("ServiceAccount", "demo-outrigger"),
        ("ConfigMap", "demo-outrigger-dashboards"),
        ("Ingress", "demo-outrigger"),
        ("HTTPRoute", "demo-outrigger"),
        ("pods", ""),
    ] {
        let annotations = &metadata(rendered, "maps/podMonitor", kind, name)["annotations"];
        for (key, value) in cases::colliding()["podAnnotations"].as_object().unwrap() {
            if kind == "pods" && key == "checksum/outrigger-config" {
                assert_eq!(annotations[key].as_str().unwrap().len(), 64, "{annotations}");
            } else {
                assert_eq!(annotations[key], *value, "{kind}: {key} of {annotations}");
            }
        }
    }
}

#[test]
fn an_alert_keeps_its_severity_and_takes_every_other_label() {
    let Some(rendered) = rendered() else { return };
    let rule = rendered.good("maps/podMonitor").the("PrometheusRule");
    let mut seen = 0;
    for alert in
        rule["spec"]["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        assert!(matches!(alert["labels"]["severity"].as_str(), Some("critical" | "warning")), "{alert}");
        assert_eq!(alert["labels"]["mine"], "yes", "{alert}");
        seen += 1;
    }
    assert!(seen > 20, "{rule}");
}
