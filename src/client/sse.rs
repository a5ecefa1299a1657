//! The event stream format, as the HTML standard defines it, for a reader that takes its time. The load generator has
//! a faster one that knows less.

/// Bytes that one event may have; what comes past it is dropped, so that a broken server cannot fill memory.
const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field; empty for an unnamed one.
    pub name: String,
    pub data: String,
}

/// Takes bytes as they come and returns events; keeps the last id and the reconnection time.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    name: String,
    data: String,
    id: Option<String>,
    after_carriage_return: bool,
    past_first_line: bool,
    /// What `Last-Event-ID` is to be after a reconnect.
    pub last_event_id: Option<String>,
    /// What the last `retry:` said, in ms.
    pub retry_ms: Option<u64>,
}

impl Parser {
    /// A parser that resumes after `last_event_id`.
    pub fn new(last_event_id: Option<String>) -> Self {
        Self { last_event_id, ..Self::default() }
    }

    /// Forgets the half event of a connection that ended; its ids and times stay.
    pub fn restart(&mut self) {
        let old = std::mem::take(self);
        self.last_event_id = old.last_event_id;
        self.retry_ms = old.retry_ms;
    }

    /// Takes the next bytes and appends the events that they complete to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Event>) {
        while let Some(first) = bytes.first() {
            if std::mem::take(&mut self.after_carriage_return) && *first == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            let at = memchr::memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len());
            let room = EVENT_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend_from_slice(&bytes[..at.min(room)]);
            let Some(end) = bytes.get(at) else { return };
            self.after_carriage_return = *end == b'\r';
            let mut line = std::mem::take(&mut self.line);
            self.end_of_line(&line, out);
            line.clear();
            self.line = line;
            bytes = &bytes[at + 1..];
        }
    }

    fn end_of_line(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        let text = String::from_utf8_lossy(bytes);
        let mut line = &*text;
        if !self.past_first_line {
            self.past_first_line = true;
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            return self.dispatch(out);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.data.len() + value.len() < EVENT_BYTES_MAX => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.retry_ms = value.parse().ok().or(self.retry_ms);
            }
            _ => {}
        }
    }

    fn dispatch(&mut self, out: &mut Vec<Event>) {
        // The id counts only once the event is whole, so that a cut inside an event does not skip it.
        if let Some(id) = self.id.take() {
            self.last_event_id = (!id.is_empty()).then_some(id);
        }
        let name = std::mem::take(&mut self.name);
        let mut data = std::mem::take(&mut self.data);
        if data.pop().is_some() {
            out.push(Event { name, data });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}retry: 1500\r\n: hello\r\n\r\nevent: connected\ndata: {}\n\nid: eu:5-0\rdata: a\rdata:b\r\rdata: \u{1f389}\n\nid: lost\ndata: cut";

    #[test]
    fn events_cut_at_every_byte() {
        let event = |name: &str, data: &str| Event { name: name.to_owned(), data: data.to_owned() };
        let wanted = [event("connected", "{}"), event("", "a\nb"), event("", "\u{1f389}")];
        for cut in 0..STREAM.len() {
            let mut parser = Parser::default();
            let mut out = Vec::new();
            parser.push(&STREAM.as_bytes()[..cut], &mut out);
            parser.push(&STREAM.as_bytes()[cut..], &mut out);
            assert_eq!(out, wanted, "cut at {cut}");
            assert_eq!(parser.last_event_id.as_deref(), Some("eu:5-0"));
            assert_eq!(parser.retry_ms, Some(1500));
            parser.restart();
            parser.push(b"data: x\n\n", &mut out);
            assert_eq!(out.last(), Some(&event("", "x")), "the half event is forgotten");
        }
    }
}
