//! One connection of the TLS listener: its handshake, and from then on its records. What the kernel did not take of a record
//! waits here and goes first; nothing else outlives a call.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{ContentType, Error, HandshakeKind, ServerConfig};

use super::records::{HEAD_BYTES, Records, length};
use crate::limits::{
    TLS_BATCH_BYTES, TLS_HANDSHAKE_BYTES, TLS_IDLE_RECORDS_MAX, TLS_RECORD_BYTES, TLS_RECORD_BYTES_MAX,
    TLS_SEALED_READ_BYTES,
};

/// What carries a connection's bytes, as the kernel's socket does; see [`Net`](crate::runtime::net::Net).
pub trait Wire {
    /// Reads what is there at once: `Some(0)` at the end, none if nothing is there now.
    ///
    /// # Errors
    /// The connection is broken.
    fn recv(&mut self, into: &mut [u8]) -> io::Result<Option<usize>>;
    /// Sends what is taken at once, in bytes.
    ///
    /// # Errors
    /// The connection is broken.
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Nothing more will be sent.
    fn shut(&mut self);
}

/// What a shard's sessions use in turn.
#[derive(Debug)]
pub struct Common {
    /// What the listener offers.
    pub offer: Arc<ServerConfig>,
    /// What is read, sealed.
    pub read: Vec<u8>,
    /// What is to be sent, sealed.
    pub sealed: Vec<u8>,
    /// What came of handshakes.
    pub handshakes: Handshakes,
}

impl Common {
    /// For a listener that offers this.
    pub fn new(offer: Arc<ServerConfig>) -> Common {
        let read = vec![0; TLS_SEALED_READ_BYTES];
        Common { offer, read, sealed: Vec::new(), handshakes: Handshakes::default() }
    }
}

/// What came of handshakes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Handshakes {
    /// Those done.
    pub full: u64,
    /// Those done by a ticket.
    pub resumed: u64,
    /// Those that failed.
    pub failed: u64,
    /// Clients that spoke HTTP without TLS.
    pub plain: u64,
}

/// An alert: fatal, and what it says (RFC 8446 section 6).
mod alert {
    pub const CLOSE_NOTIFY: [u8; 2] = [1, 0];
    pub const NO_RENEGOTIATION: [u8; 2] = [1, 100];
    pub const BAD_RECORD: [u8; 2] = [2, 20];
    pub const RECORD_OVERFLOW: [u8; 2] = [2, 22];
    pub const UNEXPECTED_MESSAGE: [u8; 2] = [2, 10];
}

enum State {
    /// Nothing came yet.
    Fresh,
    /// A handshake, and how much of what was read rustls has been shown.
    Handshake(Box<UnbufferedServerConnection>, usize),
    /// The handshake is done.
    Open(Records),
    /// The client speaks HTTP without TLS, and is answered likewise.
    Plain,
    /// Nothing more is to be had from it.
    Broken,
}

