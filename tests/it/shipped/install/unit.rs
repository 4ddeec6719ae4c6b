//! `config/examples/outrigger.service`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;

use outrigger::config::Config;

use super::tools::{end, folder, good, longest_drain, read, seconds, skipped};
use crate::support::DEADLINE;
use crate::support::binary::{Binary, Builder};
use crate::support::client::RawClient;
use crate::support::files::TempFile;
use crate::support::upstream::Upstream;

const UNIT: &str = "config/examples/outrigger.service";

/// The values of a key, in order; those of lines that are commented out are none.
fn values(key: &str) -> Vec<String> {
    let unit = read(UNIT);
    let found = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    found.map(str::to_owned).collect()
}

#[track_caller]
fn value(key: &str) -> String {
    let found = values(key);
    assert_eq!(found.len(), 1, "{key}: {found:?}");
    found.into_iter().next().unwrap()
}

/// What `ExecStart` has after the program, with a configuration that is here.
fn command_line(config: &str) -> Vec<String> {
    let line = value("ExecStart");
    let (program, rest) = line.split_once(' ').unwrap();
    assert_eq!(program, "/usr/bin/outrigger");
    let in_place = |word: &str| {
        if word == "/etc/outrigger/outrigger.yaml" { config.to_owned() } else { word.to_owned() }
    };
    rest.split(' ').map(in_place).collect()
}

fn start(config: &str, socket: &str) -> Builder {
    let line = command_line(config);
    let args = Vec::from_iter(line.iter().map(String::as_str));
    let ports = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    Builder::new(&args).args(&ports).env("NOTIFY_SOCKET", socket)
}

/// Waits for a word on the socket, away from the runtime.
async fn word(socket: &UnixDatagram) -> String {
    let socket = socket.try_clone().unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("it tells in time that it is ready");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    });
    heard.await.unwrap()
}

#[test]
fn systemd_takes_every_line_and_finds_little_that_is_exposed() {
    if skipped() {
        return;
    }
    // There is no /usr/bin/outrigger here.
    let text = read(UNIT).replace("/usr/bin/outrigger", env!("CARGO_BIN_EXE_outrigger"));
    let unit = folder("unit").join("outrigger.service");
    let analyze = |args: &[&str], text: &str| {
        std::fs::write(&unit, text).unwrap();
        end(Command::new("systemd-analyze").args(args).arg(&unit))
    };
    let verify = ["verify", "--man=no"];
    assert_eq!(analyze(&verify, &text), (Some(0), String::new()));
    // With the lines that a port below 1024 takes, and others that are there to be switched on.
    let mut switched = text.clone();
    for line in
        ["LoadCredential=", "SupplementaryGroups=", "CapabilityBoundingSet=CAP", "AmbientCapabilities="]
    {
        let off = format!("\n#{line}");
        assert!(switched.contains(&off), "{line}");
        switched = switched.replace(&off, &format!("\n{line}"));
    }
    assert_eq!(analyze(&verify, &switched), (Some(0), String::new()));
    // It looks at what it is given.
    assert!(analyze(&verify, &text.replace("PrivateTmp=", "PrivateTemp=")).1.contains("PrivateTemp"));
    // Of 100; without any of the restrictions a service has 96.
    let (code, said) = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"], &text);
    assert_eq!(code, Some(0), "{said}");
}

#[tokio::test]
async fn systemd_hears_that_it_is_ready_when_clients_can_come_and_its_signals_are_understood() {
    assert_eq!(value("Type"), "notify");
    assert_eq!(value("ExecReload"), "/bin/kill -HUP $MAINPID");
    let upstream = Upstream::echo().await;
    let config = TempFile::new("unit.yaml", &format!("upstream: {{url: '{}'}}\n", upstream.url()));
    // systemd's socket has a path on some systems, and a name that is on no disk on others.
    let path = folder("notify").join("socket");
    let name = format!("outrigger-test-{}", std::process::id());
    let sockets = [
        (path.to_str().unwrap().to_owned(), UnixDatagram::bind(&path).unwrap()),
        (
            format!("@{name}"),
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
        ),
    ];
    for (socket, bound) in sockets {
        let binary = start(config.path(), &socket).spawn();
        assert_eq!(word(&bound).await, "READY=1\n", "{socket}");
        let mut running = binary.ready().await;
        let mut client = RawClient::connect(running.address(), "/").await;
        client.text("hello").await;
        client.expect_text("hello").await;

        running.binary.signal("HUP").await;
        client.text("still").await;
        client.expect_text("still").await;
        running.binary.signal(value("KillSignal").strip_prefix("SIG").unwrap()).await;
        assert_eq!(client.closed().await.code, 1012);
        assert_eq!(running.binary.exited().await.code(), Some(0));
    }
}

