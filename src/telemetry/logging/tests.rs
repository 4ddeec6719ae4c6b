use std::sync::mpsc::{Receiver, SyncSender};

use parking_lot::Mutex;
use serde_json::Value;

use super::*;
use crate::config::{LogConnections, LogRequests};

/// What was written, shared with the test.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().clone();
        assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the last line is whole");
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A standard output that nobody reads: tells when it was reached, then waits until the test lets go.
struct Stuck {
    reached: SyncSender<()>,
    go: Receiver<()>,
    then: Written,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.try_send(());
        let _ = self.go.recv(); // an error is the test having let go for good
        self.then.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Answers each write by the next step of a script, then takes everything.
struct Scripted {
    steps: Vec<Result<usize, io::ErrorKind>>,
    then: Written,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.steps.is_empty() {
            return self.then.write(bytes);
        }
        let n = self.steps.remove(0)?;
        self.then.write(&bytes[..n.min(bytes.len())])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(level: &str, format: LogFormat) -> Log {
    Log { level: level.into(), format, connections: LogConnections::All, requests: LogRequests::Off }
}

fn written(level: &str, format: LogFormat, events: impl FnOnce()) -> Vec<String> {
    let written = Written::default();
    let (dispatch, logging) = build(&log(level, format), 100, written.clone()).unwrap();
    tracing::dispatcher::with_default(&dispatch, events);
    drop(logging);
    written.lines()
}

/// Every kind of character that could end a line or move a cursor.
const NASTY: &str = "a\r\nb\tc\u{1b}[31md\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\"e\\";

#[test]
fn a_json_line_is_one_flat_object() {
    let lines = written("info", LogFormat::Json, || {
        tracing::info!(route = "chat", clients = 3, "client {}", "connected");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["target"], module_path!());
    assert_eq!(line["message"], "client connected");
    assert_eq!(line["route"], "chat");
    assert_eq!(line["clients"], 3);
    let timestamp = line["timestamp"].as_str().unwrap();
    assert!(
        timestamp.len() == "2026-01-01T00:00:00.000000Z".len() && timestamp.ends_with('Z'),
        "{timestamp}"
    );
    assert_eq!(line.as_object().unwrap().len(), 6, "{line}");
}

/// A clock that stands still.
struct Noon;

impl FormatTime for Noon {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        writer.write_str("12:00")
    }
}

#[test]
fn a_json_line_has_each_kind_of_value_as_json_has_it() {
    let written = Written::default();
    let lines = {
        let written = written.clone();
        tracing_subscriber::fmt().with_writer(move || written.clone()).event_format(JsonLines(Noon)).finish()
    };
    let all: String = (0..0x100_u32).filter_map(char::from_u32).chain(['\u{2028}', '🚣']).collect();
    tracing::subscriber::with_default(lines, || {
        let nothing: Option<u64> = None;
        tracing::warn!(
            target: "a\"target",
            small = -1_i64, large = u64::MAX, yes = true, no = false, half = 0.5, whole = 1.0, none = f64::NAN,
            wide = u128::MAX, missing = nothing, there = Some("x"), text = &*all, shown = %all, debugged = debug(&all),
            "odd" = "name", "message {}", 1
        );
    });
    let text = serde_json::to_string(&all).unwrap();
    let debugged = serde_json::to_string(&format!("{all:?}")).unwrap();
    let expected = format!(
        r#"{{"timestamp":"12:00","level":"WARN","message":"message 1","small":-1,"large":18446744073709551615,"yes":true,"no":false,"half":0.5,"whole":1.0,"none":null,"wide":"340282366920938463463374607431768211455","there":"x","text":{text},"shown":{text},"debugged":{debugged},"odd":"name","target":"a\"target"}}"#
    );
    assert_eq!(written.lines(), [expected]);
}

#[test]
fn no_value_breaks_a_json_line() {
    let lines = written("info", LogFormat::Json, || {
        tracing::info!(shown = %NASTY, debugged = ?NASTY, text = NASTY, "{NASTY}");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(!line.contains(needs_escape), "{line:?}");
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["text"], NASTY, "what was escaped reads back as it was");
    assert_eq!(line["shown"], NASTY);
}

#[test]
fn no_value_breaks_a_text_line() {
    let lines = written("info", LogFormat::Text, || {
        tracing::info!(shown = %NASTY, debugged = ?NASTY, text = NASTY, "{NASTY}");
        tracing::warn!(code = 1006, "second");
    });
    let [first, second] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(!first.contains(needs_escape), "{first:?}");
    assert!(first.contains(r"shown=a\r\nb\tc"), "{first}");
    assert!(second.contains("WARN") && second.ends_with("second code=1006"), "{second}");
}

#[test]
fn the_level_decides_what_is_written() {
    const TARGET: &str = "outrigger::elsewhere";
    let count = |level| {
        written(level, LogFormat::Json, || {
            tracing::error!("an error");
            tracing::info!("some information");
            tracing::debug!(target: TARGET, "a detail");
        })
        .len()
    };
    for (level, lines) in
        [("off", 0), ("error", 1), ("info", 2), ("info,outrigger::elsewhere=debug", 3), ("debug", 3)]
    {
        assert_eq!(count(level), lines, "{level}");
    }
}

#[test]
fn a_level_that_is_none_is_refused_and_the_accepted_ones_named() {
    for level in ["verbose", "info,wran", "info, chat"] {
        let error = build(&log(level, LogFormat::Json), 1, io::sink()).unwrap_err();
        assert!(matches!(error, LoggingError::NoLevel { .. }), "{level}: {error}");
        let text = error.to_string();
        assert!(text.starts_with("log.level: ") && text.contains("error, warn, info, debug"), "{text}");
    }
    let error = build(&log("outrigger=loud", LogFormat::Json), 1, io::sink()).unwrap_err();
    assert!(matches!(error, LoggingError::Level { .. }), "{error}");
    assert!(error.to_string().contains("outrigger=loud"), "{error}");
}

#[test]
fn a_stuck_output_stops_nobody_and_what_it_cost_is_told() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let (reached, is_stuck) = mpsc::sync_channel(1);
        let (go, may_go) = mpsc::sync_channel(0);
        let then = Written::default();
        let stuck = Stuck { reached, go: may_go, then: then.clone() };
        let (dispatch, logging) = build(&log("info", format), 4, stuck).unwrap();
        let dropped = logging.dropped_counter();

        tracing::dispatcher::with_default(&dispatch, || {
            tracing::info!(n = 0, "before");
            is_stuck.recv().unwrap(); // the writing thread holds that line now; the queue is empty
            for n in 1..=10 {
                tracing::info!(n, "meanwhile");
            }
        });
        assert_eq!(dropped.count(), 6, "four waited in the queue");
        drop(go);
        drop(logging);

        let lines = then.lines();
        assert!(lines[0].contains("before"), "{lines:?}");
        let (reported, kept): (Vec<_>, Vec<_>) =
            lines[1..].iter().partition(|line| line.contains("log lines were dropped"));
        assert_eq!(kept.len(), 4, "{lines:?}");
        let [reported] = reported.as_slice() else { panic!("told once: {lines:?}") };
        match format {
            LogFormat::Json => {
                let reported: Value = serde_json::from_str(reported).unwrap();
                assert_eq!(reported["dropped"], 6);
                assert_eq!(reported["level"], "WARN");
            }
            LogFormat::Text => assert!(reported.ends_with("dropped=6 dropped_total=6"), "{reported}"),
        }
    }
}

#[test]
fn a_stuck_output_does_not_hold_up_the_end() {
    let (reached, is_stuck) = mpsc::sync_channel(1);
    let (go, may_go) = mpsc::sync_channel(0);
    let stuck = Stuck { reached, go: may_go, then: Written::default() };
    let (dispatch, logging) = build(&log("info", LogFormat::Json), 1, stuck).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("held by the writing thread");
        is_stuck.recv().unwrap();
        tracing::info!("fills the queue");
    });
    let (ended, has_ended) = mpsc::sync_channel(1);
    thread::spawn(move || {
        drop(logging);
        ended.send(()).unwrap();
    });
    has_ended.recv_timeout(Duration::from_secs(20)).expect("dropping the guard came back");
    drop(go);
}

