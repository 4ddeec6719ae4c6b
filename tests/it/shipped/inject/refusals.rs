//! What no sidecar can be put into, and what is said of it.

use outrigger::inject::{Configuration, Options};

use super::{PLAIN, deployment, options, refused};

/// What changes in the options, and what the refusal says.
type Case = (&'static str, String, fn(&mut Options), &'static [&'static str]);

fn cases() -> Vec<Case> {
    fn none(_: &mut Options) {}
    let pod = |spec: &str| deployment(spec);
    let with = |from: &str, to: &str| deployment(&PLAIN.replace(from, to));
    vec![
        ("nothing", String::new(), none, &["app.yaml: the manifest", "nothing", "one object or more"]),
        ("only comments", "# a\n---\n# b\n".into(), none, &["nothing"]),
        ("no YAML", "a: [1\n".into(), none, &["document 1", "line 2, column 1", "not valid YAML", "kubectl"]),
        ("a second document that is none", "kind: A\n---\na: *b\n".into(), none, &["document 2: line 3"]),
        ("a key twice", "kind: A\nkind: B\n".into(), none, &["line 2, column 1", "\"kind\" is given twice"]),
        ("no object", "- 1\n".into(), none, &["document 1", "a list", "apiVersion and kind"]),
        (
            "no pod spec",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n".into(),
            none,
            &["Pod/a: spec", "`containers`"],
        ),
        (
            "no template",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n"
                .into(),
            none,
            &["Deployment/a: spec.template.spec", "nothing"],
        ),
        (
            "no containers",
            pod("{}"),
            none,
            &["Deployment/web: spec.template.spec.containers", "nothing", "a list of maps"],
        ),
        ("empty containers", pod("{containers: []}"), none, &["no container of yours"]),
        ("words for containers", pod("{containers: [a]}"), none, &["a list", "a list of maps"]),
        ("no name", pod("{containers: [{image: a}]}"), none, &["spec.containers[0].name", "nothing"]),
        (
            "labels that are none",
            with("{containers", "{volumes: 5, containers"),
            none,
            &["spec.volumes", "\"5\""],
        ),
        (
            "several containers",
            with("[{name: app", "[{name: side}, {name: app"),
            none,
            &["several containers", "side, app", "--container NAME"],
        ),
        (
            "no such container",
            pod(PLAIN),
            |options| options.container = Some("ap".into()),
            &["no container \"ap\"", "accepted: app", "--container"],
        ),
        (
            "no port",
            with(", ports: [{containerPort: 3000, name: http}]", ""),
            none,
            &["no port", "--upstream-port NUMBER"],
        ),
        (
            "several ports",
            with("[{containerPort: 3000,", "[{containerPort: 9100}, {containerPort: 3000,"),
            none,
            &["spec.containers[app].ports", "several ports", "9100, 3000 (http)", "--upstream-port"],
        ),
        (
            "no such port",
            pod(PLAIN),
            |options| options.upstream_port = Some("3001".into()),
            &["spec.containers[app].ports", "no port 3001", "3000 (http)"],
        ),
        (
            "no such name of a port",
            pod(PLAIN),
            |options| options.upstream_port = Some("ws".into()),
            &["no port ws", "3000 (http)"],
        ),
        (
            "port nought",
            with("ports: [{containerPort: 3000, name: http}]", "ports: []"),
            |options| options.upstream_port = Some("0".into()),
            &["no port 0", "a number from 1 to 65535"],
        ),
        (
            "the client port is taken",
            with("3000", "19080"),
            none,
            &["spec.containers[app].ports", "19080, which is the proxy's", "--port"],
        ),
        (
            "the admin port is taken by a neighbour",
            with("[{name: app", "[{name: side, ports: [{containerPort: 19090}]}, {name: app"),
            |options| options.container = Some("app".into()),
            &["spec.containers[side].ports", "19090", "--admin-port"],
        ),
        (
            "the probe port is taken by another sidecar",
            with(
                "{containers",
                "{initContainers: [{name: mesh, restartPolicy: Always, ports: [{containerPort: 19091}]}], containers",
            ),
            none,
            &["spec.initContainers[mesh].ports", "19091", "--probe-port"],
        ),
        (
            "a port that is not named is the proxy's",
            with("ports: [{containerPort: 3000, name: http}]", "ports: []"),
            |options| options.upstream_port = Some("19080".into()),
            &["the server's port", "19080, which is the proxy's"],
        ),
        (
            "the same port twice",
            pod(PLAIN),
            |options| options.ports.admin = 19080,
            &["--admin-port", "19080", "three different ports"],
        ),
        (
            "the host's network",
            with("{containers", "{hostNetwork: true, containers"),
            none,
            &["spec.hostNetwork", "standalone"],
        ),
        (
            "a container of our name",
            with("[{name: app", "[{name: outrigger}, {name: app"),
            none,
            &["spec.template.spec.containers", "\"outrigger\"", "did not put there", "rename"],
        ),
        (
            "an init container of our name",
            with("{containers", "{initContainers: [{name: outrigger}], containers"),
            none,
            &["spec.template.spec.initContainers", "\"outrigger\""],
        ),
        (
            "a volume of our name",
            with("{containers", "{volumes: [{name: outrigger-config, emptyDir: {}}], containers"),
            none,
            &["spec.template.spec.volumes", "\"outrigger-config\""],
        ),
        (
            "a grace period that is none",
            with("{containers", "{terminationGracePeriodSeconds: soon, containers"),
            none,
            &["spec.template.spec.terminationGracePeriodSeconds", "\"soon\"", "a number of seconds"],
        ),
        (
            "a name that is not there",
            pod(PLAIN),
            |options| options.only = vec!["Deployment/wbe".into()],
            &["--only", "wbe", "accepted: Deployment/web"],
        ),
        (
            "a configuration with another address",
            pod(PLAIN),
            |options| options.configuration = Configuration::Text("listen: {address: '0.0.0.0:80'}".into()),
            &["--config: listen.address", "\"0.0.0.0:80\"", "accepted: 0.0.0.0:19080", "--port"],
        ),
        (
            "a configuration with a probe address",
            pod(PLAIN),
            |options| {
                options.configuration = Configuration::Text("admin: {probe_address: '0.0.0.0:80'}".into());
            },
            &["--config: admin.probe_address", "--probe-port"],
        ),
        (
            "a configuration on a Unix socket",
            pod(PLAIN),
            |options| options.configuration = Configuration::Text("listen: {unix: /run/a.sock}".into()),
            &["--config: listen.unix", "need a port"],
        ),
        (
            "a token for everybody to read",
            pod(PLAIN),
            |options| options.configuration = Configuration::Text("admin: {token: hunter2hunter2}".into()),
            &["--config: admin.token", "not shown", "admin.token_file"],
        ),
        (
            "a configuration that is none",
            pod(PLAIN),
            |options| options.configuration = Configuration::Text("listen: {adress: a}".into()),
            &["--config", "listen.adress", "did you mean `address`?", "outrigger check"],
        ),
        (
            "two words on where the server is",
            with("{containerPort: 3000", "{containerPort: 4000}, {containerPort: 3000"),
            |options| {
                options.upstream_port = Some("4000".into());
                options.configuration =
                    Configuration::Text("upstream: {url: 'http://127.0.0.1:3000'}".into());
            },
            &["--upstream-port", "4000, and upstream.url says 3000"],
        ),
        (
            "two workloads of one name",
            format!(
                "{}---\n{}",
                pod(PLAIN),
                pod(&PLAIN.replace("3000", "4000")).replace("Deployment", "StatefulSet")
            ),
            none,
            &["StatefulSet/web: its ConfigMap", "web-outrigger, which Deployment/web has as well", "--only"],
        ),
        ("no image", pod(PLAIN), |options| options.image = "a b".into(), &["--image", "\"a b\""]),
    ]
}

#[test]
fn what_cannot_be_is_refused_with_its_place_what_is_accepted_and_what_to_do() {
    for (what, text, change, words) in cases() {
        let mut options = options();
        change(&mut options);
        let told = refused(&text, &options).to_string();
        assert!(told.contains("app.yaml"), "{what}: the file is not named in {told}");
        for word in ["found:", "accepted:", "to do:"].iter().chain(words) {
            assert!(told.contains(word), "{what}: no {word:?} in\n{told}");
        }
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn everything_that_is_refused_is_told_at_once_each_with_its_place() {
    let text = format!(
        "apiVersion: v1\nkind: List\nitems:\n- {{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{hostNetwork: true, containers: [{{name: x}}]}}}}\n\
         - {{apiVersion: v1, kind: Pod, metadata: {{name: b}}, spec: {{containers: [{{name: x}}]}}}}\n---\n{}",
        deployment(&PLAIN.replace("3000", "19080"))
    );
    let told = refused(&text, &options()).to_string();
    for words in [
        "nothing was written: 3 problems",
        "app.yaml: document 1, item 1, Pod/a: spec.hostNetwork",
        "app.yaml: document 1, item 2, Pod/b: spec.containers[x].ports",
        "app.yaml: document 2, Deployment/web: spec.template.spec.containers[app].ports",
    ] {
        assert!(told.contains(words), "no {words} in\n{told}");
    }
}
