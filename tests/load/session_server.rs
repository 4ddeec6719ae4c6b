//! A server in a process of its own, so that it can be killed: this program again, told by its environment what to do.
//!
//! On each connection it counts aloud, and writes down what it says and what it hears, in a file that it appends to: each line
//! is with the kernel before the next thing happens, and outlives the process. On SIGTERM it closes everybody with
//! 1001 and exits.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::support::DEADLINE;
use crate::support::binary;
use crate::support::client::RawClient;
use crate::support::files::Folder;
use crate::support::http::switching;
use crate::support::link::{Link, Received};
use crate::support::socket::Socket;
use crate::support::wire::{self, Frame, Role};

/// Its test, which is also where such a process begins.
const NAME: &str = "session_server::a_server_of_its_own_counts_and_writes_down_what_it_says_and_hears";
const ORDERS: &str = "OUTRIGGER_TEST_SERVER";

/// What it is told.
#[derive(Debug, Clone)]
pub(crate) struct Orders {
    /// 0: any.
    pub(crate) port: u16,
    /// The first word of all that it says.
    pub(crate) life: usize,
    /// It counts on this often; zero: it says 0 and no more.
    pub(crate) every: Duration,
    /// What it writes to.
    pub(crate) notes: PathBuf,
}

impl Orders {
    fn to_text(&self) -> String {
        let Self { port, life, every, notes } = self;
        format!("{port} {life} {} {}", every.as_millis(), notes.display())
    }

    fn of_text(text: &str) -> Self {
        let words = Vec::from_iter(text.split(' '));
        Self {
            port: words[0].parse().unwrap(),
            life: words[1].parse().unwrap(),
            every: Duration::from_millis(words[2].parse().unwrap()),
            notes: words[3].into(),
        }
    }
}

/// A line of what it wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// In this life it has surely said this number to this client: the kernel has it.
    Said { life: usize, client: String, number: u64 },
    /// It has heard this.
    Heard { life: usize, client: String, text: String },
}

/// What servers wrote down, in order.
pub(crate) fn read(notes: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(notes).unwrap_or_default();
    let note = |line: &str| {
        let words = Vec::from_iter(line.splitn(4, ' '));
        let [kind, life, client, rest] = words[..] else { panic!("{line:?} is no note") };
        let (life, client) = (life.parse().unwrap(), client.to_owned());
        match kind {
            "said" => Note::Said { life, client, number: rest.parse().unwrap() },
            _ => Note::Heard { life, client, text: rest.to_owned() },
        }
    };
    text.lines().map(note).collect()
}

