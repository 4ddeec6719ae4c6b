//! How clients are led to the proxy: the Service, the Ingress, the HTTPRoute, and what pods are told of names.

use serde_json::json;

use super::cases;
use super::engine::rendered;

#[test]
fn the_service_takes_what_services_take() {
    let Some(rendered) = rendered() else { return };
    for how in ["beside", "before"] {
        let outcome = rendered.good(&format!("{how}/service"));
        let service = outcome.the("Service");
        assert_eq!(service["metadata"]["name"], "chat");
        assert_eq!(service["metadata"]["labels"]["tier"], "edge");
        let given = cases::pods().into_iter().find(|(name, _)| *name == "service").unwrap().1;
        for key in [
            "type",
            "externalTrafficPolicy",
            "loadBalancerClass",
            "loadBalancerSourceRanges",
            "sessionAffinity",
            "sessionAffinityConfig",
            "ipFamilyPolicy",
            "ipFamilies",
        ] {
            assert_eq!(service["spec"][key], given["service"][key], "{key}");
        }
        let port = json!({
            "name": "http", "port": 443, "targetPort": 19_080, "nodePort": 30_443, "appProtocol": "kubernetes.io/ws",
        });
        assert_eq!(service["spec"]["ports"], json!([port]));
        // The test asks the Service that there is.
        assert_eq!(outcome.the("Pod")["spec"]["containers"][0]["env"][0]["value"], "http://chat:443/");
        // Whoever says nothing leaves everything to Kubernetes.
        let plain = &rendered.good(&format!("{how}/1.31.0")).the("Service")["spec"];
        let keys: Vec<_> = plain.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["ports", "selector", "type"]);
        assert_eq!(plain["ports"], json!([{"name": "http", "port": 80, "targetPort": 19_080}]));
    }
}

#[test]
fn pods_and_deployments_take_dns_aliases_and_a_history() {
    let Some(rendered) = rendered() else { return };
    let outcome = rendered.good("beside/names-and-history");
    let spec = &outcome.the("Deployment")["spec"];
    // 0 is a number, too: nothing is kept.
    assert_eq!(spec["revisionHistoryLimit"], 0);
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["dnsPolicy"], "None");
    assert_eq!(pod["dnsConfig"]["nameservers"], json!(["192.0.2.53"]));
    assert_eq!(pod["hostAliases"], json!([{"ip": "192.0.2.7", "hostnames": ["feed.example.com"]}]));
    let plain = &rendered.good("beside/1.31.0").the("Deployment")["spec"];
    assert!(plain.get("revisionHistoryLimit").is_none(), "{plain}");
    for key in ["dnsPolicy", "dnsConfig", "hostAliases"] {
        assert!(plain["template"]["spec"].get(key).is_none(), "{key}");
    }
}

#[test]
fn a_budget_says_what_becomes_of_unhealthy_pods_and_monitors_which_labels_go_along() {
    let Some(rendered) = rendered() else { return };
    let policy = |case: &str| {
        let budget = rendered.good(case).the("PodDisruptionBudget");
        budget["spec"].get("unhealthyPodEvictionPolicy").cloned()
    };
    assert_eq!(policy("inject/evictions"), Some(json!("AlwaysAllow")));
    assert_eq!(policy("inject/disruption"), None, "clusters before 1.27 do not know it");
    let monitor = rendered.good("inject/service-monitor-targets");
    assert_eq!(monitor.the("ServiceMonitor")["spec"]["targetLabels"], json!(["team"]));
    assert_eq!(monitor.the("ServiceMonitor")["spec"]["podTargetLabels"], json!(["tier"]));
    let service =
        monitor.all("Service").find(|one| one["metadata"]["name"] == "demo-outrigger-metrics").unwrap();
    assert_eq!(service["metadata"]["labels"]["team"], "chat");
    let monitor = rendered.good("inject/pod-monitor-targets").the("PodMonitor");
    assert_eq!(monitor["spec"]["podTargetLabels"], json!(["tier"]));
}

#[test]
fn an_ingress_leads_to_the_service_and_does_not_cut_what_is_silent() {
    let Some(rendered) = rendered() else { return };
    for how in ["inject", "beside", "before"] {
        let ingress = rendered.good(&format!("{how}/ingress")).the("Ingress");
        let annotations = &ingress["metadata"]["annotations"];
        for key in ["proxy-read-timeout", "proxy-send-timeout"] {
            assert_eq!(annotations[format!("nginx.ingress.kubernetes.io/{key}")], "3600", "{annotations}");
        }
        let backend = json!({"service": {"name": "shop", "port": {"number": 80}}});
        let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
        assert_eq!(ingress["spec"], json!({"rules": [{"http": {"paths": [path]}}]}), "{how}: every host");

        let ingress = rendered.good(&format!("{how}/ingress-hosts")).the("Ingress");
        assert_eq!(
            ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"],
            "7200"
        );
        assert_eq!(
            ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-send-timeout"],
            "3600"
        );
        assert_eq!(ingress["spec"]["ingressClassName"], "nginx");
        assert_eq!(
            ingress["spec"]["tls"],
            json!([{"hosts": ["chat.example.com"], "secretName": "chat-tls"}])
        );
        let rules = ingress["spec"]["rules"].as_array().unwrap();
        let hosts: Vec<_> = rules.iter().map(|rule| rule["host"].as_str().unwrap()).collect();
        assert_eq!(hosts, ["chat.example.com", "www.example.com"]);
        assert_eq!(rules[0]["http"]["paths"][0]["pathType"], "Exact");
        assert_eq!(rules[0]["http"]["paths"][1]["path"], "/rooms");
    }
}

#[test]
fn a_route_leads_to_the_service_and_has_no_timeouts_unless_it_is_given_some() {
    let Some(rendered) = rendered() else { return };
    for how in ["inject", "beside", "before"] {
        let route = &rendered.good(&format!("{how}/route")).the("HTTPRoute")["spec"];
        assert_eq!(route["parentRefs"], json!([{"name": "edge"}]));
        assert!(route.get("hostnames").is_none(), "every host: {route}");
        let rule = json!({
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "timeouts": {"request": "0s", "backendRequest": "0s"},
            "backendRefs": [{"name": "shop", "port": 80}],
        });
        assert_eq!(route["rules"], json!([rule]), "{how}");

        let route = &rendered.good(&format!("{how}/route-hosts")).the("HTTPRoute")["spec"];
        assert_eq!(route["hostnames"], json!(["chat.example.com", "*.example.org"]));
        assert_eq!(route["rules"][0]["timeouts"], json!({"request": "1h30m", "backendRequest": "1h"}));
        assert_eq!(route["rules"][0]["matches"][1]["path"]["value"], "/feed");
        assert_eq!(route["rules"][0]["filters"][0]["type"], "RequestHeaderModifier");
    }
}
