//! `outrigger inject`: whole manifests against files in `tests/inject/`, every refusal with what it says, and the
//! command itself.

mod follow;
mod refusals;
mod secrets;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outrigger::config::Config;
use outrigger::inject::{Configuration, Family, Injected, Options, Ports, Refusals, Sleep, inject};

use crate::support::files::TempFile;

/// The version in the default image's name changes; the rest is what everybody gets.
fn options() -> Options {
    Options { image: "registry.example.com/outrigger:1.2.3".into(), ..Options::default() }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inject")
}

fn read(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn injected(text: &str, options: &Options) -> Injected {
    inject("app.yaml", text, options).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn refused(text: &str, options: &Options) -> Refusals {
    match inject("app.yaml", text, options) {
        Err(refusals) => refusals,
        Ok(injected) => panic!("it was taken:\n{}", injected.text),
    }
}

/// `tests/inject/NAME.yaml` comes to `NAME.out.yaml`, which `UPDATE_GOLDEN=1` writes anew, with these warnings;
/// and a second time to the same.
fn golden(name: &str, options: &Options, warnings: &[&str]) -> String {
    let told = injected(&read(&format!("{name}.yaml")), options);
    let path = folder().join(format!("{name}.out.yaml"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &told.text).unwrap();
    }
    assert_eq!(told.text, read(&format!("{name}.out.yaml")), "{name}");
    let found: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), warnings.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(warnings) {
        assert!(found.contains(expected), "no {expected:?} in {found}");
    }
    assert_eq!(injected(&told.text, options).text, told.text, "{name}, injected twice");
    told.text
}

// ---- whole manifests

#[test]
fn a_deployment_and_its_service() {
    golden("deployment", &Options { services: true, ..options() }, &[]);
}

#[test]
fn a_stateful_set_with_two_containers_and_a_hook_of_its_own_in_a_cluster_without_native_sidecars() {
    let options = Options {
        native_sidecar: false,
        sleep: Sleep::Exec,
        services: true,
        container: Some("rooms".into()),
        configuration: Configuration::Text("# Everybody's.\ndrain: {delay: 500ms, timeout: 1m}\n".into()),
        family: Family::V6,
        ..options()
    };
    let warnings = [
        "app.yaml: document 2, StatefulSet/rooms: the container rooms has a preStop hook of its own, which was \
         kept. It has to last 7 s",
        "app.yaml: document 1, Service/rooms: it has no address of its own",
    ];
    golden("statefulset", &options, &warnings);
}

#[test]
fn a_pod_in_json() {
    golden("pod", &Options { upstream_port: Some("7000".into()), ..options() }, &[]);
}

#[test]
fn a_list_as_kubectl_prints_it_loses_what_only_the_cluster_knows() {
    let text = golden("list", &Options { services: true, ..options() }, &[]);
    for gone in
        ["managedFields", "resourceVersion", "uid:", "status:", "last-applied", "revision", "generation"]
    {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
}

#[test]
fn what_is_no_workload_of_long_life_passes_through() {
    let text = "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: once\nspec:\n  template:\n    spec:\n      \
                containers:\n      - name: once\n        image: example/once\n        ports:\n        \
                - containerPort: 3000\n---\napiVersion: example.com/v1\nkind: Deployment\nmetadata:\n  \
                name: somebody-elses\nstatus: kept\n";
    let told = injected(text, &options());
    assert_eq!(told.text, text);
    let warnings: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("nothing to inject"), "{warnings:?}");
}

// ---- the sidecar

/// A Deployment with this under `spec.template.spec`, in flow style.
fn deployment(spec: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  template:\n    \
         metadata: {{labels: {{app: web}}}}\n    spec: {spec}\n"
    )
}

const PLAIN: &str = "{containers: [{name: app, image: a, ports: [{containerPort: 3000, name: http}]}]}";