/// Such a process; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Returns when it listens.
    pub(crate) async fn start(orders: &Orders) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args([NAME, "--exact", "--nocapture", "--test-threads=1"]).env(ORDERS, orders.to_text());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = timeout(DEADLINE, lines.next_line()).await.expect("it says where it listens");
            let line = line.unwrap().expect("it says where it listens");
            if let Some(address) = line.strip_prefix("listening ") {
                break address.parse().unwrap();
            }
        };
        Self { child, address }
    }

    /// SIGKILL. Answers when that was.
    pub(crate) async fn kill(mut self) -> Instant {
        let at = Instant::now();
        self.child.kill().await.unwrap();
        at
    }

    /// SIGTERM, and its end.
    pub(crate) async fn terminate(mut self) {
        binary::signal(self.child.id().unwrap(), "TERM").await;
        let status = timeout(DEADLINE, self.child.wait()).await.expect("it ends").unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn a_server_of_its_own_counts_and_writes_down_what_it_says_and_hears() {
    if let Ok(orders) = env::var(ORDERS) {
        serve(Orders::of_text(&orders)).await;
    }
    let _alone = crate::alone().await;
    let folder = Folder::new("server");
    let notes = folder.path("notes");
    let orders = Orders { port: 0, life: 7, every: Duration::from_millis(5), notes: notes.clone() };
    let server = Server::start(&orders).await;
    let mut client = RawClient::connect(server.address, "/ann").await;
    client.text("hello").await;
    for number in 0..3 {
        client.expect_text(&format!("7 {number}")).await;
    }
    let heard = Note::Heard { life: 7, client: "ann".into(), text: "hello".into() };
    assert!(read(&notes).contains(&heard));
    let port = server.address.port();
    server.kill().await;
    // Whatever it was sure to have said is here.
    let (mut last, mut count) = (None, 3);
    while let Received::Frame(frame) = client.receive().await {
        assert_eq!(frame.as_text(), format!("7 {count}"));
        last = Some(count);
        count += 1;
    }
    let sure = read(&notes).into_iter().filter_map(|note| match note {
        Note::Said { number, .. } => Some(number),
        Note::Heard { .. } => None,
    });
    assert!(last.unwrap_or(2) >= sure.max().unwrap());
    // The next one has its port, goes in order, and is gone then.
    let server = Server::start(&Orders { port, life: 8, ..orders }).await;
    let mut client = RawClient::connect(server.address, "/ann").await;
    client.expect_text("8 0").await;
    let (closed, ()) = tokio::join!(client.closed(), server.terminate());
    assert_eq!(closed.code, 1001);
}

/// The process: it ends by a signal.
async fn serve(orders: Orders) -> ! {
    outrigger::internals::raise_descriptor_limit();
    let mut ended = signal(SignalKind::terminate()).unwrap();
    let notes = OpenOptions::new().create(true).append(true).open(&orders.notes).unwrap();
    let (notes, orders) = (Arc::new(notes), Arc::new(orders));
    let listener = TcpListener::bind(("127.0.0.1", orders.port)).await.unwrap();
    #[expect(clippy::print_stderr, reason = "who has started it reads that")]
    {
        eprintln!("listening {}", listener.local_addr().unwrap());
    }
    let (end, told) = watch::channel(false);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted.unwrap().0;
                tokio::spawn(talk(stream, Arc::clone(&orders), Arc::clone(&notes), told.clone()));
            }
            _ = ended.recv() => break,
        }
    }
    drop((listener, told));
    end.send_replace(true);
    // Until everybody has answered.
    let _ = timeout(DEADLINE, end.closed()).await;
    std::process::exit(0);
}

/// One connection. Whatever goes wrong with it is its end.
async fn talk(
    stream: TcpStream,
    orders: Arc<Orders>,
    notes: Arc<File>,
    mut ended: watch::Receiver<bool>,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut link = Link::new(Socket::Tcp(stream), Role::Server, "server");
    let head = link.try_read_head().await.ok()?;
    let client = head.target().rsplit('/').next().unwrap_or_default().to_owned();
    let life = orders.life;
    let note = |line: String| (&*notes).write_all(line.as_bytes()).unwrap();
    link.try_send_bytes(&switching(&head)).await.ok()?;
    let mut number = 0_u64;
    let mut next = Instant::now();
    loop {
        if next <= Instant::now() {
            link.try_send_frame(&Frame::text(format!("{life} {number}"))).await.ok()?;
            note(format!("said {life} {client} {number}\n"));
            number += 1;
            next += if orders.every.is_zero() { Duration::from_secs(3600) } else { orders.every };
            continue;
        }
        let received = tokio::select! {
            received = link.receive_within(next - Instant::now()) => received,
            () = async { drop(ended.wait_for(|ended| *ended).await) } => {
                link.try_send_frame(&Frame::close(1001, "")).await.ok()?;
                link.closed().await;
                return None;
            }
        };
        match received {
            None => {}
            Some(Received::End(_)) => return None,
            Some(Received::Frame(frame)) => match frame.opcode {
                wire::TEXT => note(format!("heard {life} {client} {}\n", frame.as_text())),
                wire::PING => link.try_send_frame(&Frame::pong(frame.payload)).await.ok()?,
                wire::CLOSE => {
                    link.try_send_frame(&Frame::new(wire::CLOSE, frame.payload)).await.ok()?;
                    return None;
                }
                _ => {}
            },
        }
    }
}
