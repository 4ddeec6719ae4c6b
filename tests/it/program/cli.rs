//! The command line, as a person or a container runs it: what it prints, and what it exits with.

use tokio::net::TcpListener;

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Builder};
use crate::support::client::RawClient;
use crate::support::files::TempFile;
use crate::support::link::Message;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;

/// Every port of the system's choice.
const PORTS: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

#[tokio::test]
async fn help_tells_the_commands_and_a_wrong_command_line_is_exit_2() {
    let help = Builder::new(&["--help"]).output().await;
    assert_eq!(help.code, Some(0));
    for command in [
        "run",
        "check",
        "demo",
        "drain",
        "health",
        "channels",
        "subscribers",
        "publish",
        "inject",
        "schema",
        "completions",
        "man",
    ] {
        assert!(help.stdout.lines().any(|line| line.trim_start().starts_with(command)), "{}", help.stdout);
        let own = Builder::new(&[command, "--help"]).output().await;
        assert_eq!(own.code, Some(0), "{command}");
        assert!(own.stdout.contains(&format!("Usage: outrigger {command}")), "{}", own.stdout);
    }
    let run = Builder::new(&["run", "--help"]).output().await.stdout;
    for flag in ["--config", "--listen", "--upstream", "--admin"] {
        assert!(run.contains(flag), "{flag} is missing: {run}");
    }
    let version = Builder::new(&["--version"]).output().await;
    assert_eq!(version.stdout, format!("outrigger {}\n", env!("CARGO_PKG_VERSION")));

    let wrong: [&[&str]; 4] = [&[], &["walk"], &["run", "--colour"], &["demo", "--listen", "nowhere"]];
    for args in wrong {
        let output = Builder::new(args).output().await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(output.stderr.contains("Usage") || output.stderr.contains("--help"), "{}", output.stderr);
    }
}

// ---- check

#[tokio::test]
async fn check_prints_what_is_in_force_and_what_it_prints_is_a_configuration() {
    let text = "listen: {address: '127.0.0.1:7001'}\npolicy: {heartbeat: {interval: 5s}}\n\
                routes: [{name: chat, path: '/chat/{*rest}', policy: {max_frame: 1KiB}}]\n";
    let file = TempFile::new("good.yaml", text);
    let output = Builder::new(&["check", "--config", file.path()]).output().await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    for line in ["  address: 127.0.0.1:7001", "    interval: 5s", "  idle_timeout: 10m", "- name: chat"] {
        assert!(output.stdout.lines().any(|told| told.contains(line)), "no {line} in\n{}", output.stdout);
    }
    let again = TempFile::new("again.yaml", &output.stdout);
    let second = Builder::new(&["check", "--config", again.path()]).output().await;
    assert_eq!((second.code, second.stdout), (Some(0), output.stdout), "{}", second.stderr);

    let nothing = Builder::new(&["check"]).output().await;
    assert_eq!(nothing.code, Some(0), "everything has a default: {}", nothing.stderr);
    assert!(nothing.stdout.contains("  url: http://127.0.0.1:3000\n"), "{}", nothing.stdout);
}

