//! Random lives of a connection, each from a seed.
//!
//! Whatever both ends do, in whatever pieces and at whatever times: nothing panics, nobody hears
//! anything but what the other said (and whole frames of ours between), nothing is kept back from whoever
//! reads, and once both ends are gone or have closed the relay ends in good time.

use fastrand::Rng;

use super::*;
use crate::frame::{CloseCode, Edge};

/// About two seconds of a debug build.
const WALKS: u64 = 600;

/// Handshakes take their time.
const SECURE_WALKS: u64 = 150;

/// Longer than every chain of timeouts in [`SETTINGS`]: a stall, then twice `close_timeout`.
const BOUND: Duration = secs(60);

const SETTINGS: [&str; 5] = [
    "{ upstream: { stall_timeout: 20s }, policy: { heartbeat: { interval: 5s, timeout: 2s, max_missed: 2 }, \
       idle_timeout: 30s, close_timeout: 5s, delivery: { stall_timeout: 20s } } }",
    "{ upstream: { stall_timeout: 20s, heartbeat: { interval: 7s, timeout: 3s, max_missed: 1 } }, \
       policy: { heartbeat: { mode: json, interval: 5s, timeout: 2s, max_missed: 3 }, delivery: { stall_timeout: 20s } } }",
    "{ upstream: { stall_timeout: 20s }, policy: { heartbeat: { interval: 5s, timeout: 2s, max_missed: 1 }, \
       delivery: { stall_timeout: 20s, on_stall: isolate, max_lag: { bytes: 64KiB } } } }",
    "{ upstream: { stall_timeout: 20s }, policy: { heartbeat: { interval: 5s, timeout: 2s, max_missed: 2 }, \
       limits: { message_rate: { rate: 20/s, burst: 5 } }, delivery: { stall_timeout: 20s } } }",
    "{ upstream: { stall_timeout: 20s, heartbeat: { interval: 5s, timeout: 2s, max_missed: 2 } }, \
       policy: { heartbeat: null, max_lifetime: 60s, close_timeout: 1s, delivery: { stall_timeout: 20s } } }",
];

/// The one whose clients are held to a rate: what they said may take its time.
const RATED: usize = 3;

const JSON_PING: &[u8] = br#"{"type":"heartbeat"}"#;

/// What may end a life is the last of what [`action`] can do.
const END: u8 = 86;

/// Only our own pings are as long as this.
const OUR_PING: usize = 12;

/// What an operator's messages begin with: nobody composes as many different bytes.
const NEWS: &[u8] = b"\xfenews\xff";

#[tokio::test(start_paused = true)]
async fn whatever_happens_it_ends_and_nobody_hears_what_was_not_said() {
    for seed in 0..WALKS {
        let _told = Told(seed);
        walk(seed, [false, false]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn over_tls_it_is_the_same() {
    for seed in 0..SECURE_WALKS {
        let _told = Told(seed);
        walk(seed, [[true, false], [false, true], [true, true]][seed as usize % 3]).await;
    }
}

/// Tells which walk it was that went wrong.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in walk {}", self.0);
        }
    }
}

/// What one end is about.
#[derive(Default)]
struct Actor {
    is_client: bool,
    /// Composed, not yet said.
    unsaid: Vec<u8>,
    composed: usize,
    said: usize,
    /// Frames that the other end is to hear, and where each ends in all that was composed.
    lines: Vec<(usize, Vec<u8>)>,
    /// A message of several frames is not finished.
    is_in_message: bool,
    /// Says nothing more: it has closed, ended or talked nonsense.
    is_done: bool,
    is_deaf: bool,
    heard: Vec<u8>,
    /// Whole frames in it that were looked at.
    answered: usize,
    /// What an operator published to it, as frames, as far as it was taken.
    news: Vec<Vec<u8>>,
}

impl Actor {
    fn new(is_client: bool) -> Self {
        Self { is_client, ..Self::default() }
    }

    fn compose(&mut self, first: u8, payload: &[u8], is_line: bool) {
        let bytes = frame(first, payload, self.is_client);
        self.unsaid.extend_from_slice(&bytes);
        self.composed += bytes.len();
        if is_line {
            self.lines.push((self.composed, bytes));
        }
    }

    fn compose_any(&mut self, rng: &mut Rng) {
        let len = match rng.u8(0..20) {
            0..2 => rng.usize(60_000..70_000),
            2..4 => rng.usize(120..130),
            4..6 => rng.usize(300..5_000),
            _ => rng.usize(0..12),
        };
        if rng.u8(0..4) == 0 {
            let first = if rng.bool() { 0x89 } else { 0x8a };
            return self.compose(first, &vec![rng.u8(..); len % OUR_PING], true);
        }
        let opcode = if self.is_in_message { 0 } else { rng.u8(1..3) };
        let fin = rng.bool();
        self.is_in_message = !fin;
        self.compose(u8::from(fin) << 7 | opcode, &vec![rng.u8(..); len], true);
    }

