//! Every object that names the server's port: what is led to the proxy with `--service`, and what is said of the rest.

use outrigger::inject::{Options, Ports};

use super::{PLAIN, deployment, golden, injected, options};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, labels: {team: chat}}\nspec:\n  \
                       selector: {app: web}\n  ports: [{name: ws, port: 80, targetPort: http}]\n";

fn service() -> Options {
    Options { services: true, ..options() }
}

/// The Deployment of every test here, whose server is at 3000 (`http`), with these objects behind it.
fn with(objects: &[&str]) -> String {
    let mut text = deployment(PLAIN);
    for object in objects {
        text.push_str("---\n");
        text.push_str(object);
    }
    text
}

/// What comes out of the last object, and the warnings about it.
fn last(objects: &[&str], options: &Options) -> (String, Vec<String>) {
    let told = injected(&with(objects), options);
    assert_eq!(injected(&told.text, options).text, told.text, "a second time changes nothing");
    let document = format!("document {},", objects.len() + 1);
    let warnings = told.warnings.iter().map(ToString::to_string).filter(|told| told.contains(&document));
    (told.text.rsplit("---\n").next().unwrap().to_owned(), warnings.collect())
}

fn policy(spec: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p}}\nspec: {spec}\n")
}

#[test]
fn a_platform_s_whole_manifest() {
    let warnings = [
        "NetworkPolicy/chat: it goes on admitting the server's port 3000",
        "NetworkPolicy/chat: none of its rules admits the proxy's port 19091",
        "ServiceMonitor/chat: its endpoint http asks the server through the proxy",
        "HorizontalPodAutoscaler/chat: it scales on cpu of whole pods, which the sidecar is part of now",
        "PeerAuthentication/chat: spec.portLevelMtls.3000 names 3000",
    ];
    let text = golden("platform", &service(), &warnings);
    for line in ["targetPort: 19080", "- port: 19080", "number: 80"] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}

// ---- NetworkPolicies

#[test]
fn a_policy_that_admits_the_server_s_port_is_widened_to_the_proxy_s() {
    // What is admitted, and whether the proxy's port is put behind it.
    for (ports, is_widened) in [
        ("[{port: 3000}]", true),
        ("[{port: 3000, protocol: TCP}, {port: 19091}]", true),
        ("[{port: http}]", true),
        ("[{port: 2990, endPort: 3010}]", true),
        ("[{port: 3000}, {port: 19080}]", false),
        ("[{port: 1024, endPort: 65535}]", false),
        ("[{port: 3000, protocol: UDP}]", false),
        ("[{port: 9100}]", false),
        ("[{protocol: TCP}]", false),
        ("[]", false),
    ] {
        let given =
            policy(&format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{ports: {ports}}}]}}"));
        let (text, told) = last(&[&given], &service());
        let widened = text.matches("port: 19080").count() - given.matches("port: 19080").count();
        assert_eq!(widened, usize::from(is_widened), "{ports}: {text}");
        if is_widened {
            assert!(told[0].contains("goes on admitting the server's port 3000"), "{ports}: {told:?}");
        }
        // Without --service it stays, and what that means is said.
        let (text, told) = last(&[&given], &options());
        assert_eq!(
            text.matches("port: 19080").count(),
            given.matches("port: 19080").count(),
            "{ports}: {text}"
        );
        let is_told = told.iter().any(|told| told.contains("not the proxy's 19080: --service adds it"));
        assert_eq!(is_told, is_widened, "{ports}: {told:?}");
    }
}