#[tokio::test]
async fn check_and_the_start_say_what_is_left_open_although_it_has_guards() {
    let text = "policy: {origins: ['https://app.example.com'], http: {mode: pass}}\n";
    let open = TempFile::new("open.yaml", text);
    let output = Builder::new(&["check", "--config", open.path()]).output().await;
    assert_eq!(output.code, Some(0), "it is no mistake");
    let expected = "outrigger: warning: route default: policy.http.mode is pass, so that plain HTTP, long polling too, \
                    goes past policy.origins; auto or guard has it meet them\n";
    assert_eq!(output.stderr, expected);
    assert!(!output.stdout.contains("warning"), "{}", output.stdout);
    let mut binary = Builder::new(&["run", "--config", open.path()]).args(&PORTS).spawn();
    let line = binary.line_with("goes past policy.origins").await;
    assert!(line.contains("WARN"), "{line}");
    binary.line_with("ready").await;

    let guarded = TempFile::new("guarded.yaml", "policy: {origins: ['https://app.example.com']}\n");
    let output = Builder::new(&["check", "--config", guarded.path()]).output().await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn check_tells_every_mistake_at_once_with_its_line_and_what_is_accepted() {
    let text = "listen:\n  adress: 0.0.0.0:8080\npolicy:\n  heartbeat: {interval: soon}\n  max_frame: -1\n\
                upstream:\n  tls: {insecure: true}\n";
    let file = TempFile::new("bad.yaml", text);
    // Not only `check`: nothing starts with it either.
    for command in ["check", "run"] {
        let output = Builder::new(&[command, "--config", file.path()])
            .env("OUTRIGGER__LOG__FORMAT", "xml")
            .args(&["--listen", "everywhere"])
            .output()
            .await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{command}");
        let told = [
            "6 problems in the configuration".to_owned(),
            format!("{}:2:3: listen.adress", file.path()),
            "did you mean `address`?".to_owned(),
            format!("{}:4:25: policy.heartbeat.interval", file.path()),
            "found:    \"soon\"".to_owned(),
            "accepted: a duration".to_owned(),
            format!("{}:5:14: policy.max_frame", file.path()),
            format!("{}:7:8: upstream.tls", file.path()),
            "starts with https://".to_owned(),
            "OUTRIGGER__LOG__FORMAT".to_owned(),
            "json | text".to_owned(),
            "--listen".to_owned(),
            "\"everywhere\"".to_owned(),
        ];
        let mut from = 0;
        for words in told {
            let found = output.stderr[from..].find(&words);
            from += found.unwrap_or_else(|| panic!("no {words:?} where it belongs:\n{}", output.stderr));
        }
    }
    let missing = Builder::new(&["check", "--config", "/nowhere/outrigger.yaml"]).output().await;
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.contains("/nowhere/outrigger.yaml"), "{}", missing.stderr);
}

