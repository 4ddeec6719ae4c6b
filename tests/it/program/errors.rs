//! What an operator is told when something is wrong, provoked with the program itself: the cause once, what to do, and
//! no word that only a programmer knows.

use std::fs;
use std::path::Path;

use rcgen::KeyPair;
use regex::Regex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Builder, Output};
use crate::support::files::TempFile;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;
use crate::support::wanted;

/// Fails if a text has something in it that is for programmers: names of types and variants, values as `Debug` shows
/// them, a cause that stands there twice.
#[track_caller]
fn hold_for_people(text: &str) {
    let programmers = [
        // Some("x"), InvalidCertificate(UnknownIssuer), Os { code: 2, kind: NotFound }
        r#"\b[A-Z][A-Za-z0-9]*\((?:[A-Z"\[0-9])"#,
        r"\b[A-Z][A-Za-z0-9]* \{ ?[a-z_]+:",
        r"\b(?:Some|Ok|Err)\(",
        r"unexpected error:|called `|unwrap|panicked|src/[a-z_/]+\.rs",
        r"\b(?:std|io|hyper|rustls|tokio|serde|core|alloc)::",
    ];
    for pattern in programmers {
        let found = Regex::new(pattern).expect("it is a pattern").find(text);
        assert!(found.is_none(), "{:?} in\n{text}", found.map(|found| found.as_str()));
    }
    // Words that are made of several, but those that are so in the world outside.
    let known = [
        "WebSocket",
        "ConfigMap",
        "ReplicaSet",
        "StatefulSet",
        "DaemonSet",
        "ReplicaSets",
        "StatefulSets",
        "DaemonSets",
        "WebSockets",
    ];
    for word in Regex::new(r"\b(?:[A-Z][a-z]+){2,}\b").expect("it is a pattern").find_iter(text) {
        assert!(known.contains(&word.as_str()), "{} in\n{text}", word.as_str());
    }
    for line in text.lines() {
        assert!(line.matches("(os error ").count() <= 1, "a cause twice in\n{line}");
        let parts: Vec<&str> = line.split(": ").filter(|part| part.len() > 6).collect();
        for (at, part) in parts.iter().enumerate() {
            assert!(!parts[..at].contains(part), "{part:?} twice in\n{line}");
        }
    }
}

#[track_caller]
fn told(output: &Output, code: i32, words: &[&str]) {
    assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{}", output.stderr);
    assert!(output.stderr.starts_with("outrigger: "), "{}", output.stderr);
    hold_for_people(&output.stderr);
    for word in words {
        assert!(output.stderr.contains(word), "no {word:?} in\n{}", output.stderr);
    }
}

#[test]
fn what_is_for_programmers_is_found() {
    for text in [
        "user Some(\"ann\")",
        "invalid peer certificate: UnknownIssuer",
        "Os { code: 2, kind: NotFound }",
        "cannot connect: ConnectionRefused",
        "a: refused (os error 111): refused (os error 111)",
        "cannot listen: address in use: address in use",
        "client error: hyper::Error(Canceled)",
        "unexpected error: failed to parse private key",
    ] {
        let is_found = std::panic::catch_unwind(|| hold_for_people(text)).is_err();
        assert!(is_found, "{text}");
    }
    hold_for_people(
        "outrigger: cannot listen on [::1]:80 (listen.address): Permission denied (os error 13); port 80 …",
    );
}

// ---- the start