#[test]
fn peers_stay_those_of_the_rule_and_only_policies_of_the_pods_are_widened() {
    let rules = "[{from: [{podSelector: {matchLabels: {app: edge}}}], ports: [{port: 3000}]}, \
                 {from: [{ipBlock: {cidr: 10.0.0.0/8}}], ports: [{port: 9100}]}]";
    let (text, _) = last(&[&policy(&format!("{{podSelector: {{}}, ingress: {rules}}}"))], &service());
    let (first, second) = text.split_once("ipBlock").unwrap();
    assert!(first.contains("port: 19080") && !second.contains("19080"), "{text}");

    for selector in [
        "{matchLabels: {app: other}}",
        "{matchExpressions: [{key: app, operator: NotIn, values: [web]}]}",
        "{matchExpressions: [{key: app, operator: DoesNotExist}]}",
        "{matchExpressions: [{key: tier, operator: Exists}]}",
    ] {
        let given = policy(&format!("{{podSelector: {selector}, ingress: {rules}}}"));
        let (text, told) = last(&[&given], &service());
        assert!(!text.contains("19080") && told.is_empty(), "{selector}: {told:?}");
    }
    for selector in [
        "{matchLabels: {app: web}, matchExpressions: [{key: app, operator: In, values: [a, web]}]}",
        "{matchExpressions: [{key: app, operator: Exists}, {key: tier, operator: NotIn, values: [db]}]}",
    ] {
        let given = policy(&format!("{{podSelector: {selector}, ingress: {rules}}}"));
        assert!(last(&[&given], &service()).0.contains("19080"), "{selector}");
    }
    // Another namespace is another's.
    let text = deployment(PLAIN).replace("{name: web}", "{name: web, namespace: one}");
    let given = policy(&format!("{{podSelector: {{}}, ingress: {rules}}}"))
        .replace("{name: p}", "{name: p, namespace: two}");
    assert!(
        !injected(&format!("{text}---\n{given}"), &service())
            .text
            .rsplit("---\n")
            .next()
            .unwrap()
            .contains("19080")
    );
}

#[test]
fn a_policy_that_shuts_the_port_of_health_and_metrics_is_told_once_all_policies_are_known() {
    let clients = policy("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 3000}]}]}");
    let (_, told) = last(&[&clients], &service());
    assert!(
        told.iter().any(|told| told.contains("none of its rules admits the proxy's port 19091")),
        "{told:?}"
    );
    let scrapers =
        policy("{podSelector: {}, ingress: [{ports: [{port: 19091}]}]}").replace("{name: p}", "{name: q}");
    for objects in [[&*scrapers, &*clients], [&*clients, &*scrapers]] {
        let told = injected(&with(&objects), &service());
        let told: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
        assert!(!told.iter().any(|told| told.contains("19091")), "{told:?}");
    }
    // One for what goes out alone shuts nothing of this.
    let egress = policy("{podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [{}]}");
    assert!(last(&[&egress], &service()).1.is_empty());
}

#[test]
fn a_policy_of_those_who_come_is_widened_where_it_leads_to_the_pods() {
    let out = |to: &str| {
        policy(&format!(
            "{{podSelector: {{matchLabels: {{app: edge}}}}, policyTypes: [Egress], egress: [{{{to}ports: [{{port: 3000}}]}}]}}"
        ))
    };
    let (text, told) = last(&[&out("to: [{podSelector: {matchLabels: {app: web}}}], ")], &service());
    assert!(text.contains("port: 19080") && told.is_empty(), "{text} {told:?}");
    let (text, told) = last(&[&out("to: [{podSelector: {matchLabels: {app: web}}}], ")], &options());
    assert!(!text.contains("port: 19080"), "{text}");
    assert!(told[0].contains("lets its pods reach the server's port 3000"), "{told:?}");
    let (text, told) = last(&[&out("to: [{podSelector: {matchLabels: {app: db}}}], ")], &service());
    assert!(!text.contains("19080") && told.is_empty(), "{text} {told:?}");
    // To anywhere, or to a whole namespace: whether the pods are meant is not known.
    for to in ["", "to: [{namespaceSelector: {matchLabels: {a: b}}}], "] {
        let (text, told) = last(&[&out(to)], &service());
        assert!(!text.contains("19080"), "{text}");
        assert!(told[0].contains("if the pods of Deployment/web are meant"), "{to}: {told:?}");
    }
}

// ---- Ingresses and routes

fn ingress(backend: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: i}}\nspec:\n  rules:\n  - http: \
         {{paths: [{{path: /, pathType: Prefix, backend: {{service: {backend}}}}}]}}\n"
    )
}

#[test]
fn a_backend_that_names_the_pod_s_port_is_given_the_service_s() {
    // Some controllers take such a number for the targetPort, and would find it no more.
    for (port, expected) in [
        ("{number: 80}", "number: 80"),
        ("{name: ws}", "name: ws"),
        ("{number: 3000}", "number: 80"),
        ("{name: http}", "number: 80"),
        ("{number: 9999}", "number: 9999"),
    ] {
        let given = ingress(&format!("{{name: web, port: {port}}}"));
        let (text, told) = last(&[SERVICE, &given], &service());
        assert!(text.contains(&format!("port:\n              {expected}\n")), "{port}: {text}");
        assert_eq!(told, Vec::<String>::new(), "{port}");
        let (text, told) = last(&[SERVICE, &given], &options());
        assert!(text.contains(port.trim_matches(['{', '}'])), "{port}: {text}");
        let is_pods = matches!(port, "{number: 3000}" | "{name: http}");
        assert_eq!(told.len(), usize::from(is_pods), "{port}: {told:?}");
        assert!(
            !is_pods || told[0].contains("is no port of the Service web: --service makes it 80"),
            "{told:?}"
        );
    }
    let default = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: i}\nspec:\n  defaultBackend: \
                   {service: {name: web, port: {number: 3000}}}\n";
    assert!(last(&[SERVICE, default], &service()).0.contains("number: 80"));
    // What was injected before leads there already; the backend still follows.
    let moved = SERVICE.replace("targetPort: http", "targetPort: 19080");
    let (text, _) = last(&[&moved, &ingress("{name: web, port: {number: 3000}}")], &service());
    assert!(text.contains("number: 80"), "{text}");
}

