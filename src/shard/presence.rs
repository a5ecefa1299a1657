//! `GET /v1/presence`.

use std::hash::Hash;
use std::time::Instant;

use serde_json::{Map, Value, json};

use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::asking::{Asked, kv_error};
use crate::ground::slots::Conn;
use crate::ground::turns::turn_data;
use crate::kv::{Answer, Request as KvRequest, Unavailable};
use crate::limits::*;
use crate::runtime::account::Held;
use crate::runtime::random::Set;
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

impl Services {
    /// `GET /v1/presence?member=a&member=b`
    pub(crate) fn presence(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        access: &Access,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, .. } = incoming;
        let mut members = Vec::new();
        for member in each_once(query.all(Parameter::Member)) {
            crate::wire::names::check_name("member", &member)?;
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
    pub(crate) fn on_presence(
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
pub(crate) fn each_once<T: Clone + Eq + Hash>(all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
    let mut seen = Set::default();
    all.filter(move |one| seen.insert(one.clone()))
}

pub(crate) fn presence_answer(
    members: &[String],
    result: Result<Answer, Unavailable>,
    now: Instant,
) -> Result<String, HttpError> {
    let turns = match result {
        Ok(Answer::Presence(turns)) => turns,
        Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
        Err(unavailable) => return Err(kv_error(&unavailable, now)),
    };
    let known: Map<String, Value> =
        members.iter().zip(&turns).map(|(member, turn)| (member.clone(), turn_data(turn.as_ref(), None))).collect();
    Ok(json!({"members": known}).to_string())
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
