//! One shard: what it has, and its turn. A turn is a slice of what there is of each thing, so that however much there is of one,
//! the others are not late, and a tick comes in time.

pub mod admin;
pub mod authorizing;
pub mod control;
pub mod draining;
pub mod frames;
pub mod given;
pub mod heartbeat;
pub mod internal;
pub mod listing;
pub mod past;
pub mod patience;
pub mod peers;
pub mod presence;
pub mod present;
pub mod publishing;
pub mod received;
pub mod relaying;
pub mod requests;
pub mod routes;
pub mod services;
pub mod sweep;
pub mod totals;
pub mod updates;
pub mod watching;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tracing::warn;

use crate::frontend::ending::Ended;
use crate::ground::slots::{Conn, Kind};
use crate::ground::{Ground, Parts};
use crate::http::{Server, Service};
use crate::limits::{LONG_TURN, READY_BATCH, SOCKETS_SLICE, TICK};
use crate::runtime::net::{MAILBOX, RESTED, TICKS};
use crate::runtime::readiness::Ready;
use crate::runtime::trouble::Told;
use crate::runtime::turn_time::TurnTime;
use crate::runtime::{net, process};
use crate::shard::patience::Patience;
use crate::shard::services::{Services, with};

/// One shard.
pub struct Shard {
    pub(crate) ground: Ground,
    pub(crate) server: Server,
    pub(crate) services: Services,
    /// What became ready and had no turn yet.
    pub(crate) ready: VecDeque<Ready>,
    /// When what is there was last looked for.
    pub(crate) looked: Instant,
    pub(crate) next_tick: Instant,
    /// The next slot that the sweep looks at.
    pub(crate) sweep_at: u32,
    pub(crate) turn_time: TurnTime,
    /// What was said of turns that took too long.
    long_turns: Told,
    /// When the last tick was, by both clocks.
    ticked: (Instant, u64),
    /// Time that it had of its processor before the last tick.
    time_had: Duration,
    /// Answers of the database when it was last looked at, and since when there was none while something waited.
    store_answers: u64,
    store_since: Option<Instant>,
}

impl Shard {
    /// A shard that is ready to run.
    pub fn start(parts: Parts) -> Shard {
        let mut ground = Ground::start(parts);
        let (now, unix_ms) = (ground.clock.instant, ground.clock.unix_ms);
        Shard {
            server: Server::start(&ground),
            services: Services::start(&mut ground),
            ground,
            ready: VecDeque::new(),
            looked: now,
            next_tick: now + TICK,
            sweep_at: 0,
            turn_time: TurnTime::new(now),
            long_turns: Told::default(),
            ticked: (now, unix_ms),
            time_had: Duration::ZERO,
            store_answers: 0,
            store_since: None,
        }
    }

