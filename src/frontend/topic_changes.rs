//! `POST /v1/connections/{connection}/topics`: changes an open stream, on whichever shard it lives.

use serde::Deserialize;

use crate::frontend::Frontend;
use crate::frontend::elsewhere::What;
use crate::frontend::streams::Waiter;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::{ChangeTopics, Message};
use crate::ground::opening::{check_prefixes, read_topics, too_many_topics};
use crate::ground::slots::{Conn, TopicIndex};
use crate::ground::{Ground, Reply};
use crate::observe::happenings::subject::Subject;
use crate::wire::connection_id::ConnectionId;
use crate::wire::http::{HttpError, percent_decode};
use crate::wire::json;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    add: Vec<String>,
    remove: Vec<String>,
}

/// The topics that a body adds, and those that it removes.
pub(crate) fn read_change(body: &[u8], most: usize) -> Result<(Vec<Topic>, Vec<Topic>), HttpError> {
    let body: Body = json::object(body)
        .map_err(|error| HttpError::bad(format!("the body must be {{\"add\":[…],\"remove\":[…]}}: {error}")))?;
    let list = |topics: &[String]| read_topics(topics.iter(), most);
    Ok((list(&body.add)?, list(&body.remove)?))
}

pub(crate) fn gone() -> HttpError {
    HttpError::new(Status::PreconditionFailed, "this connection is gone, or its id is not one of ours; connect again")
}

