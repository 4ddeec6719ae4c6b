//! Secrets that a configuration names files of: `--secret NAME:PATH` mounts them for the proxy alone.

use outrigger::inject::{Configuration, Options, SecretMount};

use super::{PLAIN, deployment, injected, options, refused, run};
use crate::support::files::TempFile;

fn secrets(given: &[(&str, &str)], configuration: &str) -> Options {
    let secret = |(name, path): &(&str, &str)| SecretMount { name: (*name).into(), path: (*path).into() };
    Options {
        secrets: given.iter().map(secret).collect(),
        configuration: Configuration::Text(configuration.into()),
        ..options()
    }
}

const TLS: &str = "listen: {tls: {cert_file: /etc/outrigger/tls/tls.crt, key_file: /etc/outrigger/tls/tls.key}}\n\
                   admin: {token_file: /run/secrets/token}\n";

#[test]
fn a_secret_is_mounted_for_the_proxy_and_nobody_else() {
    let options = secrets(&[("chat-tls", "/etc/outrigger/tls"), ("operators", "/run/secrets/")], TLS);
    let told = injected(&deployment(PLAIN), &options);
    assert_eq!(told.warnings, [], "every file has its mount");
    for block in [
        "- name: outrigger-secret-chat-tls\n          mountPath: /etc/outrigger/tls\n          readOnly: true\n",
        "- name: outrigger-secret-operators\n          mountPath: /run/secrets\n          readOnly: true\n",
        "- name: outrigger-secret-chat-tls\n        secret:\n          secretName: chat-tls\n",
        "- name: outrigger-secret-operators\n        secret:\n          secretName: operators\n",
    ] {
        assert_eq!(told.text.matches(block).count(), 1, "{block} in\n{}", told.text);
    }
    assert_eq!(injected(&told.text, &options).text, told.text);
}

#[test]
fn secrets_stay_until_others_are_said_and_what_an_operator_added_stays_beside_them() {
    let first = secrets(&[("chat-tls", "/etc/outrigger/tls"), ("operators", "/run/secrets")], TLS);
    let once = injected(&deployment(PLAIN), &first).text;
    let once = once.replace(
        "mountPath: /run/secrets\n          readOnly: true\n",
        "mountPath: /run/secrets\n          readOnly: true\n        - name: mine\n          mountPath: /mine\n",
    );
    let (_, alone) = once.split_once("---\n").unwrap();
    for text in [&*once, alone] {
        assert_eq!(injected(text, &options()).text, text, "nothing was said of secrets");
    }
    let second = secrets(&[("new.tls", "/etc/outrigger/tls"), ("new.tls", "/other")], TLS);
    let told = injected(&once, &second);
    assert!(!told.text.contains("chat-tls") && !told.text.contains("operators"), "{}", told.text);
    assert!(told.text.contains("mountPath: /mine\n"), "{}", told.text);
    // A volume's name has no dots.
    assert_eq!(told.text.matches("secretName: new.tls\n").count(), 1, "{}", told.text);
    assert!(!told.text.contains("outrigger-secret-new.tls"), "{}", told.text);
    assert_eq!(
        told.text.matches("- name: outrigger-secret-").count(),
        3,
        "two mounts of one volume: {}",
        told.text
    );
    assert_eq!(injected(&told.text, &second).text, told.text);
}

