//! Links that break off at every byte of what they carry.

use super::*;

const QUIET: &str = "{heartbeat: null, notices: false, redial: {base: 20ms, cap: 200ms}}";

/// Frames, and how many messages are whole after which byte.
struct Script {
    bytes: Vec<u8>,
    /// Where each message ends, and what it says.
    messages: Vec<(usize, String)>,
}

impl Script {
    fn new(frames: &[(u8, &[u8])], masks: bool) -> Self {
        let (mut bytes, mut messages, mut text) = (Vec::new(), Vec::new(), String::new());
        for (first, payload) in frames {
            bytes.extend(frame(*first, payload, masks));
            if first & 0x0f < 3 {
                text.push_str(std::str::from_utf8(payload).unwrap());
                if first & 0x80 != 0 {
                    messages.push((bytes.len(), std::mem::take(&mut text)));
                }
            }
        }
        Self { bytes, messages }
    }

    fn whole(&self, at: usize) -> Vec<&str> {
        self.messages.iter().take_while(|(end, _)| *end <= at).map(|(_, text)| &**text).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_may_break_off_at_every_byte_and_the_client_gets_what_is_whole() {
    let medium = "m".repeat(130);
    for last in [close(1012, "again"), close(4000, "over")] {
        let script = Script::new(
            &[
                (0x81, b"one"),
                (0x89, b"ping"),
                (0x01, b"in "),
                (0x89, b""),
                (0x80, b"two"),
                (0x82, medium.as_bytes()),
                (last.0, &last.1),
            ],
            false,
        );
        for at in 0..=script.bytes.len() {
            let (mut stage, mut client, mut server) = Stage::plain(QUIET).await;
            server.write(&script.bytes[..at]);
            stage.settle().await;
            let is_closed = at == script.bytes.len();
            if is_closed {
                assert_eq!(
                    server.hear().last().map(|(first, _)| *first),
                    Some(0x88),
                    "its Close is answered"
                );
            }
            server.cut();
            stage.settle().await;
            let heard = client.hear();
            assert_eq!(texts(&heard), script.whole(at), "{at}");
            if is_closed && last == close(4000, "over") {
                assert_eq!(heard.last(), Some(&last), "what the server says last is said to the client");
                client.cut();
                stage.settle().await;
                stage.is_over();
                continue;
            }
            assert!(heard.iter().all(|(first, _)| *first != 0x88), "{at}");
            let mut server = stage.new_server().await;
            server.text("back");
            client.text("still here");
            stage.settle().await;
            assert_eq!(texts(&client.hear()), ["back"], "{at}: nothing is left of what was cut");
            assert_eq!(texts(&server.hear()), ["still here"], "{at}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_may_break_off_at_every_byte_and_the_server_gets_what_is_whole() {
    let medium = "m".repeat(130);
    let last = close(4000, "done");
    let script = Script::new(
        &[
            (0x81, b"one"),
            (0x89, b"ping"),
            (0x01, b"in "),
            (0x8a, b""),
            (0x80, b"two"),
            (0x81, medium.as_bytes()),
            (last.0, &last.1),
        ],
        true,
    );
    for at in 0..=script.bytes.len() {
        let (mut stage, mut client, mut server) = Stage::plain(QUIET).await;
        client.write(&script.bytes[..at]);
        stage.settle().await;
        client.cut();
        stage.settle().await;
        let heard = server.hear();
        assert_eq!(texts(&heard), script.whole(at), "{at}");
        let close = if at == script.bytes.len() { last.clone() } else { close(1001, "client lost") };
        assert_eq!(heard.last(), Some(&close), "{at}");
        server.say(0x88, &close.1);
        server.cut();
        stage.settle().await;
        stage.is_over();
        assert_eq!(stage.ends(SessionEnd::Client), (1, 0));
    }
}

/// The reply to a greeting is cut, server after server: each of them is greeted, the client hears none of the replies, and
/// what it says meanwhile is said once.
#[tokio::test(start_paused = true)]
async fn a_server_may_break_off_at_every_byte_of_its_reply_to_the_greeting() {
    let policy = "{heartbeat: null, notices: false, redial: {base: 20ms, cap: 200ms, give_up: 10m}, session: \
                  {greeting: [{match: {regex: '^auth '}, reply: {regex: '^welcome'}}]}}";
    let (mut stage, mut client, mut server) = Stage::plain(policy).await;
    client.text("auth me");
    stage.settle().await;
    assert_eq!(texts(&server.hear()), ["auth me"]);
    server.text("welcome 1");
    stage.settle().await;
    assert_eq!(texts(&client.hear()), ["welcome 1"]);
    server.cut();
    let reply = frame(0x81, b"welcome 2", false);
    for at in 0..reply.len() {
        let mut server = stage.new_server().await;
        assert_eq!(texts(&server.hear()), ["auth me"], "{at}");
        server.write(&reply[..at]);
        stage.settle().await;
        server.cut();
        stage.settle().await;
        client.text(&format!("meanwhile {at}"));
        stage.settle().await;
    }
    let mut server = stage.new_server().await;
    assert_eq!(texts(&server.hear()), ["auth me"], "nothing else before its reply");
    server.write(&reply);
    server.text("welcome to the room");
    stage.settle().await;
    assert_eq!(texts(&client.hear()), ["welcome to the room"], "one reply is swallowed");
    let meanwhile: Vec<String> = (0..reply.len()).map(|at| format!("meanwhile {at}")).collect();
    assert_eq!(texts(&server.hear()), meanwhile);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_reply_to_the_greeting_is_left() {
    let policy = "{heartbeat: null, notices: false, redial: {base: 20ms, cap: 200ms}, session: \
                  {greeting: [{match: {regex: '^auth '}, reply: {regex: '^welcome'}}]}}";
    let (mut stage, mut client, mut server) = Stage::plain(policy).await;
    client.text("auth me");
    stage.settle().await;
    server.cut();
    let mut server = stage.new_server().await;
    server.text("something else");
    stage.pass(millis(4_900)).await;
    assert_eq!(texts(&client.hear()), ["something else"]);
    assert!(server.hear().iter().all(|(first, _)| *first != 0x88));
    stage.pass(millis(200)).await;
    assert_eq!(server.hear().last(), Some(&close(1001, "no reply to the greeting")));
    let mut next = stage.new_server().await;
    assert_eq!(texts(&next.hear()), ["auth me"]);
}
