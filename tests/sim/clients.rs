//! What all simulated clients have in common.

use std::net::SocketAddr;

use fanfare::runtime::random::Random;
use fanfare::wire::chunked::{Chunked, Piece};

use crate::fabric::{Fabric, Owner};

pub const SECOND: u64 = 1_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

/// When a client has waited so long for an answer it gives up and tries again.
pub const PATIENCE: u64 = 5 * SECOND;
/// Reads an answer's head, and its body piece by piece.
#[derive(Debug, Default)]
pub struct Reader {
    head: Vec<u8>,
    pub status: Option<u16>,
    chunked: Option<Chunked>,
    pub length: Option<usize>,
    pub body: Vec<u8>,
}

impl Reader {
    /// Takes bytes; what they bring of the body is in `body`. False if they are no HTTP.
    pub fn push(&mut self, mut bytes: &[u8]) -> bool {
        if self.status.is_none() {
            self.head.extend_from_slice(bytes);
            let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else { return true };
            let text = String::from_utf8_lossy(&self.head[..end]).to_ascii_lowercase();
            let Some(status) = text.get(9..12).and_then(|status| status.parse().ok()) else { return false };
            self.status = Some(status);
            self.chunked = text.contains("transfer-encoding: chunked").then(Chunked::default);
            self.length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()?.parse().ok());
            let rest = self.head.split_off(end + 4);
            return self.push_body(&rest);
        }
        self.push_body(std::mem::take(&mut bytes))
    }

    fn push_body(&mut self, bytes: &[u8]) -> bool {
        let Some(chunked) = &mut self.chunked else {
            self.body.extend_from_slice(bytes);
            return true;
        };
        let mut at = 0;
        loop {
            match chunked.next(bytes, at) {
                Ok(Piece::Data(range)) => {
                    at = range.end;
                    self.body.extend_from_slice(&bytes[range]);
                }
                Ok(Piece::More | Piece::End(_)) => return true,
                Err(_) => return false,
            }
        }
    }
}

/// One request at a time, which is sent again until it is answered.
#[derive(Debug)]
pub struct Call {
    client: usize,
    end: Option<i32>,
    sent: bool,
    reader: Reader,
    /// How often the present request was sent.
    pub attempts: u64,
    /// When it wants its next turn.
    pub next: u64,
    given_up: u64,
}

impl Call {
    /// One whose first turn is at `next`.
    pub fn new(client: usize, next: u64) -> Call {
        Call { client, end: None, sent: false, reader: Reader::default(), attempts: 0, next, given_up: 0 }
    }

    /// The next request is another one.
    pub fn begin(&mut self) {
        (self.sent, self.attempts) = (false, 0);
    }

    /// It was answered; the next turn is after about this pause.
    pub fn rest(&mut self, now: u64, random: &mut Random, pace: u64) {
        self.next = now + pace / 2 + random.number() % pace.max(1);
    }

    /// The same request, on another connection.
    pub fn again(&mut self, fabric: &mut Fabric, random: &mut Random) {
        if let Some(end) = self.end.take() {
            fabric.close(end);
        }
        self.sent = false;
        self.next = fabric.now.get() + (100 + random.number() % 400) * MILLISECOND;
    }

    /// Goes on with a request to one of these. Gives the answer once it is there.
    pub fn turn(
        &mut self,
        fabric: &mut Fabric,
        random: &mut Random,
        to: &[SocketAddr],
        request: impl FnOnce(&str) -> String,
    ) -> Option<(u16, Vec<u8>)> {
        let now = fabric.now.get();
        let Some(end) = self.end else {
            if now >= self.next && !to.is_empty() {
                let to = to[random.number() as usize % to.len()];
                self.end = Some(fabric.connect(Owner::Client(self.client), to));
                self.sent = false;
                self.next = now + PATIENCE;
                self.given_up = self.next;
            }
            return None;
        };
        if !self.sent && fabric.is_open(end) {
            let request = request(&fabric.host(end).to_string());
            let mut left = request.as_bytes();
            while !left.is_empty() {
                match fabric.send(end, left) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => left = &left[count..],
                }
            }
            if !left.is_empty() {
                self.again(fabric, random);
                return None;
            }
            self.attempts += 1;
            self.sent = true;
            self.reader = Reader::default();
            self.next = now + PATIENCE;
            self.given_up = self.next;
        }
        let mut buffer = [0; 4096];
        loop {
            match fabric.recv(end, &mut buffer) {
                Ok(Some(0)) | Err(_) => {
                    self.again(fabric, random);
                    return None;
                }
                Ok(None) => break,
                Ok(Some(count)) => {
                    self.reader.push(&buffer[..count]);
                }
            }
        }
        let whole = self.reader.status == Some(204) || self.reader.length == Some(self.reader.body.len());
        if let Some(status) = self.reader.status.filter(|_| self.sent && whole) {
            self.sent = false;
            return Some((status, std::mem::take(&mut self.reader).body));
        }
        if now >= self.given_up {
            self.again(fabric, random);
        }
        None
    }
}