    /// Runs until it is drained.
    pub async fn run(mut self) -> std::io::Result<()> {
        let shard = &mut self;
        let mut ready = Vec::new();
        let mut patience = Patience::default();
        while !shard.is_drained() {
            ready.clear();
            if shard.ready.is_empty() {
                shard.ground.net.poll(&mut ready)?;
            }
            loop {
                if shard.turn(&ready) {
                    break;
                }
                shard.turn_time.rest(shard.ground.clock.times.instant());
                if !patience.watch(&mut shard.ground.net, &mut ready)? {
                    shard.ground.net.wait()?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Its node was told to end, and has nothing left.
    pub fn is_drained(&self) -> bool {
        self.services.is_drained(&self.ground)
    }

    /// One turn: a slice of what there is of each thing. True if there is more to do at once.
    pub fn turn(&mut self, ready: &[Ready]) -> bool {
        self.ground.clock.update();
        self.ground.counters().now_ms.set(self.ground.clock.unix_ms);
        if self.ready.is_empty() {
            self.looked = self.ground.clock.instant;
            self.turn_time.begin(self.looked);
        }
        self.ready.extend(ready);
        let ticks = self.ground.clock.instant >= self.next_tick;
        if ticks {
            self.time_had = process::own_time();
        }
        // Messages come before sockets, here and between reading a socket and serving what was read: what a core announced
        // before a client was told of it is known here before that client's next request is served.
        let sent = self.ground.mailbox.sent();
        self.services.open_mail_until(&mut self.ground, sent);
        self.answer();
        self.serve_sockets();
        self.services.go_on(&mut self.ground);
        self.retry_outgoing();
        if ticks {
            // From when it was due, not from now: the timer would fire just before the next one, and every second be missed.
            self.next_tick = (self.next_tick + TICK).max(self.ground.clock.instant + TICK / 2);
            self.tick();
        }
        let more = self.services.serve(&mut self.ground);
        let exchanged = self.services.exchange(&mut self.ground);
        self.answer();
        self.end_turn();
        exchanged
            || more
            || self.services.has_more(&self.ground)
            || !self.ready.is_empty()
            || !self.ground.again.is_empty()
            || !self.ground.todo.is_empty()
            || !self.ground.replies.is_empty()
            || ready.len() == READY_BATCH
            || !self.ground.mailbox.may_sleep()
    }

    /// Answers requests that waited for it. Behind an answer the requests that came after it go on, and what they bring about
    /// has its own turn.
    fn answer(&mut self) {
        for _ in 0..self.ground.replies.len() {
            let Some((conn, reply)) = self.ground.replies.pop_front() else { break };
            self.server.answer_later(&mut self.ground, &mut self.services, conn, reply);
        }
    }

    fn end_turn(&mut self) {
        self.server.count_tls(&mut self.ground);
        self.ground.say_held();
        let now = self.ground.clock.times.instant();
        if self.ready.is_empty() {
            self.ground.admitting.turns.ended(now - self.looked, now, self.ground.live.turn_max);
        }
        let took = now - self.ground.clock.instant;
        if took >= LONG_TURN && self.long_turns.fails(now) {
            // Of a processor's time it had no more than since the last tick.
            let had = process::own_time().saturating_sub(self.time_had);
            let (took_ms, processor_ms) = (took.as_millis() as u64, had.as_millis() as u64);
            warn!(
                shard = self.ground.id,
                took_ms,
                processor_ms,
                "a turn took long; where it had a processor for less, that was another program's; told once a minute"
            );
        }
    }

    /// Tries again what full mailboxes did not take.
    fn retry_outgoing(&mut self) {
        let frontend = self.services.frontend.as_ref();
        self.ground
            .retry_outgoing(|topic| frontend.map_or_else(Vec::new, |frontend| frontend.homes.newest_values(topic)));
        if !self.ground.congested && self.services.takes_lines() {
            while let Some(conn) = self.server.held_back.pop() {
                self.ground.again.push(conn);
            }
        }
    }

    /// Serves what is ready, for as long as one turn may.
    fn serve_sockets(&mut self) {
        self.server.sockets = self.ground.clock.slice(SOCKETS_SLICE);
        let mut again = self.ground.again.len();
        // What they ask may follow from mail that was not opened yet.
        while self.ground.mailbox.taken() >= self.server.mail_first {
            let ready = self.ready.pop_front();
            if let Some(ready) = &ready {
                self.on_ready(ready);
            }
            let conn = if again > 0 { self.ground.again.pop() } else { None };
            again = again.saturating_sub(1);
            if let Some(conn) = conn {
                self.read_on(conn);
            }
            if (ready.is_none() && conn.is_none()) || self.server.sockets.is_over() {
                return;
            }
        }
    }

    /// A connection has more to read, or to answer, than one turn allowed.
    fn read_on(&mut self, conn: Conn) {
        match self.ground.slots.get(conn).map(|slot| &slot.kind) {
            Some(Kind::Stream | Kind::Lagging { .. }) => {
                with(&mut self.services.frontend, |frontend| frontend.discard_input(&mut self.ground, conn))
            }
            Some(Kind::Link(link)) => self.ground.read_link(conn, *link),
            Some(Kind::Http(_) | Kind::Free) | None => {
                self.server.on_readable(&mut self.ground, &mut self.services, conn, false)
            }
        }
    }

    fn on_ready(&mut self, event: &Ready) {
        match event.token {
            MAILBOX => {}
            TICKS => self.ground.net.went_off(TICKS),
            RESTED => {
                self.ground.net.went_off(RESTED);
                with(&mut self.services.frontend, |frontend| frontend.end_rests());
            }
            token => {
                if let Some(door) = net::door_of(token) {
                    return self.server.accept(&mut self.ground, &mut self.services, door);
                }
                let conn = Conn::from_token(token);
                let Some(slot) = self.ground.slots.get(conn) else { return };
                if event.writable
                    && let Some(secure) = self.ground.net.secure(slot.socket())
                {
                    secure.flush(slot.socket());
                }
                match slot.kind {
                    Kind::Http(_) => {
                        if event.writable {
                            self.server.on_http_writable(&mut self.ground, &mut self.services, conn);
                        }
                        if event.readable {
                            self.server.on_readable(&mut self.ground, &mut self.services, conn, event.hung_up);
                        }
                    }
                    Kind::Stream | Kind::Lagging { .. } if event.over => {
                        with(&mut self.services.frontend, |frontend| {
                            frontend.close_stream(&mut self.ground, conn, Ended::Client)
                        })
                    }
                    Kind::Stream | Kind::Lagging { .. } => {
                        if event.hung_up {
                            with(&mut self.services.frontend, |frontend| {
                                frontend.on_half_closed(&mut self.ground, conn)
                            });
                        }
                        if event.readable {
                            with(&mut self.services.frontend, |frontend| {
                                frontend.discard_input(&mut self.ground, conn)
                            });
                        }
                        if event.writable {
                            with(&mut self.services.frontend, |frontend| {
                                frontend.on_stream_writable(&mut self.ground, conn)
                            });
                        }
                    }
                    Kind::Link(link) => self.ground.on_link_ready(conn, link, event),
                    Kind::Free => {}
                }
            }
        }
    }
}
