//! Clients whose network goes twice a second, by a reset, an end or silence, and who talk all the time: their server sees one
//! connection each, and nothing is lost or said twice. Then the server is killed twice a second as well. And ten thousand who
//! never come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::session_server::{Note, Orders, Server, read};
use crate::support::DEADLINE;
use crate::support::binary::Binary;
use crate::support::client::{Dial, RawClient};
use crate::support::files::Folder;
use crate::support::link::Message;
use crate::support::proxy::Proxy;
use crate::support::ticket_client::{Cut, Event, TicketClient};
use crate::support::upstream::Upstream;
use crate::support::wait::eventually;

const CLIENTS: usize = 50;
/// How often the server says something to each client, and each client to it.
const EVERY: Duration = Duration::from_millis(25);
/// How long each link lasts, and each server where that is killed too.
const LIFE: Duration = Duration::from_millis(500);
const STORM: Duration = Duration::from_secs(20);
/// A client comes back anywhere within this.
const AWAY: Duration = Duration::from_millis(100);

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    /// What servers said, in order: in which life, and its number.
    heard: Vec<(usize, u64)>,
    /// So many numbered messages it has said, from 0.
    said: u64,
    /// Which of them were told to be uncertain.
    uncertain: BTreeSet<u64>,
    /// How often its network went.
    cuts: u32,
    /// How often it had to begin anew.
    fresh: u32,
    /// From the loss to the hello.
    resumes: Vec<Duration>,
}

/// When all is over, and when everybody may go.
#[derive(Debug, Default)]
struct Signals {
    is_over: AtomicBool,
    may_go: AtomicBool,
}