#[test]
fn a_backend_whose_service_is_not_in_the_stream_is_told() {
    for (port, is_told) in [("{number: 3000}", true), ("{name: http}", true), ("{number: 80}", false)] {
        let (_, told) = last(&[&ingress(&format!("{{name: elsewhere, port: {port}}}"))], &service());
        assert_eq!(told.len(), usize::from(is_told), "{port}: {told:?}");
        assert!(
            !is_told || told[0].contains("the Service elsewhere, which is not in the stream"),
            "{told:?}"
        );
    }
    // One that selects other pods is in the stream, and none of ours.
    let other = SERVICE.replace("app: web", "app: other");
    assert!(last(&[&other, &ingress("{name: web, port: {number: 3000}}")], &service()).1.is_empty());
}

#[test]
fn a_route_is_treated_as_an_ingress_is() {
    let route = |port: u16| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  rules:\n  \
             - backendRefs: [{{name: web, port: {port}}}]\n    filters: [{{type: RequestMirror, requestMirror: \
             {{backendRef: {{name: web, port: {port}}}}}}}]\n"
        )
    };
    let (text, told) = last(&[SERVICE, &route(3000)], &service());
    assert_eq!(text.matches("port: 80\n").count(), 2, "{text}");
    assert!(told.is_empty(), "{told:?}");
    let (text, told) = last(&[SERVICE, &route(3000)], &options());
    assert!(text.contains("port: 3000") && told.len() == 1, "{told:?}");
    assert!(last(&[SERVICE, &route(80)], &options()).1.is_empty());
    assert!(last(&[&route(3000)], &options()).1[0].contains("which is not in the stream"));
}

// ---- those who watch

#[test]
fn a_monitor_that_follows_the_service_to_the_proxy_is_told_and_one_that_asks_the_server_is_left() {
    let monitor = |endpoint: &str, selector: &str| {
        format!(
            "apiVersion: monitoring.coreos.com/v1\nkind: ServiceMonitor\nmetadata: {{name: m}}\nspec: {{selector: \
             {selector}, endpoints: [{endpoint}]}}\n"
        )
    };
    let ours = "{matchLabels: {team: chat}}";
    let (text, told) = last(&[SERVICE, &monitor("{port: ws}", ours)], &service());
    assert!(text.contains("port: ws"), "{text}");
    assert!(told[0].contains("its endpoint ws asks the server through the proxy"), "{told:?}");
    assert!(told[0].contains("targetPort: 3000"), "{told:?}");
    for (endpoint, selector) in [
        ("{targetPort: 3000}", ours),
        ("{port: metrics}", ours),
        ("{port: ws}", "{matchLabels: {team: other}}"),
    ] {
        let given = monitor(endpoint, selector);
        assert!(last(&[SERVICE, &given], &service()).1.is_empty(), "{endpoint} {selector}");
    }
    // The Service stays where it is, and so does what follows it.
    assert!(last(&[SERVICE, &monitor("{port: ws}", ours)], &options()).1.is_empty());
    let pods = "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata: {name: m}\nspec: {selector: {}, \
                podMetricsEndpoints: [{port: http}, {targetPort: 3000}]}\n";
    assert!(last(&[pods], &service()).1.is_empty(), "it asks the server for its metrics, as before");
}

