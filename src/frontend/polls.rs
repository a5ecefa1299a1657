//! `GET /v1/poll`: a resume that ends, for networks that hold streams back. It is a stream whose text is gathered here instead of being
//! written, and given as one answer soon after there is something new in it, or after [`POLL_WAIT`] in any case. So rights, classes
//! and gaps are those of a stream.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use memchr::memmem;

use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::frontend::lag::Lag;
use crate::ground::Ground;
use crate::ground::opening::LastEvent;
use crate::ground::slots::{Body, Conn, Kind, Slot};
use crate::limits::{POLL_BYTES, POLL_GATHER, POLL_OVERLAP, POLL_WAIT};
use crate::runtime::account::{Reservation, Use};
use crate::runtime::random::Map;
use crate::wire::event::VIEWERS;
use crate::wire::position::{Position, Resume};
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;

/// A shard's polls.
#[derive(Debug, Default)]
pub struct Polls {
    polls: Map<u32, Poll>,
    /// Those that have something new, and when they are answered.
    due: VecDeque<(Instant, u32)>,
}

#[derive(Debug)]
struct Poll {
    to: AnswerTo,
    /// Answers to requests that came before it on its connection.
    before: Vec<u8>,
    gathered: Gathered,
    until: Instant,
    is_due: bool,
    held: Reservation,
}

impl Polls {
    /// A stream gathers this, unless it is full, which is like a socket that takes no more. Gives when it is to be answered, if
    /// that is news.
    fn gather(&mut self, slot: u32, bytes: &[u8], now: Instant) -> Result<Option<Instant>, Full> {
        let Some(poll) = self.polls.get_mut(&slot) else { return Ok(None) };
        if poll.gathered.is_full() {
            return Err(Full);
        }
        poll.gathered.take(bytes);
        poll.held.settle(poll.gathered.len());
        if !poll.gathered.is_news || std::mem::replace(&mut poll.is_due, true) {
            return Ok(None);
        }
        Ok(Some(self.answer_at(slot, now)))
    }

    fn answer_at(&mut self, slot: u32, now: Instant) -> Instant {
        let at = now + POLL_GATHER;
        self.due.push_back((at, slot));
        at
    }

    /// Bytes gathered, over all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.polls.values().map(|poll| poll.held.bytes()).sum()
    }

    /// The connection is gone.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.polls.remove(&slot);
    }
}

/// A poll is answered with what it has.
#[derive(Debug)]
struct Full;

/// What a stream's text says (WHATWG HTML section 9.2.6), as far as its blocks are whole.
#[derive(Debug, Default)]
struct Gathered {
    /// The beginning of a block.
    rest: Vec<u8>,
    /// Events as JSON, with commas between them.
    events: Vec<u8>,
    last_id: Option<String>,
    retry_ms: u32,
    /// What was shown by an earlier poll is not news: values up to this time, in Unix ms, and events up to this place.
    told_ms: u64,
    had: Option<Position>,
    is_news: bool,
    news_bytes: usize,
}

impl Gathered {
    fn len(&self) -> usize {
        self.rest.len() + self.events.len()
    }

    /// There is enough of what its client did not have: what a resume gives once more could fill each of its polls.
    fn is_full(&self) -> bool {
        self.news_bytes >= POLL_BYTES
    }

    fn take(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut text = std::mem::take(&mut self.rest);
        let mut at = 0;
        while let Some(length) = memmem::find(&text[at..], b"\n\n") {
            self.block(&String::from_utf8_lossy(&text[at..at + length]));
            at += length + 2;
        }
        text.drain(..at);
        self.rest = text;
    }

    fn block(&mut self, text: &str) {
        let (mut id, mut event, mut data) = (None, None, None);
        for (name, value) in text.lines().filter_map(|line| line.split_once(": ")) {
            match name {
                "id" => id = Some(value),
                "event" => event = Some(value),
                "data" => data = Some(value),
                "retry" => self.retry_ms = value.parse().unwrap_or(self.retry_ms),
                _ => {}
            }
        }
        if let Some(id) = id {
            self.last_id = Some(id.to_owned());
        }
        match (event, data) {
            (None, Some(data)) => {
                let place = id.and_then(|id| id.rsplit_once(':')?.1.parse::<Position>().ok());
                if id.is_some() {
                    // A resume gives some once more.
                    return self.push(data, self.had.is_none_or(|had| place.is_none_or(|place| place > had)));
                }
                let at_ms = number_after(data, "\"at\":").unwrap_or(u64::MAX);
                if at_ms > self.told_ms.saturating_sub(POLL_OVERLAP.as_millis() as u64) {
                    // It changes by whoever polls.
                    let counts_viewers = data.contains(&format!("\"type\":\"{VIEWERS}\""));
                    self.push(data, at_ms > self.told_ms && !counts_viewers);
                }
            }
            (Some(kind @ ("gap" | "token")), Some(data)) => {
                let fields = data.strip_prefix('{').unwrap_or("}");
                self.push(&format!("{{\"type\":\"{kind}\",{fields}"), kind == "gap");
            }
            // What `connected` and `bye` say of the connection is not for whoever has none.
            _ => {}
        }
    }

