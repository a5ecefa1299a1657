//! Who is let in: connections as they come, streams as they open, events as they are published.

use std::net::IpAddr;
use std::time::Instant;

use tracing::{info, warn};

use crate::admission::Refusal;
use crate::admission::full::Fullness;
use crate::admission::turns::Turns;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::hooks::Who;
use crate::ground::slots::{Body, Conn, Kind};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::observe::metrics::Counter;
use crate::runtime::trim;
use crate::runtime::trim::Trimming;
use crate::wire::http::{HttpError, Method};
use crate::wire::mercure;
use crate::wire::query::Query;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::sse;
use crate::wire::sse::{ByeReason, Framing};
use crate::wire::status::Status;

/// Whose events have no limit of their own: what nodes hand over was admitted where it came in.
pub const NOBODY: u64 = 0;

/// A shard's part in it.
#[derive(Debug, Default)]
pub struct Admitting {
    /// By slot, the key of the address that a connection counts to; 0 for none. Empty where addresses have no limit.
    addresses: Vec<u64>,
    /// The next slot that is looked at for room.
    evict_at: u32,
    /// How long turns take.
    pub turns: Turns,
    next_memory_look: Option<Instant>,
    /// What other shards know that this one holds, in bytes.
    pub(crate) held_said: u64,
    trimming: Trimming,
    /// Of connections, of memory.
    fullness: [Fullness; 2],
}

impl Ground {
    /// A connection was accepted: it is let in, or kept to be told why not, or closed at once; then this is false.
    pub(crate) fn admit(&mut self, conn: Conn, internal: bool) -> bool {
        if internal {
            self.node.admission.came_inside();
            return true;
        }
        // What another shard had room for meanwhile is gone, and so is what was evicted for it.
        let fits = self.node.admission.came() || (self.evict() && self.node.admission.came());
        let refusal = if fits { self.count_address(conn) } else { Err(Refusal::Connections) };
        let Err(refusal) = refusal else { return true };
        if fits {
            self.node.admission.went();
        } else {
            self.node.admission.turn_away();
        }
        let (address, connection) = (self.peer(conn), Some(self.name_of(conn)));
        self.refused(refusal, Subject { address, connection, ..Subject::default() });
        if !self.node.admission.refuse() {
            self.requests_open -= 1;
            self.net.close(self.slots.remove(conn));
            return false;
        }
        let slot = self.slots.get_mut(conn).expect("it was just accepted");
        slot.refused = true;
        if let Kind::Http(http) = &mut slot.kind {
            http.refused = Some(refusal);
        }
        self.set_due(conn, REFUSED_TIMEOUT.as_secs() as u32);
        true
    }

    /// Counts a connection to its address, unless it is a proxy's, whose requests say whom they are for.
    fn count_address(&mut self, conn: Conn) -> Result<(), Refusal> {
        if !self.node.admission.asks_for_addresses() {
            return Ok(());
        }
        match self.peer(conn) {
            Some(peer) if !self.node.admission.is_proxy(peer) => self.enter(conn, peer),
            _ => Ok(()),
        }
    }

    pub(crate) fn enter(&mut self, conn: Conn, address: IpAddr) -> Result<(), Refusal> {
        let admission = &self.node.admission;
        let counted = admission.enter(admission.address_key(address), self.clock.instant)?;
        if let Some(key) = counted {
            let place = conn.slot as usize;
            if self.admitting.addresses.len() <= place {
                self.admitting.addresses.resize(self.slots.capacity() as usize, 0);
            }
            self.admitting.addresses[place] = key;
        }
        Ok(())
    }

    /// Whether a connection is from this address: the one that it counts to, where addresses have limits, and so its client's
    /// behind a proxy that is trusted (of IPv6, its /64); else that of its other end.
    pub(crate) fn is_from(&self, conn: Conn, address: IpAddr) -> bool {
        match self.admitting.addresses.get(conn.slot as usize) {
            Some(&key) if key != 0 => key == self.node.admission.address_key(address),
            _ => self.peer(conn).is_some_and(|peer| peer.to_canonical() == address.to_canonical()),
        }
    }

    /// Frees a connection that sends requests.
    pub(crate) fn close_http(&mut self, conn: Conn) {
        self.out.clear();
        self.requests_open -= 1;
        self.forget(conn);
    }

