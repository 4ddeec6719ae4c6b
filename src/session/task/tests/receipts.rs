//! What a session believes its server has taken where that is not asked (`session.receipts: false`).

use super::*;

/// In a policy, with `unsent` or `unacknowledged`.
fn unasked(replay: &str) -> String {
    format!(
        "{{heartbeat: null, redial: {{base: 20ms, cap: 200ms}}, \
          session: {{receipts: false, queue: {{replay: {replay}}}}}}}"
    )
}

#[tokio::test(start_paused = true)]
async fn what_left_five_seconds_ago_counts_as_taken_and_what_left_later_does_not() {
    // how long before the loss a message left, and whether it counts as taken
    for (before, is_taken) in
        [(secs(6), true), (millis(5001), true), (millis(4900), false), (millis(0), false)]
    {
        for replay in ["unsent", "unacknowledged"] {
            let (mut stage, mut client, mut server) = Stage::plain(&unasked(replay)).await;
            client.text("said");
            stage.settle().await;
            assert_eq!(server.hear(), [(0x81, b"said".to_vec())], "and no ping");
            stage.pass(before).await;
            assert_eq!(server.hear(), [], "nor later");
            server.cut();
            let mut next = stage.new_server().await;
            client.text("after");
            stage.settle().await;
            let is_again = replay == "unacknowledged" && !is_taken;
            let expected = if is_again { vec!["said", "after"] } else { vec!["after"] };
            assert_eq!(texts(&next.hear()), expected, "{replay}, {before:?} before");
            let uncertain = u64::from(replay == "unsent" && !is_taken);
            assert_eq!(stage.lost(MessageLoss::Uncertain), uncertain, "{replay}, {before:?} before");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_falls_silent_has_no_more_kept_than_what_left_lately() {
    let (mut stage, mut client, mut server) = Stage::plain(&unasked("unacknowledged")).await;
    for n in 0..600 {
        client.text(&format!("{n}"));
        stage.pass(millis(100)).await;
        server.hear();
    }
    server.cut();
    let mut next = stage.new_server().await;
    stage.settle().await;
    let heard = next.hear();
    let again = texts(&heard);
    // Those of five seconds, and of one more, since what leaves within a second counts as one.
    assert!((50..=61).contains(&again.len()), "{}", again.len());
    assert_eq!(again.last(), Some(&"599"));
}
