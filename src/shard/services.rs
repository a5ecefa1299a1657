//! The roles that a shard has, and what each is given: messages, answers of the key-value store and of other nodes. What is for
//! a role that this node has not is nothing to it. Also what no role answers alone: operators' questions, and who watches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use crate::backend::Backend;
use crate::db::Store;
use crate::dispatcher::Dispatcher;
use crate::frontend::Frontend;
use crate::ground::access::Access;
use crate::ground::answering::Handled;
use crate::ground::asking::Asked;
use crate::ground::cluster::Trouble;
use crate::ground::lines::Taken;
use crate::ground::link::{Called, Outcome};
use crate::ground::message::Message;
use crate::ground::opening::Opening;
use crate::ground::past::Past;
use crate::ground::slots::Conn;
use crate::ground::{Ground, Todo};
use crate::http::Service;
use crate::kv::{Alive, Answer, BUCKETS, Heartbeat, NodeInfo, Notice, Request as Question, Unavailable};
use crate::limits::{APPENDS_AHEAD, MAIL_SLICE, NODE_HEARTBEAT};
use crate::runtime::account::Held;
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::shard::draining::Draining;
use crate::shard::listing::Gathering;
use crate::shard::present::Presents;
use crate::wire::http::HttpError;
use crate::wire::position::Reach;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;

/// See the [module](self).
pub struct Services {
    pub(crate) frontend: Option<Frontend>,
    pub(crate) dispatcher: Option<Dispatcher>,
    pub(crate) backend: Option<Backend>,
    /// Questions of operators that other shards have not answered.
    pub(crate) gathering: Map<Conn, Gathering>,
    pub(crate) presents: Map<Conn, Held<Box<Presents>>>,
    /// Listings of history for which a page came at once.
    pub(crate) pasts: VecDeque<(Held<Past>, Result<Answer, Unavailable>)>,
    pub(crate) draining: Option<Draining>,
}

/// Has a role act, if this node has it.
pub(crate) fn with<Role>(role: &mut Option<Role>, act: impl FnOnce(&mut Role)) {
    if let Some(role) = role {
        act(role);
    }
}

impl Service for Services {
    fn open_mail(&mut self, ground: &mut Ground, until: u64) {
        self.open_mail_until(ground, until);
    }

    fn handle(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
        to: AnswerTo,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        self.route(ground, conn, internal, request, to, body)
    }

    fn open_stream(&mut self, ground: &mut Ground, conn: Conn, before: Vec<u8>, opening: Opening, to: AnswerTo) {
        with(&mut self.frontend, |frontend| frontend.open_stream(ground, conn, before, opening, to));
    }

    fn lines_access(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        internal: bool,
        request: &Request<'_>,
    ) -> Result<Access, HttpError> {
        ground.lines_access(conn, internal, request)
    }

    fn publish_line(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        publisher: u64,
        at: (Conn, u64),
        line: &[u8],
    ) -> Result<Taken, String> {
        self.publish_text(ground, access, publisher, at, line)
    }

    fn takes_lines(&self) -> bool {
        self.dispatcher.as_ref().is_none_or(|dispatcher| dispatcher.appends_waiting < APPENDS_AHEAD)
    }

    fn is_behind(&self) -> bool {
        self.frontend.as_ref().is_some_and(|frontend| !frontend.unserved.is_empty())
    }
}

impl Services {
    /// Those of a shard which begins.
    pub(crate) fn start(ground: &mut Ground) -> Services {
        let roles = ground.node.roles;
        let mut services = Services {
            frontend: roles.frontend.then(|| Frontend::start(ground)),
            dispatcher: roles.dispatcher.then(|| Dispatcher::start(ground)),
            backend: roles.backend.then(|| Backend::start(ground)),
            gathering: Map::default(),
            presents: Map::default(),
            pasts: VecDeque::new(),
            draining: None,
        };
        services.begin_control(ground);
        services
    }

    /// The role that holds viewers.
    ///
    /// # Errors
    /// 404 on a node that has it not.
    pub(crate) fn frontend(&mut self) -> Result<&mut Frontend, HttpError> {
        self.frontend.as_mut().ok_or_else(HttpError::not_found)
    }