    /// A connection ends: its slot is free, and it no longer counts.
    pub(crate) fn forget(&mut self, conn: Conn) {
        if self.slots.at(conn.slot).body == Body::Watched {
            // It never came in.
            return drop(self.slots.remove(conn));
        }
        if self.slots.at(conn.slot).refused {
            self.node.admission.gone();
        } else {
            self.node.admission.went();
        }
        self.net.close(self.slots.remove(conn));
        let key = self.admitting.addresses.get_mut(conn.slot as usize).map_or(0, std::mem::take);
        if key != 0 {
            self.node.admission.leave(key);
        }
    }

    /// The node is full: closes a connection that has no request, such as one that sends its head or its body byte by byte,
    /// so that who has one gets in. True if there was one.
    fn evict(&mut self) -> bool {
        let (slots, seconds) = (self.slots.capacity(), self.clock.seconds());
        for _ in 0..EVICT_LOOKS.min(slots) {
            self.admitting.evict_at = (self.admitting.evict_at + 1) % slots;
            let number = self.admitting.evict_at;
            let slot = self.slots.at(number);
            let Kind::Http(http) = &slot.kind else { continue };
            // Who was not let in has no place that it could give to another.
            if slot.refused || http.awaiting.is_some() || http.has_output() || http.internal {
                continue;
            }
            let late = if http.needs_body() {
                http.has_slow_body(seconds)
            } else {
                // It has been without a request for as long as its time has run.
                let time =
                    if http.is_idle() && http.served { self.idle_due(http) } else { HEAD_TIMEOUT.as_secs() as u32 };
                (seconds + time).saturating_sub(slot.due) >= EVICT_AGE.as_secs() as u32
            };
            if late {
                let conn = Conn { slot: number, generation: slot.generation };
                self.happened(What::Evicted, 1, self.subject(conn));
                self.close_http(conn);
                return true;
            }
        }
        false
    }

    /// The address at the other end of a connection; none if it broke.
    pub(crate) fn peer(&self, conn: Conn) -> Option<IpAddr> {
        self.net.peer(self.slots.get(conn)?.socket())
    }

    /// Whose request it is.
    pub(crate) fn client(&self, conn: Conn, request: &Request<'_>) -> Option<IpAddr> {
        Some(self.node.admission.client(self.peer(conn)?, request.forwarded_for.values()))
    }

    /// What this shard holds on behalf of others, in bytes. What is no shard's in particular counts to the first.
    pub(crate) fn held(&self) -> u64 {
        let own = self.account.total() as u64;
        let nobodys = || self.node.storing.held() as u64 + self.counters().kept.iter().map(Counter::get).sum::<u64>();
        if self.id == 0 { own + nobodys() } else { own }
    }

    /// At the end of a turn: says what this shard holds.
    pub(crate) fn say_held(&mut self) {
        let held = self.held();
        let said = std::mem::replace(&mut self.admitting.held_said, held);
        if said != held {
            self.node.admission.note_held(said, held);
        }
    }

    /// Whose rate an event counts to: the token's member, or the address; 0 where there is no limit.
    pub(crate) fn publisher_key(&self, conn: Conn, request: &Request<'_>, access: &Access) -> u64 {
        let admission = &self.node.admission;
        match access {
            _ if !admission.limits_publishing() => NOBODY,
            Access::Token(rights) => admission.token_key(rights),
            Access::Node => NOBODY,
            Access::Open => self.client(conn, request).map_or(0, |client| admission.address_key(client)),
        }
    }