fn writer(steps: &[Result<usize, io::ErrorKind>]) -> (LineWriter<Scripted>, Written, Dropped) {
    let (then, dropped) = (Written::default(), Dropped::default());
    let to = Scripted { steps: steps.to_vec(), then: then.clone() };
    (LineWriter::new(to, LogFormat::Text, dropped.clone()), then, dropped)
}

#[test]
fn a_write_that_fails_counts_its_lines_and_tells_when_it_works_again() {
    let (mut writer, then, dropped) = writer(&[Err(io::ErrorKind::BrokenPipe)]);
    writer.write_all(b"one\n").unwrap();
    writer.write_all(b"two\n").unwrap();
    writer.flush().unwrap();
    assert_eq!((then.lines().len(), dropped.count()), (0, 2));
    writer.write_all(b"three\n").unwrap();
    writer.flush().unwrap();
    writer.flush().unwrap();
    let lines = then.lines();
    assert_eq!(lines.len(), 2, "told once: {lines:?}");
    assert_eq!(lines[0], "three");
    assert!(lines[1].ends_with("dropped=2 dropped_total=2"), "{lines:?}");
}

#[test]
fn a_line_cut_in_the_middle_takes_no_other_with_it() {
    let (mut writer, then, dropped) = writer(&[Ok(6), Err(io::ErrorKind::Other)]);
    writer.write_all(b"one\n").unwrap();
    writer.write_all(b"second\n").unwrap();
    writer.flush().unwrap();
    assert_eq!(dropped.count(), 1, "the first was written whole");
    writer.write_all(b"three\n").unwrap();
    writer.flush().unwrap();
    assert_eq!(then.lines()[..3], ["one", "se", "three"]);
}

#[test]
fn an_output_that_would_block_is_waited_for() {
    let (mut writer, then, dropped) =
        writer(&[Ok(2), Err(io::ErrorKind::WouldBlock), Err(io::ErrorKind::Interrupted), Ok(1)]);
    writer.write_all(b"whole\n").unwrap();
    writer.flush().unwrap();
    assert_eq!((then.lines(), dropped.count()), (vec!["whole".to_owned()], 0));
}