    fn push(&mut self, json: &str, is_news: bool) {
        if !self.events.is_empty() {
            self.events.push(b',');
        }
        self.events.extend_from_slice(json.as_bytes());
        self.is_news |= is_news;
        self.news_bytes += if is_news { json.len() } else { 0 };
    }
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = &text[text.find(name)? + name.len()..];
    rest[..rest.bytes().take_while(u8::is_ascii_digit).count()].parse().ok()
}

/// Splits what a poll answered as its last id: the place, and the time up to which all values were shown, in Unix ms.
pub(crate) fn split_told(id: &str) -> (&str, u64) {
    let told = id.rsplit_once('@').and_then(|(place, told)| Some((place, told.parse().ok()?)));
    told.unwrap_or((id, 0))
}

impl Frontend {
    /// A request becomes a poll. `before` is what was to be written before its answer.
    pub(crate) fn begin_poll(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        last: Option<&LastEvent>,
        before: Vec<u8>,
        to: AnswerTo,
    ) {
        let held = ground.account.open(Use::Streams);
        let (told_ms, had) = last.map_or((0, None), |last| match last.resume {
            Resume::After(position) => (last.told_ms, Some(position)),
            _ => (last.told_ms, None),
        });
        let gathered = Gathered { told_ms, had, ..Gathered::default() };
        let until = ground.clock.instant + POLL_WAIT;
        self.polls.polls.insert(conn.slot, Poll { to, before, gathered, until, is_due: false, held });
    }

    /// Gives bytes to a stream: to its socket, or to what its poll gathers.
    pub(crate) fn send_to(&mut self, ground: &mut Ground, number: u32, bytes: &[u8]) -> io::Result<usize> {
        let slot = ground.slots.at(number);
        match slot.body {
            Body::Chunked | Body::Close => return ground.net.send(slot.socket(), bytes),
            Body::Watched => {
                self.hear_canaries(ground, number, bytes);
                return Ok(bytes.len());
            }
            Body::Gathered => {}
        }
        match self.polls.gather(number, bytes, ground.clock.instant) {
            Ok(Some(at)) => self.wake_at(ground, at),
            Ok(None) => {}
            Err(Full) => return Ok(0),
        }
        Ok(bytes.len())
    }

    /// More is on its way to a poll of what was there before it.
    fn is_behind(&self, slot: u32) -> bool {
        self.lags.get(slot).is_some_and(Lag::has_pages)
    }

    /// Once a turn: answers polls that had something new.
    pub(crate) fn answer_polls(&mut self, ground: &mut Ground) {
        while let Some(&(at, slot)) = self.polls.due.front()
            && at <= ground.clock.instant
        {
            self.polls.due.pop_front();
            // Another one may have the slot by now.
            let Some(poll) = self.polls.polls.get(&slot) else { continue };
            let is_due = poll.is_due;
            if is_due && self.is_behind(slot) && !poll.gathered.is_full() && poll.until > ground.clock.instant {
                self.polls.answer_at(slot, ground.clock.instant);
                continue;
            }
            if let Some(conn) = ground.slots.owner(slot).filter(|_| is_due) {
                self.close_stream(ground, conn, Ended::Polled);
            }
        }
        if let Some((at, _)) = self.polls.due.front() {
            self.wake_at(ground, *at);
        }
    }

    /// Once a tick: answers those that waited for long enough.
    pub(crate) fn tick_polls(&mut self, ground: &mut Ground) {
        if !ground.is_whole_second() || self.polls.polls.is_empty() {
            return;
        }
        let now = ground.clock.instant;
        let over: Vec<u32> =
            self.polls.polls.iter().filter(|(_, poll)| poll.until <= now).map(|(slot, _)| *slot).collect();
        for slot in over {
            if let Some(conn) = ground.slots.owner(slot) {
                self.close_stream(ground, conn, Ended::Polled);
            }
        }
    }

