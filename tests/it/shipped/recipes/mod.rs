//! What the documents have users write is read out of them and run: every fenced block is of a kind that something
//! checks, every configuration is one, every command is one, and what a recipe promises it keeps.

pub(crate) mod blocks;
mod shell;

use crate::support::binary::{Binary, Builder, Running};
use crate::support::client::{Dial, RawClient};
use crate::support::files::{Folder, TempFile};
use crate::support::http::assert_ours;
use crate::support::upstream::{Plain, Upstream};
use crate::support::wait::eventually;
use blocks::{Block, Kind, Setting, all, one};

#[test]
fn every_block_in_the_documents_is_of_a_kind_that_is_checked() {
    let mut problems = Vec::new();
    for block in all() {
        if let Err(problem) = block.kind() {
            problems.push(format!("{block}: {problem}"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_block_that_nobody_knows_is_noticed() {
    let of = |language: &str, text: &str| Block::new("README.md", 1, language, text).kind();
    assert_eq!(of("yaml", "policy: {}\n").unwrap(), Kind::Configuration);
    assert_eq!(of("yml", "# templates/x.yaml\na: b\n").unwrap(), Kind::Chart);
    assert_eq!(of("console", "$ outrigger check\n").unwrap(), Kind::Shell);
    for (language, text) in [
        ("", "policy: {}\n"),
        ("yml", "policy: {}\n"),
        ("toml", "a = 1\n"),
        ("console", "frobnicate --now\n"),
        ("console", "outrigger frobnicate\n"),
        ("console", "outrigger run --no-such-flag\n"),
        ("console", "a | outrigger drain --frobnicate\n"),
        ("sh", "x=$(outrigger check --confg f)\n"),
        ("console", "make frobnicate\n"),
        ("json", "{\"a\": }\n"),
    ] {
        let kind = of(language, text);
        assert!(kind.is_err(), "{language}: {text}: {kind:?}");
    }
}

#[tokio::test]
async fn every_configuration_in_the_documents_is_one() {
    let setting = Setting::new();
    let mut checked = 0;
    for block in all().into_iter().filter(|block| block.kind() == Ok(Kind::Configuration)) {
        let file = TempFile::new("recipe.yaml", &setting.put(&block.text));
        let told = Builder::new(&["check", "--config", file.path()]).output().await;
        assert_eq!(told.code, Some(0), "{block}:\n{}\n{}", told.stderr, block.text);
        checked += 1;
    }
    assert!(checked > 10, "only {checked} were found");
}

/// The binary with a recipe as its file, and further settings over it.
async fn cook(recipe: &str, upstream: &Upstream, over: &[(&str, &str)]) -> (Running, TempFile) {
    let file = TempFile::new("recipe.yaml", recipe);
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &upstream.url()];
    let mut builder = Builder::new(&["run", "--config", file.path()]).args(&ports);
    for (section, value) in over {
        builder = builder.env(&format!("OUTRIGGER__{section}"), value);
    }
    (builder.spawn().ready().await, file)
}

async fn status(dial: Dial) -> u16 {
    dial.answer().await.response.status()
}

/// An application that is asked for its health, with a policy that lets nobody else in.
#[tokio::test]
async fn kubernetes_probes_through_the_proxy_meet_no_guard_and_open_nothing_else() {
    let setting = Setting::new();
    let upstream = Upstream::echo().await;
    let recipe = one("docs/kubernetes.md", "name: health");
    let over = [
        (
            "POLICY__HTTP",
            "{mode: auto, rate: {global: {rate: 1/h, burst: 2}, per_ip: {rate: 1/h, burst: 1}}}",
        ),
        ("POLICY__HANDSHAKE_RATE", "{global: {rate: 1/h, burst: 2}, per_ip: {rate: 1/h, burst: 1}}"),
        ("POLICY__ORIGINS", "{allow: ['https://app.example.com'], missing: refuse}"),
        ("POLICY__AUTH", &format!("{{api_keys: {{file: '{}'}}}}", setting.keys())),
        ("POLICY__LIMITS", "{connections: 1, per_ip: 1, per_user: 1}"),
        ("POLICY__BREAKER", "{min_calls: 1, failure_ratio: 0.1, open_for: 1h}"),
        ("POLICY__ON_REFUSE", "http"),
    ];
    for is_refused in [false, true] {
        // With plain HTTP refused, as the recipe has it at the top, and with the guards of that.
        let over = if is_refused { &over[1..] } else { &over[..] };
        let (running, _file) = cook(&recipe, &upstream, over).await;
        for probe in 0..12 {
            let probe = (probe, status(running.plain().path("/health")).await);
            assert_eq!(probe.1, 200, "probe {}, refused: {is_refused}", probe.0);
        }
        // Other paths; a closing slash makes none.
        for path in
            ["/", "/health/x", "/healthz", "/HEALTH", "/api/health", "/health%2Fx", "/health;x/../../y"]
        {
            let status = status(running.plain().path(path)).await;
            assert!(status >= 400, "{path}: {status}, refused: {is_refused}");
        }
        let handshake = running.dial().path("/health").refused().await.status();
        assert!([401, 403].contains(&handshake), "{handshake}: it is no way in for WebSockets");
    }
    assert!(upstream.requests().iter().all(|request| request.head.target() == "/health"));
    assert!(upstream.handshakes().is_empty());
}

#[tokio::test]
async fn assets_and_health_pass_the_origins_of_pages_as_the_document_has_it() {
    let upstream = Upstream::echo().await;
    let (running, _file) = cook(&one("docs/configuration.md", "path: /assets/"), &upstream, &[]).await;
    let foreign = |path: &str| running.plain().path(path).header("Origin", "https://evil.example");
    assert_eq!(status(foreign("/assets/app.js")).await, 200);
    assert_eq!(status(foreign("/health")).await, 200);
    assert_ours(&foreign("/").answer().await.response, 403, "origin");
    let refused = running.dial().path("/health").header("Origin", "https://evil.example").refused().await;
    assert_ours(&refused, 403, "origin");
}

#[tokio::test]
async fn pages_come_in_by_the_origins_that_the_document_lists() {
    let upstream = Upstream::echo().await;
    let (running, _file) = cook(&one("docs/configuration.md", "missing: refuse"), &upstream, &[]).await;
    for origin in ["https://app.example.com", "https://x.preview.example.com"] {
        let mut client = running.dial().header("Origin", origin).open().await;
        client.text(origin).await;
        client.expect_text(origin).await;
    }
    for origin in
        ["https://preview.example.com", "http://app.example.com", "https://app.example.com.evil.test"]
    {
        assert_ours(&running.dial().header("Origin", origin).refused().await, 403, "origin");
    }
    assert_ours(&running.dial().without("Origin").refused().await, 403, "origin");
}

#[tokio::test]
async fn an_api_key_that_is_made_as_the_document_says_lets_its_user_in() {
    let upstream = Upstream::echo().await;
    let folder = Folder::new("keys");
    let script = one("docs/authentication.md", "openssl rand");
    let made = std::process::Command::new("sh")
        .args(["-ec", &format!("{script}\nprintf %s \"$key\"")])
        .current_dir(folder.root())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = String::from_utf8(made.stdout).unwrap();
    assert_eq!(key.len(), 64, "{key}");
    let recipe = one("docs/configuration.md", "api_keys: { file: /etc/outrigger/api-keys }");
    let recipe = recipe.replace("/etc/outrigger/api-keys", folder.path("keys.txt").to_str().unwrap());
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let _client = running.dial().header("X-Api-Key", &key).open().await;
    let seen = upstream.handshakes();
    assert_eq!(seen[0].head.header("X-Outrigger-User"), Some("ann"));
    assert_eq!(running.dial().header("X-Api-Key", "guessed").refused().await.status(), 401);
    assert_eq!(running.dial().refused().await.status(), 401);
}

#[tokio::test]
async fn an_authentication_service_is_asked_and_what_is_public_is_not() {
    let upstream = Upstream::echo().await;
    let grants = Plain::fixed(200, &[("X-User-Id", "ann"), ("Connection", "close")], "");
    let service = Upstream::builder().on_request(grants).spawn().await;
    let recipe = one("docs/configuration.md", "forward: { url:");
    let recipe = recipe.replace("http://127.0.0.1:4181", &service.url());
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let _public = running.dial().path("/public/x").open().await;
    assert!(service.requests().is_empty());
    let _client = running.dial().path("/private").open().await;
    assert_eq!(service.requests().len(), 1);
    assert_eq!(upstream.handshakes()[1].head.header("X-Outrigger-User"), Some("ann"));
    service.change(Upstream::builder().on_request(Plain::fixed(401, &[], "")));
    assert_eq!(running.dial().path("/private").refused().await.status(), 401);
}

#[tokio::test]
async fn a_route_goes_to_its_own_server_without_its_prefix() {
    let (upstream, api) = (Upstream::echo().await, Upstream::echo().await);
    let recipe = one("docs/configuration.md", "hosts: [api.example.com]");
    let recipe = recipe.replace("http://127.0.0.1:4000", &api.url());
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let of_api = |dial: Dial| dial.without("Host").header("Host", "api.example.com");
    let _client = of_api(running.dial().path("/api/chat?x")).open().await;
    assert_eq!(api.handshakes()[0].head.target(), "/chat?x");
    let _client = running.dial().path("/api/chat").open().await;
    assert_eq!(upstream.handshakes()[0].head.target(), "/api/chat", "another host");
}

#[tokio::test]
async fn a_broadcast_is_one_connection_for_all_of_its_clients() {
    let upstream = Upstream::by_hand().await;
    let recipe = blocks::first("docs/broadcast.md", "mode: broadcast");
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let (mut first, mut server) =
        tokio::join!(RawClient::connect(running.address(), "/ws/updates"), upstream.accept());
    let mut second = RawClient::connect(running.address(), "/ws/updates").await;
    server.text("news").await;
    first.expect_text("news").await;
    second.expect_text("news").await;
    assert_eq!(upstream.accepted(), 1);
}

#[tokio::test]
async fn who_joins_late_gets_the_critical_messages_first_and_of_each_key_the_newest() {
    let upstream = Upstream::by_hand().await;
    let (running, _file) = cook(&one("README.md", "on_join: critical"), &upstream, &[]).await;
    let (mut first, mut server) =
        tokio::join!(RawClient::connect(running.address(), "/ws/updates"), upstream.accept());
    let snapshot = r#"{"type":"snapshot","symbol":"A"}"#;
    server.text(snapshot).await;
    first.expect_text(snapshot).await;
    // In one tick of the throttle.
    for price in 1..=50 {
        server.text(&format!(r#"{{"type":"price","symbol":"A","price":{price}}}"#)).await;
    }
    let mut heard = 0;
    loop {
        heard += 1;
        if first.next_frame().await.as_text().contains("\"price\":50}") {
            break;
        }
    }
    assert!(heard < 50, "{heard} of 50 went out one by one");
    let mut late = RawClient::connect(running.address(), "/ws/updates").await;
    late.expect_text(snapshot).await;
}

#[tokio::test]
async fn tabs_of_one_user_share_a_connection_and_those_of_others_have_their_own() {
    let setting = Setting::new();
    let upstream = Upstream::builder().by_hand().spawn().await;
    let recipe = setting.put(&one("docs/broadcast.md", "channel_key: [path, user]"));
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let tab = |key: &str| running.dial().path("/ws/mine").header("X-Api-Key", key).header("Cookie", "a=1");
    let (_first, _server) = tokio::join!(tab("1").open(), upstream.accept());
    let _second = tab("1").open().await;
    assert_eq!(upstream.accepted(), 1);
    let (_other, _server) = tokio::join!(tab("3").open(), upstream.accept());
    assert_eq!(upstream.accepted(), 2);
    assert_eq!(upstream.handshakes()[0].head.header("Cookie"), Some("a=1"), "of the first one");
}

#[tokio::test]
async fn what_the_document_publishes_reaches_the_clients_and_the_drain_says_what_it_says() {
    let upstream = Upstream::echo().await;
    let routes = [("ROUTES", "[{name: chat, path: '/{*rest}'}]"), ("DRAIN", "{spread: 0s}")];
    let mut running = Binary::run(&upstream.url(), &routes).await;
    let mut client = RawClient::connect(running.address(), "/").await;
    let admin = running.admin_url();
    let published = one("docs/operations.md", "back in five minutes");
    let after = |start: &str| {
        let mut lines = published.lines().skip_while(|line| !line.starts_with(start));
        (lines.next().unwrap().strip_prefix("$ ").unwrap(), lines.next().unwrap())
    };
    let (command, answer) = after("$ curl");
    let command = command.replace("http://127.0.0.1:9090", &admin);
    let told = tokio::process::Command::new("sh").args(["-ec", &command]).output().await.unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let keys = |text: &str| {
        serde_json::from_str::<serde_json::Map<_, _>>(text).unwrap().keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(keys(&told), keys(answer), "{told}");
    client.expect_text("back in five minutes").await;
    let (command, answer) = after("$ outrigger publish");
    let command = command.strip_prefix("outrigger ").unwrap();
    let (options, text) = command.split_once(" \"").unwrap();
    let args: Vec<_> = options.split(' ').chain([text.trim_end_matches('"'), "--admin", &admin]).collect();
    let told = Builder::new(&args).output().await;
    assert_eq!(
        (told.code, told.stdout.trim()),
        (Some(0), &*answer.replace("412 clients", "1 client")),
        "{}",
        told.stderr
    );
    client.expect_text("back in five minutes").await;

    let drained = one("docs/operations.md", "outrigger drain --wait");
    let said = drained.lines().nth(1).unwrap();
    let closing = tokio::spawn(async move { client.closed().await.code });
    let told = Builder::new(&["drain", "--wait", "--admin", &admin]).output().await;
    assert_eq!((told.code, told.stdout.trim()), (Some(0), said));
    assert_eq!(closing.await.unwrap(), 1012);
    running.binary.signal("TERM").await;
    assert_eq!(running.binary.exited().await.code(), Some(0));
}

#[tokio::test]
async fn rates_per_address_count_clients_behind_trusted_proxies_one_by_one() {
    let upstream = Upstream::echo().await;
    let recipe = one("docs/configuration.md", "rate: 20/s, burst: 40");
    // The test's own address stands for one of the load balancer's.
    let recipe =
        recipe.replace("203.0.113.7", "127.0.0.1").replace("rate: 20/s, burst: 40", "rate: 1/h, burst: 1");
    let (running, _file) = cook(&recipe, &upstream, &[]).await;
    let of = |client: &str| running.dial().header("X-Forwarded-For", client);
    let _first = of("198.51.100.1").open().await;
    let _second = of("198.51.100.2").open().await;
    assert_ours(&of("198.51.100.1").refused().await, 429, "rate_per_ip");
    eventually(crate::support::DEADLINE, || async {
        running.metrics().await.sum("outrigger_clients") == 2.0
    })
    .await;
}
