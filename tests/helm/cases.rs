//! Sets of values that the chart is rendered with: both modes, each feature on and off, clusters old and new.

use serde_json::{Value, json};

use super::refused::refused;

/// One rendering.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// `outrigger`, or `shop`, which has it among its dependencies.
    pub chart: &'static str,
    pub kube: &'static str,
    pub values: Value,
}

/// Before 1.29 clusters have no native sidecars unless asked to, before 1.30 no `sleep` action.
pub const KUBES: [&str; 3] = ["1.28.0", "1.29.3", "1.31.0"];

/// How the chart is used: a name, the chart, its own values.
pub fn uses() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("inject", "shop", json!({})),
        ("beside", "outrigger", json!({"mode": "standalone", "app": {"image": "chat:1"}})),
        (
            "before",
            "outrigger",
            json!({"mode": "standalone", "config": {"upstream": {"url": "http://chat.shop.svc:80"}}}),
        ),
    ]
}

/// What can be switched on: a name, the values, and the kinds that are made for it.
pub fn features() -> Vec<(&'static str, Value, &'static [&'static str])> {
    vec![
        ("disruption", json!({"podDisruptionBudget": {"enabled": true}}), &["PodDisruptionBudget"]),
        (
            "minimum",
            json!({"podDisruptionBudget": {"enabled": true, "minAvailable": "50%"}}),
            &["PodDisruptionBudget"],
        ),
        (
            "nothing-may-go",
            json!({"podDisruptionBudget": {"enabled": true, "minAvailable": 0, "maxUnavailable": 3}}),
            &["PodDisruptionBudget"],
        ),
        (
            "autoscaling",
            json!({"autoscaling": {
                "enabled": true,
                "target": {"name": "shop"},
                "metrics": [{"type": "ContainerResource", "containerResource": {
                    "name": "cpu", "container": "outrigger", "target": {"type": "Utilization", "averageUtilization": 70},
                }}],
            }}),
            &["HorizontalPodAutoscaler"],
        ),
        (
            "service-monitor",
            json!({"serviceMonitor": {
                "enabled": true,
                "scrapeTimeout": "5s",
                "labels": {"release": "prometheus"},
                "relabelings": [{"action": "labeldrop", "regex": "endpoint"}],
                "metricRelabelings": [{"action": "drop", "sourceLabels": ["__name__"], "regex": "process_.*"}],
            }}),
            &["Service", "ServiceMonitor"],
        ),
        (
            "pod-monitor",
            json!({"podMonitor": {"enabled": true, "interval": "15s", "labels": {"release": "prometheus"}}}),
            &["PodMonitor"],
        ),
        (
            "rules",
            json!({"prometheusRule": {
                "enabled": true, "labels": {"release": "prometheus"}, "alertLabels": {"team": "chat"},
            }}),
            &["PrometheusRule"],
        ),
        (
            "dashboards",
            json!({"grafanaDashboard": {"enabled": true, "annotations": {"folder": "Chat"}}}),
            &["ConfigMap"],
        ),
        ("policy", json!({"networkPolicy": {"enabled": true}}), &["NetworkPolicy"]),
        (
            "strict-policy",
            json!({"networkPolicy": {
                "enabled": true,
                "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
                "probes": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
                "ingress": [{"ports": [{"port": 8081}]}],
                "egress": [],
            }}),
            &["NetworkPolicy"],
        ),
        (
            "evictions",
            json!({"podDisruptionBudget": {"enabled": true, "unhealthyPodEvictionPolicy": "AlwaysAllow"}}),
            &["PodDisruptionBudget"],
        ),
        (
            "service-monitor-targets",
            json!({"serviceMonitor": {
                "enabled": true,
                "serviceLabels": {"team": "chat"}, "targetLabels": ["team"], "podTargetLabels": ["tier"],
            }}),
            &["Service", "ServiceMonitor"],
        ),
        (
            "pod-monitor-targets",
            json!({"podMonitor": {"enabled": true, "podTargetLabels": ["tier"]}}),
            &["PodMonitor"],
        ),
        ("ingress", json!({"service": {"name": "shop"}, "ingress": {"enabled": true}}), &["Ingress"]),
        (
            "ingress-hosts",
            json!({
                "service": {"name": "shop"},
                "ingress": {
                    "enabled": true,
                    "className": "nginx",
                    "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "7200"},
                    "labels": {"tier": "edge"},
                    "hosts": [
                        {"host": "chat.example.com", "paths": [
                            {"path": "/ws", "pathType": "Exact"}, {"path": "/rooms", "pathType": "Prefix"},
                        ]},
                        {"host": "www.example.com", "paths": [{"path": "/", "pathType": "Prefix"}]},
                    ],
                    "tls": [{"hosts": ["chat.example.com"], "secretName": "chat-tls"}],
                },
            }),
            &["Ingress"],
        ),
        (
            "route",
            json!({"service": {"name": "shop"}, "httpRoute": {"enabled": true, "parentRefs": [{"name": "edge"}]}}),
            &["HTTPRoute"],
        ),
        (
            "route-hosts",
            json!({"service": {"name": "shop"}, "httpRoute": {
                "enabled": true,
                "parentRefs": [{"name": "edge", "namespace": "gateways", "sectionName": "https"}],
                "annotations": {"example.com/a": "b"},
                "labels": {"tier": "edge"},
                "hostnames": ["chat.example.com", "*.example.org"],
                "matches": [{"path": {"type": "PathPrefix", "value": "/ws"}}, {"path": {"type": "Exact", "value": "/feed"}}],
                "filters": [{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Edge", "value": "1"}]}}],
                "timeouts": {"request": "1h30m", "backendRequest": "1h"},
            }}),
            &["HTTPRoute"],
        ),
    ]
}

/// Values that change what is there already: no kind comes or goes, except where the name says so.
pub fn variants() -> Vec<(&'static str, Value)> {
    vec![
        ("native", json!({"nativeSidecar": true})),
        ("ordinary", json!({"nativeSidecar": false})),
        ("ipv6", json!({"ipFamily": "IPv6"})),
        ("rollout", json!({"configReload": "rollout"})),
        ("exec-sleep", json!({"app": {"preStop": "exec"}})),
        ("sleep-action", json!({"app": {"preStop": "sleep"}})),
        ("names", json!({"nameOverride": "edge", "fullnameOverride": "the-edge"})),
        ("digest", json!({"image": {"digest": format!("sha256:{:064}", 7)}})),
        ("tag", json!({"image": {"repository": "registry.example.com/outrigger", "tag": "9.9.9"}})),
        ("ports", json!({"ports": {"client": 8443, "admin": 8444, "probes": 8445}})),
        (
            "drain",
            json!({"config": {"drain": {"delay": "1500ms", "spread": "2m", "timeout": "1h"}}, "app": {"gracePeriodSeconds": 5}}),
        ),
        (
            "config",
            json!({"config": {
                "log": {"format": "text"},
                "metrics": {"prefix": "edge"},
                "admin": {"max_publish": 16_777_216},
                "policy": {"breaker": null, "heartbeat": {"interval": "15s"}, "limits": {"connections": 0}},
                "routes": [{"path": "/ws/{*rest}", "name": "updates", "mode": "broadcast"}],
            }}),
        ),
        ("config-defaults", json!({"config": {"drain": {"delay": null, "spread": null, "timeout": null}}})),
        (
            "secrets",
            json!({
                "env": [{"name": "RUST_BACKTRACE", "value": "1"}, {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
                "envFrom": [{"secretRef": {"name": "outrigger"}}],
                "volumes": [{"name": "tls", "secret": {"secretName": "chat-tls"}}],
                "volumeMounts": [{"name": "tls", "mountPath": "/etc/outrigger/tls", "readOnly": true}],
            }),
        ),
        (
            "bare",
            json!({"resources": {"limits": {"memory": null}, "requests": null}, "securityContext": null}),
        ),
    ]
}

/// Values of the standalone Deployment.
pub fn pods() -> Vec<(&'static str, Value)> {
    vec![
        (
            "pods",
            json!({
                "replicas": 3,
                "podAnnotations": {"example.com/a": "b"},
                "podLabels": {"tier": "edge"},
                "podSecurityContext": {"fsGroup": 65532},
                "nodeSelector": {"kubernetes.io/os": "linux"},
                "tolerations": [{"key": "edge", "operator": "Exists", "effect": "NoSchedule"}],
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                    "weight": 1,
                    "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}},
                }]}},
                "topologySpreadConstraints": [{
                    "maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {"a": "b"}},
                }],
                "priorityClassName": "high",
                "imagePullSecrets": [{"name": "registry"}],
                "strategy": {"type": "Recreate"},
                "service": {"type": "LoadBalancer", "port": 443, "annotations": {"example.com/lb": "nlb"}},
            }),
        ),
        (
            "service",
            json!({"service": {
                "type": "LoadBalancer",
                "name": "chat",
                "port": 443,
                "nodePort": 30443,
                "appProtocol": "kubernetes.io/ws",
                "labels": {"tier": "edge"},
                "externalTrafficPolicy": "Local",
                "loadBalancerClass": "service.k8s.aws/nlb",
                "loadBalancerSourceRanges": ["192.0.2.0/24", "2001:db8::/32"],
                "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 600}},
                "ipFamilyPolicy": "PreferDualStack",
                "ipFamilies": ["IPv6", "IPv4"],
            }}),
        ),
        (
            "names-and-history",
            json!({
                "revisionHistoryLimit": 0,
                "dnsPolicy": "None",
                "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "1"}]},
                "hostAliases": [{"ip": "192.0.2.7", "hostnames": ["feed.example.com"]}],
            }),
        ),
        ("no-account", json!({"serviceAccount": {"create": false}})),
        ("own-account", json!({"serviceAccount": {"create": false, "name": "chat"}})),
        ("named-account", json!({"serviceAccount": {"name": "chat", "annotations": {"a": "b"}}})),
        (
            "server",
            json!({"app": {
                "image": "registry.example.com/chat:1.4@sha256:0123",
                "port": 4000,
                "command": ["node"], "args": ["server.js"],
                "env": [{"name": "PORT", "value": "4000"}],
                "envFrom": [{"configMapRef": {"name": "chat"}}],
                "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                "securityContext": {"runAsNonRoot": true},
                "startupProbe": {"tcpSocket": {"port": 4000}},
                "readinessProbe": {"httpGet": {"path": "/", "port": 19080}},
                "livenessProbe": {"exec": {"command": ["true"]}},
                "lifecycle": {"postStart": {"exec": {"command": ["true"]}}},
                "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
            }, "volumes": [{"name": "tmp", "emptyDir": {}}]}),
        ),
        (
            "own-hook",
            json!({"app": {"image": "chat:1", "lifecycle": {"preStop": {"exec": {"command": ["/stop", "--slowly"]}}}}}),
        ),
    ]
}

/// All of it.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, chart: &'static str, kube: &'static str, values: Value| {
        // Values of a dependency stand under its name.
        let values = if chart == "shop" { json!({"outrigger": values}) } else { values };
        cases.push(Case { name, chart, kube, values });
    };
    add("default".into(), "outrigger", "1.31.0", json!({}));
    for (how, chart, base) in uses() {
        for kube in KUBES {
            add(format!("{how}/{kube}"), chart, kube, base.clone());
            for (what, values) in variants() {
                add(format!("{how}/{what}/{kube}"), chart, kube, merged(&base, &values));
            }
        }
        for (what, values, _) in features() {
            add(format!("{how}/{what}"), chart, "1.31.0", merged(&base, &values));
        }
        if how != "inject" {
            for (what, values) in pods() {
                add(format!("{how}/{what}"), chart, "1.31.0", merged(&base, &values));
            }
        }
    }
    let own_labels = json!({
        "selectorLabels": {"app": "shop"}, "podMonitor": {"enabled": true}, "podDisruptionBudget": {"enabled": true},
        "networkPolicy": {"enabled": true},
    });
    add("inject/own-labels".into(), "shop", "1.31.0", own_labels);
    let prefixed = json!({
        "config": {"metrics": {"prefix": "edge"}}, "prometheusRule": {"enabled": true},
        "grafanaDashboard": {"enabled": true}, "autoscaling": {"enabled": true, "target": {"name": "shop"}},
    });
    add("inject/prefixed".into(), "shop", "1.31.0", prefixed);
    let fewer = json!({"prometheusRule": {
        "enabled": true, "disabled": ["OutriggerDrainStuck"], "runbookUrl": "https://runbooks.example.com/chat",
    }});
    add("inject/fewer-alerts".into(), "shop", "1.31.0", fewer);
    // Both monitors at once are refused, so these are two.
    for monitor in ["serviceMonitor", "podMonitor"] {
        add(
            format!("maps/{monitor}"),
            "outrigger",
            "1.31.0",
            merged(&colliding(), &json!({monitor: {"enabled": true}})),
        );
    }
    for (name, values, _) in refused() {
        add(name.into(), "outrigger", "1.31.0", values);
    }
    cases
}

