//! Random lives of a feed, each from a seed: whoever comes, goes, stops reading or reads again gets each message in
//! order and once, or it is counted.

use super::*;

struct Walker {
    client: Client,
    /// The first message that is new to it.
    from: u64,
    heard: Vec<u64>,
    is_reading: bool,
}

impl Walker {
    fn read(&mut self) {
        for text in self.client.messages() {
            self.heard.push(text[..8].parse().unwrap());
        }
        assert!(self.heard.is_sorted_by(|a, b| a < b), "in order and once: {:?}", self.heard);
        assert!(self.heard.first().is_none_or(|first| *first >= self.from), "older than its arrival");
    }
}

#[tokio::test(start_paused = true)]
async fn random_lives_lose_nothing_in_silence() {
    for seed in 0..60 {
        walk(seed).await;
    }
}

async fn walk(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stage = Stage::open(
        "policy: {heartbeat: null, history: {messages: 30, bytes: 64KiB}, \
         delivery: {max_lag: {messages: 15}, cool_down: 1s, max_trips: 100}}",
    );
    let mut walkers: Vec<Walker> = Vec::new();
    // What those that left had heard and were to hear.
    let (mut heard, mut due) = (0, 0);
    for _ in 0..150 {
        match random.u8(..100) {
            0..15 if walkers.len() < 12 => {
                let is_narrow = random.bool();
                let client = stage.come(is_narrow);
                walkers.push(Walker { client, from: stage.written + 1, heard: Vec::new(), is_reading: true });
            }
            15..60 => {
                let (n, size) = (random.usize(1..8), random.usize(1..2000));
                stage.flood(n, size);
            }
            60..75 => {
                if let Some(walker) = random.choice(&mut walkers) {
                    walker.is_reading = !walker.is_reading;
                }
            }
            75..80 => {
                let time = millis(random.u64(1..1500));
                stage.pass(time).await;
            }
            _ => stage.turn().await,
        }
        for walker in walkers.iter_mut().filter(|walker| walker.is_reading) {
            walker.read();
        }
    }
    // Everybody reads to the end.
    for _ in 0..300 {
        stage.pass(millis(100)).await;
        for walker in &mut walkers {
            walker.read();
        }
    }
    for walker in &walkers {
        heard += walker.heard.len() as u64;
        due += stage.written + 1 - walker.from;
        if stage.written >= walker.from {
            assert_eq!(walker.heard.last(), Some(&stage.written), "seed {seed}: the newest always comes");
        }
    }
    // With so many in trouble the channel's breaker opens now and then.
    let missed = stage.metric("messages_missed_total") + stage.metric("messages_conflated_total");
    assert_eq!(heard + missed as u64, due, "seed {seed}");
    assert_eq!(stage.registry.len(), walkers.len(), "seed {seed}: nobody was closed");
    walkers.clear();
    stage.turn().await;
    let open = stage.metrics.breaker(BreakerScope::Recipient, "r").open();
    assert_eq!((stage.registry.len(), open), (0, 0), "seed {seed}");
    drop(stage.shard.take());
    let history = stage.metric("history_bytes") as usize;
    assert_eq!(stage.budget.used(), history, "seed {seed}: only the log holds anything");
}
