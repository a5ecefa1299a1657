//! Accepting connections, in bursts, with a pause after errors that would repeat.

use std::io;
use std::time::Instant;

use tracing::{info, warn};

use crate::ground::Ground;
use crate::ground::cluster::Trouble;
use crate::ground::http_connection::Http;
use crate::ground::slots::Kind;
use crate::http::{Server, Service};
use crate::limits::{ACCEPT_BACKOFF, ACCEPT_BURST, ACCEPT_BURST_BUSY, HEAD_TIMEOUT, TROUBLE_LOGGED};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::net::{INTERNAL, SECURE};
use crate::runtime::trouble::Say;

/// Whether accepting from a listener is paused.
#[derive(Default)]
pub(crate) struct Door {
    /// Set after an error that would repeat at once.
    pub(crate) closed_until: Option<Instant>,
}

impl Server {
    /// Accepts a burst of connections, and reads from each at once: a client mostly has sent its request by then.
    pub(crate) fn accept(&mut self, ground: &mut Ground, service: &mut dyn Service, door: usize) {
        // The listener stays ready, so the rest is for the next turn.
        let burst = if !service.is_behind() { ACCEPT_BURST } else { ACCEPT_BURST_BUSY };
        for _ in 0..burst {
            if self.doors[door].closed_until.is_some() {
                return;
            }
            let internal = door == INTERNAL;
            match ground.net.accept(door) {
                Ok(Some(socket)) => {
                    let conn = ground.slots.insert(socket, Kind::Http(Box::new(Http::new(internal))));
                    if let Err(error) = ground.net.watch(ground.slots.at(conn.slot).socket(), conn.token()) {
                        if ground.cluster.told.fails(Trouble::NotWatched, ground.clock.instant) {
                            warn!(%error, "cannot watch a new connection");
                        }
                        ground.net.close(ground.slots.remove(conn));
                        continue;
                    }
                    ground.requests_open += 1;
                    if door == SECURE {
                        self.shakes(ground, conn);
                    }
                    ground.counters().accepted.add(1);
                    ground.set_due(conn, HEAD_TIMEOUT.as_secs() as u32);
                    if ground.admit(conn, internal) {
                        self.on_readable(ground, service, conn, false);
                    }
                    if self.sockets.is_over() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(error) => return self.pause_accepting(ground, door, &error),
            }
        }
    }

    /// An error such as too many open files would repeat at once: leave the queue alone for a moment.
    fn pause_accepting(&mut self, ground: &mut Ground, door: usize, error: &io::Error) {
        ground.happened(What::AcceptError, 1, Subject::says(format_args!("{error}")));
        let now = ground.clock.instant;
        if self.refused_by_kernel.0.hear(true, now) == Some(Say::Fails) {
            let open = ground.slots.len();
            warn!(%error, open, "cannot accept connections; trying again; told once a minute");
        }
        self.refused_by_kernel.1 = Some(now);
        let until = now + ACCEPT_BACKOFF;
        let _ = ground.net.open(door, false);
        self.doors[door].closed_until = Some(until);
    }

    /// Accepts again where a pause is over.
    pub(crate) fn reopen_doors(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let (told, last) = &mut self.refused_by_kernel;
        // Not with each one that succeeds, since they may succeed and fail by turns.
        if last.take_if(|last| now.saturating_duration_since(*last) >= TROUBLE_LOGGED).is_some()
            && told.hear(false, now) == Some(Say::Works)
        {
            info!("connections were accepted without an error for a minute");
        }
        for (number, door) in self.doors.iter_mut().enumerate() {
            if door.closed_until.is_some_and(|until| until <= ground.clock.instant)
                && ground.net.open(number, true).is_ok()
            {
                door.closed_until = None;
            }
        }
    }
}
