//! The commands that ask a running proxy: what they print, what they do, and what they say where they cannot.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::DEADLINE;
use crate::support::binary::{Binary, Builder, Output, Running};
use crate::support::files::TempFile;
use crate::support::link::Message;
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

/// A broadcast and a tunnel. Channels are told apart by what clients ask for, and by a header that they choose.
const ROUTES: &str = "[{name: feed, path: '/feed/{*rest}', mode: broadcast, \
                      policy: {broadcast: {channel_key: [path, query, 'header:x-room']}}}, \
                      {name: chat, path: '/chat/{*rest}'}]";

async fn running(upstream: &Upstream) -> Running {
    Binary::run(&upstream.url(), &[("ROUTES", ROUTES)]).await
}

async fn ask(running: &Running, args: &[&str]) -> Output {
    // Before what may stand behind `--`.
    let (command, rest) = args.split_first().expect("there is a command");
    Builder::new(&[command, "--admin", &running.admin_url()]).args(rest).output().await
}

fn done(output: Output) -> String {
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""), "{}", output.stdout);
    output.stdout
}

/// Cells of each line, which are set apart by two spaces or more.
fn cells(table: &str) -> Vec<Vec<&str>> {
    table
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect()
}

#[tokio::test]
async fn channels_and_subscribers_are_tables_and_with_json_the_answer_of_the_port() {
    let upstream = Upstream::echo().await;
    let running = running(&upstream).await;
    let none = done(ask(&running, &["channels"]).await);
    assert!(none.starts_with("no channels"), "{none}");
    let _a = running.dial().path("/feed/a").open().await;
    let _b = running.dial().path("/feed/b?x=1").open().await;
    let _b2 = running.dial().path("/feed/b?x=1").open().await;
    let _tunnel = running.dial().path("/chat/a").open().await;
    // A 101 comes before the connection is entered.
    let listed = eventually(DEADLINE, || async {
        let shown = done(ask(&running, &["channels"]).await);
        let is_all =
            shown.lines().count() == 3 && done(ask(&running, &["subscribers"]).await).lines().count() == 4;
        if is_all { Ok(shown) } else { Err(shown) }
    })
    .await;
    let table = cells(&listed);
    assert_eq!(table[0], ["ROUTE", "CHANNEL", "CLIENTS", "SERVER", "SEQUENCE", "EPOCH"]);
    assert_eq!(table[1][..4], ["feed", "/feed/a", "1", "connected"]);
    assert_eq!(table[2][..4], ["feed", "/feed/b?x=1", "2", "connected"]);

    let all = done(ask(&running, &["subscribers", "--route", "feed"]).await);
    assert_eq!(cells(&all)[0][..4], ["CONNECTION", "ROUTE", "CHANNEL", "USER"]);
    assert_eq!(all.lines().count(), 4, "{all}");
    let one = done(ask(&running, &["subscribers", "--channel", "/feed/b?x=1", "--limit", "1"]).await);
    assert_eq!(cells(&one)[1][1..4], ["feed", "/feed/b?x=1", "-"]);
    assert!(one.ends_with("1 of 2 subscribers; --limit N shows more\n"), "{one}");

    let json = done(ask(&running, &["subscribers", "--channel", "/feed/a", "--json"]).await);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["total"], &json["subscribers"][0]["channel"]), (&1.into(), &"/feed/a".into()));
    let json = done(ask(&running, &["channels", "--json", "--limit", "1"]).await);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!((&json["total"], json["channels"].as_array().expect("a list").len()), (&2.into(), 1));
}

#[tokio::test]
async fn what_a_client_put_into_a_name_does_nothing_to_a_terminal() {
    let upstream = Upstream::echo().await;
    let running = running(&upstream).await;
    // C1 control characters and a turn of direction, as UTF-8; nothing of C0 can stand in a header.
    let _evil = running.dial().path("/feed/x").header("X-Room", "\u{9b}2J\u{202e}evil").open().await;
    for args in [&["channels"][..], &["channels", "--json"], &["subscribers"], &["subscribers", "--json"]] {
        let shown = eventually(DEADLINE, || async {
            let shown = done(ask(&running, args).await);
            if shown.contains("/feed/x") { Ok(shown) } else { Err(shown) }
        })
        .await;
        let is_plain = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
        assert!(shown.chars().all(is_plain), "{args:?}: {shown:?}");
        assert!(shown.contains("evil"), "{args:?}: {shown:?}");
    }
}

