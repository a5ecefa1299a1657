//! The life of an SSE stream: it opens, waits for its topics, is connected, and ends.

use std::sync::Arc;
use std::time::Instant;

use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::frontend::lag::{Lag, Showing};
use crate::frontend::topics::TopicEntry;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::all::All;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::{Asker, Message};
use crate::ground::opening::{LastEvent, Opening, read_topics};
use crate::ground::rights::StreamRights;
use crate::ground::slots::{Body, Conn, Kind, Subscription, TopicIndex};
use crate::kv::crowd::member_hash;
use crate::limits::*;
use crate::observe::happenings::subject::Subject;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::connection_id::ConnectionId;
use crate::wire::frame::Frame;
use crate::wire::http::{HttpError, Method};
use crate::wire::position::Shown;
use crate::wire::prefix::ANY;
use crate::wire::query::{Parameter, Query};
use crate::wire::response::AnswerTo;
use crate::wire::sse;
use crate::wire::sse::Framing;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Something that waits until topics are registered, or a second has passed.
#[derive(Debug)]
pub struct Waiter {
    /// The stream.
    pub conn: Conn,
    /// Who is to be answered: the stream itself by `connected`, or a request that changed its topics.
    pub asker: Option<(usize, Conn)>,
    /// What the client has, if it comes back.
    pub last: Option<LastEvent>,
}