/// One connection.
pub struct Session {
    state: State,
    /// What was read of a record, or a message, that is not complete.
    input: Vec<u8>,
    /// Sealed bytes that the kernel is yet to take,
    owed: Vec<u8>,
    /// of which so many are sent.
    sent: usize,
    /// Records in a row without a byte for us.
    idle: u8,
    /// Nothing more is sealed.
    shut: bool,
    /// The other end says nothing more.
    ended: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of keys nothing is shown.
        out.debug_struct("Session").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Default for Session {
    fn default() -> Session {
        let (input, owed) = (Vec::new(), Vec::new());
        Session { state: State::Fresh, input, owed, sent: 0, idle: 0, shut: false, ended: false }
    }
}

fn broken(problem: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

impl Session {
    /// As if one key had sealed as many records as it may.
    #[cfg(test)]
    pub(super) fn use_up(&mut self) {
        if let State::Open(records) = &mut self.state {
            records.use_up();
        }
    }

    /// Whether its handshake is not done.
    pub fn is_handshaking(&self) -> bool {
        matches!(self.state, State::Fresh | State::Handshake(..))
    }

    /// Whether its client speaks HTTP without TLS.
    pub fn is_plain(&self) -> bool {
        matches!(self.state, State::Plain)
    }

    /// Whether sealed bytes wait for the kernel to take them.
    pub fn owes(&self) -> bool {
        self.sent < self.owed.len() && !matches!(self.state, State::Broken)
    }

    /// Bytes that it holds, about, beside what every open connection has: its keys.
    pub fn bytes(&self) -> usize {
        let state = if let State::Handshake(..) = self.state { TLS_HANDSHAKE_BYTES } else { 0 };
        state + self.input.capacity() + self.owed.capacity()
    }

    /// Sends what waits. True if nothing does then.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn flush(&mut self, wire: &mut impl Wire) -> io::Result<bool> {
        if self.sent < self.owed.len() {
            match wire.send(&self.owed[self.sent..]) {
                Ok(taken) => self.sent += taken,
                Err(error) => {
                    self.state = State::Broken;
                    return Err(error);
                }
            }
            if self.sent < self.owed.len() {
                return Ok(false);
            }
            (self.owed, self.sent) = (Vec::new(), 0);
            if self.shut {
                wire.shut();
            }
        }
        Ok(true)
    }

    /// Seals and sends. Gives how much of `open` is not to be given again: the kernel took it, or the rest of its record waits
    /// here for the next call of this or of [`flush`](Session::flush).
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, wire: &mut impl Wire, common: &mut Common, open: &[u8]) -> io::Result<usize> {
        if !self.flush(wire)? {
            return Ok(0);
        }
        let records = match &mut self.state {
            State::Open(records) if !self.shut => records,
            State::Plain => return wire.send(open),
            _ => return Err(ErrorKind::BrokenPipe.into()),
        };
        let (mut taken, sealed) = (0, &mut common.sealed);
        for batch in open.chunks(TLS_BATCH_BYTES) {
            sealed.clear();
            records.renew(sealed).map_err(broken)?;
            let first = sealed.len();
            for part in batch.chunks(TLS_RECORD_BYTES) {
                records.seal(ContentType::ApplicationData, part, sealed).map_err(broken)?;
            }
            let sent = wire.send(sealed)?;
            if sent == sealed.len() {
                taken += batch.len();
                continue;
            }
            // Where the last record ends of which the kernel has anything, and how much open text is up to there.
            let (mut end, mut whole, mut left) = (first, 0, batch.chunks(TLS_RECORD_BYTES));
            while end < sent {
                whole += left.next().expect("a record was made of each part").len();
                end += HEAD_BYTES + length(&sealed[end..]);
            }
            records.forget(left.count() as u64);
            self.owed.extend_from_slice(&sealed[sent..end]);
            return Ok(taken + whole);
        }
        Ok(taken)
    }

    /// Reads what is there, and opens it: `Some(0)` at the end, none if nothing is there now, which a short reading does not
    /// say. `into` has room for what one read may bring.
    ///
    /// # Errors
    /// The connection is broken, or its client speaks no TLS: once only if that is HTTP.
    pub fn recv(&mut self, wire: &mut impl Wire, common: &mut Common, into: &mut [u8]) -> io::Result<Option<usize>> {
        if self.is_plain() {
            return wire.recv(into);
        }
        while !self.ended {
            match wire.recv(&mut common.read)? {
                None => return Ok(None),
                Some(0) => break,
                Some(count) => self.input.extend_from_slice(&common.read[..count]),
            }
            if self.is_handshaking()
                && let Err(error) = self.shake(wire, common)
            {
                common.handshakes.failed += u64::from(!self.is_plain());
                return Err(error);
            }
            let count = self.open(wire, into)?;
            if count > 0 {
                return Ok(Some(count));
            }
        }
        self.ended = true;
        self.input = Vec::new();
        Ok(Some(0))
    }

