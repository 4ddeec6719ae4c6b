//! An event stream, read as WHATWG HTML §9.2.6 has it.

/// One event as it is dispatched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::delivery) struct Dispatched {
    pub(in crate::delivery) name: String,
    pub(in crate::delivery) data: String,
    /// Of the stream, when it was dispatched.
    pub(in crate::delivery) last_event_id: String,
}

/// What an `EventSource` makes of the bytes that it is given.
#[derive(Debug, Default)]
pub(in crate::delivery) struct EventSource {
    bytes: Vec<u8>,
    has_begun: bool,
    name: String,
    data: String,
    last_event_id: String,
    /// The time to wait before it comes back, in milliseconds.
    pub(in crate::delivery) retry: Option<u64>,
    /// Comments that it has ignored.
    pub(in crate::delivery) comments: usize,
    pub(in crate::delivery) events: Vec<Dispatched>,
}

impl EventSource {
    /// All of a stream at once.
    pub(in crate::delivery) fn read(bytes: &[u8]) -> Self {
        let mut source = Self::default();
        source.push(bytes);
        assert!(source.bytes.is_empty(), "what follows the last line is no line");
        source
    }

    pub(in crate::delivery) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if !self.has_begun && !self.bytes.is_empty() {
            self.has_begun = true;
            if self.bytes.starts_with(b"\xef\xbb\xbf") {
                self.bytes.drain(..3);
            }
        }
        while let Some(end) = self.bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let is_two = self.bytes[end..].starts_with(b"\r\n");
            let line = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            self.bytes.drain(..end + 1 + usize::from(is_two));
            self.on_line(&line);
        }
    }

    fn on_line(&mut self, line: &str) {
        if line.is_empty() {
            return self.dispatch();
        }
        match line.split_once(':') {
            Some(("", _)) => self.comments += 1,
            Some((field, value)) => self.on_field(field, value.strip_prefix(' ').unwrap_or(value)),
            None => self.on_field(line, ""),
        }
    }

    fn on_field(&mut self, field: &str, value: &str) {
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut self.last_event_id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => self.retry = value.parse().ok(),
            _ => {}
        }
    }

    fn dispatch(&mut self) {
        let (name, mut data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
        if data.is_empty() {
            return;
        }
        data.pop();
        let name = if name.is_empty() { "message".to_owned() } else { name };
        self.events.push(Dispatched { name, data, last_event_id: self.last_event_id.clone() });
    }
}
