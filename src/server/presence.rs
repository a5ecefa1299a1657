//! Presence, after LinkedIn's Presence Platform: a member's streams are signs of life; a Frontend gives them to a backend,
//! which tells who came online; the backend that ranks highest for a member's bucket tells who went offline.

use super::own::Own;
use crate::server::backend::Backend;
use crate::server::frontend::Frontend;
use crate::server::ground::Ground;
use crate::server::services::Services;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Map, Value, json};

use super::access::Access;
use super::asking::Asked;
use super::likes::kv_error;
use super::routes::Handled;
use super::slots::Conn;
use crate::dispatch::kv::{Answer, BUCKETS, Request as KvRequest, Turn, Unavailable, highest};
use crate::limits::*;
use crate::runtime::account::Held;
use crate::runtime::random::Set;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

impl Frontend {
    /// Once a tick: signs of life that are due.
    pub(super) fn tick_presence(&mut self, ground: &mut Ground) {
        let due = self.members.due(ground.clock.instant, PRESENCE_BATCH);
        if !due.is_empty() {
            self.give_signs(ground, due);
        }
        self.compare_presence(ground);
    }

    /// Once a turn: signs of life of members who came.
    pub(super) fn greet_newcomers(&mut self, ground: &mut Ground) {
        let newcomers = self.members.newcomers(PRESENCE_BATCH);
        if !newcomers.is_empty() {
            self.give_signs(ground, newcomers);
        }
    }

    /// Signs of life of members: on to the key-value store, by a backend.
    fn give_signs(&mut self, ground: &mut Ground, members: Vec<String>) {
        ground.counters().presence_beats.add(members.len() as u64);
        ground.ask(KvRequest::Beat(members.clone()), Asked::Beat(members));
    }

    /// The store heard signs of life, or did not.
    pub(super) fn on_beaten(&mut self, ground: &mut Ground, members: Vec<String>, result: Result<Answer, Unavailable>) {
        self.members.heard();
        match result {
            Ok(Answer::Turned(turns)) => turns.iter().for_each(|turn| ground.tell_turn(turn)),
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            // Members who left meanwhile are given once more, which keeps them online for one guard longer at most.
            Err(_) => self.members.unheard(members),
        }
        self.greet_newcomers(ground);
    }
}

impl Backend {
    /// Once a tick: looks now and then for members who went offline.
    pub(super) fn look_for_absent(&mut self, ground: &mut Ground) {
        if ground.clock.instant < self.next_due || ground.is_draining() {
            return;
        }
        self.next_due = ground.clock.instant + PRESENCE_DUE_EVERY;
        let buckets = own_buckets(ground);
        if !buckets.is_empty() {
            ground.ask(KvRequest::Due(buckets, PRESENCE_DUE_MAX), Asked::Due);
        }
    }
}

/// Buckets of members whose going offline this shard is to notice.
fn own_buckets(ground: &Ground) -> Vec<u8> {
    let alive = Arc::clone(&ground.alive);
    let backends = || alive.iter().filter(|node| node.is("backend")).map(|node| node.id);
    let alone = ground.node.info.is_none();
    let mine = |bucket: &usize| {
        bucket % ground.node.shards() == ground.id
            && (alone || highest(&format!("presence {bucket}"), backends()) == Some(ground.node.id))
    };
    (0..BUCKETS).filter(mine).map(|bucket| bucket as u8).collect()
}

impl Ground {
    /// Tells who watches a member that they came or went.
    pub(super) fn tell_turn(&mut self, turn: &Turn) {
        let Ok(topic) = Topic::encode("presence", &turn.member) else { return };
        self.counters().presence_turns.add(1);
        let data = turn_data(Some(turn), Some(&turn.member)).to_string();
        self.publish(Own { version: Some(turn.version), ..Own::keyed(&topic, "presence", &turn.member, data) });
    }
}