#[tokio::test]
async fn a_port_that_cannot_be_opened_is_told_once_with_its_setting_and_what_to_do() {
    let holder = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let taken = holder.local_addr().expect("it has an address").to_string();
    let port = taken.rsplit(':').next().expect("it has a port");
    let free = "127.0.0.1:0";
    let in_use = format!("something else listens on port {port}");
    for command in ["run", "demo"] {
        let listen = Builder::new(&[command, "--listen", &taken, "--admin", free]).output().await;
        told(&listen, 1, &["(listen.address): Address already in use", &in_use, "--listen", "another port"]);
        let admin = Builder::new(&[command, "--listen", free, "--admin", &taken]).output().await;
        told(&admin, 1, &["(admin.address): Address already in use", &in_use, "--admin"]);
    }
    let probes = Builder::new(&["run", "--listen", free, "--admin", free])
        .env("OUTRIGGER__ADMIN__PROBE_ADDRESS", &taken);
    told(&probes.output().await, 1, &["(admin.probe_address)", &in_use]);
    let elsewhere = Builder::new(&["run", "--listen", "192.0.2.1:8080", "--admin", free]).output().await;
    told(&elsewhere, 1, &["this machine has no such address", "0.0.0.0 is all of IPv4"]);

    let folder = TempFile::new("no-socket", "");
    let long = format!("unix:/tmp/{}", "x".repeat(200));
    for (address, words) in [
        ("unix:/nowhere/x.sock", ["No such file or directory", "its folder is not there: make it"]),
        (&format!("unix:{}", folder.path()), ["a regular file is there", "name another path"]),
        (&long, ["listen.unix", "at most 107 bytes"]),
    ] {
        told(&Builder::new(&["run", "--listen", address, "--admin", free]).output().await, 1, &words);
    }
    drop(holder);
}

#[tokio::test]
async fn a_port_below_1024_without_the_right_to_it_says_so_and_three_ways_out() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if first.trim() != "1024" {
        wanted::cannot_run(&format!(
            "ports from {} on need no right here: sysctl net.ipv4.ip_unprivileged_port_start=1024",
            first.trim()
        ));
        return;
    }
    let mut command = tokio::process::Command::new("setpriv");
    // Whoever is not root has not got the right in the first place.
    command.args(["--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]);
    command.args([
        env!("CARGO_BIN_EXE_outrigger"),
        "run",
        "--listen",
        "127.0.0.1:80",
        "--admin",
        "127.0.0.1:0",
    ]);
    // Whatever is set for the tests is none of its settings.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = match command.output().await {
        Ok(output) => output,
        Err(error) => {
            wanted::cannot_run(&format!("there is no setpriv, which util-linux has ({error})"));
            return;
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output =
        Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) };
    let ways = ["CAP_NET_BIND_SERVICE", "net.ipv4.ip_unprivileged_port_start", "a port above 1023"];
    told(&output, 1, &[&["(listen.address): Permission denied", "port 80"], &ways[..]].concat());
}

// ---- certificates and keys

struct Files {
    cert: TempFile,
    key: TempFile,
    other_key: TempFile,
    empty: TempFile,
    text: TempFile,
    damaged: TempFile,
    encrypted: TempFile,
    old_encrypted: TempFile,
    unfit: TempFile,
    der_key: TempFile,
    der_cert: TempFile,
    archive: TempFile,
}

