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
        writer.write_str("{\"timestamp\":\"")?;
        self.0.format_time(&mut writer)?;
        writer.write_str("\",\"level\":\"")?;
        writer.write_str(event.metadata().level().as_str())?;
        writer.write_char('"')?;
        let mut fields = Fields { writer: &mut writer, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        writer.write_str(",\"target\":\"")?;
        write_within_string(&mut writer, event.metadata().target())?;
        writer.write_str("\"}\n")
    }
}

/// Writes the fields of an event as members of an object that has some already.
struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    /// Nothing is written behind a failure.
    written: fmt::Result,
}

impl<'w> Fields<'_, 'w> {
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'w>) -> fmt::Result) {
        if self.written.is_ok() {
            self.written = self.try_member(field, value);
        }
    }

    fn try_member(
        &mut self,
        field: &Field,
        value: impl FnOnce(&mut Writer<'w>) -> fmt::Result,
    ) -> fmt::Result {
        self.writer.write_str(",\"")?;
        write_within_string(self.writer, field.name())?;
        self.writer.write_str("\":")?;
        value(self.writer)
    }
}

impl Visit for Fields<'_, '_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write_within_string(writer, value)?;
            writer.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |writer| writer.write_str(if value { "true" } else { "false" }));
    }

    /// JSON has no number for what is not finite.
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, |writer| match serde_json::Number::from_f64(value) {
            Some(number) => write!(writer, "{number}"),
            None => writer.write_str("null"),
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.member(field, |writer| {
            writer.write_char('"')?;
            write!(WithinString(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// Takes text as what stands within a string.
struct WithinString<'a, 'w>(&'a mut Writer<'w>);

impl Write for WithinString<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_within_string(self.0, text)
    }
}

/// Writes `text` as it stands within a string (RFC 8259 §7).
fn write_within_string(writer: &mut Writer<'_>, text: &str) -> fmt::Result {
    let is_escaped = |c: char| matches!(c, '"' | '\\' | '\0'..='\x1f');
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| is_escaped(char::from(byte))) {
        // These are ASCII, so that both parts are text.
        let (plain, from) = rest.split_at(at);
        writer.write_str(plain)?;
        let (escaped, behind) = from.split_at(1);
        match escaped {
            "\"" => writer.write_str("\\\"")?,
            "\\" => writer.write_str("\\\\")?,
            "\n" => writer.write_str("\\n")?,
            "\r" => writer.write_str("\\r")?,
            "\t" => writer.write_str("\\t")?,
            "\x08" => writer.write_str("\\b")?,
            "\x0c" => writer.write_str("\\f")?,
            control => write!(writer, "\\u{:04x}", control.as_bytes()[0])?,
        }
        rest = behind;
    }
    writer.write_str(rest)
}
