//! The kinds of objects that are treated differently.

use crate::yaml::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Service,
    NetworkPolicy,
    Ingress,
    /// Of the Gateway API, whatever its protocol.
    Route,
    ServiceMonitor,
    PodMonitor,
    /// A HorizontalPodAutoscaler, or one of KEDA.
    Scaler,
    /// An object of unknown meaning, which may name a port.
    Custom,
    /// An object that names no port of ours, or another workload with its own ports.
    Other,
}

pub(super) fn kind_of(object: &Value) -> Kind {
    let version = object.text_at(&["apiVersion"]).unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match (group, object.text_at(&["kind"]).unwrap_or_default()) {
        ("", "Service") => Kind::Service,
        ("networking.k8s.io", "NetworkPolicy") => Kind::NetworkPolicy,
        ("networking.k8s.io", "Ingress") if version.ends_with("/v1") => Kind::Ingress,
        ("gateway.networking.k8s.io", kind) if kind.ends_with("Route") => Kind::Route,
        ("monitoring.coreos.com", "ServiceMonitor") => Kind::ServiceMonitor,
        ("monitoring.coreos.com", "PodMonitor") => Kind::PodMonitor,
        ("autoscaling", "HorizontalPodAutoscaler") | ("keda.sh", "ScaledObject") => Kind::Scaler,
        ("", "Endpoints") | ("discovery.k8s.io" | "networking.k8s.io" | "extensions", _) => Kind::Custom,
        ("apiextensions.k8s.io" | "rbac.authorization.k8s.io", _) => Kind::Other,
        // Groups of Kubernetes' own without a dot have workloads, jobs and budgets.
        (group, _) if group.contains('.') => Kind::Custom,
        _ => Kind::Other,
    }
}
