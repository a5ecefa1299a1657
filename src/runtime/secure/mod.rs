//! The connections of the TLS listener: a table beside the sockets, so that a plain connection knows nothing of it. What is
//! sent and received goes by here with keys that the connection got from its handshake; the kernel is given sealed bytes.

mod records;
pub mod session;
#[cfg(test)]
mod session_tests;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use rustls::ServerConfig;

use super::calls::{of, receive, shut_down, transmit};
use super::net::Socket;
use super::random::Map;
use crate::limits::{TLS_OWED_MAX, TLS_OWED_TIMEOUT};
use session::{Common, Handshakes, Session, Wire};

/// The kernel's socket.
struct Bare<'a>(&'a Socket);

impl Wire for Bare<'_> {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        receive(of(self.0), into)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        transmit(of(self.0), bytes, false)
    }

    fn shut(&mut self) {
        shut_down(of(self.0));
    }
}

/// A shard's connections that speak TLS.
#[derive(Debug)]
pub struct Secure {
    sessions: Map<i32, Box<Session>>,
    common: Common,
    /// Closed connections to which something is owed, and until when it is offered.
    owing: VecDeque<(Socket, Box<Session>, Instant)>,
    /// Connections whose handshake is not done.
    handshaking: usize,
    /// Bytes that all of them hold.
    held: usize,
}

impl Secure {
    /// None yet, with these certificates and tickets.
    pub fn new(offer: Arc<ServerConfig>) -> Secure {
        let (sessions, common) = (Map::default(), Common::new(offer));
        Secure { sessions, common, owing: VecDeque::new(), handshaking: 0, held: 0 }
    }

    /// A connection was accepted.
    pub fn begin(&mut self, socket: &Socket) {
        let session = Box::<Session>::default();
        self.held += session.bytes();
        self.handshaking += 1;
        self.sessions.insert(socket.number(), session);
    }

    /// Does something to a connection, and keeps count.
    fn with<T>(&mut self, socket: &Socket, act: impl FnOnce(&mut Session, &mut Common) -> T) -> T {
        let session = self.sessions.get_mut(&socket.number()).expect("it is there from its accept to its end");
        let (before, shook) = (session.bytes(), session.is_handshaking());
        let result = act(session, &mut self.common);
        self.held = self.held + session.bytes() - before;
        self.handshaking -= usize::from(shook && !session.is_handshaking());
        result
    }

    /// See [`Net::recv`](super::net::Net::recv), which reads until nothing is there.
    ///
    /// # Errors
    /// The connection is broken, or [speaks no TLS](Secure::is_plain).
    pub fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.with(socket, |session, common| session.recv(&mut Bare(socket), common, into))
    }

    /// See [`Session::send`].
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, socket: &Socket, open: &[u8]) -> io::Result<usize> {
        self.with(socket, |session, common| session.send(&mut Bare(socket), common, open))
    }

    /// The kernel has room: sends what waits.
    pub fn flush(&mut self, socket: &Socket) {
        // If it is broken, that is told by whatever is done to it next.
        let _ = self.with(socket, |session, _| session.flush(&mut Bare(socket)));
    }

    /// Nothing more will be sent.
    pub fn shut(&mut self, socket: &Socket) {
        self.with(socket, |session, _| session.shut(&mut Bare(socket)));
    }

    /// Ends a connection. What it is owed is offered to it for a while.
    pub fn close(&mut self, socket: Socket, now: Instant) {
        self.shut(&socket);
        let session = self.sessions.remove(&socket.number()).expect("it is there from its accept to its end");
        self.handshaking -= usize::from(session.is_handshaking());
        if session.owes() && !session.is_handshaking() && self.owing.len() < TLS_OWED_MAX {
            self.owing.push_back((socket, session, now + TLS_OWED_TIMEOUT));
        } else {
            self.held -= session.bytes();
        }
    }

    /// Now and then: offers closed connections what they are owed.
    pub fn tick(&mut self, now: Instant) {
        let held = &mut self.held;
        self.owing.retain_mut(|(socket, session, until)| {
            let bytes = session.bytes();
            let stays = matches!(session.flush(&mut Bare(socket)), Ok(false)) && now < *until;
            *held -= if stays { bytes - session.bytes() } else { bytes };
            stays
        });
    }

    /// Whether a client speaks HTTP without TLS, and is yet to be told so.
    pub fn is_plain(&self, socket: &Socket) -> bool {
        self.sessions.get(&socket.number()).is_some_and(|session| session.is_plain())
    }

    /// Whether a connection's handshake is not done.
    pub fn is_handshaking(&self, socket: &Socket) -> bool {
        self.sessions.get(&socket.number()).is_some_and(|session| session.is_handshaking())
    }

    /// Connections whose handshake is not done.
    pub fn handshaking(&self) -> usize {
        self.handshaking
    }

    /// What came of handshakes.
    pub fn handshakes(&self) -> Handshakes {
        self.common.handshakes
    }

    /// Bytes that all connections hold.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Closed connections to which something is owed.
    pub fn owing(&self) -> usize {
        self.owing.len()
    }
}
