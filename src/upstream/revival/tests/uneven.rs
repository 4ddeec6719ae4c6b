//! A server that is there for some of its sessions only: how long the others wait for theirs.

use super::*;

/// What the server does with every dial of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dial {
    /// It is answered.
    Good,
    /// It gets no answer.
    Hangs,
    /// The connection ends without an answer.
    Fails,
}

/// What a dial waits at the most for its answer.
const TIMEOUT: Duration = secs(10);

async fn relink(revival: Arc<Revival>, dial: Dial) -> Duration {
    let lost_at = Instant::now();
    for failures in 0.. {
        let mut waiting = revival.wait(failures);
        let turn = poll_fn(|cx| waiting.poll_turn(cx)).await;
        match dial {
            Dial::Good => {
                sleep(millis(5)).await;
                turn.succeeded();
                break;
            }
            Dial::Hangs => sleep(TIMEOUT).await,
            Dial::Fails => sleep(millis(1)).await,
        }
        turn.failed(Blame::Server);
    }
    lost_at.elapsed()
}

/// How long those take that are answered, the shortest first, when all of them lose the server at once: `bad` of `all`, which
/// come first, are treated so.
async fn good_ones(all: usize, bad: usize, dial: Dial) -> Vec<Duration> {
    let revival = Revival::new(RULES, MAX_DIALS);
    let mut others = JoinSet::new();
    for _ in 0..bad {
        others.spawn(relink(Arc::clone(&revival), dial));
    }
    yield_now().await;
    let mut good = JoinSet::new();
    for _ in bad..all {
        good.spawn(relink(Arc::clone(&revival), Dial::Good));
    }
    let mut took = good.join_all().await;
    took.sort_unstable();
    took
}

#[tokio::test(start_paused = true)]
async fn sessions_whose_dials_fail_or_hang_hold_up_the_others_for_seconds_at_most() {
    // of 200; when the last of the others is back: at half of 100 losses, and at nine of ten
    for (bad, dial, median, most) in [
        (20, Dial::Hangs, millis(200), millis(500)),
        (100, Dial::Hangs, secs(2), secs(3)),
        (160, Dial::Hangs, secs(5), secs(10)),
        (100, Dial::Fails, secs(1), secs(3)),
        (160, Dial::Fails, secs(5), secs(12)),
    ] {
        let mut last = Vec::new();
        for seed in 0..100 {
            fastrand::seed(seed);
            last.push(*good_ones(200, bad, dial).await.last().unwrap());
        }
        last.sort_unstable();
        assert!(last[50] <= median && last[90] <= most, "{bad} {dial:?}: {:?} {:?}", last[50], last[90]);
    }
}