impl Frontend {
    /// `GET /v1/events`, and `GET /v1/poll`, which `polls`.
    pub(crate) fn start_stream(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        access: Access,
        polls: bool,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, to, grant, .. } = incoming;
        let mut topics = read_topics(query.all(Parameter::Topic), ground.live.topics_max)?;
        let mut member = None;
        for named in query.all(Parameter::Member) {
            access.require_member(Some(&named))?;
            if named.is_empty() {
                continue;
            }
            crate::wire::names::check_name("member", &named)?;
            member = Some(named.into_owned());
        }
        for topic in &topics {
            access.require_subscribe(topic)?;
        }
        let all = self.all_of(ground, query)?;
        if !all.is_none() {
            topics.iter().try_for_each(|topic| access.require_moderator(topic))?;
        }
        if let Some(own) = access.own_topic()
            && !topics.contains(&own)
        {
            // A member's own topic comes without asking, and beyond the limit.
            topics.push(own);
        }
        let last = self.last_event(ground, request, query)?;
        if request.method == Method::Head {
            // As GET would answer, without its body (RFC 9110 section 9.3.2).
            let head =
                if polls { ground.answers().json(to, Status::Ok, b"") } else { ground.answers().stream_head(to, None) };
            return Ok(Handled::AnsweredLast(head));
        }
        self.admit_stream(ground, conn, request, &topics)?;
        // A poll is over before it would be asked about again.
        let grant = grant.filter(|_| !polls).cloned();
        Ok(Handled::Stream(Opening { topics, access, last, member, all, polls, grant, mercure: None }))
    }

    /// Turns a connection that sent a request into a stream. What it was answered before goes first.
    pub(crate) fn open_stream(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        mut before: Vec<u8>,
        opening: Opening,
        to: AnswerTo,
    ) {
        let mercure = opening.mercure.as_deref();
        let subscriber = mercure.and_then(|by| by.subscriber.clone());
        let body = if opening.polls {
            Body::Gathered
        } else if ground.answers().stream_with(to, mercure.and_then(|by| by.last_event_id.as_deref())) == Framing::Close
        {
            Body::Close
        } else {
            Body::Chunked
        };
        let now_ms = ground.clock.unix_ms;
        let slot = ground.slots.get_mut(conn).expect("the connection just sent a request");
        slot.kind = Kind::Stream;
        slot.body = body;
        slot.waiting = true;
        slot.rights = match &opening.access {
            Access::Open | Access::Node
                if opening.member.is_none()
                    && opening.all.is_none()
                    && opening.grant.is_none()
                    && subscriber.is_none() =>
            {
                None
            }
            Access::Open | Access::Node => Some(Box::new(StreamRights::of_member(opening.member, opening.all))),
            Access::Token(rights) => Some(Box::new(StreamRights::new(rights, opening.all, now_ms))),
        };
        if let Some(rights) = &mut slot.rights {
            (rights.grant, rights.mercure) = (opening.grant, subscriber);
        }
        let mut came = None;
        if let Some(member) = slot.rights.as_ref().and_then(|rights| rights.member.as_deref()) {
            self.members.join(member, ground.clock.instant);
            if !opening.polls {
                came = Some(member.to_owned());
            }
        }
        if let Some(member) = came {
            // The store may take the member for one who was there all the time, and nobody have been told.
            ground.tell_hooks_online(&member);
        }
        ground.requests_open -= 1;
        self.streams += 1;
        if opening.polls {
            self.begin_poll(ground, conn, opening.last.as_ref(), std::mem::take(&mut before), to);
        }
        ground.set_due(conn, HEARTBEAT.as_secs() as u32);
        let private = mercure.map_or(&[][..], |by| &by.private);
        self.begin_stream(ground, conn, (&opening.topics, private), &opening.access, opening.last, before);
    }

    /// Connects a stream to its topics, to some of them with their private updates, once they are registered. `before` goes first.
    pub(crate) fn begin_stream(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        (topics, private): (&[Topic], &[Topic]),
        access: &Access,
        last: Option<LastEvent>,
        mut before: Vec<u8>,
    ) {
        let missing = self.subscribe(ground, conn, topics, private, access);
        let showing = if missing.is_empty() { self.write_connected(ground, conn, last.as_ref()) } else { Vec::new() };
        before.append(&mut ground.out);
        self.write_stream(ground, conn, &before);
        self.show(ground, conn, showing);
        if !missing.is_empty() {
            self.wait_for(ground, &missing, Waiter { conn, asker: None, last });
        } else if let Some(last) = last {
            self.start_replay(ground, conn, &last);
        }
    }

    /// Adds a stream to topics, to some with their private updates. Gives the places of those that are not registered yet.
    pub(crate) fn subscribe(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        topics: &[Topic],
        private: &[Topic],
        access: &Access,
    ) -> Vec<u32> {
        let (mut missing, shown, with_private) = (Vec::new(), All::default(), All::with_private());
        let all = ground
            .slots
            .get(conn)
            .and_then(|slot| slot.rights.as_ref())
            .map_or(shown.clone(), |rights| rights.all.clone());
        let member = self.member_hash(ground, conn);
        // Up to where it was given them before it named them.
        let given = topics.iter().map(|topic| match self.prefixes.are_any() && !topic.is_prefix() {
            true => self.shown_by_prefix(ground, conn, topic.as_str()),
            false => None,
        });
        let given: Vec<Option<Shown>> = given.collect();
        for (topic, given) in topics.iter().zip(given) {
            // If it had the topic by a prefix, it has it by its name from now on.
            let had = if self.prefixes.are_any() { self.watched(ground, conn, topic.as_str()) } else { None };
            let whole = !all.is_none() && access.require_moderator(topic).is_ok();
            let part = match private.contains(topic) {
                true => &with_private,
                false if whole => &all,
                false => &shown,
            };
            let (index, place, first) = self.topics.join(topic, part, conn.slot);
            let slot = ground.slots.get_mut(conn).expect("the stream is open");
            slot.subscriptions.push(Subscription { topic: index, place });
            self.recount(topic, member.map(|member| (member, true)));
            ground.track("watches", Subject { topic: Some(topic.as_str()), ..ground.subject(conn) });
            if first {
                self.want(ground, topic, true);
            }
            if let Some(had) = had {
                self.change_view(ground, conn, had, part);
            }
            if let Some(given) = given {
                self.go_on_from(ground, conn, index, given);
            }
            if !self.topics.get(index).registered {
                missing.push(index);
            }
            if topic.is_prefix() {
                self.join_open(ground, conn, topic, part);
            }
        }
        missing
    }

    /// The types of which a stream is to get every event.
    fn all_of(&self, ground: &Ground, query: Query<'_>) -> Result<All, HttpError> {
        let kinds = query.all(Parameter::All).filter(|kind| !kind.is_empty()).map(|kind| {
            if ground.live.types.get(&kind).class.has_history() {
                Ok(kind.as_ref().into())
            } else {
                Err(HttpError::bad("\"all\" must name a type of class every, such as comment"))
            }
        });
        kinds.collect::<Result<_, _>>().map(All::of)
    }

    /// What a stream watches, by name or by prefix, and its prefixes, with their places.
    pub(crate) fn all_watched(
        &self,
        ground: &Ground,
        conn: Conn,
    ) -> impl Iterator<Item = (TopicIndex, &TopicEntry)> + Clone {
        let subscriptions = ground.slots.get(conn).map_or(&[][..], |slot| slot.subscriptions.as_slice());
        subscriptions.iter().map(|watched| (watched.topic, self.topics.get(watched.topic)))
    }

    /// The place of a topic that a stream watches.
    pub(crate) fn watched(&self, ground: &Ground, conn: Conn, topic: &str) -> Option<TopicIndex> {
        let mut watched = self.all_watched(ground, conn);
        watched.find(|(_, entry)| entry.topic.as_str() == topic).map(|(index, _)| index)
    }

    /// By which the member of a stream is known, if it names one.
    pub(crate) fn member_hash(&self, ground: &Ground, conn: Conn) -> Option<u64> {
        ground.slots.get(conn)?.rights.as_ref()?.member.as_deref().map(member_hash)
    }

    /// Takes a stream of this member out of a topic.
    pub(crate) fn unsubscribe(&mut self, ground: &mut Ground, subscription: Subscription, member: Option<u64>) {
        let TopicEntry { topic, all, .. } = self.topics.get(subscription.topic);
        let (topic, counts) = (topic.clone(), !all.is_by_prefix());
        if counts {
            self.recount(&topic, member.map(|member| (member, false)));
        }
        let left = self.topics.leave(subscription.topic, subscription.place);
        for (slot, place) in left.moved.into_iter().flatten() {
            let moved = ground.slots.at_mut(slot).subscriptions.as_mut_slice();
            let moved = moved.iter_mut().find(|moved| moved.topic == subscription.topic);
            moved.expect("a viewer's slot knows its topics").place = place;
        }
        if let Some(asked) = left.gone {
            self.pages.forget(subscription.topic);
            if asked {
                let (home, asker) =
                    (ground.node.home(topic.as_str()), Asker::Core { shard: ground.id, view: subscription.topic });
                ground.send(home, Message::ReplayEnds { topic, asker });
            }
        }
        if let Some(topic) = left.empty {
            self.recount_none(&topic);
            self.want(ground, &topic, false);
        }
    }

    /// Tells a topic's home that this core's first viewer came, or its last one left.
    pub(crate) fn want(&mut self, ground: &mut Ground, topic: &Topic, wanted: bool) {
        let home = ground.node.home(topic.as_str());
        ground.send(home, Message::Want { topic: topic.clone(), core: ground.id, wanted });
    }

    /// Answers the stream, or who changed its topics, once these topics are registered.
    pub(crate) fn wait_for(&mut self, ground: &mut Ground, missing: &[u32], waiter: Waiter) {
        let deadline = ground.clock.instant + CONNECTED_WAIT;
        self.waiting.insert(waiter.conn.slot, missing, deadline, waiter);
    }

    /// A topic is registered: whoever waited for it waits for one less.
    pub(crate) fn on_topic_ready(
        &mut self,
        ground: &mut Ground,
        topic: &Topic,
        end: Option<Shown>,
        newest: &[Arc<Frame>],
    ) {
        self.given_ms = self.given_ms.max(end.map_or(0, |end| end.place().ms));
        if topic.as_str() == ANY {
            return self.on_prefixes_told(ground);
        }
        let mut next = self.topics.find(topic.as_str());
        while let Some(index) = next {
            self.take_newest(ground, index, newest);
            let entry = self.topics.get_mut(index);
            next = entry.other;
            if !std::mem::replace(&mut entry.registered, true) {
                // What a prefix of it promised does not count for one that was watched here before, which may lack something.
                entry.delivered_to = entry.delivered_to.map(|had| end.map_or(had, |end| had.min(end)));
            }
            if entry.delivered_to.is_none() {
                // Nothing was promised until now: what its viewers may count on begins here.
                entry.delivered_to = end;
            } else if end.is_some_and(|end| entry.reaches(end.place())) {
                self.queue_topic(index);
            }
            let over = self.waiting.ready(index);
            self.end_later(over);
        }
    }

    /// Ends the waits whose second has passed.
    pub(crate) fn end_late_waits(&mut self, now: Instant) {
        while let Some(waiter) = self.waiting.overdue(now) {
            self.end_later([waiter]);
        }
    }

    /// What waited hears how it stands, or that the stream is gone.
    pub(crate) fn end_wait(&mut self, ground: &mut Ground, waiter: Waiter) {
        match waiter.asker {
            Some(asker) => self.answer_topic_change(ground, waiter.conn, asker),
            None => {
                if ground.slots.get(waiter.conn).is_some_and(|slot| slot.waiting) {
                    let showing = self.write_connected(ground, waiter.conn, waiter.last.as_ref());
                    let bytes = std::mem::take(&mut ground.out);
                    self.write_stream(ground, waiter.conn, &bytes);
                    self.show(ground, waiter.conn, showing);
                    if let Some(last) = &waiter.last {
                        self.start_replay(ground, waiter.conn, last);
                    }
                }
            }
        }
    }

    /// The topics of a stream: all, and those not registered yet.
    pub(crate) fn topics_of(&self, ground: &Ground, conn: Conn) -> (Vec<&str>, Vec<&str>) {
        let (mut all, mut pending) = (Vec::new(), Vec::new());
        for (_, entry) in self.all_watched(ground, conn).filter(|(_, entry)| !entry.all.is_by_prefix()) {
            all.push(entry.topic.as_str());
            if !entry.registered {
                pending.push(entry.topic.as_str());
            }
        }
        (all, pending)
    }

    /// Appends `connected` to the ground's `out`, and the newest values of its topics, as far as one write may hold. Gives what it is
    /// yet to be shown of them. From here on events reach the stream.
    fn write_connected(&mut self, ground: &mut Ground, conn: Conn, last: Option<&LastEvent>) -> Vec<Showing> {
        let id = ConnectionId { secret: ground.slots.secret(conn), ..ground.name_of(conn) };
        let retry_ms = ground.retry_jitter();
        let begins = self.beginning_id(ground, conn, last);
        let mut out = std::mem::take(&mut ground.out);
        let (_, pending) = self.topics_of(ground, conn);
        let framing = ground.slots.at(conn.slot).framing();
        let heartbeat = HEARTBEAT.as_millis() as u64;
        let (id, node) = (id.encode(), &ground.node.name);
        framing.wrap(&mut out, |out| sse::connected(out, &begins, &id, node, heartbeat, &pending, retry_ms));
        // What its topics' logs hold came before it was connected.
        let slot = ground.slots.get_mut(conn).expect("it is being connected");
        slot.waiting = false;
        let mut left = Vec::new();
        for subscription in slot.subscriptions.as_slice() {
            let entry = self.topics.get_mut(subscription.topic);
            let end = entry.log.end();
            entry.viewers[subscription.place as usize].cursor = end;
            self.crowds.connected(subscription.topic, conn);
            let at = if planted(Mistake::NewestUnshown) { entry.newest.end() } else { 0 };
            let mut showing = Showing { topic: subscription.topic, at, until: entry.newest.end() };
            if !showing.fill(&entry.newest, &mut out, framing) {
                left.push(showing);
            }
        }
        ground.out = out;
        left
    }

    /// Writes bytes of its own to a stream, behind what waits for it.
    pub(crate) fn write_stream(&mut self, ground: &mut Ground, conn: Conn, bytes: &[u8]) {
        let Some(slot) = ground.slots.get(conn) else { return };
        match slot.kind {
            Kind::Lagging { .. } => {
                let Some(lag) = self.lags.get_mut(conn.slot) else { return };
                // Nothing else would wake a stream that could be written to, and waits for history.
                let idle = !lag.is_full;
                lag.unsent.extend_from_slice(bytes);
                if idle {
                    self.on_stream_writable(ground, conn);
                }
            }
            Kind::Stream => match self.send_to(ground, conn.slot, bytes) {
                Ok(taken) if taken == bytes.len() => {}
                Ok(taken) => self.lag_behind(ground, conn.slot, bytes[taken..].to_vec()),
                Err(_) => self.broken.push(conn),
            },
            Kind::Free | Kind::Http(_) | Kind::Link(_) => {}
        }
        self.settle(conn.slot);
    }

    /// From now on what comes for this stream waits for it, behind these bytes.
    pub(crate) fn lag_behind(&mut self, ground: &mut Ground, slot: u32, unsent: Vec<u8>) {
        let conn = Conn { slot, generation: ground.slots.at(slot).generation };
        ground
            .track("lags", Subject { says: Some(format_args!("{} bytes wait", unsent.len())), ..ground.subject(conn) });
        let lag = Lag::new(unsent, ground.clock.seconds(), &ground.account);
        self.lags.insert(slot, Box::new(lag));
        ground.slots.at_mut(slot).kind = Kind::Lagging { ends: false };
        self.settle(slot);
    }

    /// What waits for a stream, which lags from now on if it did not before. What is put there is written this turn: its socket,
    /// which could be written to all along, will not say so.
    pub(crate) fn lag(&mut self, ground: &mut Ground, slot: u32) -> &mut Lag {
        if self.lags.get(slot).is_none() {
            self.stirred.push(Conn { slot, generation: ground.slots.at(slot).generation });
            self.lag_behind(ground, slot, Vec::new());
            self.lags.get_mut(slot).expect("it was just made").is_full = false;
        }
        self.lags.get_mut(slot).expect("it was there, or was just made")
    }

    /// What a client sends on a stream means nothing; its end does.
    pub(crate) fn discard_input(&mut self, ground: &mut Ground, conn: Conn) {
        let mut buffer = std::mem::take(&mut ground.read_buffer);
        let mut reads = 0;
        let ended = loop {
            let Some(slot) = ground.slots.get(conn) else { break false };
            reads += 1;
            if reads > READ_BURST {
                ground.again.push(conn);
                break false;
            }
            match ground.net.recv(slot.socket(), &mut buffer) {
                Ok(Some(0)) if slot.socket().is_secure() => break true,
                Ok(Some(count)) if count == buffer.len() || slot.socket().is_secure() => {}
                Ok(_) => break false,
                Err(_) => break true,
            }
        };
        ground.read_buffer = buffer;
        if ended {
            self.close_stream(ground, conn, Ended::Client);
        }
    }

    /// A stream's client sends no more. Some close their side once they have asked and listen on (`nc -N`); whoever is gone
    /// answers the next bytes with a reset, which ends the stream: so it is sent some at once.
    pub(crate) fn on_half_closed(&mut self, ground: &mut Ground, conn: Conn) {
        let Some(slot) = ground.slots.get_mut(conn) else { return };
        let known = std::mem::replace(&mut slot.half_closed, true);
        // Before `connected` nothing may be sent, and that comes soon; behind `bye` nothing may be.
        if !known && !slot.waiting && !slot.is_ending() {
            let framing = slot.framing();
            self.write_stream(ground, conn, framing.heartbeat());
        }
    }
}