impl Files {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let pem =
            |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        // What stands behind the version of an archive (RFC 7292) and of a key of X25519 (RFC 8410) matters to nobody.
        let x25519 = "MC4CAQAwBQYDK2VuBCIEIHcHbQpzGKV9PBbBclGyZkXfTC+H68CZKrF3+6UduSwq";
        let put = |name: &str, bytes: &[u8]| {
            let file = TempFile::new(name, "");
            fs::write(file.path(), bytes).expect("the folder is writable");
            file
        };
        let cert = made.cert.pem();
        let key = made.signing_key.serialize_pem();
        Self {
            damaged: put("damaged.pem", &cert.as_bytes()[..cert.len() / 2]),
            other_key: put("other.pem", KeyPair::generate().expect("a key").serialize_pem().as_bytes()),
            empty: put("empty.pem", b""),
            text: put("text.pem", b"the certificate is in the other file\n"),
            encrypted: put("encrypted.pem", pem("ENCRYPTED PRIVATE KEY", "MIGj").as_bytes()),
            old_encrypted: put(
                "old.pem",
                pem("EC PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,A0\n\nAAAA").as_bytes(),
            ),
            unfit: put("x25519.pem", pem("PRIVATE KEY", x25519).as_bytes()),
            der_key: put("key.der", made.signing_key.serialized_der()),
            der_cert: put("cert.der", made.cert.der()),
            archive: put("store.p12", b"\x30\x82\x0b\xd6\x02\x01\x03\x30\x82\x0b\x9c"),
            cert: put("cert.pem", cert.as_bytes()),
            key: put("key.pem", key.as_bytes()),
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_the_certificate_or_the_key_it_should_be_is_named_with_what_it_holds() {
    let files = Files::new();
    let Files { cert, key, .. } = &files;
    let cases: [(&TempFile, &TempFile, &TempFile, &str); 18] = [
        // certificate, key, the one that is to blame, what is told of it
        (cert, cert, cert, "holds no private key in PEM, but a certificate"),
        (key, key, key, "holds no certificate in PEM, but a private key"),
        (key, cert, key, "holds no certificate in PEM, but a private key"),
        (&files.empty, key, &files.empty, "empty"),
        (cert, &files.empty, &files.empty, "empty"),
        (&files.text, key, &files.text, "but text without a line"),
        (cert, &files.text, &files.text, "but text without a line"),
        (&files.damaged, key, &files.damaged, "not well-formed PEM"),
        (cert, &files.encrypted, &files.encrypted, "encrypted with a passphrase"),
        (cert, &files.old_encrypted, &files.old_encrypted, "encrypted with a passphrase"),
        (cert, &files.old_encrypted, &files.old_encrypted, "openssl pkey -in FILE -out FILE"),
        (&files.encrypted, key, &files.encrypted, "encrypted with a passphrase"),
        (cert, &files.unfit, &files.unfit, "RSA of 2048 to 8192 bits, ECDSA"),
        (&files.archive, key, &files.archive, "but a PKCS#12 archive (`openssl pkcs12"),
        (cert, &files.archive, &files.archive, "but a PKCS#12 archive (`openssl pkcs12"),
        (&files.der_cert, key, &files.der_cert, "certificate in DER (`openssl x509"),
        (cert, &files.der_key, &files.der_key, "private key in DER (`openssl pkey"),
        (cert, &files.other_key, &files.other_key, "does not belong to the first certificate in"),
    ];
    for command in ["check", "run"] {
        for (cert, key, blamed, words) in &cases {
            let tls = format!("{{cert_file: {}, key_file: {}}}", cert.path(), key.path());
            let output = Builder::new(&[command]).env("OUTRIGGER__LISTEN__TLS", &tls).output().await;
            told(&output, 2, &[blamed.path(), "listen.tls.", words]);
            assert!(!output.stderr.contains("MIG"), "nothing of a key is shown: {}", output.stderr);
        }
    }
    let tls = |setting: &str, file: &TempFile| format!("{{{setting}: {}}}", file.path());
    for (file, words) in [
        (key, "but a private key"),
        (&files.archive, "PKCS#12"),
        (&files.der_cert, "in DER"),
        (&files.text, "but text"),
    ] {
        let upstream = Builder::new(&["check", "--upstream", "https://a"])
            .env("OUTRIGGER__UPSTREAM__TLS", &tls("ca_file", file));
        told(&upstream.output().await, 2, &["upstream.tls.ca_file", file.path(), words]);
        let clients = format!(
            "{{cert_file: {}, key_file: {}, client_ca_file: {}}}",
            cert.path(),
            key.path(),
            file.path()
        );
        let clients = Builder::new(&["check"]).env("OUTRIGGER__LISTEN__TLS", &clients);
        told(&clients.output().await, 2, &["listen.tls.client_ca_file", file.path(), words]);
    }
}

// ---- other commands, other files

#[tokio::test]
async fn what_else_can_be_wrong_at_a_start_or_in_a_command_is_told_for_people() {
    let binary_file = TempFile::new("binary", "");
    fs::write(binary_file.path(), [0xff, 0x30, 0x82]).expect("the folder is writable");
    let broken = TempFile::new("broken.yaml", "a: [\n");
    let empty = TempFile::new("empty", "");
    let (binary, folder) = (binary_file.path(), env!("CARGO_TARGET_TMPDIR"));
    let manifest = TempFile::new("pod.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n");
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let gone = format!("http://{}", nobody.local_addr().expect("it has an address"));
    drop(nobody);
    let silly = another_protocol().await;
    let commands: [(&[&str], i32, &str); 19] = [
        (&["check", "--config", "/nowhere"], 2, "/nowhere"),
        (&["check", "--config", folder], 2, folder),
        (&["check", "--config", binary], 2, "not UTF-8"),
        (&["check", "--config", broken.path()], 2, "broken.yaml"),
        (&["run", "--config", "/nowhere"], 2, "/nowhere"),
        (&["run", "--upstream", "app:3000"], 2, "--upstream"),
        (&["run", "--listen", "everywhere"], 2, "--listen"),
        (&["inject", "/nowhere"], 1, "/nowhere: No such file"),
        (&["inject", folder], 1, "Is a directory"),
        (&["inject", binary], 1, "save it as UTF-8"),
        (&["inject", broken.path()], 1, "document 1: line 2"),
        (&["inject", empty.path()], 1, "give a manifest"),
        (&["inject", manifest.path(), "--config", "/nowhere"], 1, "/nowhere: No such file"),
        (&["inject", manifest.path(), "--image", ""], 1, "name the image"),
        (&["drain", "--admin", &gone], 1, "is the proxy running?"),
        (
            &["drain", "--admin", "http://no-such-host.invalid:9090"],
            1,
            "nothing answers at no-such-host.invalid:9090",
        ),
        (&["drain", "--admin", &silly], 1, "does not speak HTTP/1.1"),
        (&["drain", "--token-file", binary], 1, "is not UTF-8"),
        (&["publish", "--route", "a", "--file", "/nowhere"], 1, "the message in /nowhere: No such file"),
    ];
    for (args, code, words) in commands {
        told(&Builder::new(args).output().await, code, &[words]);
    }
    let files = [
        ("POLICY__AUTH", "{jwt: {jwks_file: FILE}}"),
        ("POLICY__AUTH", "{jwt: {public_key_file: FILE, algorithms: [ES256]}}"),
        ("POLICY__AUTH", "{api_keys: {file: FILE}}"),
        ("ADMIN__TOKEN_FILE", "FILE"),
        ("LISTEN__TLS", "{cert_file: FILE, key_file: FILE}"),
    ];
    for (section, text) in files {
        for file in ["/nowhere", folder, empty.path(), binary] {
            let output = Builder::new(&["check"])
                .env(&format!("OUTRIGGER__{section}"), &text.replace("FILE", file))
                .output()
                .await;
            told(&output, 2, &[file]);
        }
    }
    if Path::new("/dev/full").exists() {
        let full = "exec \"$0\" check > /dev/full";
        let output =
            tokio::process::Command::new("sh").args(["-c", full, env!("CARGO_BIN_EXE_outrigger")]).output();
        let output = output.await.expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1));
        hold_for_people(&said);
        assert!(said.contains("cannot write to standard output: No space left"), "{said}");
    }
}

