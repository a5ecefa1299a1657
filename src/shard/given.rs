//! What each role is given: messages, what the key-value store says, answers of other nodes. What is for a role that this node has
//! not is nothing to it.

use std::sync::Arc;

use tracing::error;

use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::cluster::{Life, Trouble};
use crate::ground::link::{Called, Outcome};
use crate::ground::message::Message;
use crate::kv::{Answer, Notice, Unavailable};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::shard::services::{Services, with};

impl Services {
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
            Message::Kv(heard) => ground.on_heard(*heard),
            Message::Settled { core, reason } => {
                with(&mut self.frontend, |frontend| frontend.doubt.settle(core, reason))
            }
            Message::Alive { life, differing, changed } => {
                let Life { nodes, peers, lost, absences, store_now, .. } = &*life;
                with(&mut self.dispatcher, |dispatcher| dispatcher.store_clock.hear(*store_now));
                let known = Arc::clone(&ground.alive);
                let differ = ground.on_alive(Arc::clone(nodes), *lost, *absences);
                ground.on_alive_hooks(&known);
                with(&mut self.dispatcher, |dispatcher| dispatcher.on_alive_nodes(ground, peers, changed, &differ));
                let before = std::mem::replace(&mut ground.cluster.others, Arc::clone(peers));
                with(&mut self.frontend, |frontend| frontend.on_alive_nodes(ground, &before, &differing, &life));
            }
            Message::AskAlive => ground.on_ask_alive(),
            Message::Found(found) => ground.on_found(*found),
            Message::Frames { bytes, peer, asker } => self.on_frames(ground, &bytes, peer, asker),
            Message::PeerFrame(frame) => with(&mut self.frontend, |frontend| frontend.on_peer_frame(ground, &frame)),
            Message::Tapped { tapped, taps } => {
                with(&mut self.backend, |backend| backend.on_tapped(ground, tapped, taps.into()))
            }
            Message::Stored(stored) => {
                let (ticket, result) = *stored;
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
            Message::Ask { text, shard, again } => ground.on_ask(text, shard, again),
            Message::Answered { text, answer } => ground.on_answered(text, answer),
            Message::Verdict { text, verdict } => {
                for conn in ground.on_verdict(&text, &verdict) {
                    with(&mut self.frontend, |frontend| frontend.on_verdict(ground, conn, &verdict));
                }
            }
            Message::List(ask) => self.on_list(ground, *ask),
            Message::Listed(conn, rows) => self.on_listed(ground, conn, rows),
            Message::AskPart => self.on_ask_part(ground),
            Message::Snapshot(piece) => self.on_snapshot(ground, &piece),
            Message::Part(shard, part) => self.on_part(ground, shard, *part),
            Message::Prefix(news) => with(&mut self.frontend, |frontend| frontend.on_prefix_news(ground, *news)),
            Message::Live(live) => ground.take_up(live),
            Message::Control { news, known } => self.on_control(ground, news, known),
            Message::Outbox(news) => with(&mut self.backend, |backend| backend.on_outbox_news(ground, news)),
            Message::HooksDue => with(&mut self.backend, |backend| backend.on_hooks_due(ground)),
            Message::HooksSent(ran) => with(&mut self.backend, |backend| backend.on_hooks_sent(ground, ran)),
            Message::Drain => self.start_draining(ground),
        }
    }

    pub(crate) fn on_notice(&mut self, ground: &mut Ground, notice: Notice) {
        match notice {
            Notice::Invalidated(topic) => with(&mut self.dispatcher, |dispatcher| dispatcher.forget(&topic)),
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

    /// What [`Asked`] says comes of an answer, and of a refusal.
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
            (Asked::Topics { prefix, home, why }, Ok(Answer::Topics(found))) => {
                with(&mut self.frontend, |frontend| frontend.on_topics_found(ground, &prefix, home, why, Ok(found)))
            }
            (Asked::Topics { prefix, home, why }, Err(error)) => {
                with(&mut self.frontend, |frontend| frontend.on_topics_found(ground, &prefix, home, why, Err(error)))
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
            (Asked::Due, Ok(Answer::Turned(turns))) => ground.tell_turns(turns),
            (Asked::HookMembers { hook, names, states }, result) => {
                with(&mut self.backend, |backend| backend.on_hook_members(ground, hook, (names, &states), result))
            }
            (Asked::HookTopic { hook, state }, result) => {
                with(&mut self.backend, |backend| backend.on_hook_topic(ground, hook, &state, result))
            }
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
                    ground.happened(What::DroppedBacklog, 1, Subject::default());
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
    pub(crate) fn settle_calls(&mut self, ground: &mut Ground) {
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
                Called::HookNews => ground.on_hook_news_answered(&outcome),
                Called::Members(conn) => self.on_members_answered(ground, conn, outcome),
                Called::MembersRelayed(conn) => self.on_members_relayed(ground, conn, outcome),
                Called::Glance(node) => self.on_glance(ground, node, &outcome),
                Called::Totals(topics) => {
                    with(&mut self.dispatcher, |dispatcher| dispatcher.on_totals_asked(&topics, &outcome))
                }
            }
        }
    }
}
