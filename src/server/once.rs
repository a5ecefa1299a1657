//! Requests that their senders name by an `Idempotency-Key`, so that they may repeat them
//! (draft-ietf-httpapi-idempotency-key-header).

use crate::server::dispatcher::Dispatcher;
use crate::server::ground::Ground;
use serde_json::json;

use super::access::{Access, Allowed};
use super::appending::{Published, Publisher};
use super::asking::Asked;
use super::likes::kv_error;
use super::routes::Handled;
use super::slots::Conn;
use crate::backend::once::{Asker, Once};
use crate::backend::store::Command;
use crate::dispatch::kv::{Answer, Claim, Request as Question, Unavailable};
use crate::limits::ONCE_KEY_BYTES_MAX;
use crate::runtime::account::Held;
use crate::wire::event::{Class, Draft};
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::response::AnswerTo;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// An event that waits for its key.
#[derive(Debug)]
pub struct Claiming {
    /// The request for it.
    conn: Conn,
    claim: Claim,
    /// The request's body.
    body: Box<[u8]>,
}

fn told(id: &str) -> (Status, String) {
    (Status::Accepted, json!({"id": id}).to_string())
}

/// The key, with or without the quotation marks of a structured field's string (RFC 9651, section 3.3.3).
pub(super) fn key<'a>(request: &Request<'a>) -> Result<Option<&'a str>, HttpError> {
    let Some(given) = request.idempotency_key else { return Ok(None) };
    let key = given.strip_prefix('"').and_then(|key| key.strip_suffix('"')).unwrap_or(given);
    let fits = |byte: u8| (b'!'..=b'~').contains(&byte) && !matches!(byte, b'"' | b'\\');
    if key.is_empty() || key.len() > ONCE_KEY_BYTES_MAX || !key.bytes().all(fits) {
        return Err(HttpError::bad(format!(
            "an Idempotency-Key has 1 to {ONCE_KEY_BYTES_MAX} visible ASCII characters, perhaps in quotation marks; a UUID is good"
        )));
    }
    Ok(Some(key))
}

/// Whose keys those of a request are.
fn asker(access: &Access) -> Asker<'_> {
    match access {
        Access::Open => Asker::Anyone,
        Access::Node => Asker::Node,
        Access::Token(rights) => match &rights.sub {
            Some(member) => Asker::Member(member),
            None => Asker::Token(rights.token.as_ref().map_or(&[], |token| token.as_bytes())),
        },
    }
}

/// What a client is told whose key named another request.
pub(super) fn other_body() -> HttpError {
    HttpError::new(
        Status::UnprocessableContent,
        "a request with this Idempotency-Key and another body was taken within the last day; give a new key",
    )
}

impl Ground {
    /// The command of a request of `member` to a resource: done once if the request has a key.
    ///
    /// # Errors
    /// 400 for a key that is none.
    pub(super) fn once(
        &self,
        request: &Request<'_>,
        member: &str,
        resource: [&str; 2],
        body: &[u8],
        command: Command,
    ) -> Result<Command, HttpError> {
        let Some(key) = key(request)? else { return Ok(command) };
        let once = Once::new(Asker::Member(member), resource, key, body, self.clock.unix_ms);
        Ok(Command::Once { once, command: Box::new(command) })
    }
}

impl Dispatcher {
    /// Publishes an event once. One of class `every` has its key in the change that appends it; of the others the key is kept
    /// first, and freed where the event is not taken.
    pub(super) fn publish_once(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        to: AnswerTo,
        key: &str,
        access: &Access,
        draft: &Allowed<'_>,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let once = Once::new(asker(access), ["events", &draft.topic], key, body, ground.clock.unix_ms);
        let mut id = draft.id.as_deref().unwrap_or_default().to_owned();
        if id.is_empty() {
            ground.new_event_id(&mut id);
        }
        let topic = Topic::parse(&draft.topic).expect("the topic was checked");
        let claim = Claim { topic, key: once.key, body: once.body, id };
        let (status, answer) = if ground.live.types.get(&draft.kind).class == Class::Every {
            let id = claim.id.clone();
            match self.publish(ground, draft, &id, Publisher::Once(conn, Box::new(claim)))? {
                Published::Taken => told(&id),
                Published::Repeated(first) => told(&first),
                Published::Pending => return Ok(Handled::Later),
            }
        } else {
            let held = ground.reserve_question(body.len())?;
            match ground.submit(Question::Claim(claim.clone())) {
                Ok(result) => self.publish_claimed(ground, claim, body, result)?,
                Err(ticket) => {
                    let claiming = Asked::Claimed(Box::new(Claiming { conn, claim, body: body.into() }));
                    ground.asked.insert(ticket, Held::new(claiming, held));
                    return Ok(Handled::Later);
                }
            }
        };
        Ok(Handled::Answered(ground.answers().json(to, status, answer.as_bytes())))
    }

    /// The store knows the key, or not.
    pub(super) fn on_claimed(&mut self, ground: &mut Ground, claiming: Claiming, result: Result<Answer, Unavailable>) {
        let Claiming { conn, claim, body } = claiming;
        let answer = self.publish_claimed(ground, claim, &body, result);
        ground.reply(conn, answer);
    }

    fn publish_claimed(
        &mut self,
        ground: &mut Ground,
        claim: Claim,
        body: &[u8],
        result: Result<Answer, Unavailable>,
    ) -> Result<(Status, String), HttpError> {
        match result {
            Ok(Answer::Claimed) => {}
            Ok(Answer::Repeated { id }) => return id.map(|id| told(&id)).ok_or_else(other_body),
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            Err(unavailable) => return Err(kv_error(&unavailable, ground.clock.instant)),
        }
        let draft = Draft::parse(body, Some(claim.topic.as_str())).expect("it was read before");
        let draft = Allowed::own(draft.of_client());
        match self.publish(ground, &draft, &claim.id, Publisher::Own) {
            Ok(_) => Ok(told(&claim.id)),
            Err(error) => {
                ground.ask(Question::Release(claim), Asked::Released);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::request;

    fn key_of(value: &str) -> Result<Option<String>, u16> {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: {value}\r\nContent-Length: 0\r\n\r\n");
        let request = request::parse(head.as_bytes()).map_err(|error| error.status.code())?;
        key(&request).map(|key| key.map(str::to_owned)).map_err(|error| error.status.code())
    }

    #[test]
    fn keys_are_visible_and_bounded() {
        for (value, expected) in [
            ("abc", "abc"),
            ("\"abc\"", "abc"),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ] {
            assert_eq!(key_of(value), Ok(Some(expected.to_owned())));
        }
        assert_eq!(key_of(&"x".repeat(ONCE_KEY_BYTES_MAX)).map(|key| key.is_some()), Ok(true));
        for bad in [
            "",
            "\"\"",
            "a b",
            "\"a",
            "a\"",
            "a\\b",
            "é",
            &"x".repeat(ONCE_KEY_BYTES_MAX + 1),
            "a\r\nIdempotency-Key: b",
        ] {
            assert_eq!(key_of(bad), Err(400), "{bad}");
        }
    }
}
