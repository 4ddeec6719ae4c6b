//! A server that is killed twice a second under clients who talk all the time, for twenty seconds: none of them notices
//! more than a pause, and what they say is lost or said again exactly as was promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::session_server::{Note, Orders, Server, read};
use crate::support::DEADLINE;
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::proxy::Proxy;
use crate::support::wait::eventually;
use crate::support::wire::Frame;

/// Of each route.
const CLIENTS: usize = 50;
const ROUTES: [&str; 2] = ["unsent", "unacknowledged"];
/// How often the server says something to each client, and each client to it.
const EVERY: Duration = Duration::from_millis(25);
/// How long each server lives, and how long it all goes on.
const LIFE: Duration = Duration::from_millis(500);
const STORM: Duration = Duration::from_secs(20);

/// What a client has seen.
#[derive(Debug, Default)]
struct Seen {
    /// What servers said: when, in which life, and its number.
    heard: Vec<(Instant, usize, u64)>,
    /// So many numbered messages it has said, from 0.
    said: u64,
    /// So many of them were told to be uncertain.
    uncertain: u64,
}

/// Talks until `is_over`, says one more, and listens until `may_go`.
async fn live(mut link: RawClient, is_over: Arc<AtomicBool>, may_go: Arc<AtomicBool>) -> (Seen, RawClient) {
    let mut seen = Seen::default();
    // Not all of them in one beat.
    let mut next = Instant::now() + EVERY.mul_f64(fastrand::f64());
    let mut is_last = false;
    while !may_go.load(Relaxed) {
        if next <= Instant::now() {
            next += EVERY;
            if !is_last {
                is_last = is_over.load(Relaxed);
                let text = if is_last { "end".to_owned() } else { seen.said.to_string() };
                link.try_send_frame(&Frame::text(&text)).await.expect("the client stays");
                seen.said += u64::from(!is_last);
            }
            continue;
        }
        let Some(text) = link.text_within(next - Instant::now()).await else { continue };
        if let Some((life, number)) = text.split_once(' ') {
            seen.heard.push((Instant::now(), life.parse().unwrap(), number.parse().unwrap()));
            continue;
        }
        let told: Value = serde_json::from_str(&text).unwrap();
        match told["event"].as_str() {
            Some("uncertain") => seen.uncertain += told["messages"].as_u64().unwrap(),
            Some("upstream_lost" | "upstream_restored") => {}
            _ => panic!("{text}"),
        }
    }
    (seen, link)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_killed_twice_a_second_and_no_client_breaks() {
    let _alone = crate::alone().await;
    let folder = Folder::new("crashes");
    let mut orders = Orders { port: 0, life: 0, every: EVERY, notes: folder.path("notes") };
    let mut server = Server::start(&orders).await;
    orders.port = server.address.port();
    let routes = "routes: [{name: unsent, path: '/unsent/{*rest}', mode: session}, \
                  {name: unacknowledged, path: '/unacknowledged/{*rest}', mode: session, \
                  policy: {session: {queue: {replay: unacknowledged}}}}]";
    let proxy = Proxy::to_url(format!("http://{}", server.address));
    let proxy = proxy.yaml(routes).yaml("policy: {notices: true}").spawn().await;

    let (is_over, may_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut clients = JoinSet::new();
    for route in ROUTES {
        for n in 0..CLIENTS {
            let name = format!("{route}-{n}");
            let link = proxy.dial().path(&format!("/{route}/{name}")).open().await;
            let life = live(link, Arc::clone(&is_over), Arc::clone(&may_go));
            clients.spawn(async move { (name, life.await) });
        }
    }
    let since = Instant::now();
    let (mut deaths, mut starts) = (Vec::new(), Vec::new());
    while since.elapsed() < STORM {
        sleep_until(since + LIFE * (orders.life as u32 + 1)).await;
        deaths.push(server.kill().await);
        orders.life += 1;
        server = Server::start(&orders).await;
        starts.push(deaths[deaths.len() - 1].elapsed());
    }
    is_over.store(true, Relaxed);
    // The last of what each of them says tells that all before it was decided upon.
    eventually(DEADLINE, || async {
        let ended = read(&orders.notes).into_iter().filter(is_end).count();
        if ended >= ROUTES.len() * CLIENTS { Ok(()) } else { Err(ended) }
    })
    .await;
    may_go.store(true, Relaxed);
    let clients = clients.join_all().await;

    let metrics = proxy.metrics().await;
    assert_eq!(metrics.sum("outrigger_disconnections_total"), 0.0, "nobody was let go");
    assert_eq!(metrics.sum("outrigger_connections_total"), (ROUTES.len() * CLIENTS) as f64);
    let seen = BTreeMap::from_iter(clients.into_iter().map(|(name, (seen, _))| (name, seen)));
    let lost = |route: &str, reason: &str| {
        let sample = format!("outrigger_messages_lost_total{{reason=\"{reason}\",route=\"{route}\"}}");
        metrics.get(&sample).unwrap() as u64
    };
    for reason in ["queue", "age", "greeting"] {
        assert_eq!((lost("unsent", reason), lost("unacknowledged", reason)), (0, 0), "{reason}");
    }
    let notes = read(&orders.notes);
    streams_are_whole(&seen, &notes);
    let told: u64 =
        seen.iter().filter(|(name, _)| name.starts_with("unsent-")).map(|(_, seen)| seen.uncertain).sum();
    assert_eq!(told, lost("unsent", "uncertain"), "what is counted is told");
    assert_eq!(lost("unacknowledged", "uncertain"), 0);
    let (missing, twice) = words_are_kept(&seen, &notes);
    assert!(missing <= told);

    let [p50, p99, worst] = recoveries(&seen, &deaths);
    starts.sort_unstable();
    let start = starts[starts.len() / 2];
    eprintln!(
        "{} deaths: recovery p50 {p50:?}, p99 {p99:?}, worst {worst:?}, of which the server takes {start:?}; unsent: \
         {told} told, {missing} missing; unacknowledged: {twice} said again that had been heard",
        deaths.len()
    );
    // Until it is there again nobody can be back. How long a process takes to start tells how busy the machine is as well.
    assert!(p50 < Duration::from_millis(200) + 2 * start, "{p50:?}, {start:?} to start");
    assert!(p99 < Duration::from_secs(1) + 2 * start, "{p99:?}, {start:?} to start");
}

fn is_end(note: &Note) -> bool {
    matches!(note, Note::Heard { text, .. } if text == "end")
}

/// Each client has heard each server from its first word to its last, each once, in order.
fn streams_are_whole(seen: &BTreeMap<String, Seen>, notes: &[Note]) {
    let mut sure = BTreeMap::new();
    for note in notes {
        if let Note::Said { life, client, number } = note {
            sure.insert((client.as_str(), *life), *number);
        }
    }
    let last_life = notes.iter().map(|note| match note {
        Note::Said { life, .. } | Note::Heard { life, .. } => *life,
    });
    let last_life = last_life.max().unwrap();
    for (name, seen) in seen {
        let mut lives: BTreeMap<usize, u64> = BTreeMap::new();
        let mut newest = 0;
        for (_, life, number) in &seen.heard {
            assert!(*life >= newest, "{name}: life {life} was heard after {newest}");
            newest = *life;
            let due = lives.get(life).map_or(0, |last| last + 1);
            assert_eq!(*number, due, "{name}: in life {life}");
            lives.insert(*life, *number);
        }
        for ((_, life), said) in sure.range((name.as_str(), 0)..(name.as_str(), last_life)) {
            let heard = lives.get(life);
            assert!(heard >= Some(said), "{name}: {said} was said in life {life}, {heard:?} was heard");
        }
    }
}

/// What the servers have heard, against what was promised. Answers how many messages are missing where they may, and how
/// many were heard twice where they may.
fn words_are_kept(seen: &BTreeMap<String, Seen>, notes: &[Note]) -> (u64, u64) {
    let (mut all_missing, mut all_twice) = (0, 0);
    for (name, seen) in seen {
        let heard = notes.iter().filter_map(|note| match note {
            Note::Heard { life, client, text } if client == name => {
                text.parse::<u64>().ok().map(|number| (*life, number))
            }
            _ => None,
        });
        let heard = Vec::from_iter(heard);
        let once = BTreeSet::from_iter(heard.iter().map(|(_, number)| *number));
        let missing = seen.said - once.len() as u64;
        if name.starts_with("unsent-") {
            let in_order = heard.windows(2).all(|pair| pair[0].1 < pair[1].1);
            assert!(in_order, "{name}: twice, or out of order: {heard:?}");
            assert!(missing <= seen.uncertain, "{name}: {missing} missing, {} told", seen.uncertain);
            all_missing += missing;
        } else {
            assert_eq!(missing, 0, "{name}: of {} said", seen.said);
            for pair in heard.windows(2) {
                let [(life, number), (next_life, next)] = pair else { continue };
                let is_due = if life == next_life { *next == number + 1 } else { *next <= number + 1 };
                assert!(is_due, "{name}: {number} in life {life}, then {next} in life {next_life}");
            }
            assert_eq!(seen.uncertain, 0, "{name}: what is said again is not told");
            all_twice += heard.len() as u64 - once.len() as u64;
        }
    }
    (all_missing, all_twice)
}

/// From each death to the next message, over all clients: the median, the 99th percentile, the worst.
fn recoveries(seen: &BTreeMap<String, Seen>, deaths: &[Instant]) -> [Duration; 3] {
    let mut times = Vec::new();
    for seen in seen.values() {
        for (life, death) in deaths.iter().enumerate() {
            let back = seen.heard.iter().find(|(_, later, _)| *later > life);
            times.push(back.expect("it is back in the end").0 - *death);
        }
    }
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    [at(0.5), at(0.99), at(1.0)]
}
