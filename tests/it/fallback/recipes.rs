//! The commands of `docs/fallback.md`, run as they stand there, against the configurations that stand there.

use serde_json::Value;
use tokio::process::Command;

use crate::support::client::RawClient;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;
use crate::support::wanted::cannot_run;

const DOCUMENT: &str = include_str!("../../../docs/fallback.md");
/// What the document's answers have in place of a feed's own.
const EPOCH: &str = "91c4a0d1b2e3f405";
/// The same of the session there, and its ticket.
const SESSION_EPOCH: &str = "e5d758c86519ca3c";
const TICKET: &str = "AecWnz7hdiOEFvMH9HLmqyzsWfVWAv36UQAAAAHwO41xv1LKC1QmnZHZv_AJ";
const MESSAGE: &str = r#"{"bid":2041.5}"#;

/// A command with a prompt, and what it is said to print.
struct Recipe {
    command: String,
    printed: String,
}

/// The commands for a path that begins so, in their order.
fn recipes(path: &str) -> Vec<Recipe> {
    let blocks = DOCUMENT.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let recipe = |block: &str| {
        let (command, printed) = block.split_once('\n').unwrap();
        Recipe { command: command.strip_prefix("$ ").unwrap().to_owned(), printed: printed.to_owned() }
    };
    blocks.map(recipe).filter(|recipe| recipe.command.contains(&format!("8080{path}"))).collect()
}

/// Which of the configurations stands there.
fn yaml(number: usize) -> &'static str {
    DOCUMENT.split("```yaml\n").nth(number).and_then(|rest| rest.split("```").next()).unwrap()
}

/// Whether there is a curl to run them with.
async fn has_curl() -> bool {
    let is_there = Command::new("curl").arg("--version").output().await.is_ok();
    if !is_there {
        cannot_run("there is no curl");
    }
    is_there
}

/// Runs a command as a shell does, against this proxy, with this ticket in the environment.
async fn run(proxy: &Proxy, command: &str, ticket: &str) -> String {
    let command = command.replace("localhost:8080", &proxy.address().to_string());
    let output = Command::new("sh").args(["-c", &command]).env("TICKET", ticket).output().await;
    String::from_utf8(output.expect("there is a shell").stdout).unwrap()
}

/// The same with what differs from one run to the next put in one form.
fn alike(text: &str) -> String {
    let mut text = text.to_owned();
    for (name, end) in [("\"timestamp\":", ','), ("retry: ", '\n')] {
        let mut rest = text.as_str();
        let mut plain = String::new();
        while let Some((before, after)) = rest.split_once(name) {
            plain += before;
            plain += name;
            rest = after.find(end).map_or("", |at| &after[at..]);
        }
        text = plain + rest;
    }
    text
}

/// The members of the hello that a stream begins with.
fn hello(stream: &str) -> Vec<String> {
    let line = stream.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let hello: Value = serde_json::from_str(line).unwrap();
    hello.as_object().unwrap().keys().cloned().collect()
}

#[tokio::test]
async fn the_commands_of_the_document_print_what_it_says() {
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(yaml(1)).spawn().await;
    let recipes = recipes("/prices/");
    assert_eq!(recipes.len(), 4);
    if !has_curl().await {
        return;
    }
    // Somebody is on the channel, and the server has spoken.
    let mut client: RawClient = proxy.connect("/prices/gold").await;
    let mut server = upstream.accept().await;
    server.text(MESSAGE).await;
    assert!(matches!(client.next_message().await, Message::Text(text) if text == MESSAGE));
    let epoch = proxy.channels().await[0]["epoch"].as_str().unwrap().to_owned();
    for Recipe { command, printed } in recipes {
        let found = run(&proxy, &command.replace(EPOCH, &epoch), "").await;
        if command.contains("/events") {
            // The document shows a stream that begins where the history ends.
            let documented: Vec<&str> = printed.lines().filter(|line| line.starts_with("event:")).collect();
            assert_eq!(documented, ["event: outrigger"]);
            assert_eq!(hello(&found), hello(&printed), "{found}");
            assert!(found.contains(&format!("id: {epoch}.1\n")), "{found}");
        } else {
            assert_eq!(
                alike(&found.trim_end().replace(&epoch, EPOCH)),
                alike(printed.trim_end()),
                "{command}"
            );
        }
    }
}

#[tokio::test]
async fn the_commands_of_a_session_print_what_the_document_says() {
    let upstream = Upstream::echo().await;
    let proxy = Proxy::to(&upstream).yaml(yaml(2)).spawn().await;
    let recipes = recipes("/chat/");
    assert_eq!(recipes.len(), 5);
    if !has_curl().await {
        return;
    }
    let mut own: Option<[String; 2]> = None;
    for Recipe { command, printed } in recipes {
        let found = run(&proxy, &command, own.as_ref().map_or("", |[ticket, _]| ticket)).await;
        // The first command begins the session.
        let [ticket, epoch] = own.get_or_insert_with(|| {
            let poll: Value = serde_json::from_str(&found).unwrap();
            ["session", "epoch"].map(|member| poll[member].as_str().unwrap().to_owned())
        });
        let found = found.trim_end().replace(&**ticket, TICKET).replace(&**epoch, SESSION_EPOCH);
        assert_eq!(alike(&found), alike(printed.trim_end()), "{command}");
    }
}