#[tokio::test]
async fn publish_says_a_text_a_file_or_standard_input_and_how_many_it_is_for() {
    let upstream = Upstream::echo().await;
    let running = running(&upstream).await;
    let mut a = running.dial().path("/feed/a").open().await;
    let mut b = running.dial().path("/feed/b").open().await;
    let mut tunnel = running.dial().path("/chat/a").open().await;
    eventually(DEADLINE, || async {
        let clients = running.metrics().await;
        if clients.0.contains("outrigger_clients{route=\"feed\"} 2")
            && clients.0.contains("{route=\"chat\"} 1")
        {
            Ok(())
        } else {
            Err(clients.0)
        }
    })
    .await;

    let told = done(ask(&running, &["publish", "--route", "feed", "grüß dich"]).await);
    assert_eq!(told, "published to 2 clients\n");
    a.expect_text("grüß dich").await;
    b.expect_text("grüß dich").await;
    let told = done(ask(&running, &["publish", "--route", "feed", "--channel", "/feed/b", "--", "-b"]).await);
    assert_eq!(told, "published to 1 client, as message 2 of its channel\n");
    b.expect_text("-b").await;

    let file = TempFile::new("message", "two\nlines\n");
    done(ask(&running, &["publish", "--route", "chat", "--file", file.path()]).await);
    tunnel.expect_text("two\nlines\n").await;
    let publish = ["publish", "--route", "chat", "--binary", "-", "--admin", &running.admin_url()];
    let told = done(Builder::new(&publish).stdin(b"\xff\x00").output().await);
    assert_eq!(told, "published to 1 client\n");
    assert_eq!(tunnel.next_message().await, Message::Binary(b"\xff\x00".to_vec()));

    let told = done(ask(&running, &["publish", "--route", "chat", "--user", "nobody", "x"]).await);
    assert!(told.starts_with("published to nobody"), "{told}");
    let told = done(ask(&running, &["publish", "--route", "chat", "--json", "x"]).await);
    assert_eq!(told, "{\"recipients\":1,\"sequence\":null}\n");

    let publish = ["publish", "--route", "chat", "-", "--admin", &running.admin_url()];
    let refused = Builder::new(&publish).stdin(b"ab\xff").output().await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("is not UTF-8 after byte 2; --binary"), "{}", refused.stderr);
}

#[tokio::test]
async fn what_is_refused_is_exit_1_and_says_what_to_do_and_a_wrong_command_line_is_exit_2() {
    let upstream = Upstream::echo().await;
    let running = running(&upstream).await;
    let refused: [(&[&str], &[&str]); 6] = [
        (&["channels", "--route", "nope"], &["there is no route \"nope\"; there is feed, chat, default"]),
        (&["channels", "--route", "chat"], &["is a tunnel and has no channels"]),
        (&["subscribers", "--route", "chat"], &["is a tunnel and has no subscribers"]),
        (&["subscribers", "--channel", "/nope\u{1b}"], &["there is no channel \"/nope\\u001b\""]),
        (&["channels", "--limit", "10001"], &["from 1 to 10000"]),
        (&["publish", "--route", "nope", "x"], &["nothing was published", "there is no route \"nope\""]),
    ];
    for (args, words) in refused {
        let output = ask(&running, args).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{args:?}");
        for word in words {
            assert!(output.stderr.contains(word), "{args:?}: no {word} in {}", output.stderr);
        }
    }
    let usage: [&[&str]; 8] = [
        &["publish", "--route", "chat"],
        &["publish", "x"],
        &["publish", "--route", "chat", "x", "--file", "y"],
        &["channels", "--limit", "many"],
        &["channels", "--channel", "x"],
        &["channels", "--admin", "ftp://127.0.0.1"],
        &["drain", "--admin", "ftp://127.0.0.1"],
        &["subscribers", "x"],
    ];
    for args in usage {
        let output = Builder::new(args).output().await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{args:?}: {}", output.stderr);
    }
}