#[tokio::test]
async fn systemd_hears_nothing_of_a_start_that_failed_and_does_not_repeat_one_that_is_in_vain() {
    let path = folder("silent").join("socket");
    let bound = UnixDatagram::bind(&path).unwrap();
    let wrong = TempFile::new("wrong.yaml", "listen: {port: 80}\n");
    let output = start(wrong.path(), path.to_str().unwrap()).output().await;
    assert_eq!(output.code.unwrap().to_string(), value("RestartPreventExitStatus"), "{}", output.stderr);

    // A port that is taken may be free in a while: that is another exit code.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let good = TempFile::new("good.yaml", "drain: {spread: 0s}\n");
    let line = command_line(good.path());
    let args = Vec::from_iter(line.iter().map(String::as_str));
    let started = Builder::new(&args).args(&["--listen", &address, "--admin", "127.0.0.1:0"]);
    let output = started.env("NOTIFY_SOCKET", path.to_str().unwrap()).output().await;
    assert_eq!(output.code, Some(1), "{}", output.stderr);
    assert_eq!((value("Restart").as_str(), value("StartLimitIntervalSec").as_str()), ("on-failure", "0"));

    bound.set_nonblocking(true).unwrap();
    assert!(bound.recv(&mut [0; 64]).is_err(), "it said that it was ready");
}

#[tokio::test]
async fn a_socket_that_cannot_be_told_is_told_in_the_log_and_clients_are_served() {
    let upstream = Upstream::echo().await;
    let config = TempFile::new("deaf.yaml", &format!("upstream: {{url: '{}'}}\n", upstream.url()));
    let mut binary: Binary = start(config.path(), "/nonexistent/socket").spawn();
    let line = binary.line_with("NOTIFY_SOCKET").await;
    assert!(line.contains("ERROR"), "{line}");
    let running = binary.ready().await;
    RawClient::connect(running.address(), "/").await;
}

#[test]
fn the_unit_gives_a_drain_its_time_and_every_client_its_descriptors() {
    let (packaged, default) =
        (Config::from_yaml(&read("packaging/deb/outrigger.yaml")).unwrap(), Config::default());
    for config in [&packaged, &default] {
        let time = seconds(&value("TimeoutStopSec"));
        assert!(time > longest_drain(config), "{time:?} is too short for {:?}", config.drain);
        let descriptors: u64 = value("LimitNOFILE").parse().unwrap();
        let most = config.routes.iter().filter_map(|route| route.policy.limits.connections).max();
        let needed = 2 * u64::from(most.expect("it has a bound")) + config.listen.max_handshakes as u64;
        assert!(descriptors > needed, "{descriptors} are too few for {needed}");
    }
}

#[test]
fn the_commands_that_are_told_are_those_that_there_are() {
    let mut found = 0;
    for file in [UNIT, "packaging/deb/outrigger.yaml", "docs/install.md", "README.md"] {
        let text = read(file);
        assert!(file != UNIT || text.contains(UNIT), "it tells where it lies");
        for line in text.lines() {
            let line = line.trim_start_matches(['#', ' ']).split(" #").next().unwrap();
            let mut words = line.split_whitespace().filter(|word| !["sudo", "--"].contains(word));
            let (Some("outrigger" | "./outrigger" | "target/release/outrigger"), Some(command)) =
                (words.next(), words.next())
            else {
                continue;
            };
            // Prose may begin with the name, too.
            if !command.bytes().all(|byte| byte.is_ascii_lowercase()) || line.ends_with('.') {
                continue;
            }
            let help = good(Command::new(env!("CARGO_BIN_EXE_outrigger")).args([command, "--help"]));
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(flag), "{file}: {line}: there is no {flag} in\n{help}");
            }
            found += 1;
        }
    }
    assert!(found > 8, "only {found} were found");
}