    /// Counts an event to whoever has this key. `about` is asked whose it is only if it is refused, since an address is a system
    /// call's to say.
    ///
    /// # Errors
    /// 429, or 503 when the node's memory is full: it may have to be kept for everyone who is to get it.
    pub(crate) fn admit_event<'a>(
        &mut self,
        key: u64,
        about: impl FnOnce(&Ground) -> Subject<'a>,
    ) -> Result<(), HttpError> {
        if self.node.admission.memory_is_full() {
            return Err(self.count_refusal(Refusal::Memory, about(self)));
        }
        self.admit_rate(key, about)
    }

    /// Same, of what makes room.
    ///
    /// # Errors
    /// 429.
    fn admit_rate<'a>(&mut self, key: u64, about: impl FnOnce(&Ground) -> Subject<'a>) -> Result<(), HttpError> {
        let admitted = self.node.admission.publish(key, self.clock.instant);
        admitted.map_err(|refusal| {
            let about = about(self);
            self.refused(refusal, about)
        })
    }

    /// What a request may do that perhaps publishes, which counts to its sender's rate.
    ///
    /// # Errors
    /// As [`Ground::access`] and [`Ground::admit_event`].
    pub(crate) fn publisher(
        &mut self,
        conn: Conn,
        request: &Request<'_>,
        query: Query<'_>,
    ) -> Result<Access, HttpError> {
        let access = self.access(request, query)?;
        let about = |ground: &Ground| access.subject(|| ground.client(conn, request));
        match request.method {
            // It was counted before it waited for the operator's server.
            _ if self.authorizing.is_resumed => {}
            Method::Post | Method::Put => self.admit_event(self.publisher_key(conn, request, &access), about)?,
            Method::Delete => self.admit_rate(self.publisher_key(conn, request, &access), about)?,
            _ => {}
        }
        Ok(access)
    }

    /// Somebody was refused: counts it, and tells hooks of whoever is over a limit of theirs.
    pub(crate) fn refused(&mut self, refusal: Refusal, about: Subject<'_>) -> HttpError {
        let who = match refusal {
            Refusal::Publishes(_) => Who::of(&about),
            Refusal::AddressConnections | Refusal::AddressConnects(_) => about.address.map(Who::address),
            _ => None,
        };
        self.tell_hooks_limited(refusal.reason(), who, None);
        self.count_refusal(refusal, about)
    }

    pub(crate) fn count_refusal(&self, refusal: Refusal, about: Subject<'_>) -> HttpError {
        self.counters().refused[refusal.index()].add(1);
        let what = match refusal {
            Refusal::AddressConnections => What::RefusedAddressConnections,
            Refusal::AddressConnects(_) => What::RefusedAddressConnects,
            Refusal::Connections => What::RefusedConnections,
            Refusal::Memory => What::RefusedMemory,
            Refusal::Turns => What::RefusedTurns,
            Refusal::Publishes(_) => What::RefusedPublishes,
            Refusal::Draining => What::RefusedDraining,
        };
        self.happened(what, 1, about);
        refusal.error()
    }

    /// Answers with an error. A browser's EventSource gives up for good on any other status than 200, so where one asks for
    /// a stream and may come back later it gets a stream that says so and ends; then this is true.
    pub(crate) fn answer_error(&mut self, to: AnswerTo, request: &Request<'_>, error: &HttpError) -> bool {
        let asks_for_stream = matches!(request.method, Method::Get | Method::Head)
            && matches!(request.path, "/v1/events" | mercure::PATH)
            && request.accepts_event_stream;
        if !asks_for_stream || !matches!(error.status, Status::TooManyRequests | Status::ServiceUnavailable) {
            self.answers().problem(to, error);
            return false;
        }
        let more_ms = error.retry_after.unwrap_or(1).saturating_sub(1).saturating_mul(1000);
        let retry_ms = self.retry_jitter().saturating_add(more_ms);
        let framing = self.answers().stream(to);
        if !to.is_head {
            bye(&mut self.out, framing, ByeReason::Busy, retry_ms);
        }
        true
    }

    /// Now and then: how much memory the process has. One shard looks for all.
    pub(crate) fn look_at_memory(&mut self) {
        let now = self.clock.instant;
        if self.id == 0 && self.admitting.next_memory_look.is_none_or(|next| next <= now) {
            self.admitting.next_memory_look = Some(now + MEMORY_LOOK);
            let resident = self.net.resident();
            self.node.admission.note_memory(resident);
            let held = self.node.admission.held();
            if self.admitting.trimming.is_due(held, resident, TRIM_BYTES_MIN, now) {
                trim::give_back();
            }
            self.look_whether_full();
        }
    }

    fn look_whether_full(&mut self) {
        let (now, admission) = (self.clock.instant, &self.node.admission);
        let levels = admission.levels(self.node.counters.iter().map(|counters| counters.connections.get()).sum());
        let mut full = [false; 2];
        for ((full, fullness), level) in full.iter_mut().zip(&mut self.admitting.fullness).zip(levels) {
            *full = fullness.look(level, now);
        }
        let before = admission.full();
        admission.note_full(full);
        match (before, admission.full()) {
            (None, Some(why)) => warn!("{why}; /health/ready says so until there is room again"),
            (Some(_), None) => info!("there is room again for streams"),
            _ => {}
        }
    }
}

/// Appends the last event of a stream, and the end of its body.
pub(crate) fn bye(out: &mut Vec<u8>, framing: Framing, reason: ByeReason, retry_ms: u32) {
    framing.wrap(out, |out| sse::bye(out, reason, retry_ms));
    out.extend_from_slice(framing.end());
}
