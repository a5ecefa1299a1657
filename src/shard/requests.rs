//! What is to end or to change everywhere is asked of any node, by who may publish to [`CONTROL_TOPIC`].

use serde::Deserialize;
use serde_json::Value;

use crate::auth::LEEWAY;
use crate::auth::token::{is_jti, time};
use crate::ground::Ground;
use crate::ground::access::{Access, Allowed};
use crate::ground::answering::{Handled, Incoming};
use crate::ground::control::Command;
use crate::ground::opening::read_topics;
use crate::ground::own::Own;
use crate::ground::publishing::{Published, Publisher};
use crate::ground::resources::Order;
use crate::limits::REVOCATIONS_MAX;
use crate::shard::services::Services;
use crate::wire::event::CONTROL_TOPIC;
use crate::wire::http::{HttpError, percent_decode};
use crate::wire::json;
use crate::wire::names::check_name;
use crate::wire::topic::Topic;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Topics {
    add: Vec<String>,
    remove: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Before {
    before: Option<Value>,
}

impl Services {
    /// `POST /v1/members/{member}/…` and `POST /v1/tokens/{jti}/revoke`
    pub(crate) fn order_all(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        order: Order<'_>,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
        access.require_publish(CONTROL_TOPIC)?;
        let command = self.command(ground, order, body)?;
        if matches!(command, Command::Revoke { .. } | Command::RevokeToken { .. }) {
            self.may_revoke(ground)?;
        }
        let topic = Topic::parse(CONTROL_TOPIC).expect("it is a topic");
        let data = serde_json::to_string(&command).expect("a command is plain data");
        let own = Own::new(&topic, command.kind(), data);
        let draft = Allowed::own(own.draft());
        let (published, id) = self.publish_named(ground, &draft, Publisher::Request(conn));
        let handled = published.map(|published| match published {
            Published::Taken | Published::Repeated(_) => Handled::Answered(ground.answer_id(to, &id)),
            Published::Pending => Handled::Later,
        });
        ground.new_id = id;
        handled
    }

    fn command(&self, ground: &Ground, order: Order<'_>, body: &[u8]) -> Result<Command, HttpError> {
        let member = |part| -> Result<String, HttpError> {
            let member = percent_decode(part, false)?.into_owned();
            check_name("member", &member)?;
            Ok(member)
        };
        match order {
            Order::Disconnect(part) => Ok(Command::Disconnect { member: member(part)? }),
            Order::Revoke(part) => Ok(Command::Revoke { member: member(part)?, before_ms: self.before(ground, body)? }),
            Order::RevokeToken(part) => match percent_decode(part, false)?.into_owned() {
                jti if is_jti(&jti) => Ok(Command::RevokeToken { jti }),
                _ => Err(HttpError::bad("a token's jti has 1 to 256 bytes")),
            },
            Order::Topics(part) => {
                let topics: Topics = json::object(body).map_err(|error| {
                    HttpError::bad(format!("the body must be {{\"add\":[…],\"remove\":[…]}}: {error}"))
                })?;
                let list = |topics: &[String]| read_topics(topics.iter(), ground.live.topics_max);
                let (add, remove) = (list(&topics.add)?, list(&topics.remove)?);
                // Nobody's rights are asked, but there are topics that these streams cannot have.
                add.iter().try_for_each(Access::require_watchable)?;
                Ok(Command::Topics { member: member(part)?, add, remove })
            }
        }
    }

    /// Up to when tokens are revoked, in Unix ms: up to now where that is not said.
    fn before(&self, ground: &Ground, body: &[u8]) -> Result<u64, HttpError> {
        let now_ms = ground.clock.unix_ms;
        let Before { before } = match body.trim_ascii() {
            [] => Before::default(),
            body => json::object(body)
                .map_err(|error| HttpError::bad(format!("the body must be {{\"before\":1795413000}}: {error}")))?,
        };
        let Some(before) = before else { return Ok(now_ms) };
        let before_ms = time(&before).ok_or(HttpError::bad("\"before\" must be a time in Unix seconds, as iat is"))?;
        if before_ms > now_ms.saturating_add(LEEWAY.as_millis() as u64) {
            return Err(HttpError::bad(
                "\"before\" lies ahead; it is a time in Unix seconds, at most now: tokens that are yet to be issued cannot be revoked",
            ));
        }
        Ok(before_ms)
    }

    /// Whether one more revocation is taken: none is forgotten for it.
    fn may_revoke(&self, ground: &Ground) -> Result<(), HttpError> {
        if ground.node.tokens.is_none() {
            return Err(HttpError::bad(
                "there are no tokens to revoke: this node lets everyone in (--auth none); disconnect ends a member's streams",
            ));
        }
        if ground.control.revocations() >= REVOCATIONS_MAX {
            return Err(HttpError::unavailable(format!(
                "{REVOCATIONS_MAX} revocations are kept already, each for as long as a token may live, and none is forgotten for another"
            )));
        }
        Ok(())
    }
}