#[test]
fn a_file_that_a_configuration_names_and_nothing_mounts_is_told() {
    let told = injected(&deployment(PLAIN), &secrets(&[("chat-tls", "/etc/outrigger/tls")], TLS));
    let told: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    for words in ["Deployment/web: ", "admin.token_file", "/run/secrets/token", "--secret NAME:/run/secrets"]
    {
        assert!(told[0].contains(words), "no {words} in {told:?}");
    }
    // Neither a folder that begins with the same letters nor one above it holds it.
    for path in ["/run/secret", "/run/secrets/token/more"] {
        let told =
            injected(&deployment(PLAIN), &secrets(&[("a", path), ("chat-tls", "/etc/outrigger/tls")], TLS));
        assert_eq!(told.warnings.len(), 1, "{path}: {:?}", told.warnings);
    }
    // An operator's mount is as good.
    let text = injected(&deployment(PLAIN), &secrets(&[], TLS)).text.replace(
        "readOnly: true\n      volumes",
        "readOnly: true\n        - name: keys\n          mountPath: /run/secrets\n      volumes",
    );
    let (_, alone) = text.split_once("---\n").unwrap();
    let told = injected(alone, &secrets(&[("chat-tls", "/etc/outrigger/tls")], TLS));
    assert_eq!(told.warnings, [], "{}", told.text);
    // Routes have files, too.
    for (auth, key) in
        [("jwt: {jwks_file: /keys/a}", "jwt.jwks_file"), ("api_keys: {file: /keys/a}", "api_keys.file")]
    {
        let routes = format!("routes: [{{path: /a, policy: {{auth: {{{auth}}}}}}}]\n");
        let told = injected(&deployment(PLAIN), &secrets(&[], &routes));
        let told: Vec<_> = told.warnings.iter().map(ToString::to_string).collect();
        let key = format!("routes[0].policy.auth.{key} is /keys/a");
        assert!(told[0].contains(&key) && told[0].contains("NAME:/keys"), "{told:?}");
    }
}

#[test]
fn a_mount_that_cannot_be_is_refused() {
    for (given, words) in [
        (&[("a", "keys")][..], &["--secret", "\"keys\"", "an absolute path"][..]),
        (&[("a", "/")], &["--secret", "\"/\""]),
        (&[("a", "/keys/../etc")], &["--secret", "an absolute path"]),
        (&[("a", "/etc/outrigger/config")], &["--secret", "/etc/outrigger/config", "the configuration's"]),
        (&[("a", "/etc/outrigger/config/keys")], &["--secret", "the configuration's"]),
        (&[("a", "/etc/outrigger")], &["--secret", "the configuration's"]),
        (&[("a", "/outrigger")], &["--secret", "the program's"]),
        (&[("a", "/keys"), ("b", "/keys/")], &["--secret", "/keys, twice"]),
        (&[("A b", "/keys")], &["--secret", "\"A b\"", "the name of a Secret"]),
        (&[("", "/keys")], &["--secret", "the name of a Secret"]),
    ] {
        let refusals = refused(&deployment(PLAIN), &secrets(given, "")).to_string();
        for word in words.iter().chain(&["accepted:", "to do:"]) {
            assert!(refusals.contains(word), "{given:?}: no {word:?} in {refusals}");
        }
    }
    // What an operator mounted there is not pushed aside.
    let text = injected(&deployment(PLAIN), &options()).text.replace(
        "readOnly: true\n      volumes",
        "readOnly: true\n        - name: mine\n          mountPath: /keys\n      volumes",
    );
    let refusals = refused(&text, &secrets(&[("a", "/keys")], "")).to_string();
    assert!(
        refusals.contains("volumeMounts") && refusals.contains("/keys") && refusals.contains("mine"),
        "{refusals}"
    );
    // Nor is a volume that somebody else calls so.
    let text = deployment(
        &PLAIN.replace("{containers", "{volumes: [{name: outrigger-secret-a, emptyDir: {}}], containers"),
    );
    let refusals = refused(&text, &secrets(&[("a", "/keys")], "")).to_string();
    assert!(
        refusals.contains("spec.template.spec.volumes") && refusals.contains("outrigger-secret-a"),
        "{refusals}"
    );
}

#[test]
fn the_command_takes_secrets_as_name_and_path() {
    let file = TempFile::new("secrets.yaml", TLS);
    let config = file.path();
    let args = [
        "-",
        "--config",
        config,
        "--secret",
        "chat-tls:/etc/outrigger/tls",
        "--secret",
        "operators:/run/secrets",
    ];
    let (code, out, told) = run(&args, &deployment(PLAIN));
    assert_eq!(code, Some(0), "{told}");
    assert!(out.contains("secretName: chat-tls") && out.contains("secretName: operators"), "{out}");
    assert!(!told.contains("--secret NAME:"), "{told}");
    for (given, words) in [("chat-tls", "NAME:PATH"), ("chat-tls:keys", "an absolute path")] {
        let (code, out, told) = run(&["-", "--secret", given], &deployment(PLAIN));
        assert!(code != Some(0) && out.is_empty() && told.contains(words), "{given}: {told}");
    }
}