#[test]
fn an_older_sidecar_is_brought_up_to_date_and_keeps_what_an_operator_added() {
    let older = Options { image: "outrigger:0.0.1".into(), ..options() };
    let text = injected(&deployment(PLAIN), &older).text;
    let text = text
        .replace(
            "value: \"$(POD_IP):19091\"\n",
            "value: \"$(POD_IP):19091\"\n        - name: MINE\n          value: \"1\"\n",
        )
        .replace("memory: \"512Mi\"", "memory: \"2Gi\"")
        .replace("readOnly: true\n", "readOnly: true\n        - name: keys\n          mountPath: /keys\n");
    let newer = Options { ports: Ports { client: 20080, ..Ports::default() }, ..options() };
    let text = injected(&text, &newer).text;
    let kept = ["name: MINE", "memory: \"2Gi\"", "mountPath: /keys"];
    let new = ["image: registry.example.com/outrigger:1.2.3", "containerPort: 20080", "0.0.0.0:20080"];
    for words in kept.into_iter().chain(new) {
        assert_eq!(text.matches(words).count(), 1, "{words} in\n{text}");
    }
    for gone in ["outrigger:0.0.1", "19080"] {
        assert!(!text.contains(gone), "{gone} is still in\n{text}");
    }
    assert_eq!(injected(&text, &newer).text, text);
}

#[test]
fn a_later_injection_without_a_configuration_leaves_the_earlier_one_in_force() {
    let configuration = "drain: {delay: 20s, spread: 10s, timeout: 50s}\nadmin: {token_file: /keys/token}\n";
    let first = Options { configuration: Configuration::Text(configuration.into()), ..options() };
    let text = injected(&deployment(PLAIN), &first).text;
    // As `kubectl get deployment` gives it: without its ConfigMap.
    let (_, alone) = text.split_once("---\n").unwrap();
    let told = injected(alone, &Options { image: "outrigger:9".into(), ..options() });
    assert_eq!(told.text, alone.replace("registry.example.com/outrigger:1.2.3", "outrigger:9"));
    assert!(
        told.text.contains("terminationGracePeriodSeconds: 100\n") && told.text.contains("- /keys/token\n")
    );
    // With the ConfigMap it can be changed.
    let ports = Ports { client: 20080, ..Ports::default() };
    let told = injected(&text, &Options { ports, ..options() });
    assert!(told.text.contains("delay: 20s") && told.text.contains("0.0.0.0:20080"), "{}", told.text);
    let mut admin = options();
    admin.ports.admin = 20090;
    for options in [Options { ports, ..options() }, admin] {
        let refusals = refused(alone, &options).to_string();
        assert!(refusals.contains("put the ConfigMap web-outrigger into the stream"), "{refusals}");
    }
    // A server that moved is followed where the configuration can be changed.
    let moved = text.replace("containerPort: 3000", "containerPort: 4000");
    let told = injected(&moved, &options());
    assert!(told.text.contains("url: http://127.0.0.1:4000"), "{}", told.text);
}

#[test]
fn a_server_elsewhere_needs_no_port_here_not_the_second_time_either() {
    let text = deployment("{containers: [{name: app}]}");
    let elsewhere = Configuration::Text("upstream: {url: 'http://other:80'}\n".into());
    let once = injected(&text, &Options { configuration: elsewhere, ..options() }).text;
    assert!(once.contains("url: 'http://other:80'") && !once.contains("app-port"), "{once}");
    let (_, alone) = once.split_once("---\n").unwrap();
    assert_eq!(injected(alone, &options()).text, alone);
    assert_eq!(injected(&once, &options()).text, once);
}

#[test]
fn a_config_map_by_name_is_believed_and_read_where_it_is_in_the_stream() {
    let options = Options { configuration: Configuration::Named("mine".into()), ..options() };
    let told = injected(&deployment(PLAIN), &options);
    assert!(told.warnings[0].to_string().contains("ConfigMap mine is not known here"), "{:?}", told.warnings);
    assert!(!told.text.contains("kind: ConfigMap"), "none is written");
    assert!(told.text.contains("          name: mine\n") && told.text.contains("outrigger-sidecar: mine\n"));

    let map = |text: &str| {
        format!(
            "kind: ConfigMap\napiVersion: v1\nmetadata: {{name: mine}}\ndata: {{outrigger.yaml: \"{text}\"}}\n---\n"
        )
    };
    let good =
        "listen: {address: '0.0.0.0:19080'}\\nadmin: {address: '127.0.0.1:19090'}\\ndrain: {timeout: 44s}\\n";
    let told = injected(&format!("{}{}", map(good), deployment(PLAIN)), &options);
    assert_eq!(told.warnings, []);
    assert!(told.text.contains("terminationGracePeriodSeconds: 74\n"), "{}", told.text);
    assert!(told.text.contains("drain: {timeout: 44s}"), "it is left as it is");
    for (text, words) in [
        ("listen: {address: '0.0.0.0:8000'}", ["ConfigMap mine: listen.address", "port 19080"]),
        ("listen: {adress: '0.0.0.0:19080'}", ["ConfigMap mine", "did you mean `address`?"]),
    ] {
        let refusals = refused(&format!("{}{}", map(text), deployment(PLAIN)), &options).to_string();
        for word in words {
            assert!(refusals.contains(word), "no {word} in {refusals}");
        }
    }
}