    /// The stream of a poll is over: what it gathered is written, and then it ends.
    pub(crate) fn answer_poll(&mut self, ground: &mut Ground, conn: Conn, why: Ended) {
        let is_live = |slot: &Slot| matches!(slot.kind, Kind::Stream) && !slot.waiting;
        if is_live(ground.slots.at(conn.slot)) {
            // What came in this turn is part of it, since its id says so.
            self.serve_viewer_of_many(ground, conn.slot);
        }
        let id = is_live(ground.slots.at(conn.slot)).then(|| self.beginning_id(ground, conn, None));
        let Some(Poll { to, before, gathered, .. }) = self.polls.polls.remove(&conn.slot) else { return };
        let id = id.filter(|_| !gathered.is_full());
        let Gathered { events, last_id, retry_ms, told_ms, .. } = gathered;
        // Of one that is cut short, what it was given last says where the next one goes on.
        let (id, told_ms) = id.map_or((last_id, told_ms), |id| (Some(id), ground.clock.unix_ms));
        let id = id.filter(|id| !id.is_empty()).map(|id| if told_ms > 0 { format!("{id}@{told_ms}") } else { id });
        let mut body = b"{\"events\":[".to_vec();
        body.extend_from_slice(&events);
        let id = serde_json::Value::from(id.unwrap_or_default());
        let retry_ms = if retry_ms == 0 { ground.retry_jitter() } else { retry_ms };
        body.extend_from_slice(format!("],\"last_event_id\":{id},\"retry_ms\":{retry_ms}}}").as_bytes());
        let mut out = std::mem::replace(&mut ground.out, before);
        let to = AnswerTo { closes: true, ..to };
        let _written = ground.answers().json(to, Status::Ok, &body);
        std::mem::swap(&mut ground.out, &mut out);
        self.end_lag(ground, conn);
        ground.slots.at_mut(conn.slot).body = Body::Close;
        self.lag_behind(ground, conn.slot, out);
        self.end_after(ground, conn.slot, why);
        self.on_stream_writable(ground, conn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gathered(told_ms: u64, text: &str) -> Gathered {
        let mut gathered = Gathered { told_ms, ..Gathered::default() };
        // In pieces as they may come.
        text.as_bytes().chunks(7).for_each(|piece| gathered.take(piece));
        gathered
    }

    fn events(gathered: &Gathered) -> String {
        String::from_utf8(gathered.events.clone()).expect("text")
    }

    const CONNECTED: &str = "retry: 1500\nid: eu:7-0\nevent: connected\ndata: {\"connection\":\"x\"}\n\n";

    #[test]
    fn a_streams_text_becomes_events() {
        let text = format!(
            "{CONNECTED}event: gap\ndata: {{\"topic\":\"live:1\",\"after\":null}}\n\n:\nid: eu:9-1\ndata: {{\"id\":\"i\",\"at\":5}}\n\n\
             data: {{\"type\":\"like\",\"at\":6}}\n\nevent: token\ndata: {{\"expires_at\":9}}\n\nid: eu:9-2\nda"
        );
        let gathered = gathered(0, &text);
        assert_eq!(
            events(&gathered),
            "{\"type\":\"gap\",\"topic\":\"live:1\",\"after\":null},{\"id\":\"i\",\"at\":5},{\"type\":\"like\",\"at\":6},\
             {\"type\":\"token\",\"expires_at\":9}"
        );
        assert_eq!((gathered.last_id.as_deref(), gathered.retry_ms, gathered.is_news), (Some("eu:9-1"), 1500, true));
        assert_eq!(gathered.rest, b"id: eu:9-2\nda");
    }

    #[test]
    fn what_was_shown_before_is_no_news() {
        let told = 1_700_000_000_000;
        let overlap = POLL_OVERLAP.as_millis() as u64;
        for (kind, at, id, given, is_news) in [
            ("likes", told + 1, "", true, true),
            ("likes", told, "", true, false),
            ("likes", told - overlap, "", false, false),
            ("comment", told - overlap, "id: eu:9-1\n", true, true),
            ("comment", told + 1, "id: eu:8-1\n", true, false),
            ("viewers", told + 1, "", true, false),
        ] {
            let had = Some(Position { ms: 8, seq: 1 });
            let mut gathered = Gathered { told_ms: told, had, ..Gathered::default() };
            gathered.take(format!("{CONNECTED}{id}data: {{\"type\":\"{kind}\",\"at\":{at}}}\n\n").as_bytes());
            assert_eq!((!gathered.events.is_empty(), gathered.is_news), (given, is_news), "{kind} {at}");
        }
        assert!(!gathered(0, CONNECTED).is_news);
    }

    #[test]
    fn ids_say_up_to_when_values_were_shown() {
        assert_eq!(split_told("eu:7-1@1700"), ("eu:7-1", 1700));
        for id in ["eu:7-1", "eu:7-1@", "0", "", "@x"] {
            assert_eq!(split_told(id), (id, 0));
        }
    }
}