/// Every map that is the user's own, each with keys that the chart has as well, and one that it has not.
pub fn colliding() -> Value {
    let labels = json!({
        "helm.sh/chart": "mine",
        "app.kubernetes.io/name": "mine",
        "app.kubernetes.io/instance": "mine",
        "app.kubernetes.io/version": "",
        "app.kubernetes.io/managed-by": "mine",
        "outrigger-metrics": "mine",
        "grafana_dashboard": "mine",
        "severity": "mine",
        "mine": "yes",
    });
    let annotations = json!({
        "kubectl.kubernetes.io/default-container": "mine",
        "checksum/outrigger-config": "mine",
        "nginx.ingress.kubernetes.io/proxy-read-timeout": "mine",
        "mine": "yes",
    });
    json!({
        "mode": "standalone",
        "app": {"image": "chat:1"},
        "podLabels": labels,
        "podAnnotations": annotations,
        "nodeSelector": {"mine": "yes"},
        "serviceAccount": {"annotations": annotations},
        "service": {"labels": labels, "annotations": annotations},
        "serviceMonitor": {"labels": labels, "serviceLabels": labels},
        "podMonitor": {"labels": labels},
        "prometheusRule": {"enabled": true, "labels": labels, "alertLabels": labels},
        "grafanaDashboard": {"enabled": true, "labels": labels, "annotations": annotations},
        "ingress": {"enabled": true, "labels": labels, "annotations": annotations},
        "httpRoute": {
            "enabled": true, "parentRefs": [{"name": "edge"}], "labels": labels, "annotations": annotations,
        },
    })
}

/// `below` with `above` laid over it, maps key by key.
pub fn merged(below: &Value, above: &Value) -> Value {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            let mut all = below.clone();
            for (key, value) in above {
                let value = all.get(key).map_or_else(|| value.clone(), |old| merged(old, value));
                all.insert(key.clone(), value);
            }
            Value::Object(all)
        }
        _ => above.clone(),
    }
}