#[test]
fn the_configuration_that_is_written_is_one_and_has_the_pod_s_addresses() {
    let shipped =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/outrigger.yaml")).unwrap();
    // It says every address; those are the manifest's.
    let shipped: String =
        shipped.split_inclusive('\n').filter(|line| !line.trim_start().starts_with("address:")).collect();
    let texts = [
        "",
        "# nothing\n",
        "upstream: {url: 'http://localhost:3000'}\n",
        &shipped,
        "admin: {}\ntrusted_proxies: [private]\n",
    ];
    for text in texts {
        for family in [Family::V4, Family::V6] {
            let configuration = Configuration::Text(text.to_owned());
            let told = injected(&deployment(PLAIN), &Options { configuration, family, ..options() });
            let config = Config::from_yaml(&block(&told.text, "outrigger.yaml: |")).unwrap();
            assert_eq!(config.admin.address.to_string(), "127.0.0.1:19090");
            assert!(config.admin.probe_address.is_none(), "the container's environment says it");
            let listen = format!("{:?}", config.listen.address);
            assert!(
                listen.contains(if family == Family::V4 { "0.0.0.0:19080" } else { "[::]:19080" }),
                "{listen}"
            );
            assert_eq!(
                config.routes.last().unwrap().upstream.target.to_string().split(':').next_back(),
                Some("3000")
            );
        }
    }
}

/// The lines of a block, without their indent.
fn block(text: &str, header: &str) -> String {
    let (before, rest) = text.split_once(header).unwrap();
    let depth = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 2;
    let inside = |line: &&str| line.is_empty() || line.starts_with(&" ".repeat(depth));
    let lines = rest.lines().skip(1).take_while(inside).map(|line| line.get(depth..).unwrap_or_default());
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn an_application_that_waits_long_enough_by_itself_is_no_warning() {
    for (hook, warnings) in [
        ("{sleep: {seconds: 16}}", 0),
        ("{exec: {command: [sleep, '20']}}", 0),
        ("{sleep: {seconds: 15}}", 1),
        ("{exec: {command: [sh, -c, 'sleep 20']}}", 1),
        ("{httpGet: {path: /stop, port: 3000}}", 1),
    ] {
        let spec = PLAIN.replace("image: a,", &format!("image: a, lifecycle: {{preStop: {hook}}},"));
        let told = injected(&deployment(&spec), &options());
        assert_eq!(told.warnings.len(), warnings, "{hook}: {:?}", told.warnings);
        assert!(!told.text.contains("app-sleep-seconds"), "it is not ours: {hook}");
    }
}

// ---- Services

#[test]
fn a_service_is_led_to_the_proxy_by_number_name_or_default_and_only_where_it_leads_to_the_server() {
    let service = |selector: &str, ports: &str| {
        format!(
            "{}---\napiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec:\n  selector: {selector}\n  ports: {ports}\n",
            deployment(PLAIN)
        )
    };
    let cases = [
        ("{app: web}", "[{port: 80, targetPort: 3000}]", 1, ""),
        ("{app: web}", "[{port: 80, targetPort: '3000'}]", 1, ""),
        ("{app: web}", "[{port: 80, targetPort: http}, {port: 81, targetPort: 9100}]", 1, ""),
        ("{app: web}", "[{port: 3000}]", 1, ""),
        ("{app: web}", "[{port: 80, targetPort: 19080}]", 1, ""),
        (
            "{app: web}",
            "[{port: 80, targetPort: 9100}]",
            0,
            "none of its ports leads to the server's port 3000",
        ),
        ("{app: web}", "[{port: 80, targetPort: https}]", 0, "none of its ports"),
        ("{app: web}", "[{port: 3000, protocol: UDP}]", 0, "none of its ports"),
        ("{app: web, tier: x}", "[{port: 3000}]", 0, ""),
        ("{app: other}", "[{port: 3000}]", 0, ""),
        ("{}", "[{port: 3000}]", 0, ""),
    ];
    for (selector, ports, moved, warning) in cases {
        let options = Options { services: true, ..options() };
        let told = injected(&service(selector, ports), &options);
        let label = format!("{selector} {ports}: {:?}\n{}", told.warnings, told.text);
        assert_eq!(told.text.matches("targetPort: 19080").count(), moved, "{label}");
        assert_eq!(told.warnings.len(), usize::from(!warning.is_empty()), "{label}");
        assert!(warning.is_empty() || told.warnings[0].to_string().contains(warning), "{label}");
        assert_eq!(injected(&told.text, &options).text, told.text);
    }
    // Without --service nothing moves, and it is told.
    let told = injected(&service("{app: web}", "[{port: 3000}]"), &options());
    assert!(!told.text.contains("targetPort"), "{}", told.text);
    assert!(told.warnings[0].to_string().contains("past the proxy: --service"), "{:?}", told.warnings);
}

#[test]
fn a_service_of_another_namespace_is_another_s() {
    let at = |namespace: &str| {
        let mut text = deployment(PLAIN).replace("{name: web}", "{name: web, namespace: one}");
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\n\
             spec: {{selector: {{app: web}}, ports: [{{port: 3000}}]}}\n"
        ));
        injected(&text, &Options { services: true, ..options() }).text.contains("targetPort: 19080")
    };
    assert!(at("one"));
    assert!(!at("two"));
}

