//! A log line as JSON: one flat object of `timestamp`, `level`, the fields in their order, and `target`.
//!
//! # Why not the formatter of `tracing_subscriber`?
//! It takes each field through a general serializer, piece by piece. Every connection has two lines, and they were a tenth of
//! what a handshake takes outside of the kernel.
//!
//! # Not here
//! What is no plain character though JSON lets it stand: [`super::push_line`] escapes that, in both formats.

use std::fmt::{self, Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::telemetry::text::{Decimal, all_bytes};

/// Formats each event as one line, stamped by this clock.
#[derive(Debug)]
pub struct JsonLines<T>(pub T);

impl<S, N, T> FormatEvent<S, N> for JsonLines<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    T: FormatTime,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::with_capacity(USUAL_BYTES);
        line.push_str("{\"timestamp\":\"");
        self.0.format_time(&mut Writer::new(&mut line))?;
        line.push_str("\",\"level\":\"");
        line.push_str(event.metadata().level().as_str());
        line.push('"');
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        line.push_str(",\"target\":\"");
        push_within_string(&mut line, event.metadata().target());
        line.push_str("\"}\n");
        writer.write_str(&line)
    }
}

/// Room for the longest line that a connection usually has. A line grows in a string of its own: each piece that goes through
/// [`Writer`] costs a call that nothing is known of before it is made.
const USUAL_BYTES: usize = 512;

/// Writes the fields of an event as members of an object that has some already.
struct Fields<'a> {
    line: &'a mut String,
    /// Whether each value could say what it is.
    written: fmt::Result,
}

impl Fields<'_> {
    /// Begins a member; its value follows.
    fn name(&mut self, field: &Field) -> &mut String {
        self.line.push_str(",\"");
        push_within_string(self.line, field.name());
        self.line.push_str("\":");
        self.line
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let line = self.name(field);
        line.push('"');
        push_within_string(line, value);
        line.push('"');
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field).push_str(Decimal::of(value).as_str());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let line = self.name(field);
        if value < 0 {
            line.push('-');
        }
        line.push_str(Decimal::of(value.unsigned_abs()).as_str());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field).push_str(if value { "true" } else { "false" });
    }

    /// JSON has no number for what is not finite.
    fn record_f64(&mut self, field: &Field, value: f64) {
        let line = self.name(field);
        match serde_json::Number::from_f64(value) {
            Some(number) => line.push_str(&number.to_string()),
            None => line.push_str("null"),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let line = self.name(field);
        line.push('"');
        let written = write!(WithinString(line), "{value:?}");
        line.push('"');
        self.written = self.written.and(written);
    }
}

/// Takes text as what stands within a string.
struct WithinString<'a>(&'a mut String);

impl Write for WithinString<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        push_within_string(self.0, text);
        Ok(())
    }
}

/// Whether a character (of ASCII) cannot stand in a string as it is. Not a `matches!`, of which the compiler makes a table that
/// is asked byte by byte.
fn is_escaped(byte: u8) -> bool {
    (byte <= b'\x1f') | (byte == b'"') | (byte == b'\\')
}

/// Appends `text` as it stands within a string (RFC 8259 §7).
fn push_within_string(line: &mut String, text: &str) {
    if all_bytes(text.as_bytes(), |byte| !is_escaped(byte)) {
        line.push_str(text);
    } else {
        push_escaped(line, text);
    }
}

#[cold]
fn push_escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => line.push_str("\\\""),
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            '\x08' => line.push_str("\\b"),
            '\x0c' => line.push_str("\\f"),
            '\0'..='\x1f' => {
                // Fails only where a String fails.
                let _ = write!(line, "\\u{:04x}", u32::from(c));
            }
            _ => line.push(c),
        }
    }
}