#[test]
fn a_scaler_that_counts_whole_pods_counts_the_sidecar_too() {
    let scaler = |version: &str, spec: &str| {
        format!(
            "apiVersion: autoscaling/{version}\nkind: HorizontalPodAutoscaler\nmetadata: {{name: h}}\nspec:\n  \
             scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}\n  maxReplicas: 9\n{spec}"
        )
    };
    let cpu = "  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]\n";
    let container = "  metrics: [{type: ContainerResource, containerResource: {name: cpu, container: app, target: \
                     {type: Utilization, averageUtilization: 70}}}]\n";
    let pods = "  metrics: [{type: Pods, pods: {metric: {name: a}, target: {type: AverageValue, averageValue: '1'}}}]\n";
    for (version, spec, what) in [
        ("v2", cpu, "cpu"),
        ("v2", "", "cpu"),
        ("v1", "  targetCPUUtilizationPercentage: 70\n", "cpu"),
        ("v2", &cpu.replace("cpu", "memory"), "memory"),
        ("v2", container, ""),
        ("v2", pods, ""),
    ] {
        let (text, told) = last(&[&scaler(version, spec)], &service());
        assert!(text.contains("kind: HorizontalPodAutoscaler"), "{text}");
        assert_eq!(told.len(), usize::from(!what.is_empty()), "{version} {spec}: {told:?}");
        if !what.is_empty() {
            assert!(told[0].contains(&format!("it scales on {what} of whole pods")), "{told:?}");
            assert!(told[0].contains("ContainerResource metric of the container app"), "{told:?}");
        }
    }
    let other = scaler("v2", cpu).replace("name: web", "name: other");
    assert!(last(&[&other], &service()).1.is_empty());
    let keda = |trigger: &str| {
        format!(
            "apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {{name: k}}\nspec: {{scaleTargetRef: {{name: \
             web}}, triggers: [{{type: cpu, metadata: {{{trigger}value: '60'}}}}]}}\n"
        )
    };
    assert!(last(&[&keda("")], &service()).1[0].contains("it scales on cpu of whole pods"));
    assert!(last(&[&keda("containerName: app, ")], &service()).1.is_empty());
}

// ---- what is left

#[test]
fn what_else_names_the_port_is_named_with_its_place() {
    for (object, place) in [
        (
            "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: c}\nspec: {ingress: [{toPorts: \
             [{ports: [{port: '3000', protocol: TCP}]}]}]}\n",
            "spec.ingress[0].toPorts[0].ports[0].port names 3000",
        ),
        (
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {rules: [{to: \
             [{operation: {ports: ['3000']}}]}]}\n",
            "spec.rules[0].to[0].operation.ports[0] names 3000",
        ),
        (
            "apiVersion: cloud.google.com/v1\nkind: BackendConfig\nmetadata: {name: b}\nspec: {healthCheck: {port: \
             3000, requestPath: /}}\n",
            "spec.healthCheck.port names 3000",
        ),
        (
            "apiVersion: v1\nkind: Endpoints\nmetadata: {name: e}\nsubsets: [{ports: [{port: 3000}]}]\n",
            "subsets[0].ports[0].port names 3000",
        ),
        // By name, and not the port of a Service that is there.
        (
            "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: t}\nspec: {routes: [{services: \
             [{name: web, port: 3000}]}]}\n",
            "spec.routes[0].services[0].port names 3000",
        ),
    ] {
        let (text, told) = last(&[SERVICE, object], &service());
        assert!(!text.contains("19080"), "{text}");
        assert_eq!(told.len(), 1, "{object}: {told:?}");
        assert!(told[0].contains(place) && told[0].contains("19080"), "{told:?}");
    }
}

#[test]
fn servers_that_share_a_port_are_told_together() {
    let mut text = String::new();
    for name in ["a", "b", "c", "d", "e"] {
        text.push_str(&deployment(PLAIN).replace("{name: web}", &format!("{{name: {name}}}")));
        text.push_str("---\n");
    }
    text.push_str("apiVersion: example.com/v1\nkind: Gate\nmetadata: {name: g}\nspec: {port: 3000}\n");
    let told: Vec<_> = injected(&text, &service()).warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for words in ["Deployment/a", "Deployment/c", "that of 2 more"] {
        assert!(told[0].contains(words), "no {words} in {told:?}");
    }
}

#[test]
fn what_only_looks_like_the_port_is_not_named() {
    let at_3000 = SERVICE.replace("port: 80, targetPort: http", "port: 3000");
    for object in [
        // The Service's own port, which stays.
        "apiVersion: traefik.io/v1alpha1\nkind: IngressRoute\nmetadata: {name: t}\nspec: {routes: [{services: [{name: \
         web, port: 3000}]}]}\n",
        "apiVersion: example.com/v1\nkind: Room\nmetadata: {name: t}\nspec: {size: 3000, portrait: 3000}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {PORT: '3000'}\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: other, annotations: {a: b}}\nspec: {template: {spec: \
         {containers: [{name: b, ports: [{containerPort: 3000}]}]}}}\n",
        "apiVersion: example.com/v1\nkind: Room\nmetadata: {name: t, namespace: two}\nspec: {port: 3000}\n",
    ] {
        let text = with(&[&at_3000, object]).replacen("{name: web}", "{name: web, namespace: one}", 1);
        let told = injected(&text, &Options { only: vec!["web".into()], ..service() });
        let told: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
        assert!(!told.iter().any(|told| told.contains("document 3,")), "{object}: {told:?}");
    }
}

