//! Events that are published once, by the `Idempotency-Key` of their request.

use serde_json::json;

use crate::db::once::{Asker, Once};
use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::access::{Access, Allowed};
use crate::ground::answering::{Handled, Incoming};
use crate::ground::asking::{Asked, kv_error};
use crate::ground::once::other_body;
use crate::ground::publishing::{Claiming, Published, Publisher};
use crate::kv::{Answer, Claim, Request as Question, Unavailable};
use crate::runtime::account::Held;
use crate::wire::event::Draft;
use crate::wire::http::HttpError;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

pub(crate) fn told(id: &str) -> (Status, String) {
    (Status::Accepted, json!({"id": id}).to_string())
}

/// Whose keys those of a request are.
pub(crate) fn asker(access: &Access) -> Asker<'_> {
    match access {
        Access::Open => Asker::Anyone,
        Access::Node => Asker::Node,
        Access::Token(rights) => match &rights.sub {
            Some(member) => Asker::Member(member),
            None => Asker::Token(rights.token.as_ref().map_or(&[], |token| token.as_bytes())),
        },
    }
}

impl Dispatcher {
    /// Publishes an event once. One of class `every` has its key in the change that appends it; of the others the key is kept
    /// first, and freed where the event is not taken.
    pub(crate) fn publish_once(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        key: &str,
        access: &Access,
        draft: &Allowed<'_>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
        let once = Once::new(asker(access), ["events", &draft.topic], key, body, ground.clock.unix_ms);
        let mut id = draft.id.as_deref().unwrap_or_default().to_owned();
        if id.is_empty() {
            ground.new_event_id(&mut id);
        }
        let topic = Topic::parse(&draft.topic).expect("the topic was checked");
        let claim = Claim { topic, key: once.key, body: once.body, id };
        let (status, answer) = if ground.live.types.get(&draft.kind).class.has_history() {
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
    pub(crate) fn on_claimed(&mut self, ground: &mut Ground, claiming: Claiming, result: Result<Answer, Unavailable>) {
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
        let refused = match result {
            Ok(Answer::Claimed) => {
                let draft = Draft::parse(body, Some(claim.topic.as_str())).expect("it was read before");
                let draft = Allowed::own(draft.of_client());
                match self.publish(ground, &draft, &claim.id, Publisher::Own) {
                    Ok(_) => return Ok(told(&claim.id)),
                    Err(error) => error,
                }
            }
            Ok(Answer::Repeated { id }) => return id.map(|id| told(&id)).ok_or_else(other_body),
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            // It may have kept the key, and answered too late.
            Err(unavailable) => kv_error(&unavailable, ground.clock.instant),
        };
        ground.ask(Question::Release(claim), Asked::Released);
        Err(refused)
    }
}
