//! What a stream carries beside events (WHATWG HTML, section 9.2, server-sent events): its head, the comment that keeps it
//! alive, and the control events, which are named so that `EventSource.onmessage` gets events only.

use serde_json::{Value, json};

/// How a stream's body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1: by chunks, one for each event or message of ours.
    Chunked,
    /// HTTP/1.0: by the end of the connection.
    Close,
}

impl Framing {
    /// Appends what `write` appends, as one chunk where there are chunks.
    pub fn wrap(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self == Framing::Close {
            return write(out);
        }
        let mut body = Vec::new();
        write(&mut body);
        out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
        out.extend_from_slice(&body);
        out.extend_from_slice(b"\r\n");
    }

    /// A comment line: keeps proxies and NATs from closing an idle stream, and finds dead peers. No empty line follows it:
    /// some client libraries take a block that holds a comment alone for an event.
    pub const fn heartbeat(self) -> &'static [u8] {
        match self {
            Framing::Chunked => b"2\r\n:\n\r\n",
            Framing::Close => b":\n",
        }
    }

    /// What ends the body.
    pub const fn end(self) -> &'static [u8] {
        match self {
            Framing::Chunked => b"0\r\n\r\n",
            Framing::Close => b"",
        }
    }
}

/// Why a stream is closed by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ByeReason {
    /// The node shuts down.
    Drain,
    /// The client lagged past its backlog and should resume from history.
    Backlog,
    /// Its token ran out.
    Token,
    /// The node takes no more streams now.
    Busy,
}

impl ByeReason {
    /// The word on the wire and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            ByeReason::Drain => "drain",
            ByeReason::Backlog => "backlog",
            ByeReason::Token => "token",
            ByeReason::Busy => "busy",
        }
    }
}

/// The names of a stream's own events.
pub const CONTROLS: [&str; 4] = ["connected", "gap", "token", "bye"];

fn control(out: &mut Vec<u8>, name: &str, data: &Value) {
    debug_assert!(CONTROLS.contains(&name), "{name}");
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    serde_json::to_writer(&mut *out, data).expect("writing to a Vec cannot fail");
    out.extend_from_slice(b"\n\n");
}

/// The first event of a stream, with the reconnection time for when it ends without a word, and as its id the place where
/// the stream `begins`, without line ends. `pending` are topics that are not registered yet.
pub fn connected(
    out: &mut Vec<u8>,
    begins: &str,
    connection: &str,
    node: &str,
    heartbeat_ms: u64,
    pending: &[&str],
    retry_ms: u32,
) {
    retry(out, retry_ms);
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(begins.as_bytes());
    out.push(b'\n');
    let data = json!({"connection": connection, "node": node, "heartbeat_ms": heartbeat_ms, "pending": pending});
    control(out, "connected", &data);
}

/// Events of this topic that followed `after` may be missing; none if nobody can say what the client has.
pub fn gap(out: &mut Vec<u8>, topic: &str, after: Option<&str>) {
    control(out, "gap", &json!({"topic": topic, "after": after}));
}

/// The stream's token ends at this time, in Unix ms: a new one is to be sent before.
pub fn token(out: &mut Vec<u8>, expires_at_ms: u64) {
    control(out, "token", &json!({"expires_at": expires_at_ms}));
}

/// The reconnection time that the client shall use from now on, in milliseconds. It opens the block of an event: some
/// client libraries pass over a block that has nothing else, or take it for an event.
fn retry(out: &mut Vec<u8>, retry_ms: u32) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(retry_ms).as_bytes());
    out.push(b'\n');
}

/// The last event of a stream that the server ends, with the reconnection time.
pub fn bye(out: &mut Vec<u8>, reason: ByeReason, retry_ms: u32) {
    retry(out, retry_ms);
    control(out, "bye", &json!({"reason": reason.name(), "retry_ms": retry_ms}));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_say_their_size() {
        let mut out = Vec::new();
        Framing::Chunked.wrap(&mut out, |out| out.extend_from_slice(&[b'x'; 26]));
        assert_eq!(out, [b"1a\r\n", &[b'x'; 26][..], b"\r\n"].concat());
        let mut out = Vec::new();
        Framing::Close.wrap(&mut out, |out| out.push(b'x'));
        assert_eq!(out, b"x");
    }

    #[test]
    fn control_events_are_named_single_lines() {
        let mut out = Vec::new();
        connected(&mut out, "eu:7-1", "c", "n", 20_000, &["live:1"], 2100);
        bye(&mut out, ByeReason::Drain, 1500);
        let text = String::from_utf8(out).unwrap();
        let expected = "retry: 2100\nid: eu:7-1\nevent: connected\ndata: {\"connection\":\"c\",\"heartbeat_ms\":20000,\"node\":\"n\",\"pending\":\
                        [\"live:1\"]}\n\nretry: 1500\nevent: bye\ndata: {\"reason\":\"drain\",\"retry_ms\":1500}\n\n";
        assert_eq!(text, expected);
    }
}
