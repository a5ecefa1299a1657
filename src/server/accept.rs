//! Accepting connections, in bursts, with a pause after errors that would repeat.

use std::net::TcpListener;
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use tracing::warn;

use super::http_connection::Http;
use super::shard::Shard;
use super::slots::Kind;
use crate::limits::{ACCEPT_BACKOFF, ACCEPT_BURST, ACCEPT_BURST_BUSY, HEAD_TIMEOUT};
use crate::runtime::readiness::Interest;

/// A listener and whether accepting from it is paused.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) token: u64,
    pub(super) internal: bool,
    /// Set after an error that would repeat at once.
    pub(super) closed_until: Option<Instant>,
}

impl Shard {
    /// Accepts a burst of connections, and reads from each at once: a client mostly has sent its request by then.
    pub(super) fn accept(&mut self, door: usize) {
        // The listener stays ready, so the rest is for the next turn.
        let burst = if self.unserved.is_empty() { ACCEPT_BURST } else { ACCEPT_BURST_BUSY };
        for _ in 0..burst {
            let Some(door) = self.doors.get(door) else { return };
            if door.closed_until.is_some() {
                return;
            }
            let internal = door.internal;
            match accept_with(&door.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => {
                    let conn = self.slots.insert(socket, Kind::Http(Box::new(Http::new(internal))));
                    let slot = self.slots.at(conn.slot);
                    if let Err(error) = self.readiness.add(slot.socket(), conn.token(), Interest::Socket) {
                        warn!(%error, "cannot watch a new connection");
                        self.slots.remove(conn);
                        continue;
                    }
                    self.requests_open += 1;
                    self.counters().accepted.add(1);
                    self.set_due(conn, HEAD_TIMEOUT.as_secs() as u32);
                    if self.admit(conn, internal) {
                        self.on_readable(conn, false);
                    }
                }
                Err(Errno::AGAIN) => return,
                // The client left before it was accepted.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => {}
                Err(error) => return self.pause_accepting(door.token, error),
            }
        }
    }

    /// An error such as too many open files would repeat at once: leave the queue alone for a moment.
    fn pause_accepting(&mut self, token: u64, error: Errno) {
        self.counters().accept_errors.add(1);
        if !std::mem::replace(&mut self.accept_error_logged, true) {
            let open = self.slots.len();
            warn!(%error, open, "cannot accept connections; retrying, and not saying so again");
        }
        let until = self.clock.instant + ACCEPT_BACKOFF;
        if let Some(door) = self.doors.iter_mut().find(|door| door.token == token) {
            let _ = self.readiness.remove(door.listener.as_fd());
            door.closed_until = Some(until);
        }
    }

    /// Accepts again where a pause is over.
    pub(super) fn reopen_doors(&mut self) {
        for door in &mut self.doors {
            if door.closed_until.is_some_and(|until| until <= self.clock.instant)
                && self.readiness.add(&door.listener, door.token, Interest::ReadLevel).is_ok()
            {
                door.closed_until = None;
            }
        }
    }
}