    /// Answers, mostly, what asks for an answer among the frames that have come since the last time.
    fn answer(&mut self, rng: &mut Rng) {
        while let Some((first, payload, len)) = first_frame(&self.heard[self.answered..]) {
            self.answered += len;
            if self.is_done || rng.u8(0..10) == 0 {
                continue;
            }
            match first {
                0x89 => self.compose(0x8a, &payload, payload.len() != OUR_PING),
                0x81 if payload == JSON_PING && !self.is_in_message => {
                    self.compose(0x81, br#"{"type":"pong"}"#, false);
                }
                0x88 => self.finish(&frame(0x88, &payload, self.is_client)),
                _ => {}
            }
        }
    }

    /// Says its last words.
    fn finish(&mut self, words: &[u8]) {
        self.unsaid.extend_from_slice(words);
        self.is_done = true;
    }

    /// Holds what was heard against what the other said, and what was published: answers how many frames of
    /// either have come.
    fn check(&self, said: &Self) -> (usize, usize) {
        let (mut at, mut lines, mut news, mut is_in_message) = (0, 0, 0, false);
        while at < self.heard.len() {
            let rest = &self.heard[at..];
            let line = said.lines.get(lines).map(|(_, line)| &line[..]).unwrap_or_default();
            if !line.is_empty() && rest.starts_with(line) {
                (at, lines) = (at + line.len(), lines + 1);
                if line[0] & 8 == 0 {
                    is_in_message = line[0] & 0x80 == 0;
                }
                continue;
            }
            if let Some(next) = self.news.get(news)
                && rest.starts_with(next)
            {
                assert!(!is_in_message, "published into a message");
                (at, news) = (at + next.len(), news + 1);
                continue;
            }
            match first_frame(rest) {
                Some((0x89, payload, len)) if payload.len() == OUR_PING => at += len,
                Some((0x81, payload, len)) if payload == JSON_PING && !is_in_message => at += len,
                Some((0x88, _, len)) => {
                    assert_eq!(at + len, self.heard.len(), "something follows a Close");
                    return (lines, news);
                }
                Some((first, payload, _)) => panic!("heard {first:x} {payload:x?} in place of line {lines}"),
                None => {
                    let is_ours = matches!(rest[0], 0x88 | 0x89 | 0x81) && rest.len() < 64;
                    let is_news = self.news.get(news).is_some_and(|next| next.starts_with(rest));
                    assert!(
                        line.starts_with(rest) || is_ours || is_news && !is_in_message,
                        "heard the beginning of something else"
                    );
                    return (lines, news);
                }
            }
        }
        (lines, news)
    }
}

async fn walk(seed: u64, tls: [bool; 2]) {
    let mut rng = Rng::with_seed(seed);
    fastrand::seed(seed);
    let settings = rng.usize(0..SETTINGS.len());
    let props = Props { settings: SETTINGS[settings], buffers: Some(SMALL), tls, ..Props::default() };
    let mut stage = Stage::with(props).await;
    let mut actors = [Actor::new(true), Actor::new(false)];
    // Some lives are long and calm, some are short.
    let calm = rng.u8(1..20);
    let has_news = rng.bool();
    for _ in 0..rng.usize(1..150) {
        let side = rng.usize(0..2);
        let what = rng.u8(0..100);
        if what < END || rng.u8(0..calm) == 0 {
            action(&mut stage, &mut actors, side, what, &mut rng).await;
        }
        if has_news && rng.u8(0..4) == 0 {
            publish(&stage, &mut actors[0], &mut rng);
        }
        stage.turn().await;
        listen(&mut stage, &mut actors, &mut rng);
        if rng.u8(0..20) == 0 && settings != RATED {
            catch_up(&mut stage, &mut actors, &mut rng).await;
        }
    }
    let is_gone = rng.bool();
    let is_heard = rng.bool();
    for (actor, which) in actors.iter_mut().zip([Which::Client, Which::Upstream]) {
        let end = stage.end(which);
        end.try_say(&actor.unsaid);
        actor.unsaid.clear();
        actor.is_done = true;
        actor.is_deaf |= !is_heard;
        if is_gone {
            end.leave();
        } else if let Some(socket) = &end.socket {
            // It may have done so before, or its peer may be gone.
            let _ = socket.shutdown(Shutdown::Write);
        }
    }
    let from = Instant::now();
    while stage.relay.is_some() {
        assert!(from.elapsed() < BOUND, "it goes on for ever: {:#?}", stage.relay);
        stage.pass(secs(1)).await;
        listen(&mut stage, &mut actors, &mut rng);
    }
    listen(&mut stage, &mut actors, &mut rng);
    let (_, heard) = actors[0].check(&actors[1]);
    actors[1].check(&actors[0]);
    let said = stage.injections("ok") as usize;
    assert!(heard <= said, "heard {heard} of {said}");
    assert_eq!(said + stage.injections("ended") as usize, actors[0].news.len(), "each is counted once");
    assert_eq!(stage.budget.used(), 0, "all that was held was given back");
}

/// An operator has something to say to the client.
fn publish(stage: &Stage, client: &mut Actor, rng: &mut Rng) {
    let len = if rng.u8(0..10) == 0 { rng.usize(1000..20_000) } else { rng.usize(0..200) };
    let payload = [NEWS, &client.news.len().to_be_bytes(), &vec![b'n'; len]].concat();
    let news = frame(0x80 | rng.u8(1..3), &payload, false);
    if stage.inject(&news).is_ok() {
        client.news.push(news);
    }
}

/// One thing happens.
async fn action(stage: &mut Stage, actors: &mut [Actor; 2], side: usize, what: u8, rng: &mut Rng) {
    let which = [Which::Client, Which::Upstream][side];
    let actor = &mut actors[side];
    match what {
        0..35 if !actor.is_done => actor.compose_any(rng),
        0..65 => {
            let n = rng.usize(0..=actor.unsaid.len());
            let n = stage.end(which).try_say(&actor.unsaid[..n]);
            actor.unsaid.drain(..n);
            actor.said += n;
        }
        65..72 => actor.is_deaf = !actor.is_deaf,
        72..80 => stage.pass(millis(rng.u64(0..100))).await,
        80..84 => stage.pass(millis(rng.u64(0..5_000))).await,
        84..86 => stage.pass(millis(rng.u64(0..40_000))).await,
        END..90 if !actor.is_done => actor.finish(&close(rng.u16(1000..1013), actor.is_client)),
        90 if !actor.is_done => {
            let nonsense = vec![0x83 | rng.u8(..); rng.usize(2..3000)];
            actor.finish(&nonsense);
        }
        91..93 => {
            if let Some(socket) = &stage.end(which).socket {
                actor.is_done = true;
                actor.unsaid.clear();
                let _ = socket.shutdown(if rng.u8(0..4) == 0 { Shutdown::Read } else { Shutdown::Write });
            }
        }
        93 => {
            actor.is_done = true;
            actor.unsaid.clear();
            stage.end(which).leave();
        }
        94..97 => {
            let at = Instant::now() + millis(rng.u64(0..20_000));
            stage.command(Command::CloseAt { at, code: CloseCode(1012) });
        }
        97 if rng.bool() => {
            stage.command(if rng.bool() { Command::Cut } else { Command::Replace });
        }
        _ => {}
    }
}

/// Whoever is not deaf hears what has come, and answers.
fn listen(stage: &mut Stage, actors: &mut [Actor; 2], rng: &mut Rng) {
    for (actor, which) in actors.iter_mut().zip([Which::Client, Which::Upstream]) {
        if !actor.is_deaf {
            actor.heard.extend(stage.end(which).hear_all().0);
            actor.answer(rng);
        }
    }
}

/// Both hear everything that there is: then nothing is kept back that was said in full.
async fn catch_up(stage: &mut Stage, actors: &mut [Actor; 2], rng: &mut Rng) {
    for actor in &mut *actors {
        actor.is_deaf = false;
    }
    let mut quiet = 0;
    loop {
        let before = [actors[0].heard.len(), actors[1].heard.len()];
        stage.turn().await;
        listen(stage, actors, rng);
        // What an end over TLS had kept leaves while it listens, and is heard a round later.
        quiet = if before == [actors[0].heard.len(), actors[1].heard.len()] { quiet + 1 } else { 0 };
        if quiet == 3 {
            break;
        }
    }
    let Some(relay) = &stage.relay else { return };
    let is_whole = [&relay.client, &relay.upstream]
        .iter()
        .all(|link| link.can_send() && link.can_read() && link.is_flushed());
    if relay.ending.is_none() && is_whole {
        for (hears, says) in [(0, 1), (1, 0)] {
            let whole = actors[says].lines.iter().take_while(|(end, _)| *end <= actors[says].said).count();
            assert_eq!(actors[hears].check(&actors[says]).0, whole, "kept back from {hears}");
        }
        if relay.upstream.scanner.edge() == Edge::Message {
            let (_, news) = actors[0].check(&actors[1]);
            assert_eq!(news, actors[0].news.len(), "news kept back from the client");
        }
    }
}
