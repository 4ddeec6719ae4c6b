//! Sets `tracing` up: what is written to standard output, without ever blocking a task.
//!
//! A line is formatted where it happens, put into a bounded queue, and written by a thread of its own.
//!
//! # Invariants
//! 1. Logging never waits: where the queue is full (whoever reads standard output does not), the line
//!    is dropped and counted.
//! 2. One event is one line, and looks like what it is, whatever a client managed to put into a value: control
//!    characters, line separators and what hides or turns around what stands there leave as `\n`, `\u001b` …, in both
//!    formats.
//! 3. Lines that were lost are reported: by [`Dropped::count`] at once, and by a line once writing works.
//!
//! # Why are lines dropped?
//! A standard output that nobody reads would otherwise block a worker, and with it every connection on that worker.
//!
//! # Not here
//! Hiding secrets ([`super::redact`]: a line shows what it is given), and spans: an event carries its
//! own fields, which in JSON stand beside `timestamp`, `level`, `target` and `message`.

mod json;

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

pub use self::json::JsonLines;
use super::redact::{needs_escape, write_escaped};
use crate::config::{Log, LogFormat};

/// Makes `log` what every event of this process goes through, and starts the thread that writes.
///
/// # Errors
/// When the level cannot be read, or when logging was set up before.
pub(crate) fn init(log: &Log) -> Result<Logging, LoggingError> {
    let (dispatch, logging) = build(log, QUEUED_LINES, io::stdout())?;
    tracing::dispatcher::set_global_default(dispatch).map_err(|_| LoggingError::AlreadySet)?;
    Ok(logging)
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    /// `log.level` is no list of directives at all.
    #[error(
        "log.level: cannot read \"{level}\": {source}; give error, warn, info, debug, trace or off, \
         or directives such as info,outrigger::tunnel=debug"
    )]
    Level {
        /// As it was given.
        level: String,
        /// What `tracing` has against it.
        source: ParseError,
    },
    /// A bare word that is no level: `tracing` would take it for the name of a module and log nothing.
    #[error(
        "log.level: \"{word}\" is no level; give error, warn, info, debug, trace or off, \
         and to set one module's level name both, as in {word}=debug"
    )]
    NoLevel {
        /// The word.
        word: String,
    },
    /// Something else in this process has set `tracing` up.
    #[error("logging was set up before in this process; do it once, at the start")]
    AlreadySet,
}

/// Keeps the writing thread. Dropping it writes what is queued, for at most [`FLUSH_TIMEOUT`].
#[must_use = "dropping this ends logging"]
#[derive(Debug)]
pub(crate) struct Logging {
    guard: Option<WorkerGuard>,
    dropped: Dropped,
}