/// Greets as SSH does.
async fn another_protocol() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\nnothing of HTTP\r\n\r\n").await;
        }
    });
    url
}

// ---- the log

/// Words of a line that are for people: all but when and where in the program it was written.
fn words(line: &str) -> String {
    let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let fields = line.as_object().expect("a line is an object");
    let own = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "timestamp" | "target" | "level"));
    own.map(|(name, value)| {
        format!("{name} {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    })
    .collect()
}

#[tokio::test]
async fn lines_about_servers_that_fail_are_for_people() {
    let silly = another_protocol().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let gone = format!("http://{}", nobody.local_addr().expect("it has an address"));
    drop(nobody);
    let hangs_up = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let rude = format!("http://{}", hangs_up.local_addr().expect("it has an address"));
    tokio::spawn(async move { while hangs_up.accept().await.is_ok() {} });
    let secure = silly.replace("http://", "https://");
    let servers = [
        (gone.as_str(), "Connection refused"),
        ("http://no-such-host.invalid", "no-such-host.invalid"),
        ("unix:///nowhere/app.sock", "/nowhere/app.sock"),
        (silly.as_str(), "upstream"),
        (rude.as_str(), "upstream"),
        (&secure, "TLS"),
    ];
    for (url, about) in servers {
        let routes = "[{name: feed, path: '/feed/{*rest}', mode: broadcast}]";
        let mut running = Binary::run(url, &[("ROUTES", routes), ("LOG__LEVEL", "debug")]).await;
        for path in ["/chat", "/feed/a"] {
            let refused = running.dial().path(path).refused().await;
            assert_eq!(refused.status(), 502, "{url}");
            hold_for_people(&refused.text());
        }
        let refused = running.plain().answer().await.response;
        assert_eq!(refused.status(), 502, "{url}");
        hold_for_people(&refused.text());
        for message in ["\"handshake failed\"", "\"request failed\"", "\"no feed\""] {
            let line = running.binary.line_with(message).await;
            assert!(line.contains(about), "{url}: {line}");
        }
        running.binary.signal("TERM").await;
        assert_eq!(running.binary.exited().await.code(), Some(0));
        for line in running.binary.lines() {
            let words = words(&line);
            // Other people's lines of that level are for programmers.
            if line.contains("\"target\":\"outrigger") {
                hold_for_people(&words);
            }
        }
    }
}

#[tokio::test]
async fn lines_about_clients_and_services_that_fail_are_for_people() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let gone = format!("http://{}", nobody.local_addr().expect("it has an address"));
    drop(nobody);
    let echo = Upstream::echo().await;
    let settings = [
        ("POLICY__AUTH", format!("{{jwt: {{jwks_url: '{gone}/keys'}}}}"), "key set cannot be fetched"),
        ("POLICY__AUTH", format!("{{forward: {{url: '{gone}/auth'}}}}"), "authentication service fails"),
        ("LISTEN__PROXY_PROTOCOL", "required".to_owned(), "PROXY header"),
        ("POLICY__ORIGINS", "['https://app.example.com']".to_owned(), "refused"),
    ];
    for (section, value, message) in settings {
        let mut running = Binary::run(&echo.url(), &[(section, &value), ("LOG__LEVEL", "debug")]).await;
        eventually(DEADLINE, || async {
            let mut stream = tokio::net::TcpStream::connect(running.address()).await.expect("it listens");
            let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                           Origin: https://evil.example\r\nAuthorization: Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA\r\n\
                           Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = [0; 1024];
            let _ = stream.read(&mut answer).await;
            let is_told = running.binary.lines().iter().any(|line| line.contains(message));
            is_told.then_some(()).ok_or_else(|| running.binary.said())
        })
        .await;
        running.binary.signal("TERM").await;
        assert_eq!(running.binary.exited().await.code(), Some(0));
        for line in running.binary.lines().iter().filter(|line| line.contains("\"target\":\"outrigger")) {
            hold_for_people(&words(line));
        }
    }
}

#[test]
fn no_line_of_the_log_shows_a_value_as_programmers_see_it() {
    fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in fs::read_dir(folder).expect("it is a folder") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                files(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    let line = Regex::new(r"(?s)\b(?:trace|debug|info|warn|error)!\((.*?)\);").expect("it is a pattern");
    let shown = Regex::new(r#"(?:[(,=]\s*)\?[a-z]|:\?\}"#).expect("it is a pattern");
    let mut lines = 0;
    for file in found {
        let source = fs::read_to_string(&file).expect("it is text");
        for event in line.captures_iter(&source) {
            lines += 1;
            assert!(!shown.is_match(&event[1]), "{}: {}", file.display(), &event[0]);
        }
    }
    assert!(lines > 40, "{lines} lines were found");
}