#[tokio::test]
async fn every_command_shows_the_token_and_says_so_where_it_is_missing_wrong_or_shown_to_somebody_else() {
    let upstream = Upstream::echo().await;
    let admin = "{token: hunter2}";
    let running = Binary::run(&upstream.url(), &[("ROUTES", ROUTES), ("ADMIN", admin)]).await;
    let (right, wrong) = (TempFile::new("token", "hunter2\n"), TempFile::new("token", "hunter3"));
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let gone = format!("http://{}", nobody.local_addr().expect("it has an address"));
    drop(nobody);
    let (other, _serving) = another_server().await;
    let commands: [&[&str]; 4] =
        [&["channels"], &["subscribers"], &["publish", "--route", "feed", "x"], &["drain"]];
    for args in commands {
        let failing = [
            (ask(&running, args).await, "none was given"),
            (
                ask(&running, &[args, &["--token-file", wrong.path()]].concat()).await,
                "the one given is another",
            ),
            (
                ask(&running, &[args, &["--token-file", "/nowhere"]].concat()).await,
                "token file /nowhere: No such",
            ),
            (Builder::new(args).args(&["--admin", &gone]).output().await, "is the proxy running?"),
            (
                Builder::new(args).args(&["--admin", &other]).output().await,
                "not as Outrigger's admin port does",
            ),
        ];
        for (output, word) in failing {
            assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""), "{args:?}");
            assert!(output.stderr.contains(word), "{args:?}: no {word:?} in {}", output.stderr);
            assert!(!output.stderr.contains("hunter"), "{}", output.stderr);
        }
        done(ask(&running, &[args, &["--token-file", right.path()]].concat()).await);
    }
}

/// Says 200 to whatever it is asked, and is none of ours.
async fn another_server() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has an address"));
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = vec![0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
            });
        }
    });
    (url, serving)
}

#[tokio::test]
async fn the_environment_names_the_file_where_the_command_line_does_not() {
    let named = TempFile::new("named.yaml", "policy: {max_frame: 3KiB}\n");
    let flag = TempFile::new("flag.yaml", "policy: {max_frame: 5KiB}\n");
    let output = Builder::new(&["check"]).env("OUTRIGGER_CONFIG", named.path()).output().await;
    assert_eq!((output.code, output.stderr.as_str()), (Some(0), ""));
    assert!(output.stdout.contains("max_frame: 3KiB"), "{}", output.stdout);
    let args = ["check", "--config", flag.path()];
    let output = Builder::new(&args).env("OUTRIGGER_CONFIG", named.path()).output().await;
    assert!(output.stdout.contains("max_frame: 5KiB"), "{}", output.stdout);
    let output = Builder::new(&["check"]).env("OUTRIGGER_CONFIG", "").output().await;
    assert_eq!(output.code, Some(0));
    assert!(output.stderr.contains("OUTRIGGER_CONFIG is empty"), "{}", output.stderr);
    let output = Builder::new(&["check"]).env("OUTRIGGER_CONFIG", "/nowhere.yaml").output().await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("/nowhere.yaml"), "{}", output.stderr);

    let upstream = Upstream::echo().await;
    let args = ["run", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--upstream", &upstream.url()];
    let file = TempFile::new("run.yaml", "policy: {http: {max_body: 4B}}\n");
    let running = Builder::new(&args).env("OUTRIGGER_CONFIG", file.path()).spawn().ready().await;
    let answer = running.plain().method("POST").body("fives").answer().await;
    assert_eq!(answer.response.status(), 413);

    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: chat}\n\
                    spec: {containers: [{name: app, image: app, ports: [{containerPort: 3000}]}]}\n";
    let manifest = TempFile::new("pod.yaml", manifest);
    for (args, is_in) in [(&["inject"][..], true), (&["inject", "--config-map", "own"], false)] {
        let output =
            Builder::new(args).args(&[manifest.path()]).env("OUTRIGGER_CONFIG", named.path()).output().await;
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(output.stdout.contains("max_frame: 3KiB"), is_in, "{args:?}: {}", output.stdout);
    }
    for command in ["run", "check", "inject"] {
        let help = Builder::new(&[command, "--help"]).output().await;
        assert!(help.stdout.contains("[env: OUTRIGGER_CONFIG]"), "{command}: {}", help.stdout);
    }
}