#[tokio::test]
async fn secrets_are_masked_wherever_they_come_from_and_whatever_is_wrong() {
    let file = TempFile::new("secret.yaml", "admin: {token: hunter2-file}\n");
    let token = TempFile::new("token", "hunter2-token-file\n");
    let good = [
        Builder::new(&["check", "--config", file.path()]),
        Builder::new(&["check"]).env("OUTRIGGER__ADMIN__TOKEN", "hunter2-env"),
        Builder::new(&["check"]).env("OUTRIGGER__ADMIN", "{token: hunter2-section}"),
        Builder::new(&["check"]).env("OUTRIGGER__ADMIN__TOKEN_FILE", token.path()),
    ];
    for command in good {
        let output = command.output().await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert!(!output.stdout.contains("hunter2"), "{}", output.stdout);
    }
    let bad = [
        Builder::new(&["check"]).env("OUTRIGGER__ADMIN__TOKEN", "hunter2 with spaces"),
        Builder::new(&["check"]).env("OUTRIGGER__ADMIN", "{token: [hunter2]}"),
        Builder::new(&["check", "--upstream", "http://me:hunter2@app"]),
        Builder::new(&["check", "--config", file.path(), "--listen", "nonsense"]),
    ];
    for command in bad {
        let output = command.output().await;
        assert_eq!(output.code, Some(2), "{}", output.stdout);
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
}

#[tokio::test]
async fn the_environment_stands_above_the_file_and_flags_above_both() {
    let text =
        "upstream: {url: 'http://file:1', connect_timeout: 1s}\ndrain: {spread: 1s}\nlog: {format: text}\n";
    let file = TempFile::new("layers.yaml", text);
    let output = Builder::new(&["check", "--config", file.path(), "--upstream", "http://flag:3"])
        .env("OUTRIGGER__UPSTREAM__URL", "http://environment:2")
        .env("OUTRIGGER__UPSTREAM__CONNECT_TIMEOUT", "2s")
        .env("OUTRIGGER__DRAIN", "{timeout: 44s}")
        .env("OUTRIGGER__ROUTES", "[{path: /ws}]")
        .env("OUTRIGGER_IS_NOT_A_SETTING", "1")
        .output()
        .await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let told = [
        "  url: http://flag:3",
        "  connect_timeout: 2s",
        "  spread: 1s",
        "  timeout: 44s",
        "  format: text",
        "path: /ws",
    ];
    for line in told {
        assert!(output.stdout.contains(line), "no {line} in\n{}", output.stdout);
    }

    assert!(output.stderr.contains("OUTRIGGER_IS_NOT_A_SETTING"), "{}", output.stderr);

    let unknown = Builder::new(&["check"]).env("OUTRIGGER__UPSTREAM__ULR", "http://a").output().await;
    assert_eq!(unknown.code, Some(2), "a mistyped name is not ignored");
    assert!(unknown.stderr.contains("OUTRIGGER__UPSTREAM__ULR"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("did you mean"), "{}", unknown.stderr);
}

// ---- run

#[tokio::test]
async fn run_needs_no_file_and_what_it_was_told_is_in_force() {
    let upstream = Upstream::builder().on_request(Plain::EchoBody).spawn().await;
    let running = Binary::run(&upstream.url(), &[("POLICY__HTTP", "{max_body: 4B}")]).await;
    let mut client = running.dial().path("/chat").open().await;
    client.text("hello").await;
    client.expect_text("hello").await;
    for (body, status) in [("four", 200), ("fives", 413)] {
        let answer = running.plain().method("POST").body(body).answer().await;
        assert_eq!(answer.response.status(), status, "{body}");
    }
    assert_eq!(running.admin_get("/readyz").await.status(), 200);
}

#[tokio::test]
async fn a_port_that_is_taken_is_exit_1_and_says_which_setting_names_it() {
    let holder = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let taken = holder.local_addr().expect("it has an address").to_string();
    let cases = [
        (["--listen", &taken, "--admin", "127.0.0.1:0"], "listen.address"),
        (["--listen", "127.0.0.1:0", "--admin", &taken], "admin.address"),
    ];
    for (args, key) in cases {
        let output = Builder::new(&["run"]).args(&args).output().await;
        assert_eq!(output.code, Some(1), "{}{}", output.stdout, output.stderr);
        for word in [taken.as_str(), key, "in use"] {
            assert!(output.stderr.contains(word), "no {word} in {}", output.stderr);
        }
        assert!(!output.stdout.contains("ready"), "it never was: {}", output.stdout);
    }
    drop(holder);
}

#[tokio::test]
async fn a_unix_socket_to_listen_on_can_be_given_as_a_flag() {
    let upstream = Upstream::echo().await;
    let path = crate::support::files::socket_path();
    let listen = format!("unix:{}", path.display());
    let args = ["run", "--listen", &listen, "--admin", "127.0.0.1:0", "--upstream", &upstream.url()];
    let mut binary = Builder::new(&args).spawn();
    binary.line_with("\"ready\"").await;
    let mut client = RawClient::connect(path.clone(), "/").await;
    client.text("hello").await;
    client.expect_text("hello").await;
    drop(client);
    binary.signal("INT").await;
    assert_eq!(binary.exited().await.code(), Some(0));
    assert!(!path.exists(), "it tidies up");
}

#[tokio::test]
async fn log_lines_are_json_or_words_and_tell_each_connection() {
    let upstream = Upstream::echo().await;
    for (format, connected) in [("json", "\"message\":\"connected\""), ("text", " connected ")] {
        let mut binary = Builder::new(&["run", "--upstream", &upstream.url()])
            .args(&PORTS)
            .env("OUTRIGGER__LOG__FORMAT", format)
            .env("OUTRIGGER__DRAIN__SPREAD", "0s")
            .spawn();
        let ready = binary.line_with("ready").await;
        let address = address_after(&ready, if format == "json" { "\"listen\":\"" } else { "listen=" });
        let mut client = RawClient::dial(address).header("X-Request-Id", "abc-7").open().await;
        let line = binary.line_with(connected).await;
        assert!(line.contains("abc-7"), "{line}");
        client.close(1000, "").await;
        client.closed().await;
        let line = binary.line_with("disconnected").await;
        for word in ["abc-7", "client_close", "1000", "127.0.0.1"] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        binary.signal("TERM").await;
        assert_eq!(binary.exited().await.code(), Some(0));
        if format == "json" {
            for line in binary.lines() {
                let parsed: serde_json::Value = serde_json::from_str(&line).expect("each line is JSON");
                assert!(parsed["timestamp"].is_string() && parsed["level"].is_string(), "{line}");
            }
        }
    }
}

/// The address that follows this text.
fn address_after(line: &str, text: &str) -> std::net::SocketAddr {
    let at = line.find(text).unwrap_or_else(|| panic!("no {text} in {line}")) + text.len();
    let rest = &line[at..];
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or_else(|_| panic!("no address after {text} in {line}"))
}

// ---- demo

#[tokio::test]
async fn the_demo_serves_its_page_its_echo_and_its_ticker_through_the_proxy_until_ctrl_c() {
    let mut demo = Builder::new(&["demo"]).args(&PORTS).spawn();
    let open = demo.line_with("http://127.0.0.1:").await;
    let address = address_after(&open, "http://");
    let metrics = demo.line_with("/metrics").await;
    let admin = address_after(&metrics, "http://");
    let app = address_after(&demo.line_with("server runs on ").await, "server runs on ");
    assert_ne!(app, address, "the page is opened at the proxy");

    let page = RawClient::plain(address).answer().await.response;
    assert_eq!((page.status(), page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.text().contains("Outrigger demo"));
    let mut echo = RawClient::connect(address, "/echo").await;
    echo.text("hello").await;
    echo.expect_text("hello").await;
    let mut ticker = RawClient::connect(address, "/ticker").await;
    let Message::Text(tick) = ticker.next_message().await else { panic!("a tick is text") };
    assert!(tick.contains("\"type\":\"tick\""), "{tick}");

    let told = RawClient::plain(admin).path("/metrics").answer().await.response.text();
    assert!(told.contains("outrigger_clients{route=\"default\"} 2"), "they went through the proxy: {told}");
    demo.signal("INT").await;
    assert_eq!(echo.closed().await.code, 1012);
    assert_eq!(ticker.closed().await.code, 1012);
    assert_eq!(demo.exited().await.code(), Some(0), "{}", demo.said());
    eventually(DEADLINE, || async { TcpListener::bind(app).await.is_ok() }).await;
}

#[tokio::test]
async fn the_demo_names_a_drain_that_works_as_it_stands_says_what_to_do_after_it_and_ends() {
    // As it is started by hand, not by cargo.
    let mut demo = Builder::new(&["demo"]).args(&PORTS).env("CARGO", "").spawn();
    let line = demo.line_with("  drain  ").await;
    let command = line.trim().strip_prefix("drain").expect("it begins so").trim();
    let open = address_after(&demo.line_with("http://127.0.0.1:").await, "http://");
    let page = RawClient::plain(open).answer().await.response.text();
    assert!(page.contains(&format!("<code>{command}</code>")), "{command}");
    let mut echo = RawClient::connect(open, "/echo").await;
    let drained =
        tokio::process::Command::new("sh").args(["-c", command]).output().await.expect("there is a shell");
    assert!(drained.status.success(), "{command}: {}", String::from_utf8_lossy(&drained.stderr));
    assert_eq!(echo.closed().await.code, 1012);
    assert_eq!(demo.exited().await.code(), Some(0), "{}", demo.said());
    let again = command.split_once(" drain").expect("it is that command").0;
    assert!(
        demo.said().contains("Drained: ") && demo.said().contains(&format!("  {again} demo")),
        "{}",
        demo.said()
    );
}

#[tokio::test]
async fn when_the_demos_server_is_killed_its_tunnel_is_cut_and_its_session_goes_on_with_the_next_one() {
    let mut demo = Builder::new(&["demo"]).args(&PORTS).spawn();
    let line = demo.line_with("  kill  ").await;
    let address = address_after(&line, "curl -X POST http://");
    assert!(line.ends_with(&format!("http://{address}/kill")), "{line}");
    let kill = RawClient::plain(address).method("POST").path("/kill").header("Host", &address.to_string());
    let foreign = kill.clone().header("Origin", "http://evil.example").answer().await.response;
    assert_eq!(foreign.status(), 403, "{}", foreign.text());

    let mut tunnel = RawClient::connect(address, "/ticker").await;
    let mut session = RawClient::connect(address, "/session/ticker").await;
    for client in [&mut tunnel, &mut session] {
        client.text("before").await;
        let said = until(client, |said| said["text"] == "before").await;
        assert_eq!(said.last().expect("it is the last")["generation"], 1);
    }
    assert_eq!(kill.answer().await.response.status(), 202);

    assert_eq!(tunnel.closed().await.code, 1012);
    until(&mut session, |said| said["event"] == "upstream_lost").await;
    session.text("meanwhile").await;
    until(&mut session, |said| said["event"] == "upstream_restored").await;
    session.text("after").await;
    let said = until(&mut session, |said| said["text"] == "after").await;
    let heard = said.iter().filter(|said| said["type"] == "heard");
    let heard: Vec<_> = heard.map(|said| (said["text"].as_str(), said["generation"].as_u64())).collect();
    assert_eq!(heard, [(Some("meanwhile"), Some(2)), (Some("after"), Some(2))], "{said:?}");
}

/// What this client is told up to such a message.
async fn until(client: &mut RawClient, is_it: impl Fn(&serde_json::Value) -> bool) -> Vec<serde_json::Value> {
    let mut told = Vec::new();
    loop {
        let Message::Text(text) = client.next_message().await else { panic!("all of it is text: {told:?}") };
        let said: serde_json::Value = serde_json::from_str(&text).expect("and JSON");
        let is_last = is_it(&said);
        told.push(said);
        if is_last {
            return told;
        }
    }
}

#[tokio::test]
async fn the_line_that_it_is_ready_names_configuration_upstreams_and_tls() {
    let upstream = Upstream::echo().await;
    let url = upstream.url();
    let plain = Binary::run(&url, &[]).await;
    let ready = ready(plain).await;
    assert_eq!(ready["configuration"], "defaults and flags");
    assert_eq!(ready["upstreams"], format!("{url} (1 route)"));
    assert_eq!(ready["tls"], "off");

    let certified = rcgen::generate_simple_self_signed(["app.example.com".to_owned(), "10.1.2.3".to_owned()]);
    let certified = certified.expect("a certificate");
    let cert = TempFile::new("cert.pem", &certified.cert.pem());
    let key = TempFile::new("key.pem", &certified.signing_key.serialize_pem());
    let yaml = format!(
        "listen: {{address: '127.0.0.1:0', tls: {{cert_file: {}, key_file: {}}}}}\nadmin: {{address: '127.0.0.1:0'}}\n\
         routes: [{{name: a, path: /a, upstream: {{url: 'https://other.example.com'}}}}, {{name: b, path: /b}}]\n",
        cert.path(),
        key.path()
    );
    let file = TempFile::new("tls.yaml", &yaml);
    let secure = Builder::new(&["run", "--config", file.path()]).env("OUTRIGGER__UPSTREAM__URL", &url);
    let ready = self::ready(secure.spawn().ready().await).await;
    assert_eq!(ready["configuration"], format!("{} and the environment", file.path()));
    assert_eq!(ready["upstreams"], format!("https://other.example.com:443 (1 route), {url} (2 routes)"));
    assert_eq!(ready["tls"], "app.example.com, 10.1.2.3 until 4096-01-01");
}

/// The line that says so.
async fn ready(mut running: crate::support::binary::Running) -> serde_json::Value {
    let line = running.binary.line_with("\"ready\"").await;
    serde_json::from_str(&line).expect("a log line is JSON")
}

#[tokio::test]
async fn variables_that_do_nothing_are_warned_of_by_name_and_never_shown() {
    let variables = [
        ("OUTRIGGER__POLICY__AUTH", ""),
        ("OUTRIGGER_LISTEN_ADDRESS", "hunter2"),
        ("OUTRIGGER_SERVICE_HOST", "10.0.0.1"),
    ];
    let with = |args: &[&str]| {
        variables.iter().fold(Builder::new(args), |builder, (name, value)| builder.env(name, value))
    };
    let output = with(&["check"]).output().await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let lines: Vec<&str> = output.stderr.lines().collect();
    let [unknown, empty] = lines.as_slice() else { panic!("{}", output.stderr) };
    assert!(empty.contains("OUTRIGGER__POLICY__AUTH is empty") && empty.contains("null"), "{empty}");
    assert!(unknown.contains("OUTRIGGER_LISTEN_ADDRESS is no setting"), "{unknown}");
    assert!(unknown.contains("did you mean OUTRIGGER__LISTEN__ADDRESS?"), "{unknown}");

    // Also where the configuration is wrong because of it.
    let output = with(&["run", "--upstream", "nonsense"]).output().await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("OUTRIGGER__POLICY__AUTH is empty"), "{}", output.stderr);

    let ports = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut running = with(&ports).spawn();
    let line = running.line_with("OUTRIGGER__POLICY__AUTH is empty").await;
    assert!(line.contains("\"WARN\""), "{line}");
    let line = running.line_with("OUTRIGGER_LISTEN_ADDRESS is no setting").await;
    assert!(!line.contains("hunter2"), "{line}");
    running.ready().await;
}
