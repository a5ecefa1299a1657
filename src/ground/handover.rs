//! Events of a backend on their way to a dispatcher, any one: in requests of many lines, and to another dispatcher only
//! if the first surely did not take them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use crate::ground::journeys::Named;
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::ground::publishing::{Published, Publisher, id_json};
use crate::ground::{Ground, Reply, Todo};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::{Held, Use};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Set;
use crate::wire::canary::is_canary;
use crate::wire::event::Draft;
use crate::wire::hops::{Checkpoint, Hops};
use crate::wire::http::HttpError;
use crate::wire::json::push_string;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// One event, as a line of `POST /v1/events`.
#[derive(Debug)]
pub struct Handed {
    line: Held<Vec<u8>>,
    /// Viewers tell a repeat by its id, so that it may be sent again whatever became of it.
    may_repeat: bool,
    until: Instant,
    /// Who is to know once it was taken.
    publisher: Publisher,
    /// The dispatcher to try first.
    first: Option<Destination>,
}

impl Handed {
    /// Whose order it is part of.
    fn topic(&self) -> Option<&Topic> {
        match &self.publisher {
            Publisher::Post(topic, _) => Some(topic),
            _ => None,
        }
    }
}

/// A shard's events for dispatchers.
#[derive(Debug, Default)]
pub struct Handover {
    waiting: VecDeque<Handed>,
    /// Requests under way.
    calls: usize,
    /// Topics of posts in them: what follows of these waits, since another dispatcher may be faster.
    busy: Set<Topic>,
    /// A dispatcher was too busy: not before this time.
    pause: Option<Instant>,
}

impl Handover {
    /// Whether nothing waits or is under way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.calls == 0
    }

    /// A request with these is over.
    fn ended(&mut self, events: &[Handed]) {
        self.calls -= 1;
        for topic in events.iter().filter_map(Handed::topic) {
            self.busy.remove(topic);
        }
    }

    fn put_back(&mut self, events: impl DoubleEndedIterator<Item = Handed>) {
        events.rev().for_each(|event| self.waiting.push_front(event));
    }
}

/// What the answer to a body of lines says.
#[derive(Debug, Deserialize)]
struct Taken {
    rejected_total: u64,
    rejected: Vec<Rejected>,
}

#[derive(Debug, Deserialize)]
struct Rejected {
    line: usize,
    detail: String,
}

fn not_taken() -> HttpError {
    HttpError::unavailable("no dispatcher took it; nothing was done")
}

