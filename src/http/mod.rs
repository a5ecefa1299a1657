//! A shard's HTTP server: it accepts connections, finds the requests in what they send, has them answered by a [`Service`], and
//! sends the answers in the order of the requests.

pub mod accept;
pub mod answering;
pub mod bodies;
pub mod parked;
pub mod receive;
pub mod shaking;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::lines::Taken;
use crate::ground::opening::Opening;
use crate::ground::slots::Conn;
use crate::http::accept::Door;
use crate::limits::SOCKETS_SLICE;
use crate::runtime::account::{Reservation, Use};
use crate::runtime::clock::Slice;
use crate::runtime::net::DOORS_MAX;
use crate::runtime::once::Once;
use crate::runtime::trouble::Told;
use crate::wire::authorize::Who;
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;

/// What requests are for.
pub trait Service {
    /// Hears the mail of which so much was sent: whoever sent a request may know of it.
    fn open_mail(&mut self, ground: &mut Ground, until: u64);

    /// Answers a whole request, or says how it will be answered.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn handle(&mut self, ground: &mut Ground, incoming: Incoming<'_>) -> Result<Handled, HttpError>;

    /// A request becomes a stream. `before` is what its connection is yet to be sent of earlier answers.
    fn open_stream(&mut self, ground: &mut Ground, conn: Conn, before: Vec<u8>, opening: Opening, to: AnswerTo);

    /// What a body of lines may do, which is refused before it is read if it may do nothing.
    ///
    /// # Errors
    /// What is wrong with the request.
    fn lines_access(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
    ) -> Result<Access, HttpError>;

    /// Publishes what a line of this number says, at the rate of this publisher, who is asked about where a server is.
    ///
    /// # Errors
    /// Why it is not taken.
    fn publish_line(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: (u64, Option<&Arc<Who>>),
        at: (Conn, u64),
        line: &[u8],
    ) -> Result<Taken, String>;

    /// Whether lines are taken as fast as they come.
    fn takes_lines(&self) -> bool;

    /// Whether streams wait for what they are to be given.
    fn is_behind(&self) -> bool;
}

/// See the [module](self).
pub struct Server {
    pub(crate) doors: [Door; DOORS_MAX],
    /// Connections by TLS in the order of their accept, until after their handshakes; and the bytes that TLS holds.
    pub(crate) shaking: VecDeque<Conn>,
    pub(crate) sealed: Reservation,
    /// What was said of connections that the kernel did not give, and when it last did not.
    pub(crate) refused_by_kernel: (Told, Option<Instant>),
    /// Connections whose requests are read once there is room for what follows from them.
    pub(crate) held_back: Once<Conn>,
    /// Sockets are not read until so much mail was opened.
    pub(crate) mail_first: u64,
    /// What is left of the present turn for sockets.
    pub(crate) sockets: Slice,
}

impl Server {
    /// That of a shard which begins.
    pub(crate) fn start(ground: &Ground) -> Server {
        Server {
            doors: Default::default(),
            shaking: VecDeque::new(),
            sealed: ground.account.open(Use::Requests),
            refused_by_kernel: Default::default(),
            held_back: Once::default(),
            mail_first: 0,
            sockets: ground.clock.slice(SOCKETS_SLICE),
        }
    }
}