#[test]
fn only_the_workloads_that_are_meant_are_touched_and_never_one_that_another_makes() {
    let database = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: db\nspec:\n  template:\n    spec:\n      \
                    containers:\n      - name: db\n        ports:\n        - containerPort: 5432\n";
    let owned = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-1\n  ownerReferences:\n  - kind: ReplicaSet\n    \
                 name: web-0\n    controller: true\nspec:\n  containers:\n  - name: a\n";
    let text = format!("{database}---\n{owned}---\n{}", deployment(PLAIN));
    for only in ["web", "deployment/web"] {
        let told = injected(&text, &Options { only: vec![only.into()], ..options() });
        assert!(told.text.starts_with(&format!("{database}---\n{owned}---\n")), "{}", told.text);
        assert_eq!(told.text.matches("name: outrigger\n").count(), 2, "container and port: {}", told.text);
    }
    let told = injected(&text, &options());
    assert!(told.text.contains(owned), "{}", told.text);
    let warnings: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
    assert!(warnings.iter().any(|told| told.contains("it belongs to ReplicaSet/web-0")), "{warnings:?}");
}

// ---- the chart

#[test]
fn the_sidecar_is_the_one_of_the_chart() {
    let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("helm/outrigger");
    let values = fs::read_to_string(chart.join("values.yaml")).unwrap();
    let section = |name: &str| {
        let (_, rest) = values.split_once(&format!("\n{name}:\n")).unwrap();
        let lines = rest.lines().take_while(|line| line.is_empty() || line.starts_with(' '));
        let lines =
            lines.filter(|line| !line.trim_start().starts_with('#')).map(|line| line.trim().replace('"', ""));
        Vec::from_iter(lines.filter(|line| !line.is_empty()))
    };
    let text = injected(&deployment(PLAIN), &Options::default()).text.replace('"', "");
    for (key, port) in [("client", "19080"), ("admin", "19090"), ("probes", "19091")] {
        assert!(section("ports").contains(&format!("{key}: {port}")), "{key}");
        assert!(text.contains(port), "{port}");
    }
    assert!(section("image").contains(&"repository: outrigger".into()));
    assert!(text.contains(concat!("image: outrigger:", env!("CARGO_PKG_VERSION"))), "{text}");
    let lists = |line: &str| line.replace("[ALL]", "\n- ALL");
    for line in ["resources", "securityContext", "probes"].into_iter().flat_map(section) {
        for line in lists(&line).lines().map(str::trim_end) {
            let is_section = matches!(line, "startup:" | "readiness:" | "liveness:");
            assert!(is_section || text.lines().any(|own| own.trim() == line), "no {line} in\n{text}");
        }
    }
    let config = block(&text, "outrigger.yaml: |").replace("\n- ", " ").replace("private", "[private]");
    for line in section("config") {
        assert!(config.lines().any(|own| own.trim() == line), "no {line} in\n{config}");
    }
    let template = fs::read_to_string(chart.join("templates/_sidecar.tpl")).unwrap();
    let fixed = [
        "- name: outrigger-probe",
        "- name: outrigger-config",
        "mountPath: /etc/outrigger/config",
        "path: /readyz",
        "path: /healthz",
        "- name: POD_IP",
        "- name: OUTRIGGER__ADMIN__PROBE_ADDRESS",
        "fieldPath: status.podIP",
        "readOnly: true",
        "- drain",
    ];
    for line in fixed {
        assert!(template.contains(line) && text.contains(line), "{line}");
    }
}