fn line(draft: &Draft<'_>, id: &str, hops: Option<&Hops>) -> Vec<u8> {
    let mut line = Vec::with_capacity(128 + draft.data.len());
    for (name, text) in [("{\"topic\":", Some(&*draft.topic)), (",\"type\":", Some(&*draft.kind))]
        .into_iter()
        .chain([(",\"key\":", draft.key.as_deref()), (",\"id\":", Some(id))])
    {
        if let Some(text) = text {
            line.extend_from_slice(name.as_bytes());
            push_string(&mut line, text);
        }
    }
    let count = (draft.count != 1).then_some(draft.count.into());
    for (name, number) in [(",\"version\":", draft.version), (",\"count\":", count)] {
        if let Some(number) = number {
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        }
    }
    if draft.always {
        line.extend_from_slice(b",\"always\":true");
    }
    if let Some(hops) = hops {
        line.extend_from_slice(format!(",\"hops\":\"{}\"", hops.to_text()).as_bytes());
    }
    line.extend_from_slice(b",\"data\":");
    let data = line.len();
    line.extend_from_slice(draft.data);
    // JSON allows raw line breaks between tokens only, and they would end the line.
    line[data..].iter_mut().filter(|byte| matches!(**byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.extend_from_slice(b"}\n");
    line
}

impl Ground {
    /// Publishes an event by way of a dispatcher, on a node that is none.
    ///
    /// # Errors
    /// 503: there is no memory for it, since too much waits already.
    pub(crate) fn hand_over(
        &mut self,
        draft: &Draft<'_>,
        id: &str,
        publisher: Publisher,
    ) -> Result<Published, HttpError> {
        let class = self.live.types.get(&draft.kind).class;
        self.counters().events_in[class as usize].add(u64::from(!is_canary(&draft.topic)));
        let hops = self.begin_journey(draft, id, class).map(|mut hops| {
            let named = Named::Names { topic: &draft.topic, kind: &draft.kind, id };
            self.note(&mut hops, Checkpoint::Sent, class, named);
            hops
        });
        let line = line(draft, id, hops.as_ref());
        let held = self
            .account
            .reserve(Use::Nodes, HANDED_BYTES + line.len())
            .map_err(|_| HttpError::unavailable("no dispatcher takes events, and too many wait already"))?;
        let until = self.clock.instant + HANDOVER_PATIENCE;
        // Of class `every` viewers tell repeats by their ids, of class `latest` by their versions.
        let may_repeat = class.has_history() || (class.has_versions() && draft.version.is_some());
        let first = match &publisher {
            Publisher::Canary { by, .. } => Some(Destination::Dispatcher(*by)),
            _ => None,
        };
        let line = Held::new(line, held);
        self.cluster.handover.waiting.push_back(Handed { line, may_repeat, until, publisher, first });
        Ok(Published::Pending)
    }

    /// Sends what waits, as far as dispatchers take requests.
    pub(crate) fn send_events(&mut self) {
        let now = self.clock.instant;
        loop {
            let handover = &self.cluster.handover;
            let pauses = handover.pause.is_some_and(|until| now < until);
            if handover.waiting.is_empty() || handover.calls >= HANDOVER_CALLS_MAX || pauses {
                return;
            }
            let first = handover.waiting.front().and_then(|event| event.first);
            let able = first.filter(|first| self.link_is_quick((*first, Lane::Events)));
            let Some(dispatcher) = able.or_else(|| self.pick_dispatcher(Lane::Events, None)) else { return };
            let handover = &mut self.cluster.handover;
            let (mut body, mut events, mut later) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(event) = handover.waiting.front().filter(|event| event.first == first)
                && events.len() < REJECTED_LISTED_MAX
                && later.len() < HANDOVER_PASSED_MAX
                && (body.is_empty() || body.len() + event.line.len() <= HANDOVER_CALL_BYTES)
            {
                let event = handover.waiting.pop_front().expect("it was just seen");
                if event.topic().is_some_and(|topic| handover.busy.contains(topic)) {
                    later.push(event);
                    continue;
                }
                body.extend_from_slice(&event.line);
                events.push(event);
            }
            handover.put_back(later.into_iter());
            if events.is_empty() {
                return;
            }
            handover.busy.extend(events.iter().filter_map(Handed::topic).cloned());
            handover.calls += 1;
            let call = Call {
                path: "/v1/events",
                content_type: "application/x-ndjson",
                body: Arc::new(body),
                deadline: now + HANDOVER_TIMEOUT,
                what: Called::Events(events),
            };
            if let Err(Called::Events(events)) = self.call((dispatcher, Lane::Events), call) {
                let handover = &mut self.cluster.handover;
                handover.ended(&events);
                handover.put_back(events.into_iter());
                return;
            }
        }
    }

    /// A dispatcher answered a request with events, or did not.
    pub(crate) fn on_handed_over(&mut self, events: Vec<Handed>, outcome: Outcome) {
        self.cluster.handover.ended(&events);
        let (mut again, mut taken, mut lost) = (Vec::new(), Vec::new(), Vec::new());
        match outcome {
            Outcome::Answer(202, body) => match serde_json::from_slice::<Taken>(&body) {
                Ok(answer) if answer.rejected_total == 0 => taken = events,
                // What a backend sends is well formed, so a line is rejected for want of room, or of history.
                Ok(answer) => {
                    tracing::debug!(first = ?answer.rejected.first().map(|one| &one.detail), "a dispatcher rejected events");
                    let lines: Set<usize> = answer.rejected.iter().map(|rejected| rejected.line).collect();
                    for (event, line) in events.into_iter().zip(1..) {
                        if lines.contains(&line) { again.push(event) } else { taken.push(event) }
                    }
                }
                Err(_) => lost = events,
            },
            Outcome::Answer(..) | Outcome::NotTaken => again = events,
            // It may have been taken: what viewers could not tell from another event is not sent again.
            Outcome::Unknown => {
                (again, lost) =
                    events.into_iter().partition(|event| event.may_repeat || planted(Mistake::HandedOverTwice));
            }
        }
        again.iter_mut().for_each(|event: &mut Handed| event.first = None);
        if !again.is_empty() {
            self.cluster.handover.pause = Some(self.clock.instant + HANDOVER_PAUSE);
        }
        self.cluster.handover.put_back(again.into_iter());
        for event in &lost {
            self.lose(What::DroppedUnsure, event);
        }
        taken.into_iter().for_each(|event| self.handed(event, true));
        lost.into_iter().for_each(|event| self.handed(event, false));
    }

    fn lose(&self, what: What, event: &Handed) {
        let draft = Draft::parse_line(&event.line).ok();
        let about =
            draft.as_ref().map(|(draft, _)| Subject { event: draft.id.as_deref(), ..Subject::topic(&draft.topic) });
        self.happened(what, 1, about.unwrap_or_default());
    }

    /// An event was taken, or given up: of a post the outbox takes care then, and who asked for another is answered.
    fn handed(&mut self, event: Handed, is_taken: bool) {
        match event.publisher {
            Publisher::Post(topic, record) => self.todo.push_back(Todo::Told(topic, record, is_taken)),
            Publisher::Update(conn, updating) if is_taken => self.todo.push_back(Todo::Update(conn, updating)),
            Publisher::Update(conn, _) => self.reply(conn, Reply::Problem(not_taken())),
            Publisher::Canary { by, every } => {
                self.todo.extend(every.map(|number| Todo::CanaryTold(by, number, is_taken)));
            }
            Publisher::Request(conn) => {
                let id = Draft::parse_line(&event.line).ok().and_then(|(draft, _)| Some(draft.id?.into_owned()));
                self.reply(
                    conn,
                    id.filter(|_| is_taken).map(|id| (Status::Accepted, id_json(&id))).ok_or_else(not_taken),
                );
            }
            _ => {}
        }
    }

    /// Once a tick: what waited too long is given up.
    pub(crate) fn tick_handover(&mut self) {
        let now = self.clock.instant;
        while self.cluster.handover.waiting.front().is_some_and(|event| event.until <= now) {
            let event = self.cluster.handover.waiting.pop_front().expect("it was just seen");
            self.lose(What::DroppedHandover, &event);
            self.handed(event, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::connection_id::NodeId;
    use crate::wire::hops::{Begun, Hop};

    #[test]
    fn an_event_is_one_line_and_reads_as_it_was() {
        let draft = Draft {
            topic: "live:1".into(),
            kind: "like".into(),
            key: Some("a\"\n".into()),
            id: None,
            version: Some(7),
            count: 3,
            always: true,
            data: b"{\n\"member\":\r\n\"\xc3\xa9\"}",
            begun: Begun::default(),
            hops: None,
        };
        let mut hops = Hops::default();
        hops.push(Hop { checkpoint: Checkpoint::Sent, node: NodeId(7), at_us: 5, ahead: None });
        let line = line(&draft, "id-1", Some(&hops));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read = Draft::parse(&line, None).unwrap();
        assert_eq!((&*read.topic, &*read.kind, read.key.as_deref()), ("live:1", "like", Some("a\"\n")));
        assert_eq!(
            (read.id.as_deref(), read.version, read.count, read.always, read.data),
            (Some("id-1"), Some(7), 3, true, &b"{ \"member\":  \"\xc3\xa9\"}"[..])
        );
        assert_eq!(read.hops.as_deref(), Some(&hops));
        assert_eq!(read.of_client().hops, None);
    }
}