impl Frontend {
    /// Hands the change to the shard that holds the connection.
    pub(crate) fn change_topics(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        connection: &str,
        access: Access,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn: asker, body, grant, .. } = incoming;
        let (add, remove) = read_change(body, ground.live.topics_max)?;
        for topic in &add {
            access.require_subscribe(topic)?;
        }
        if let Some(holder) = self.holder_elsewhere(ground, connection) {
            return self.change_elsewhere(ground, asker, holder, connection, &access, What::Topics { add, remove });
        }
        let (shard, conn, secret) = self.locate(ground, connection)?;
        let grant = grant.cloned();
        let change = ChangeTopics { conn, secret, access, add, remove, grant, asker: (ground.id, asker) };
        ground.send(shard, Message::ChangeTopics(Box::new(change)));
        Ok(Handled::Later)
    }

    /// Where the connection of an id is: its shard, its place there, and what makes its id a secret.
    pub(crate) fn locate(&self, ground: &Ground, connection: &str) -> Result<(usize, Conn, u64), HttpError> {
        let connection = percent_decode(connection, false)?;
        let id = ConnectionId::decode(&connection).ok_or_else(gone)?;
        let shard = usize::from(id.shard);
        if id.node != ground.node.id || shard >= ground.node.shards() {
            return Err(gone());
        }
        Ok((shard, Conn { slot: id.slot, generation: id.generation }, id.secret))
    }

    /// Refuses what is no stream of this shard, or not of the member who asks, or of nobody known.
    pub(crate) fn check_stream(
        &self,
        ground: &Ground,
        conn: Conn,
        secret: u64,
        access: &Access,
    ) -> Result<(), HttpError> {
        let slot = ground.slots.get(conn).ok_or_else(gone)?;
        let is_stream = slot.is_stream() && !slot.is_ending();
        if ground.slots.secret(conn) != secret || !is_stream {
            return Err(gone());
        }
        // It may have been revoked on its way here.
        ground.require_unrevoked(access)?;
        match access {
            Access::Token(rights) => match &slot.rights {
                Some(stream) if stream.mercure.is_none() => Ok(rights.require_same_member(stream.member.as_deref())?),
                None if ground.node.tokens.is_none() => Ok(()),
                // Those without a token have no rights.
                _ => Err(HttpError::new(
                    Status::Forbidden,
                    "a stream of /.well-known/mercure stays as it was opened, and ends with its token: open another one",
                )),
            },
            // Another node, which asks nobody for a token, handed the change on.
            Access::Open | Access::Node if ground.node.tokens.is_some() => Err(HttpError::new(
                Status::Forbidden,
                "a stream that has a token's rights is changed with a token only; the frontend that was asked takes none \
                 (--auth none)",
            )),
            Access::Open | Access::Node => Ok(()),
        }
    }

    /// Changes the topics of a stream of this shard.
    pub(crate) fn on_change_topics(&mut self, ground: &mut Ground, change: ChangeTopics) {
        let (added, missing) = match self.try_change(ground, &change) {
            Ok(changed) => changed,
            Err(error) => return ground.reply_to(change.asker, Reply::Problem(error)),
        };
        // The change is made before anything is written, since a write may find the stream broken and end it.
        self.show_topics(ground, change.conn, &added);
        if missing.is_empty() || ground.slots.get(change.conn).is_none() {
            self.answer_topic_change(ground, change.conn, change.asker);
        } else {
            let (conn, asker) = (change.conn, Some(change.asker));
            self.wait_for(ground, &missing, Waiter { conn, asker, last: None });
        }
    }

    /// All of the change, or nothing of it. Gives the topics that are new to the stream, and the places of those that are not
    /// registered yet.
    fn try_change(&mut self, ground: &mut Ground, change: &ChangeTopics) -> Result<(Vec<Topic>, Vec<u32>), HttpError> {
        self.check_stream(ground, change.conn, change.secret, &change.access)?;
        let rights = ground.slots.get(change.conn).and_then(|slot| slot.rights.as_deref());
        if let (Access::Token(new), Some(rights)) = (&change.access, rights) {
            rights.may_join(new)?;
        }
        if rights.is_some_and(|rights| !rights.all.is_none()) {
            let is_new = |topic: &&Topic| self.watched(ground, change.conn, topic.as_str()).is_none();
            change.add.iter().filter(is_new).try_for_each(|topic| change.access.require_moderator(topic))?;
        }
        let (added, missing) = self.change_stream(ground, change.conn, &change.add, &change.remove, &change.access)?;
        let now_ms = ground.clock.unix_ms;
        let slot = ground.slots.get_mut(change.conn).expect("nothing was written to it");
        if let (Access::Token(rights), Some(stream), false) = (&change.access, &mut slot.rights, added.is_empty()) {
            stream.join(rights, now_ms);
        }
        self.join_grant(ground, change, &added);
        Ok((added, missing))
    }

    /// The same of an open stream of this shard, whose client, or a server, may do that.
    pub(crate) fn change_stream(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        add: &[Topic],
        remove: &[Topic],
        access: &Access,
    ) -> Result<(Vec<Topic>, Vec<u32>), HttpError> {
        let asked = self.all_watched(ground, conn).filter(|(_, entry)| !entry.all.is_by_prefix());
        let current: Vec<Topic> = asked.map(|(_, entry)| entry.topic.clone()).collect();
        let removed: Vec<&Topic> =
            current.iter().filter(|topic| remove.contains(topic) && !add.contains(topic)).collect();
        let added: Vec<Topic> = add.iter().filter(|topic| !current.contains(topic)).cloned().collect();
        let own = access.own_topic();
        let count = |topics: &[&Topic]| topics.iter().filter(|topic| own.as_ref() != Some(**topic)).count();
        let all: Vec<&Topic> = current.iter().chain(&added).collect();
        if count(&all) - count(&removed) > ground.live.topics_max {
            return Err(too_many_topics(ground.live.topics_max));
        }
        check_prefixes(all.iter().filter(|topic| topic.is_prefix() && !removed.contains(topic)).count())?;
        self.admit_topics(ground, &added)?;
        let mut missing = self.subscribe(ground, conn, &added, &[], access);
        // A topic asked for again while it is still pending is waited for again.
        for topic in add.iter().filter(|topic| current.contains(topic)) {
            let watched = self.watched(ground, conn, topic.as_str());
            missing.extend(watched.filter(|&index| !self.topics.get(index).registered));
        }
        for topic in removed {
            let index = self.watched(ground, conn, topic.as_str()).expect("the stream watches it");
            self.give_up(ground, conn, index);
        }
        Ok((added, missing))
    }

    /// Takes a stream out of a topic that it watches.
    pub(crate) fn unwatch(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex) {
        let topic = self.topics.get(index).topic.clone();
        ground.track("watches no more", Subject { topic: Some(topic.as_str()), ..ground.subject(conn) });
        let replaying = self.lags.get_mut(conn.slot).and_then(|lag| lag.replay.as_mut());
        if replaying.is_some_and(|replaying| replaying.replay.leave(topic.as_str())) {
            self.end_replay(ground, conn, topic);
        }
        self.leave_view(ground, conn, index);
    }

    /// Takes a stream out of one view of a topic, which it may go on to have by another.
    pub(crate) fn leave_view(&mut self, ground: &mut Ground, conn: Conn, index: TopicIndex) {
        let slot = ground.slots.get_mut(conn).expect("the stream is open");
        let subscription = slot.subscriptions.remove(index).expect("the stream watches it");
        if let Some(lag) = self.lags.get_mut(conn.slot) {
            lag.showing.retain(|showing| showing.topic != index);
        }
        self.settle(conn.slot);
        let member = self.member_hash(ground, conn);
        self.unsubscribe(ground, subscription, member);
        for waiter in self.waiting.left(conn.slot, index) {
            self.end_wait(ground, waiter);
        }
    }

    /// Answers who changed a stream's topics with what they are now.
    pub(crate) fn answer_topic_change(&mut self, ground: &mut Ground, conn: Conn, asker: (usize, Conn)) {
        if ground.slots.get(conn).is_none() {
            return ground.reply_to(asker, Reply::Problem(gone()));
        }
        let (topics, pending) = self.topics_of(ground, conn);
        let body = serde_json::json!({"topics": topics, "pending": pending}).to_string();
        ground.reply_to(asker, Ok(body.into_bytes()));
    }
}