// ---- the command

/// Exit code, standard output, standard error.
fn run(args: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.arg("inject").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Whoever refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_takes_a_file_or_standard_input_and_keeps_warnings_out_of_the_manifest() {
    let file = folder().join("deployment.yaml");
    let (code, from_file, told) = run(&["--service", file.to_str().unwrap()], "");
    assert_eq!((code, told.as_str()), (Some(0), ""));
    let golden = read("deployment.out.yaml");
    let image = concat!("outrigger:", env!("CARGO_PKG_VERSION"));
    assert_eq!(from_file, golden.replace("registry.example.com/outrigger:1.2.3", image));
    let (code, from_stdin, told) =
        run(&["-", "--image", "registry.example.com/outrigger:1.2.3"], &read("deployment.yaml"));
    assert_eq!(code, Some(0));
    assert_eq!(from_stdin, golden.replace("targetPort: 19080", "targetPort: ws"));
    assert!(told.contains("outrigger: warning: standard input: document 2, Service/chat"), "{told}");

    // A cluster without native sidecars has no sleep action either.
    let (code, old, _) = run(&["-", "--native-sidecar", "false"], &deployment(PLAIN));
    assert_eq!(code, Some(0));
    assert!(!old.contains("initContainers") && !old.contains("restartPolicy"), "{old}");
    assert!(old.contains("- sleep\n") && !old.contains("sleep:\n"), "{old}");
}

#[test]
fn a_refusal_writes_nothing_to_standard_output_and_is_exit_1_a_wrong_configuration_exit_2() {
    let manifest = deployment(PLAIN);
    let bad = TempFile::new("bad.yaml", "listen: {adress: a}\n");
    let bad_path = bad.path();
    let cases: [(&[&str], &str, i32, &str); 7] = [
        (
            &["-"],
            &deployment(&PLAIN.replace("3000", "19080")),
            1,
            "standard input: document 1, Deployment/web",
        ),
        (&["-"], "", 1, "if it comes from a command"),
        (&["/nowhere/app.yaml"], "", 1, "cannot read the manifest /nowhere/app.yaml"),
        (&["-", "--config", bad_path], &manifest, 2, "did you mean `address`?"),
        (&["-", "--config", bad_path, "--config-map", "a"], &manifest, 2, "cannot be used with"),
        (&["-", "--native-sidecar", "maybe"], &manifest, 2, "maybe"),
        (
            &["-", "--config", "/nowhere/outrigger.yaml"],
            &manifest,
            1,
            "cannot read the configuration /nowhere",
        ),
    ];
    for (args, input, expected, words) in cases {
        let (code, out, told) = run(args, input);
        assert_eq!((code, out.as_str()), (Some(expected), ""), "{args:?}: {told}");
        assert!(told.contains(words), "{args:?}: no {words} in {told}");
    }
}

#[test]
fn a_configuration_may_name_files_that_only_the_pod_has() {
    let files = "listen: {tls: {cert_file: /nowhere/tls.crt, key_file: /nowhere/tls.key}}\n";
    let file = TempFile::new("files.yaml", files);
    let (code, out, told) = run(&["-", "--config", file.path()], &deployment(PLAIN));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("the pod has to have it") && told.contains("/nowhere/tls.crt"), "{told}");
    assert!(out.contains("cert_file: /nowhere/tls.crt"), "{out}");
}
