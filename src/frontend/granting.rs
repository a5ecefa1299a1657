//! An open stream keeps its topics by what the operator's server answered: when that is over, it is asked again, and topics that it
//! refuses then are left, as those are that a new token does not cover. While it does not answer, the stream keeps what it has.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::all::All;
use crate::ground::authorize::{Grant, Verdict, Waiter};
use crate::ground::message::ChangeTopics;
use crate::ground::rights::StreamRights;
use crate::ground::slots::{Conn, TopicIndex};
use crate::wire::authorize::{Answer, Question};
use crate::wire::mercure;
use crate::wire::mercure::selectors::literal_begin;
use crate::wire::topic::Topic;

/// The topic, or the prefix, that was asked for; none for a selector of Mercure's protocol.
fn topic_of(question: &Question, text: &str) -> Option<Topic> {
    match question.kind.as_deref() {
        Some(mercure::TYPE) => literal_begin(text).is_none().then(|| mercure::topic(text)),
        _ => Some(Topic::of_frame(text)),
    }
}

impl Frontend {
    /// Of the topics that were asked for, those that a stream still has.
    fn still_had(&self, ground: &Ground, conn: Conn, question: &Question) -> Vec<Box<str>> {
        let subscriber = ground.slots.get(conn).and_then(|_| ground.slots.subscriber(conn.slot));
        let is_wanted = |text: &str| subscriber.is_some_and(|by| by.wanted.texts().any(|wanted| wanted == text));
        let is_had = |text: &str| match topic_of(question, text) {
            Some(topic) => self.named(ground, conn, &topic).is_some(),
            None => is_wanted(text),
        };
        question.topics.iter().filter(|text| is_had(text)).cloned().collect()
    }

    /// The place of a topic, or of a prefix, that a stream has by itself.
    fn named(&self, ground: &Ground, conn: Conn, topic: &Topic) -> Option<TopicIndex> {
        self.watched(ground, conn, topic.as_str()).filter(|index| !self.topics.get(*index).all.is_by_prefix())
    }

    /// A stream is not to have any more what was asked for as `text`.
    fn lose(&mut self, ground: &mut Ground, conn: Conn, question: &Question, text: &str) {
        let Some(topic) = topic_of(question, text) else { return self.lose_selector(ground, conn, text) };
        if let Some(index) = self.named(ground, conn, &topic) {
            self.give_up(ground, conn, index);
        }
    }

    /// The grant of a stream is over: asks again.
    pub(crate) fn ask_again(&mut self, ground: &mut Ground, conn: Conn) {
        let grant = |ground: &Ground| ground.slots.get(conn)?.rights.as_ref()?.grant.clone();
        let Some(Grant { question, .. }) = grant(ground) else { return };
        let topics = self.still_had(ground, conn, &question);
        let (is_over, left) = (topics.is_empty(), topics.len() < question.topics.len());
        let question = if left { Arc::new(Question { topics, ..Question::clone(&question) }) } else { question };
        let Some(rights) = ground.slots.get_mut(conn).and_then(|slot| slot.rights.as_mut()) else { return };
        match &mut rights.grant {
            // It has nothing by it any more.
            _ if is_over => return rights.grant = None,
            Some(grant) => grant.question = Arc::clone(&question),
            None => return,
        }
        if let Some(verdict) = ground.ask_server(&question, Waiter::Stream(conn)) {
            self.on_verdict(ground, conn, &verdict);
        }
    }

    /// What became of that.
    pub(crate) fn on_verdict(&mut self, ground: &mut Ground, conn: Conn, verdict: &Verdict) {
        let until_ms = match verdict {
            Verdict::Answered(_, until_ms) => ground.ask_again_at(*until_ms),
            // All streams would ask at once when it is back.
            Verdict::Away => ground.ask_again_at(0) + ground.random.number() % 10_000,
        };
        let Some(slot) = ground.slots.get_mut(conn).filter(|slot| slot.is_stream() && !slot.is_ending()) else {
            return;
        };
        let Some(grant) = slot.rights.as_mut().and_then(|rights| rights.grant.as_mut()) else { return };
        if !std::mem::take(&mut grant.asking) {
            // It got other topics meanwhile, and those are asked about, too, when their time is over.
            return;
        }
        grant.until_ms = until_ms;
        let question = Arc::clone(&grant.question);
        let Verdict::Answered(answer, _) = verdict else { return };
        let refused = |topic: &str| match &**answer {
            Answer::Refused { .. } => true,
            Answer::Allowed { topics, .. } => {
                topics.as_ref().is_some_and(|topics| !topics.iter().any(|one| **one == *topic))
            }
        };
        for text in self.still_had(ground, conn, &question).iter().filter(|text| refused(text)) {
            self.lose(ground, conn, &question, text);
        }
        // What waited in the view of a topic that it had by its name, and has by a prefix now, goes on its way.
        self.show_topics(ground, conn, &[]);
    }

    /// A stream got topics by a change.
    pub(crate) fn join_grant(&mut self, ground: &mut Ground, change: &ChangeTopics, added: &[Topic]) {
        if !ground.authorizes() || added.is_empty() {
            return;
        }
        let soon_ms = ground.ask_again_at(0);
        let conn = change.conn;
        let Some(slot) = ground.slots.get_mut(conn) else { return };
        let before = slot.rights.as_mut().and_then(|rights| rights.grant.take());
        let more = change.grant.clone().or_else(|| {
            // Another Frontend asked, and how long that holds it alone knows: this one asks by itself soon.
            let mut question = Question::clone(&before.as_ref()?.question);
            question.topics = added.iter().map(|topic| topic.as_str().into()).collect();
            Some(Grant { question: Arc::new(question), until_ms: soon_ms, asking: false })
        });
        let grant = match (before, more) {
            (Some(before), Some(more)) => Some(before.join(more)),
            (before, more) => before.or(more),
        };
        let Some(mut grant) = grant else { return };
        let topics = self.still_had(ground, conn, &grant.question);
        Arc::make_mut(&mut grant.question).topics = topics;
        let slot = ground.slots.get_mut(conn).expect("it was just there");
        let rights = slot.rights.get_or_insert_with(|| Box::new(StreamRights::of_member(None, All::default())));
        rights.grant = Some(grant);
    }
}
