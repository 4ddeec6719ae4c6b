//! The commands of `docs/fallback.md`, run as they stand there, against the configuration that stands there.

use serde_json::Value;
use tokio::process::Command;

use crate::support::client::RawClient;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::upstream::Upstream;

const DOCUMENT: &str = include_str!("../../../docs/fallback.md");
/// What the document's answers have in place of a feed's own.
const EPOCH: &str = "91c4a0d1b2e3f405";
const MESSAGE: &str = r#"{"bid":2041.5}"#;

/// A command with a prompt, and what it is said to print.
struct Recipe {
    command: String,
    printed: String,
}

fn recipes() -> Vec<Recipe> {
    let blocks = DOCUMENT.split("```console\n").skip(1).filter_map(|rest| rest.split("```").next());
    let recipe = |block: &str| {
        let (command, printed) = block.split_once('\n').unwrap();
        Recipe { command: command.strip_prefix("$ ").unwrap().to_owned(), printed: printed.to_owned() }
    };
    blocks.map(recipe).collect()
}

/// Runs a command as a shell does, against this proxy and a feed with this epoch.
async fn run(proxy: &Proxy, command: &str, epoch: &str) -> String {
    let command = command.replace("localhost:8080", &proxy.address().to_string()).replace(EPOCH, epoch);
    let output = Command::new("sh").args(["-c", &command]).output().await.expect("there is a shell");
    String::from_utf8(output.stdout).unwrap()
}

/// The same with what differs from one run to the next put in one form.
fn alike(text: &str, epoch: &str) -> String {
    let mut text = text.replace(epoch, EPOCH);
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

#[tokio::test]
async fn the_commands_of_the_document_print_what_it_says() {
    let yaml = DOCUMENT.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let upstream = Upstream::by_hand().await;
    let proxy = Proxy::to(&upstream).yaml(yaml).spawn().await;
    let recipes = recipes();
    assert_eq!(recipes.len(), 4);
    if Command::new("curl").arg("--version").output().await.is_err() {
        eprintln!("SKIPPED: there is no curl");
        return;
    }
    // Somebody is on the channel, and the server has spoken.
    let mut client: RawClient = proxy.connect("/prices/gold").await;
    let mut server = upstream.accept().await;
    server.text(MESSAGE).await;
    assert!(matches!(client.next_message().await, Message::Text(text) if text == MESSAGE));
    let epoch = proxy.channels().await[0]["epoch"].as_str().unwrap().to_owned();
    for Recipe { command, printed } in recipes {
        let found = run(&proxy, &command, &epoch).await;
        if command.contains("/events") {
            // The document shows a stream that begins where the history ends.
            let documented: Vec<&str> = printed.lines().filter(|line| line.starts_with("event:")).collect();
            assert_eq!(documented, ["event: outrigger"]);
            let hello = |text: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix("data: ")).unwrap().to_owned();
                serde_json::from_str::<Value>(&line)
                    .unwrap()
                    .as_object()
                    .unwrap()
                    .keys()
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(hello(&found), hello(&printed), "{found}");
            assert!(found.contains(&format!("id: {epoch}.1\n")), "{found}");
        } else {
            assert_eq!(alike(found.trim_end(), &epoch), alike(printed.trim_end(), EPOCH), "{command}");
        }
    }
}