    /// The role that takes events; see [`Services::frontend`].
    pub(crate) fn dispatcher(&mut self) -> Result<&mut Dispatcher, HttpError> {
        self.dispatcher.as_mut().ok_or_else(HttpError::not_found)
    }

    /// The role that stores; see [`Services::frontend`].
    pub(crate) fn backend(&mut self) -> Result<&mut Backend, HttpError> {
        self.backend.as_mut().ok_or_else(HttpError::not_found)
    }

    /// Opens mail until so much of it was opened, for as long as one turn may. True if that is all of it: shards that answer
    /// each other cannot hold a turn for ever.
    pub(crate) fn open_mail_until(&mut self, ground: &mut Ground, until: u64) -> bool {
        // What a shard tells itself precedes what others told it since.
        self.do_todo(ground);
        let mut slice = ground.clock.slice(MAIL_SLICE);
        while ground.mailbox.taken() < until {
            let Some(message) = ground.mailbox.next() else { break };
            self.on_message(ground, message);
            self.do_todo(ground);
            if slice.is_over() {
                break;
            }
        }
        ground.mailbox.taken() >= until
    }

    /// Once a tick.
    pub(crate) fn tick(&mut self, ground: &mut Ground) {
        self.heartbeat(ground);
        with(&mut self.frontend, |frontend| frontend.tick(ground));
        with(&mut self.dispatcher, |dispatcher| dispatcher.tick(ground));
        with(&mut self.backend, |backend| backend.tick(ground));
        if let Some(draining) = &mut self.draining {
            draining.is_due = true;
        }
    }

    /// Does what follows from what was just read.
    pub(crate) fn go_on(&mut self, ground: &mut Ground) {
        self.do_todo(ground);
        with(&mut self.frontend, |frontend| frontend.send_registrations(ground));
        self.do_todo(ground);
    }

    /// Once a turn, behind messages and requests: a slice of what each role has to do. True if there is more.
    pub(crate) fn serve(&mut self, ground: &mut Ground) -> bool {
        with(&mut self.backend, |backend| backend.tell_posts(ground));
        self.do_todo(ground);
        let counts = self.dispatcher.as_mut().is_some_and(|dispatcher| dispatcher.tell_counts(ground));
        let drains = self.go_on_draining(ground);
        let viewers = self.frontend.as_mut().is_some_and(|frontend| frontend.serve(ground));
        let pasts = self.read_pasts(ground);
        counts | drains | viewers | pasts
    }

    /// At the end of a turn: what other nodes answered is settled, and what there is for them goes out. True if there is
    /// more to do at once.
    pub(crate) fn exchange(&mut self, ground: &mut Ground) -> bool {
        self.settle_calls(ground);
        self.go_on(ground);
        ground.send_questions();
        with(&mut self.dispatcher, |dispatcher| dispatcher.send(ground));
        ground.send_events();
        !ground.cluster.outcomes.is_empty()
    }

    /// Whether there is more to do at once.
    pub(crate) fn has_more(&self, ground: &Ground) -> bool {
        self.backend.as_ref().is_some_and(|backend| backend.posts.lines.is_ready())
            || self.frontend.as_ref().is_some_and(|frontend| frontend.has_more(ground))
    }

    /// Does what was said to be done, and what follows from that.
    pub(crate) fn do_todo(&mut self, ground: &mut Ground) {
        while let Some(todo) = ground.todo.pop_front() {
            shrink(&mut ground.todo);
            match todo {
                Todo::Mail(message) => self.on_message(ground, message),
                Todo::Noticed(notice) => self.on_notice(ground, notice),
                Todo::Answered(asked, result) => self.on_answer(ground, asked, result),
                Todo::Publish(own) => self.publish_own(ground, *own),
                Todo::Arrived(frame) => with(&mut self.frontend, |frontend| frontend.ingress(ground, &frame)),
                Todo::Told(topic, record, is_told) => {
                    with(&mut self.backend, |backend| backend.on_told(ground, &topic, &record, is_told));
                }
                Todo::TotalsAsked(topics) => {
                    with(&mut self.backend, |backend| backend.on_asked_totals(ground, &topics))
                }
            }
        }
    }