impl Logging {
    /// How many lines were lost since the start, to keep elsewhere: for a metric.
    pub(crate) fn dropped_counter(&self) -> Dropped {
        self.dropped.clone()
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else { return };
        // The guard waits for the queue to empty, and where that takes too long says so on standard
        // output, which then may wait for ever: on a thread of its own it can be left behind.
        let (done, finished) = mpsc::sync_channel(1);
        let flushing = thread::Builder::new().name("log-flush".into()).spawn(move || {
            drop(guard);
            let _ = done.send(());
        });
        if flushing.is_ok() {
            let _ = finished.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// How many lines were lost: the queue was full, or writing failed. Clones count the same.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<LossCounts>);

impl Dropped {
    /// Lines lost since the start.
    pub fn count(&self) -> u64 {
        let queue = self.0.queue.get().map_or(0, ErrorCounter::dropped_lines);
        u64::try_from(queue).unwrap_or(u64::MAX).saturating_add(self.0.unwritten.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct LossCounts {
    /// Set once the queue exists; the writer has to be made before it.
    queue: OnceLock<ErrorCounter>,
    unwritten: AtomicU64,
}

fn build<W>(log: &Log, lines: usize, to: W) -> Result<(Dispatch, Logging), LoggingError>
where
    W: Write + Send + 'static,
{
    let filter = filter(&log.level)?;
    let dropped = Dropped::default();
    let writer = LineWriter::new(to, log.format, dropped.clone());
    let (queue, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(lines)
        .lossy(true)
        .thread_name("log-writer")
        .finish(writer);
    let _ = dropped.0.queue.set(queue.error_counter());

    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(queue).with_ansi(false);
    let dispatch = match log.format {
        LogFormat::Json => Dispatch::new(lines.event_format(JsonLines(SystemTime)).finish()),
        LogFormat::Text => Dispatch::new(lines.finish()),
    };
    Ok((dispatch, Logging { guard: Some(guard), dropped }))
}

fn filter(level: &str) -> Result<EnvFilter, LoggingError> {
    for word in level.split(',').map(str::trim) {
        let bare = !word.is_empty() && !word.contains(['=', '[', ']', '{', '}']);
        if bare && word.parse::<tracing_subscriber::filter::LevelFilter>().is_err() {
            return Err(LoggingError::NoLevel { word: word.into() });
        }
    }
    EnvFilter::builder().parse(level).map_err(|source| LoggingError::Level { level: level.into(), source })
}

/// What the writing thread writes to: gathers lines while there are more, keeps each on one line, and
/// counts those that could not be written. Never fails: the thread would only try the next line.
struct LineWriter<W> {
    to: W,
    format: LogFormat,
    dropped: Dropped,
    /// How many of [`Dropped::count`] a line has reported.
    reported: u64,
    /// Lines not written yet, at most [`BATCH_BYTES`] and a line.
    batch: Vec<u8>,
    lines: u64,
    /// The last write stopped in the middle of a line: the next begins on a new one.
    broken: bool,
}

impl<W: Write> LineWriter<W> {
    fn new(to: W, format: LogFormat, dropped: Dropped) -> Self {
        Self { to, format, dropped, reported: 0, batch: Vec::new(), lines: 0, broken: false }
    }

    fn send(&mut self) -> bool {
        if self.batch.is_empty() {
            return true;
        }
        let mut rest = self.batch.as_slice();
        let mut result = if self.broken { write_all_blocking(&mut self.to, &mut &b"\n"[..]) } else { Ok(()) };
        if result.is_ok() {
            result = write_all_blocking(&mut self.to, &mut rest).and_then(|()| self.to.flush());
            let written = &self.batch[..self.batch.len() - rest.len()];
            self.broken = written.last().map_or(self.broken, |last| *last != b'\n');
            let out = written.iter().filter(|byte| **byte == b'\n').count();
            self.lines = self.lines.saturating_sub(out as u64);
        }
        self.dropped.0.unwritten.fetch_add(self.lines, Ordering::Relaxed);
        self.batch.clear();
        self.lines = 0;
        result.is_ok()
    }

    fn report_losses(&mut self) {
        let total = self.dropped.count();
        if total == self.reported {
            return;
        }
        // This line is not counted: if it is lost, it would have to report itself.
        self.batch.extend_from_slice(loss_line(self.format, total - self.reported, total).as_bytes());
        if self.send() {
            self.reported = total;
        }
    }
}

impl<W: Write> Write for LineWriter<W> {
    /// Takes one line: the queue hands over what one event was formatted to.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        push_line(&mut self.batch, line);
        self.lines += 1;
        if self.batch.len() >= BATCH_BYTES {
            self.send();
        }
        Ok(line.len())
    }

    /// Called when the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        if self.send() {
            self.report_losses();
        }
        // Lines that come meanwhile are queued without a system call to wake this thread, and are then
        // written together: a storm of handshakes costs a few hundred writes a second, not two each.
        thread::sleep(LINGER);
        Ok(())
    }
}

/// `write_all` that also sits out a non-blocking standard output (a parent process may have made it
/// one): this thread has nothing else to do. `bytes` is left with what was not written.
fn write_all_blocking(to: &mut impl Write, bytes: &mut &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Appends a line with everything in it that is no plain character escaped as JSON would, but for the
/// line's own end. A formatted JSON line has none of them outside strings, so that it stays JSON.
fn push_line(batch: &mut Vec<u8>, line: &[u8]) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    // Nearly every line is plain ASCII: one pass over its bytes, not one over its characters.
    if line.iter().all(|byte| matches!(byte, b' '..=b'~')) {
        batch.extend_from_slice(line);
        batch.push(b'\n');
        return;
    }
    let line = String::from_utf8_lossy(line);
    let mut rest = &*line;
    while let Some(at) = rest.find(needs_escape) {
        let (plain, from) = rest.split_at(at);
        batch.extend_from_slice(plain.as_bytes());
        let mut chars = from.chars();
        match chars.next() {
            Some('\n') => batch.extend_from_slice(b"\\n"),
            Some('\r') => batch.extend_from_slice(b"\\r"),
            Some('\t') => batch.extend_from_slice(b"\\t"),
            Some(other) => {
                let mut escaped = String::new();
                // Fails only where a String fails.
                let _ = write_escaped(&mut escaped, other);
                batch.extend_from_slice(escaped.as_bytes());
            }
            None => {}
        }
        rest = chars.as_str();
    }
    batch.extend_from_slice(rest.as_bytes());
    batch.push(b'\n');
}

fn loss_line(format: LogFormat, dropped: u64, total: u64) -> String {
    let mut now = String::new();
    // Fails only where a String fails.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    let target = module_path!();
    let message = "log lines were dropped: standard output did not take them";
    match format {
        LogFormat::Json => {
            let line = serde_json::json!({
                "timestamp": now, "level": "WARN", "target": target, "message": message,
                "dropped": dropped, "dropped_total": total,
            });
            format!("{line}\n")
        }
        LogFormat::Text => {
            format!("{now}  WARN {target}: {message} dropped={dropped} dropped_total={total}\n")
        }
    }
}

/// Lines that wait for standard output: at some 300 bytes each 1.2 MiB, and at 10,000 lines a second
/// 0.4 s of patience with whoever reads them.
const QUEUED_LINES: usize = 4096;
/// Lines are written together up to this, to save system calls: half of what a pipe holds.
const BATCH_BYTES: usize = 32 * 1024;
/// After a write, before the next: too short for anyone to notice, long enough to gather lines.
const LINGER: Duration = Duration::from_millis(5);
/// Longer than the two waits of tracing-appender's guard together (0.1 s and 1 s).
const FLUSH_TIMEOUT: Duration = Duration::from_millis(1500);
/// Between tries at a standard output that would block.
const RETRY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