    /// Goes on with the handshake, record by record, so that rustls is shown nothing that comes after it.
    fn shake(&mut self, wire: &mut impl Wire, common: &mut Common) -> io::Result<()> {
        let done = &mut common.handshakes;
        if let State::Fresh = self.state {
            if self.input[0].is_ascii_uppercase() {
                self.input = Vec::new();
                self.state = State::Plain;
                done.plain += 1;
                return Err(broken("HTTP without TLS"));
            }
            let connection = UnbufferedServerConnection::new(Arc::clone(&common.offer)).map_err(broken)?;
            self.state = State::Handshake(Box::new(connection), 0);
        }
        while let State::Handshake(connection, shown) = &mut self.state {
            let status = connection.process_tls_records(&mut self.input[..*shown]);
            let (discard, mut waits, mut over, mut failed) = (status.discard, false, false, None);
            match status.state {
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.owed),
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::BlockedHandshake) => waits = true,
                Ok(ConnectionState::WriteTraffic(_)) => over = true,
                Ok(_) => failed = Some(Error::General("bytes before the end of the handshake".to_owned())),
                Err(error) => failed = Some(error),
            }
            self.input.drain(..discard);
            *shown -= discard;
            if let Some(error) = failed {
                // What went wrong is in an alert. rustls counts on being shown again what it did not discard, and fails anew by that
                // where it has nothing to write before.
                while connection.wants_write()
                    && let UnbufferedStatus { discard, state: Ok(ConnectionState::EncodeTlsData(data)), .. } =
                        connection.process_tls_records(&mut self.input[..*shown])
                {
                    encode(data, &mut self.owed);
                    self.input.drain(..discard);
                    *shown -= discard;
                }
                let _ = self.flush(wire);
                self.state = State::Broken;
                return Err(broken(error));
            }
            if over && !connection.is_handshaking() && *shown == 0 {
                let State::Handshake(connection, _) = std::mem::replace(&mut self.state, State::Broken) else {
                    unreachable!("it was just looked at")
                };
                match connection.handshake_kind() {
                    Some(HandshakeKind::Resumed) => done.resumed += 1,
                    _ => done.full += 1,
                }
                self.state = State::Open(Records::new(*connection).map_err(broken)?);
                break;
            }
            if waits || over {
                // The server may write already, and the client has more to say.
                let rest = &self.input[*shown..];
                if rest.len() < HEAD_BYTES || rest.len() < HEAD_BYTES + length(rest) {
                    // A head that is none is rustls' to refuse.
                    let is_none = rest.len() >= HEAD_BYTES && length(rest) > TLS_RECORD_BYTES_MAX;
                    let is_other = *shown == 0 && rest.first().is_some_and(|first| !(20..=23).contains(first));
                    if !is_none && !is_other {
                        break;
                    }
                    *shown = self.input.len();
                } else {
                    *shown += HEAD_BYTES + length(rest);
                }
            }
        }
        self.flush(wire)?;
        Ok(())
    }

    /// Opens the records that are complete. Gives how many bytes of `into` they fill.
    fn open(&mut self, wire: &mut impl Wire, into: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut filled) = (0, 0);
        let mut input = std::mem::take(&mut self.input);
        while let State::Open(records) = &mut self.state
            && !self.ended
            && let Some(head) = input.get(at..at + HEAD_BYTES)
        {
            let size = length(head);
            if size > TLS_RECORD_BYTES_MAX {
                return Err(self.fail(wire, alert::RECORD_OVERFLOW, "a record is too large"));
            }
            let Some(record) = input.get_mut(at..at + HEAD_BYTES + size) else { break };
            at += HEAD_BYTES + size;
            let Ok((kind, range)) = records.open(record) else {
                return Err(self.fail(wire, alert::BAD_RECORD, "a record cannot be opened"));
            };
            let open = &record[range];
            self.idle = if kind == ContentType::ApplicationData && !open.is_empty() { 0 } else { self.idle + 1 };
            if self.idle > TLS_IDLE_RECORDS_MAX {
                return Err(self.fail(wire, alert::UNEXPECTED_MESSAGE, "many records say nothing"));
            }
            match kind {
                ContentType::ApplicationData => {
                    into[filled..filled + open.len()].copy_from_slice(open);
                    filled += open.len();
                }
                ContentType::Handshake => match records.on_handshake(open) {
                    Ok(true) if !self.shut => {
                        records.update(&mut self.owed).map_err(broken)?;
                        self.flush(wire)?;
                    }
                    Ok(_) => {}
                    Err(_) => {
                        let told = if records.is_13() { alert::UNEXPECTED_MESSAGE } else { alert::NO_RENEGOTIATION };
                        return Err(self.fail(wire, told, "a handshake within a connection"));
                    }
                },
                ContentType::Alert => match open {
                    [_, 0] => self.ended = true,
                    // The client was told to stop, and says so; or in TLS 1.2 it only warns.
                    [_, 90] => {}
                    [1, _] if !records.is_13() => {}
                    _ => {
                        self.state = State::Broken;
                        return Err(ErrorKind::ConnectionReset.into());
                    }
                },
                _ => return Err(self.fail(wire, alert::UNEXPECTED_MESSAGE, "a record of an unknown kind")),
            }
        }
        if at < input.len() {
            input.drain(..at);
            self.input = input;
        }
        Ok(filled)
    }

    /// Tells the other end what is wrong, if the kernel takes that now.
    fn fail(&mut self, wire: &mut impl Wire, alert: [u8; 2], problem: &'static str) -> io::Error {
        self.say(wire, alert);
        self.state = State::Broken;
        broken(problem)
    }

    fn say(&mut self, wire: &mut impl Wire, alert: [u8; 2]) {
        if let State::Open(records) = &mut self.state
            && records.seal(ContentType::Alert, &alert, &mut self.owed).is_ok()
        {
            let _ = self.flush(wire);
        }
    }

    /// Nothing more will be sent, and the other end is told so, behind what waits.
    pub fn shut(&mut self, wire: &mut impl Wire) {
        if std::mem::replace(&mut self.shut, true) {
            return;
        }
        match self.state {
            State::Open(_) => self.say(wire, alert::CLOSE_NOTIFY),
            State::Plain => wire.shut(),
            State::Fresh | State::Handshake(..) | State::Broken => {}
        }
    }
}

fn encode(mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>, sealed: &mut Vec<u8>) {
    let start = sealed.len();
    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
        sealed.resize(start + needed.required_size, 0);
        data.encode(&mut sealed[start..]).expect("it has the room that it asked for");
    }
}