    pub(crate) fn on_message(&mut self, ground: &mut Ground, message: Message) {
        match message {
            Message::Sequence(frame) => with(&mut self.frontend, |frontend| frontend.put_in_order(ground, &frame)),
            Message::Deliver(frame) => with(&mut self.frontend, |frontend| frontend.deliver(ground, &frame)),
            Message::Want { topic, core, wanted } => {
                with(&mut self.frontend, |frontend| frontend.on_want(ground, &topic, core, wanted))
            }
            Message::Announce { topic, cores } => {
                with(&mut self.frontend, |frontend| frontend.on_announced(topic, cores))
            }
            Message::Register { topic, wanted, wish } => {
                with(&mut self.frontend, |frontend| frontend.registrar.change(topic, wanted, wish))
            }
            Message::Registered { topic, wish } => {
                with(&mut self.frontend, |frontend| frontend.on_registered(ground, &topic, wish))
            }
            Message::Ready { topic, end, newest } => {
                with(&mut self.frontend, |frontend| frontend.on_topic_ready(ground, &topic, end, &newest))
            }
            Message::Replay(ask) => with(&mut self.frontend, |frontend| frontend.on_replay_ask(ground, *ask)),
            Message::Replayed(replayed) => with(&mut self.frontend, |frontend| frontend.on_replayed(ground, *replayed)),
            Message::ReplayEnds { topic, asker } => {
                with(&mut self.frontend, |frontend| frontend.on_replay_ends(&topic, asker))
            }
            Message::Missed { topic, missed, newest } => {
                with(&mut self.frontend, |frontend| frontend.on_missed(ground, &topic, missed, &newest))
            }
            Message::Unordered { topic, missed } => {
                with(&mut self.frontend, |frontend| frontend.on_unordered(ground, &topic, missed))
            }
            Message::Compare(told) => with(&mut self.frontend, |frontend| frontend.on_compare(ground, told)),
            Message::Kv(heard) => ground.on_heard(heard),
            Message::Settled { core, reason } => {
                with(&mut self.frontend, |frontend| frontend.doubt.settle(core, reason))
            }
            Message::Alive { nodes, differing, changed, peers, lost, doubt } => {
                let differ = ground.on_alive(nodes, lost);
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_alive_nodes(ground, &peers, changed, &differ));
                let before = std::mem::replace(&mut ground.cluster.others, peers);
                with(&mut self.frontend, |frontend| frontend.on_alive_nodes(ground, &before, &differing, doubt));
            }
            Message::AskAlive => ground.on_ask_alive(),
            Message::Found(found) => ground.on_found(found),
            Message::Frames { bytes, peer, asker } => self.on_frames(ground, &bytes, peer, asker),
            Message::PeerFrame(frame) => with(&mut self.frontend, |frontend| frontend.on_peer_frame(ground, &frame)),
            Message::Tapped { tapped, taps } => {
                with(&mut self.backend, |backend| backend.on_tapped(ground, tapped, taps.into()))
            }
            Message::Stored(ticket, result) => {
                with(&mut self.backend, |backend| backend.on_stored(ground, ticket, result))
            }
            Message::Reply(conn, reply) => ground.reply(conn, reply),
            Message::ChangeTopics(change) => {
                with(&mut self.frontend, |frontend| frontend.on_change_topics(ground, *change))
            }
            Message::Renew(renewal) => with(&mut self.frontend, |frontend| frontend.on_renew(ground, *renewal)),
            Message::Counts { core, counts } => with(&mut self.frontend, |frontend| frontend.on_counts(core, counts)),
            Message::Typing { topic, member } => {
                with(&mut self.backend, |backend| backend.on_typing(ground, topic, member))
            }
            Message::Whereabouts { topic, anywhere, asker } => with(&mut self.dispatcher, |dispatcher| {
                dispatcher.on_whereabouts_asked(ground, &topic, anywhere, asker)
            }),
            Message::WhereaboutsKnown(conn, whereabouts) => self.on_whereabouts(ground, conn, *whereabouts),
            Message::List(ask) => self.on_list(ground, *ask),
            Message::Listed(conn, rows) => self.on_listed(ground, conn, rows),
            Message::Live(live) => ground.take_up(live),
            Message::Control { news, known } => self.on_control(ground, news, known),
            Message::Outbox(news) => with(&mut self.backend, |backend| backend.on_outbox_news(ground, news)),
            Message::Drain => self.start_draining(ground),
        }
    }

    fn on_notice(&mut self, ground: &mut Ground, notice: Notice) {
        match notice {
            Notice::Invalidated(topic) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.subscribers.forget(&topic))
            }
            Notice::InvalidatedAll => with(&mut self.dispatcher, |dispatcher| dispatcher.forget_all()),
            Notice::PeerViewers(said) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_peer_viewers(ground, &said))
            }
            Notice::Queued(bucket) => with(&mut self.dispatcher, |dispatcher| dispatcher.on_queued(ground, bucket)),
            Notice::Counts(change) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_node_counts(ground, &change))
            }
        }
    }

    pub(crate) fn on_answer(&mut self, ground: &mut Ground, asked: Asked, result: Result<Answer, Unavailable>) {
        match (asked, result) {
            (Asked::Subscribers(topic), Ok(Answer::Subscribers(nodes))) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_subscribers(ground, &topic, nodes))
            }
            (Asked::Subscribers(topic), Err(_)) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_subscribers_unknown(ground, &topic))
            }
            (Asked::Apply(bucket), Ok(Answer::Applied)) => {
                with(&mut self.frontend, |frontend| frontend.on_applied(ground, bucket))
            }
            (Asked::Apply(bucket), Err(_)) => {
                with(&mut self.frontend, |frontend| frontend.registrar.failed(bucket, ground.clock.instant))
            }
            (Asked::Heartbeat, Ok(Answer::Alive(alive))) => self.on_heartbeat(ground, &alive),
            (Asked::Noted(topics), Ok(Answer::Ends(ends))) => {
                with(&mut self.frontend, |frontend| frontend.on_noted(ground, topics, Ok(ends)))
            }
            (Asked::Noted(topics), Err(error)) => {
                with(&mut self.frontend, |frontend| frontend.on_noted(ground, topics, Err(error)))
            }
            (Asked::Newest(topic), Ok(Answer::Latest(values))) => {
                with(&mut self.frontend, |frontend| frontend.on_newest(ground, topic, Ok(values)))
            }
            (Asked::Newest(topic), Err(error)) => {
                with(&mut self.frontend, |frontend| frontend.on_newest(ground, topic, Err(error)))
            }
            (Asked::Ends(reason, topics), Ok(Answer::Ends(ends))) => {
                with(&mut self.frontend, |frontend| frontend.on_ends(ground, reason, topics, Ok(ends)))
            }
            (Asked::Ends(reason, topics), Err(error)) => {
                with(&mut self.frontend, |frontend| frontend.on_ends(ground, reason, topics, Err(error)))
            }
            (Asked::Newer(topics), Ok(Answer::Newer(found))) => {
                with(&mut self.frontend, |frontend| frontend.on_newer(ground, topics, found))
            }
            (Asked::Page(topic), Ok(Answer::Page(page))) => {
                with(&mut self.frontend, |frontend| frontend.on_page(ground, topic, Ok(page)))
            }
            (Asked::Page(topic), Err(error)) => {
                with(&mut self.frontend, |frontend| frontend.on_page(ground, topic, Err(error)))
            }
            (Asked::Control, Ok(Answer::Page(page))) => self.on_control_read(ground, Ok(page)),
            (Asked::Control, Err(error)) => self.on_control_read(ground, Err(error)),
            (Asked::SetCounts, result) => with(&mut self.frontend, |frontend| frontend.on_counts_set(result)),
            (Asked::Counts, Ok(Answer::Counts(counts))) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_all_counts(ground, Ok(counts)))
            }
            (Asked::Counts, Err(error)) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_all_counts(ground, Err(error)))
            }
            (Asked::Beat(members), result) => {
                with(&mut self.frontend, |frontend| frontend.on_beaten(ground, members, result))
            }
            (Asked::Due, Ok(Answer::Turned(turns))) => turns.iter().for_each(|turn| ground.tell_turn(turn)),
            (Asked::Compared(members), result) => {
                with(&mut self.frontend, |frontend| frontend.on_compared(ground, members, result))
            }
            (Asked::Due | Asked::Newer(_), Err(_)) | (Asked::Settled, _) => {}
            (Asked::Past(past), result) => self.on_past(ground, *past, result),
            (Asked::Presence(conn, members), result) => self.on_presence(ground, conn, &members, result),
            (Asked::PeerViewers, Ok(Answer::PeerViewers(said))) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_all_peer_viewers(ground, Ok(said)))
            }
            (Asked::PeerViewers, Err(error)) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_all_peer_viewers(ground, Err(error)))
            }
            (Asked::Queue { peer, bucket }, Ok(Answer::Queue(page))) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_queue(ground, peer, bucket, Ok(page)))
            }
            (Asked::Queue { peer, bucket }, Err(error)) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_queue(ground, peer, bucket, Err(error)))
            }
            (Asked::Taken { conn, peer, events, left_out }, result) => with(&mut self.dispatcher, |dispatcher| {
                dispatcher.on_taken(ground, conn, peer, (&events, &left_out), result)
            }),
            (Asked::Hello(conn), result) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_hello(ground, conn, result))
            }
            (Asked::PeerNoted, _) => {}
            (Asked::Anywhere { event, version }, result) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_anywhere(ground, &event, version, result))
            }
            (Asked::Append(appending), result) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_appended(ground, appending, result))
            }
            (Asked::Claimed(claiming), result) => {
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_claimed(ground, *claiming, result))
            }
            (Asked::Released, _) => {}
            (Asked::Versioned(versioning), result) => {
                let dispatcher = self.dispatcher.as_mut();
                if dispatcher.is_some_and(|dispatcher| dispatcher.on_versioned(ground, versioning, result).is_err()) {
                    ground.counters().dropped_backlog.add(1);
                }
            }
            (Asked::Heartbeat, Err(error)) => ground.on_unheard(error),
            (Asked::Leave, _) => ground.left = true,
            (Asked::Relay { id, at }, result) => self.on_relayed(ground, id, at, result),
            (asked, Ok(answer)) => {
                // A dispatcher that answers something else is as good as none.
                if ground.cluster.told.fails(Trouble::OtherAnswer, ground.clock.instant) {
                    error!(?asked, ?answer, "an answer to another question");
                }
                self.on_answer(ground, asked, Err(Unavailable("the answer is one to another question".to_owned())));
            }
        }
    }

    /// Does what follows from answers, and from their absence.
    fn settle_calls(&mut self, ground: &mut Ground) {
        // No more than there are now: what follows may call again.
        for _ in 0..ground.cluster.outcomes.len() {
            let Some((what, outcome)) = ground.cluster.outcomes.pop_front() else { break };
            let is_peer = matches!(what, Called::PeerFrames { .. } | Called::PeerPage(_) | Called::Hello(_));
            if let Outcome::Answer(status @ (401 | 421), _) = outcome
                && !is_peer
            {
                ground.warn_of_refusal(status);
            }
            match what {
                Called::Frames { node, first } => {
                    with(&mut self.dispatcher, |dispatcher| dispatcher.on_frames_answered(ground, node, first, outcome))
                }
                Called::Questions(tickets) => ground.on_questions_answered(tickets, outcome),
                Called::Events(events) => ground.on_handed_over(events, outcome),
                Called::Change(asker) => {
                    with(&mut self.frontend, |frontend| frontend.on_changed_elsewhere(ground, asker, outcome))
                }
                Called::PeerFrames { peer, first } => with(&mut self.dispatcher, |dispatcher| {
                    dispatcher.on_broadcast_answered(ground, peer, first, outcome)
                }),
                Called::PeerPage(sent) => {
                    with(&mut self.dispatcher, |dispatcher| dispatcher.on_page_answered(ground, sent, outcome))
                }
                Called::Hello(told) => {
                    with(&mut self.dispatcher, |dispatcher| dispatcher.on_hello_answered(ground, told, outcome))
                }
                Called::Members(conn) => self.on_members_answered(ground, conn, outcome),
                Called::MembersRelayed(conn) => self.on_members_relayed(ground, conn, outcome),
                Called::Totals(topics) => {
                    with(&mut self.dispatcher, |dispatcher| dispatcher.on_totals_asked(&topics, &outcome))
                }
            }
        }
    }

    /// Once a tick: what the store should hold of this shard's buckets, for the heartbeat; and the heartbeat itself.
    pub(crate) fn heartbeat(&mut self, ground: &mut Ground) {
        let Some(info) = &ground.node.info else { return };
        for number in (ground.id..BUCKETS).step_by(ground.node.shards()) {
            let digest = self.frontend.as_mut().and_then(|frontend| frontend.registrar.digest(number as u8));
            ground.node.digests[number].store(digest.unwrap_or(0), Ordering::Relaxed);
            let bit = 1u64 << number;
            match digest {
                Some(_) => ground.node.settled.fetch_or(bit, Ordering::Release),
                None => ground.node.settled.fetch_and(!bit, Ordering::Release),
            };
        }
        if ground.id != 0 || ground.clock.instant < ground.next_heartbeat {
            return;
        }
        ground.next_heartbeat = ground.clock.instant + NODE_HEARTBEAT;
        let settled = ground.node.settled.load(Ordering::Acquire);
        let digests = (0..BUCKETS)
            .filter(|number| ground.node.roles.frontend && settled >> number & 1 == 1)
            .map(|number| (number as u8, ground.node.digests[number].load(Ordering::Relaxed)))
            .collect();
        let database = ground.node.store.as_ref().and_then(Store::database);
        let node = NodeInfo { database, ..info.clone() };
        let (counts, since) = (
            self.frontend.as_ref().map_or_else(Default::default, |frontend| frontend.audience.number()),
            ground.cluster.since,
        );
        let heartbeat = Heartbeat { node, digests, counts, since };
        ground.ask(Question::Heartbeat(heartbeat), Asked::Heartbeat);
    }

    fn on_heartbeat(&mut self, ground: &mut Ground, alive: &Alive) {
        with(&mut self.frontend, |frontend| frontend.on_alive_counts(alive));
        ground.node.heard_ms.store(ground.clock.unix_ms, Ordering::Relaxed);
        ground.cluster.since = ground.cluster.since.or(alive.since);
        self.tell_alive(ground, alive, &alive.differing);
    }

    /// Tells every shard who lives, and which of its buckets the store holds wrong.
    pub(crate) fn tell_alive(&mut self, ground: &mut Ground, alive: &Alive, differing: &[u8]) {
        let (mut nodes, peers) = (alive.nodes.clone(), Arc::new(alive.peers.clone()));
        let lost = alive.since.filter(|_| alive.lost).unwrap_or(Reach::START);
        let shards = ground.node.shards();
        nodes.sort_unstable_by_key(|node| node.id);
        let changed = ground.alive.as_slice() != nodes.as_slice();
        let doubt = self.frontend.as_mut().map_or(0, |frontend| frontend.reason_for_doubt(ground, &nodes));
        let nodes = Arc::new(nodes);
        if let Ok(mut known) = ground.node.nodes.lock() {
            *known = Arc::clone(&nodes);
        }
        for shard in 0..shards {
            // Whatever a dispatcher says, there are no others.
            let buckets = (0..BUCKETS as u8).filter(|bucket| usize::from(*bucket) % shards == shard);
            let differing = buckets.filter(|bucket| differing.contains(bucket));
            let differing: Vec<u8> = differing.collect();
            let (nodes, peers) = (Arc::clone(&nodes), Arc::clone(&peers));
            ground.send(shard, Message::Alive { nodes, differing, changed, peers, lost, doubt });
        }
    }
}