impl Services {
    /// `GET /v1/presence?member=a&member=b`
    pub(super) fn presence(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
        access: &Access,
        to: AnswerTo,
    ) -> Result<Handled, HttpError> {
        let mut members = Vec::new();
        for member in each_once(query.all(Parameter::Member)) {
            super::likes::check_name("member", &member)?;
            let topic = Topic::encode("presence", &member)
                .map_err(|error| HttpError::bad(format!("the member's name: {error}")))?;
            access.require_subscribe(&topic)?;
            members.push(member.into_owned());
            if members.len() > PRESENCE_NAMES_MAX {
                let detail = format!("ask for at most {PRESENCE_NAMES_MAX} members at once");
                return Err(HttpError::bad(detail));
            }
        }
        if members.is_empty() {
            return Err(HttpError::bad("name the members: /v1/presence?member=ana&member=bob"));
        }
        let held = ground.reserve_question(members.iter().map(String::len).sum())?;
        match ground.submit(KvRequest::Presence(members.clone())) {
            Ok(result) => {
                let body = presence_answer(&members, result, ground.clock.instant)?;
                Ok(Handled::Answered(ground.answers().json(to, Status::Ok, body.as_bytes())))
            }
            Err(ticket) => {
                ground.asked.insert(ticket, Held::new(Asked::Presence(conn, members), held));
                Ok(Handled::Later)
            }
        }
    }

    /// What is known of members.
    pub(super) fn on_presence(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        members: &[String],
        result: Result<Answer, Unavailable>,
    ) {
        let answer = presence_answer(members, result, ground.clock.instant).map(|body| (Status::Ok, body));
        ground.reply(conn, answer);
    }
}

/// Those that were not there before, in their order.
fn each_once<T: Clone + Eq + Hash>(all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut seen = Set::default();
    all.filter(move |one| seen.insert(one.clone()))
}

fn presence_answer(members: &[String], result: Result<Answer, Unavailable>, now: Instant) -> Result<String, HttpError> {
    let turns = match result {
        Ok(Answer::Presence(turns)) => turns,
        Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
        Err(unavailable) => return Err(kv_error(&unavailable, now)),
    };
    let known: Map<String, Value> =
        members.iter().zip(&turns).map(|(member, turn)| (member.clone(), turn_data(turn.as_ref(), None))).collect();
    Ok(json!({"members": known}).to_string())
}

/// What is told of a member: `since` of one who is online, `last_seen` of one who is not.
pub(super) fn turn_data(turn: Option<&Turn>, member: Option<&str>) -> Value {
    let mut data = match turn {
        Some(turn) if turn.online => json!({"online": true, "since": turn.at}),
        Some(turn) => json!({"online": false, "last_seen": turn.at}),
        None => json!({"online": false, "last_seen": null}),
    };
    if let (Some(member), Value::Object(data)) = (member, &mut data) {
        data.insert("member".to_owned(), member.into());
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::hash::Hasher;
    use std::rc::Rc;

    /// A name that counts how often it is compared.
    #[derive(Clone)]
    struct Name(usize, Rc<Cell<usize>>);

    impl PartialEq for Name {
        fn eq(&self, other: &Name) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Name {}

    impl Hash for Name {
        fn hash<H: Hasher>(&self, hasher: &mut H) {
            self.0.hash(hasher);
        }
    }

    #[test]
    fn each_member_is_compared_with_all_others() {
        let compared = Rc::new(Cell::new(0));
        let names = (0..2 * PRESENCE_NAMES_MAX).map(|number| Name(number / 2, Rc::clone(&compared)));
        let found: Vec<usize> = each_once(names).map(|name| name.0).collect();
        assert_eq!(found, (0..PRESENCE_NAMES_MAX).collect::<Vec<_>>());
        // Once for each that comes again, and now and then for one whose hash is like another's.
        assert!(compared.get() < 4 * PRESENCE_NAMES_MAX, "{}", compared.get());
    }
}
