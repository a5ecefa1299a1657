//! The rights of an open stream: when they end, what its client is told before, and
//! `POST /v1/connections/{connection}/token`, which renews them on whichever shard the stream lives.

use std::sync::Arc;

use serde::Deserialize;

use crate::auth::Token;
use crate::frontend::Frontend;
use crate::frontend::elsewhere::What;
use crate::frontend::topics::TopicEntry;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::{Message, Renewal};
use crate::ground::rights::StreamRights;
use crate::ground::slots::Conn;
use crate::runtime::planted::{Mistake, planted};
use crate::wire::http::HttpError;
use crate::wire::query::Query;
use crate::wire::{json, sse};

#[derive(Default, Deserialize)]
pub(crate) struct Body {
    token: Option<String>,
}

impl Frontend {
    /// `POST /v1/connections/{connection}/token`: by the token in the body, or else by the request's own, as a page
    /// does whose token is in a cookie that it cannot read.
    pub(crate) fn renew_token(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        connection: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn: asker, request, body, .. } = incoming;
        // What the parser says could quote the token.
        let Body { token } = match body.trim_ascii() {
            [] => Body::default(),
            body => json::object(body).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                HttpError::bad(format!(
                    "the body must be {{\"token\":\"…\"}}, and is not at line {line} column {column}"
                ))
            })?,
        };
        let access = match &token {
            Some(token) => ground.verify(Token(token))?,
            None => ground.access(request, query)?,
        };
        let who = ground.authorizes().then(|| {
            let mut who = ground.who_asks(asker, request, Some(&access), None);
            if let Some(token) = token.filter(|_| ground.live.authorize.headers.contains(&"authorization")) {
                // It is as good as in the header.
                let headers = &mut Arc::make_mut(&mut who).headers;
                headers.retain(|(name, _)| *name != "authorization");
                headers.push(("authorization", format!("Bearer {token}")));
            }
            who
        });
        if let Some(holder) = self.holder_elsewhere(ground, connection) {
            return self.change_elsewhere(ground, asker, holder, connection, &access, What::Renew);
        }
        let (shard, conn, secret) = self.locate(ground, connection)?;
        let renewal = Renewal { conn, secret, access, who, asker: (ground.id, asker) };
        ground.send(shard, Message::Renew(Box::new(renewal)));
        Ok(Handled::Later)
    }

    /// Renews the rights of a stream of this shard.
    pub(crate) fn on_renew(&mut self, ground: &mut Ground, renewal: Renewal) {
        let result = self.try_renew(ground, &renewal).map(|()| Vec::new());
        ground.reply_to(renewal.asker, result);
    }

    fn try_renew(&mut self, ground: &mut Ground, renewal: &Renewal) -> Result<(), HttpError> {
        self.check_stream(ground, renewal.conn, renewal.secret, &renewal.access)?;
        let Access::Token(rights) = &renewal.access else { return Ok(()) };
        let now_ms = ground.clock.unix_ms;
        let slot = ground.slots.get_mut(renewal.conn).expect("it was just checked");
        let (all, mut grant) = slot.rights.take().map_or_else(Default::default, |rights| (rights.all, rights.grant));
        if let Some((grant, who)) = grant.as_mut().zip(renewal.who.as_ref()) {
            // From now on it is asked about by what it shows now.
            Arc::make_mut(&mut grant.question).who = Arc::clone(who);
        }
        let mut renewed = StreamRights::new(rights, all, now_ms);
        renewed.grant = grant;
        slot.rights = Some(Box::new(renewed));
        let subscriptions = slot.subscriptions.as_slice().iter();
        let lost: Vec<_> = subscriptions
            .map(|subscription| subscription.topic)
            .filter(|&index| {
                let TopicEntry { topic, all, .. } = self.topics.get(index);
                if all.is_by_prefix() {
                    // It goes with its prefix.
                    return false;
                }
                let keeps_all = all.is_none() || renewal.access.require_moderator(topic).is_ok();
                !(rights.may_subscribe(topic) && keeps_all || planted(Mistake::RightsUnchecked))
            })
            .collect();
        for index in lost {
            self.give_up(ground, renewal.conn, index);
        }
        self.show_topics(ground, renewal.conn, &[]);
        Ok(())
    }

    /// Tells a stream's client when its rights end.
    pub(crate) fn notify_expiry(&mut self, ground: &mut Ground, conn: Conn, expires_at_ms: u64) {
        let Some(slot) = ground.slots.get(conn) else { return };
        let mut bytes = Vec::new();
        slot.framing().wrap(&mut bytes, |out| sse::token(out, expires_at_ms));
        self.write_stream(ground, conn, &bytes);
    }
}
