//! Values that the chart does not take.

use serde_json::{Value, json};

use super::cases::merged;

/// Values that are wrong, and what is said of them.
pub fn refused() -> Vec<(&'static str, Value, &'static str)> {
    let standalone = |more: Value| merged(&json!({"mode": "standalone", "app": {"image": "chat:1"}}), &more);
    vec![
        ("wrong/mode", json!({"mode": "sidecar"}), "at '/mode': value must be one of 'inject', 'standalone'"),
        (
            "wrong/misspelt",
            json!({"podDisruptionBudgets": {"enabled": true}}),
            "additional properties 'podDisruptionBudgets' not allowed",
        ),
        (
            "wrong/deep",
            json!({"image": {"tagg": "1"}}),
            "at '/image': additional properties 'tagg' not allowed",
        ),
        (
            "wrong/port",
            json!({"ports": {"client": 70_000}}),
            "at '/ports/client': maximum: got 70,000, want 65,535",
        ),
        ("wrong/text", json!({"ports": {"client": "19080"}}), "at '/ports/client': got string, want integer"),
        (
            "wrong/native",
            json!({"nativeSidecar": "yes"}),
            "at '/nativeSidecar': value must be one of 'auto', true, false",
        ),
        ("wrong/replicas", json!({"replicas": -1}), "at '/replicas': minimum: got -1, want 0"),
        ("wrong/env", json!({"env": [{"key": "A"}]}), "at '/env/0': missing property 'name'"),
        (
            "wrong/share",
            json!({"podDisruptionBudget": {"minAvailable": "half"}}),
            "at '/podDisruptionBudget/minAvailable'",
        ),
        ("wrong/config", json!({"config": "listen: {}"}), "at '/config': got string, want object"),
        (
            "wrong/no-server",
            json!({"mode": "standalone"}),
            "set app.image to run yours beside the proxy, or config.upstream.url",
        ),
        (
            "wrong/listen",
            json!({"config": {"listen": {"address": "0.0.0.0:80"}}}),
            "config.listen.address cannot be set here, since probes, Services and hooks have to know it: set ports.client",
        ),
        (
            "wrong/unix",
            json!({"config": {"listen": {"unix": "/run/a.sock"}}}),
            "config.listen.unix cannot be set here",
        ),
        ("wrong/admin", json!({"config": {"admin": {"address": "0.0.0.0:9090"}}}), "set ports.admin"),
        ("wrong/probes", json!({"config": {"admin": {"probe_address": "0.0.0.0:9091"}}}), "set ports.probes"),
        (
            "wrong/token",
            json!({"config": {"admin": {"token": "hunter2"}}}),
            "config.admin.token would stand in a ConfigMap",
        ),
        ("wrong/drain", standalone(json!({"config": {"drain": {"delay": 10}}})), "at '/config/drain/delay'"),
        (
            "wrong/misspelt-setting",
            json!({"config": {"policy": {"heartbeet": {"interval": "5s"}}}}),
            "at '/config/policy': additional properties 'heartbeet' not allowed",
        ),
        (
            "wrong/word-of-a-setting",
            json!({"config": {"policy": {"on_refuse": "drop"}}}),
            "at '/config/policy/on_refuse': value must be one of 'http', 'close'",
        ),
        (
            "wrong/setting-of-a-route",
            json!({"config": {"routes": [{"path": "/a", "policy": {"heartbeet": null}}]}}),
            "additional properties 'heartbeet' not allowed",
        ),
        (
            "wrong/same-ports",
            json!({"ports": {"client": 19_090}}),
            "ports.client, ports.admin and ports.probes, and app.port, have to differ",
        ),
        (
            "wrong/app-port",
            json!({"app": {"port": 19_080}}),
            "have to differ, since all of them are in one pod",
        ),
        (
            "wrong/twice-asked",
            json!({"podMonitor": {"enabled": true}, "serviceMonitor": {"enabled": true}}),
            "every client counted twice: choose one",
        ),
        (
            "wrong/no-target",
            json!({"autoscaling": {"enabled": true}}),
            "autoscaling in mode inject needs autoscaling.target.name",
        ),
        (
            "wrong/env-twice",
            json!({"mode": "standalone", "app": {"image": "a"}, "env": [{"name": "POD_IP", "value": "::1"}]}),
            "env: POD_IP is the chart's own: take it out",
        ),
        (
            "wrong/env-address",
            standalone(json!({"env": [{"name": "OUTRIGGER__ADMIN__PROBE_ADDRESS", "value": "0.0.0.0:1"}]})),
            "env: OUTRIGGER__ADMIN__PROBE_ADDRESS follows ports.probes",
        ),
        (
            "wrong/env-listen",
            standalone(json!({"env": [{"name": "OUTRIGGER__LISTEN__ADDRESS", "value": "0.0.0.0:1"}]})),
            "env: OUTRIGGER__LISTEN__ADDRESS follows ports.client",
        ),
        (
            "wrong/volume-twice",
            standalone(json!({"volumes": [{"name": "outrigger-config", "emptyDir": {}}]})),
            "volumes: outrigger-config is the chart's own: rename yours",
        ),
        (
            "wrong/mount-twice",
            standalone(json!({
                "volumes": [{"name": "tls", "secret": {"secretName": "a"}}],
                "volumeMounts": [{"name": "tls", "mountPath": "/etc/outrigger/config/"}],
            })),
            "volumeMounts: /etc/outrigger/config is the chart's own: mount tls elsewhere",
        ),
        (
            "wrong/node-port",
            standalone(json!({"service": {"nodePort": 30_080}})),
            "service.nodePort is for the types NodePort and LoadBalancer, and service.type is ClusterIP",
        ),
        (
            "wrong/traffic-policy",
            standalone(json!({"service": {"externalTrafficPolicy": "Local"}})),
            "service.externalTrafficPolicy is for the types NodePort and LoadBalancer",
        ),
        (
            "wrong/balancer",
            standalone(json!({"service": {"type": "NodePort", "loadBalancerClass": "a"}})),
            "service.loadBalancerClass is for the type LoadBalancer, and service.type is NodePort",
        ),
        (
            "wrong/ranges",
            standalone(json!({"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}})),
            "service.loadBalancerSourceRanges is for the type LoadBalancer",
        ),
        (
            "wrong/range",
            standalone(
                json!({"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0"]}}),
            ),
            "at '/service/loadBalancerSourceRanges/0'",
        ),
        (
            "wrong/affinity",
            standalone(json!({"service": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}})),
            "service.sessionAffinityConfig is for service.sessionAffinity: ClientIP",
        ),
        (
            "wrong/affinity-key",
            standalone(json!({"service": {"sessionAffinityConfig": {"clientIp": {"timeoutSeconds": 60}}}})),
            "additional properties 'clientIp' not allowed",
        ),
        (
            "wrong/eviction",
            standalone(json!({"podDisruptionBudget": {"unhealthyPodEvictionPolicy": "Always"}})),
            "at '/podDisruptionBudget/unhealthyPodEvictionPolicy'",
        ),
        (
            "wrong/ingress-service",
            json!({"ingress": {"enabled": true}}),
            "ingress and httpRoute in mode inject need service.name: the name of your Service",
        ),
        (
            "wrong/route-service",
            json!({"httpRoute": {"enabled": true, "parentRefs": [{"name": "edge"}]}}),
            "ingress and httpRoute in mode inject need service.name: the name of your Service",
        ),
        (
            "wrong/route-gateway",
            standalone(json!({"httpRoute": {"enabled": true}})),
            "httpRoute.parentRefs is empty: name the Gateway that the route hangs on",
        ),
        (
            "wrong/route-timeout",
            standalone(json!({"httpRoute": {"timeouts": {"request": "10"}}})),
            "at '/httpRoute/timeouts/request'",
        ),
        (
            "wrong/path-type",
            standalone(
                json!({"ingress": {"hosts": [{"host": "", "paths": [{"path": "/", "pathType": "prefix"}]}]}}),
            ),
            "at '/ingress/hosts/0/paths/0/pathType'",
        ),
    ]
}