#[test]
fn annotations_that_name_the_port_are_named_but_for_those_of_scrapers_and_kubectl() {
    let annotated = |annotations: &str| {
        injected(
            &with(&[SERVICE]).replace(
                "labels: {app: web}}",
                &format!("labels: {{app: web}}, annotations: {annotations}}}"),
            ),
            &service(),
        )
    };
    for (annotations, is_told) in [
        ("{traffic.sidecar.istio.io/includeInboundPorts: '3000,9100'}", true),
        ("{config.linkerd.io/opaque-ports: '3000'}", true),
        ("{config.linkerd.io/opaque-ports: '13000'}", false),
        ("{prometheus.io/port: '3000'}", false),
        ("{example.com/size: '3000'}", false),
    ] {
        let told: Vec<_> = annotated(annotations).warnings.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), usize::from(is_told), "{annotations}: {told:?}");
        assert!(!is_told || told[0].contains("Deployment/web: the annotation"), "{told:?}");
    }
    let key = "service.beta.kubernetes.io/aws-load-balancer-healthcheck-port";
    let balanced = SERVICE.replace("name: web, ", &format!("name: web, annotations: {{{key}: '3000'}}, "));
    assert!(last(&[&balanced], &service()).1[0].contains(&format!("the annotation {key} names 3000")));
    let key = "alb.ingress.kubernetes.io/healthcheck-port";
    let given = ingress("{name: web, port: {name: ws}}")
        .replace("{name: i}", &format!("{{name: i, annotations: {{{key}: '3000'}}}}"));
    assert!(last(&[SERVICE, &given], &service()).1[0].contains(&format!("the annotation {key} names 3000")));
}

#[test]
fn a_port_of_the_node_that_leads_to_the_server_is_told() {
    let told = injected(
        &deployment(&PLAIN.replace("containerPort: 3000,", "containerPort: 3000, hostPort: 80,")),
        &service(),
    );
    assert!(
        told.warnings[0]
            .to_string()
            .contains("hostPort 80 of the container app leads to the server past the proxy")
    );
}

// ---- a proxy that moves

#[test]
fn whatever_led_to_the_proxy_follows_when_it_moves() {
    let probed = PLAIN.replace(
        "image: a,",
        "image: a, readinessProbe: {httpGet: {path: /, port: 19080}}, lifecycle: {postStart: {httpGet: {port: 19080}}}, \
         startupProbe: {httpGet: {path: /, port: http}}, livenessProbe: {httpGet: {path: /readyz, port: 19091}},",
    );
    let objects = format!(
        "---\n{SERVICE}---\n{}---\n{}",
        policy("{podSelector: {}, ingress: [{ports: [{port: 3000}, {port: 19091}]}]}"),
        ingress("{name: web, port: {number: 3000}}")
    );
    let there = Options { ports: Ports { client: 20_080, admin: 19_090, probes: 20_091 }, ..service() };
    let before = format!("{}{objects}", deployment(&probed));
    let moved = injected(&injected(&before, &service()).text, &there);
    assert!(!moved.text.contains("19080") && !moved.text.contains("19091"), "{}", moved.text);
    assert_eq!(moved.text.matches("port: 20080\n").count(), 3, "two probes and the policy: {}", moved.text);
    // As if it had been there from the beginning, but for probes that then asked for nobody.
    let at_once =
        injected(&before.replace("port: 19080", "port: 20080").replace("port: 19091", "port: 20091"), &there);
    assert_eq!(moved.text, at_once.text);
    // Without --service it is told.
    let told = injected(&injected(&before, &service()).text, &Options { services: false, ..there });
    let told: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
    for words in [
        "Service/web: it still leads to port 19080, where the proxy of Deployment/web was: --service moves its targetPort to 20080",
        "NetworkPolicy/p: it admits 19080, where the proxy of Deployment/web was",
    ] {
        assert!(told.iter().any(|told| told.contains(words)), "no {words:?} in {told:#?}");
    }
}