/// Connects until that succeeds.
async fn connect(client: &mut TicketClient, seen: &mut Seen) {
    let since = Instant::now();
    loop {
        match client.try_connect().await {
            Ok(Some(hello)) => {
                seen.fresh += u32::from(hello["resumed"] == false);
                seen.resumes.push(since.elapsed());
                return;
            }
            Ok(None) => panic!("a hello comes first: {:?}", client.first),
            // Its server is dead, and it had no session yet, or the link did not last.
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Talks and loses its network until `is_over`, says one more, and listens until `may_go`.
async fn live(dial: Dial, signals: Arc<Signals>) -> Seen {
    let mut seen = Seen::default();
    let mut client = TicketClient::new(dial);
    connect(&mut client, &mut seen).await;
    // Not all of them in one beat.
    let mut next = Instant::now() + EVERY.mul_f64(fastrand::f64());
    let mut cut_at = Instant::now() + LIFE.mul_f64(0.5 + fastrand::f64());
    let mut is_last = false;
    while !signals.may_go.load(Relaxed) {
        let now = Instant::now();
        if cut_at <= now && !is_last {
            client.cut(Cut::ALL[fastrand::usize(..3)]).await;
            seen.cuts += 1;
            sleep(AWAY.mul_f64(fastrand::f64())).await;
            connect(&mut client, &mut seen).await;
            cut_at = Instant::now() + LIFE.mul_f64(0.5 + fastrand::f64());
            continue;
        }
        if next <= now {
            next += EVERY;
            if !is_last {
                is_last = signals.is_over.load(Relaxed);
                let text = if is_last { "end".to_owned() } else { seen.said.to_string() };
                client.say(&text).await;
                seen.said += u64::from(!is_last);
            }
            continue;
        }
        match client.next_within(next - now).await {
            None => {}
            Some(Event::Message(Message::Text(text))) => {
                let (life, number) = text.split_once(' ').expect("life and number");
                seen.heard.push((life.parse().unwrap(), number.parse().unwrap()));
            }
            Some(Event::Control(control)) => seen.note(&control),
            Some(Event::Message(Message::Binary(_)) | Event::Close(..) | Event::End(_)) => {
                panic!("nobody but the client ends a link here: {:?}", client.bye)
            }
        }
    }
    seen
}

impl Seen {
    fn note(&mut self, control: &Value) {
        if let Some(uncertain) = control.get("uncertain") {
            let number = |name: &str| uncertain[name].as_u64().unwrap();
            // Messages are numbered from 1, and what they say from 0.
            self.uncertain.extend(number("from") - 1..number("to"));
        }
        assert!(control.get("lost").is_none(), "{control}");
    }
}

/// All of it: for how long, and whether the server is killed too. Answers what came of it.
async fn storm(length: Duration, kills: bool) -> String {
    let _alone = crate::alone().await;
    let folder = Folder::new("tickets");
    let mut orders = Orders { port: 0, life: 0, every: EVERY, notes: folder.path("notes") };
    let mut server = Server::start(&orders).await;
    orders.port = server.address.port();
    let routes = "routes: [{name: chat, path: '/{*rest}', mode: session}]";
    // They come back from one address, and faster than any limit for strangers.
    let proxy = Proxy::to_url(format!("http://{}", server.address)).yaml(routes);
    let proxy = proxy.policy(|policy| policy.handshake_rate.per_ip = None).spawn().await;
    let signals = Arc::new(Signals::default());
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        let life = live(proxy.dial().path(&format!("/client-{n}")), Arc::clone(&signals));
        clients.spawn(async move { (format!("client-{n}"), life.await) });
    }
    let since = Instant::now();
    if kills {
        while since.elapsed() < length {
            sleep_until(since + LIFE * (orders.life as u32 + 1)).await;
            server.kill().await;
            orders.life += 1;
            server = Server::start(&orders).await;
        }
    } else {
        sleep_until(since + length).await;
    }
    signals.is_over.store(true, Relaxed);
    // The last of what each of them says tells that all before it was decided upon.
    eventually(DEADLINE * 2, || async {
        let notes = read(&orders.notes);
        let ends =
            notes.iter().filter(|note| matches!(note, Note::Heard { text, .. } if text == "end")).count();
        if ends >= CLIENTS { Ok(()) } else { Err(ends) }
    })
    .await;
    // So that there is time for what is twice to show.
    sleep(LIFE).await;
    signals.may_go.store(true, Relaxed);
    let clients = BTreeMap::from_iter(clients.join_all().await);
    let metrics = proxy.metrics().await;
    let notes = read(&orders.notes);
    drop(server);

    let cuts: u32 = clients.values().map(|seen| seen.cuts).sum();
    let anew: u32 = clients.values().map(|seen| seen.fresh).sum();
    let resumed = metrics.get("outrigger_resumes_total{outcome=\"resumed\",route=\"chat\"}").unwrap();
    let uncertain =
        metrics.get("outrigger_messages_lost_total{reason=\"uncertain\",route=\"chat\"}").unwrap() as u64;
    let ends = metrics.sum("outrigger_session_ends_total");
    assert_eq!((anew as usize, ends), (CLIENTS, 0.0), "each began once, and was resumed ever after");
    assert!(resumed >= f64::from(cuts), "{resumed} of {cuts}");
    for reason in ["queue", "age", "greeting"] {
        let sample = format!("outrigger_messages_lost_total{{reason=\"{reason}\",route=\"chat\"}}");
        assert_eq!(metrics.get(&sample), Some(0.0), "{reason}");
    }
    let mut said_by_server = BTreeMap::<(&str, usize), u64>::new();
    let mut heard_by_server = BTreeMap::<&str, Vec<u64>>::new();
    for note in &notes {
        match note {
            Note::Said { life, client, number } => {
                said_by_server.insert((client, *life), *number);
            }
            Note::Heard { client, text, .. } => {
                let heard = heard_by_server.entry(client).or_default();
                heard.extend(text.parse::<u64>());
            }
        }
    }
    let (mut missing_all, mut heard_all) = (0, 0);
    for (name, seen) in &clients {
        down(name, seen, &said_by_server, orders.life);
        let heard = &heard_by_server[&**name];
        assert!(heard.windows(2).all(|pair| pair[0] < pair[1]), "{name}: twice, or out of order: {heard:?}");
        let heard = BTreeSet::from_iter(heard.iter().copied());
        let missing = seen.said - heard.len() as u64;
        missing_all += missing;
        heard_all += seen.heard.len();
    }
    if !kills {
        assert_eq!((missing_all, uncertain), (0, 0), "nothing was lost");
        assert_eq!(metrics.sum("outrigger_redials_total"), 0.0, "the server has seen {CLIENTS} connections");
    }
    assert!(missing_all <= uncertain, "{missing_all} missing, {uncertain} told");
    let mut resumes = Vec::from_iter(clients.values().flat_map(|seen| seen.resumes.iter().copied()));
    resumes.sort_unstable();
    let came_of_it = format!(
        "{cuts} cuts, {} servers: {heard_all} messages down; up {missing_all} missing, {uncertain} uncertain, {} of \
         them told at the clients; a resume took p50 {:?}, p99 {:?}",
        orders.life + 1,
        clients.values().map(|seen| seen.uncertain.len()).sum::<usize>(),
        resumes[resumes.len() / 2],
        resumes[resumes.len() * 99 / 100],
    );
    assert!(cuts as usize > CLIENTS * (length.as_secs() as usize), "{cuts}");
    came_of_it
}

/// A client has heard each server from its first word, without a gap and once, up to what that surely said before its death.
fn down(name: &str, seen: &Seen, said: &BTreeMap<(&str, usize), u64>, last_life: usize) {
    let mut lives: BTreeMap<usize, u64> = BTreeMap::new();
    let mut newest = 0;
    for (life, number) in &seen.heard {
        assert!(*life >= newest, "{name}: life {life} was heard after {newest}");
        newest = *life;
        let due = lives.get(life).map_or(0, |last| last + 1);
        assert_eq!(*number, due, "{name}: in life {life}");
        lives.insert(*life, *number);
    }
    for ((_, life), said) in said.range((name, 0)..(name, last_life)) {
        let heard = lives.get(life);
        // A dial that its client did not wait for is dropped, and with it what a server says before anybody has it.
        let is_of_no_session = heard.is_none() && *said <= 2;
        let is_whole = heard >= Some(said) || is_of_no_session;
        assert!(is_whole, "{name}: {said} was said in life {life}, {heard:?} was heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_lose_their_network_twice_a_second_and_their_server_does_not_notice() {
    eprintln!("{}", storm(STORM, false).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_and_their_server_lose_each_other_all_the_time() {
    eprintln!("{}", storm(STORM, true).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: `make test-nightly`"]
async fn clients_and_their_server_lose_each_other_for_a_minute() {
    eprintln!("{}", storm(Duration::from_secs(60), true).await);
}

/// Open files of a process.
fn descriptors(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("a folder of descriptors").count()
}

/// What a process has of the memory, shared pages by their share.
fn proportional(process: u32) -> usize {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).expect("its memory");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("a share");
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().expect("a number") * 1024
}

const ABANDONED: usize = 10_000;
const WINDOW: Duration = Duration::from_secs(20);

/// So many clients come and are never seen again.
async fn abandon(proxy: SocketAddr, count: usize) {
    let mut tasks = JoinSet::new();
    for _ in 0..50 {
        tasks.spawn(async move {
            for _ in 0..count / 50 {
                let mut client = TicketClient::new(RawClient::dial(proxy));
                client.begin_anew().await;
                client.say("remember me").await;
                client.hears(&["remember me"]).await;
                client.cut(Cut::Reset).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("each gets its session");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_abandoned_sessions_end_with_their_window_and_leave_nothing() {
    let _alone = crate::alone().await;
    outrigger::internals::raise_descriptor_limit();
    let upstream = Upstream::echo().await;
    let policy = format!(
        "{{session: {{resume_window: {}s, max_detached: {ABANDONED}}}, close_timeout: 1s, \
         handshake_rate: {{global: null, per_ip: null}}}}",
        WINDOW.as_secs()
    );
    let routes = "[{name: chat, path: '/{*rest}', mode: session}]";
    // In a process of its own, so that what it has is its own.
    let proxy = Binary::run(&upstream.url(), &[("ROUTES", routes), ("POLICY", &policy)]).await;
    let process = proxy.binary.id();
    let gone = async || {
        eventually(WINDOW + DEADLINE, || async {
            let metrics = proxy.metrics().await;
            let left =
                [metrics.sum("outrigger_sessions"), metrics.sum("outrigger_clients"), upstream.open() as f64];
            if left == [0.0; 3] { Ok(()) } else { Err(left) }
        })
        .await;
        let at = Instant::now();
        upstream.forget();
        at
    };
    // What a process gets once and keeps: threads, what is remembered of the last of those that are over, and what an
    // allocator does not give back of the most that it ever had.
    abandon(proxy.address(), ABANDONED).await;
    gone().await;
    // What the allocator gives back it gives back later.
    sleep(DEADLINE).await;
    let (descriptors_before, memory_before) = (descriptors(process), proportional(process));
    let since = Instant::now();
    abandon(proxy.address(), ABANDONED).await;
    let (took, last) = (since.elapsed(), Instant::now());
    let metrics = proxy.metrics().await;
    let away = metrics.get("outrigger_sessions{route=\"chat\",state=\"away\"}").unwrap();
    let held = proportional(process).saturating_sub(memory_before) / 1024;
    let ended = gone().await - last;
    eprintln!(
        "{ABANDONED} were abandoned in {took:?}, {away} were away at once, and took {held} KiB of {} KiB before; all \
         had ended {ended:?} after the last had gone",
        memory_before / 1024
    );
    assert!(ended < WINDOW + Duration::from_secs(2), "{ended:?}");
    let metrics = proxy.metrics().await;
    let windows = metrics.get("outrigger_session_ends_total{route=\"chat\",why=\"window\"}");
    assert_eq!(windows, Some((2 * ABANDONED) as f64), "nobody was let go before");
    for left in ["outrigger_buffered_bytes", "outrigger_history_bytes", "outrigger_sessions_connected"] {
        assert_eq!(metrics.sum(left), 0.0, "{left}");
    }
    eventually(DEADLINE, || async {
        let now = descriptors(process);
        if now == descriptors_before { Ok(()) } else { Err(format!("{now} of {descriptors_before}")) }
    })
    .await;
    eventually(DEADLINE * 3, || async {
        let now = proportional(process);
        let is_back = now as f64 <= memory_before as f64 * 1.05;
        if is_back { Ok(()) } else { Err(format!("{now} bytes, {memory_before} before")) }
    })
    .await;
}
