//! A shard's turn: a slice of what there is of each thing, so that however much there is of one, the others are not late, and a
//! tick comes in time.

use tracing::warn;

use super::ending::Ended;
use super::patience::Patience;
use super::shard::Shard;
use super::slots::{Conn, Kind};
use crate::limits::{LONG_TURN, READY_BATCH, SOCKETS_SLICE, TICK, YIELD_EVERY};
use crate::observe::process;
use crate::runtime::net::{self, MAILBOX, RESTED, TICKS};
use crate::runtime::readiness::Ready;

impl Shard {
    /// Runs until it is drained.
    pub async fn run(mut self) -> std::io::Result<()> {
        let shard = &mut self;
        let mut ready = Vec::new();
        let mut patience = Patience::default();
        let mut next_yield = shard.clock.instant;
        while !shard.is_drained() {
            ready.clear();
            if shard.ready.is_empty() {
                shard.net.poll(&mut ready)?;
            }
            loop {
                if shard.turn(&ready) {
                    // There is more to do. Now and then other tasks of this executor have their turn; not each time, since
                    // that costs the executor a round through its rings.
                    if shard.clock.instant >= next_yield {
                        next_yield = shard.clock.instant + YIELD_EVERY;
                        shard.net.give_way().await;
                    }
                    break;
                }
                shard.turn_time.rest(shard.clock.times.instant());
                if !patience.watch(&mut shard.net, &mut ready)? {
                    shard.net.wait().await?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// One turn: a slice of what there is of each thing. True if there is more to do at once.
    pub fn turn(&mut self, ready: &[Ready]) -> bool {
        self.clock.update();
        if self.ready.is_empty() {
            self.looked = self.clock.instant;
            self.turn_time.begin(self.looked);
        }
        self.ready.extend(ready);
        let ticks = self.clock.instant >= self.next_tick;
        if ticks {
            self.time_had = process::own_time();
        }
        // Messages come before sockets, here and between reading a socket and serving what was read: what a core announced
        // before a client was told of it is known here before that client's next request is served.
        self.open_mail(self.mailbox.sent());
        self.serve_sockets();
        self.open_local();
        self.send_registrations();
        self.retry_outgoing();
        if ticks {
            // From when it was due, not from now: the timer would fire just before the next one, and every second be missed.
            self.next_tick = (self.next_tick + TICK).max(self.clock.instant + TICK / 2);
            self.tick();
        }
        let posts = self.tell_posts();
        let windows = self.end_windows();
        let crowds = self.serve_crowds();
        self.fan_out();
        self.answer_polls();
        self.keep_to_budget();
        let pages = self.take_found() | self.feed_starving() | self.read_pasts();
        self.greet_newcomers();
        self.send_registrations();
        let exchanged = self.exchange();
        self.end_turn();
        exchanged
            || pages
            || posts
            || crowds
            || windows
            || !self.unserved.is_empty()
            || !self.ready.is_empty()
            || !self.again.is_empty()
            || !self.broken.is_empty()
            || self.homes.are_new()
            || self.registrar.is_due(self.clock.instant)
            || !self.local.is_empty()
            || ready.len() == READY_BATCH
            || !self.mailbox.may_sleep()
    }

    fn end_turn(&mut self) {
        self.count_tls();
        self.say_held();
        let now = self.clock.times.instant();
        if self.ready.is_empty() {
            self.admitting.turns.ended(now - self.looked, now, self.live.turn_max);
        }
        let took = now - self.clock.instant;
        if took >= LONG_TURN && self.long_turns.fails(now) {
            // Of a processor's time it had no more than since the last tick.
            let had = process::own_time().saturating_sub(self.time_had);
            let (took_ms, processor_ms) = (took.as_millis() as u64, had.as_millis() as u64);
            warn!(
                shard = self.id,
                took_ms,
                processor_ms,
                "a turn took long; where it had a processor for less, that was another program's; told once a minute"
            );
        }
    }

    /// Serves what is ready, for as long as one turn may.
    fn serve_sockets(&mut self) {
        self.sockets = self.clock.slice(SOCKETS_SLICE);
        let mut again = self.again.len();
        // What they ask may follow from mail that was not opened yet.
        while self.mailbox.taken() >= self.mail_first {
            let ready = self.ready.pop_front();
            if let Some(ready) = &ready {
                self.on_ready(ready);
            }
            let conn = if again > 0 { self.again.pop() } else { None };
            again = again.saturating_sub(1);
            if let Some(conn) = conn {
                self.read_on(conn);
            }
            if (ready.is_none() && conn.is_none()) || self.sockets.is_over() {
                return;
            }
        }
    }

    /// A connection has more to read, or to answer, than one turn allowed.
    fn read_on(&mut self, conn: Conn) {
        match self.slots.get(conn).map(|slot| &slot.kind) {
            Some(Kind::Stream | Kind::Lagging(_)) => self.discard_input(conn),
            Some(Kind::Link(link)) => self.read_link(conn, *link),
            Some(Kind::Http(_) | Kind::Free) | None => self.on_readable(conn, false),
        }
    }

    fn on_ready(&mut self, event: &Ready) {
        match event.token {
            MAILBOX => {}
            TICKS => self.net.went_off(TICKS),
            RESTED => {
                self.net.went_off(RESTED);
                self.end_rests();
            }
            token => {
                if let Some(door) = net::door_of(token) {
                    return self.accept(door);
                }
                let conn = Conn::from_token(token);
                let Some(slot) = self.slots.get(conn) else { return };
                if event.writable
                    && let Some(secure) = self.net.secure(slot.socket())
                {
                    secure.flush(slot.socket());
                }
                match slot.kind {
                    Kind::Http(_) => {
                        if event.writable {
                            self.on_http_writable(conn);
                        }
                        if event.readable {
                            self.on_readable(conn, event.hung_up);
                        }
                    }
                    Kind::Stream | Kind::Lagging(_) if event.over => self.close_stream(conn, Ended::Client),
                    Kind::Stream | Kind::Lagging(_) => {
                        if event.hung_up {
                            self.on_half_closed(conn);
                        }
                        if event.readable {
                            self.discard_input(conn);
                        }
                        if event.writable {
                            self.on_stream_writable(conn);
                        }
                    }
                    Kind::Link(link) => self.on_link_ready(conn, link, event),
                    Kind::Free => {}
                }
            }
        }
    }
}
