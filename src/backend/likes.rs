//! Likes: each is stored first, acknowledged once it is on disk, and then told to the viewers. Also what follows from each answer of
//! the database, whatever was asked.

use std::sync::Mutex;
use std::time::Instant;

use serde::Deserialize;
use serde_json::json;
use tracing::warn;

use crate::backend::posts::{listed, place_topic};
use crate::backend::{Backend, rules};
use crate::db::rules::Bar;
use crate::db::{Change, Command, Outcome, PostKind, Record, StoreError};
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::asking::is_due;
use crate::ground::hooks::Who;
use crate::ground::message::{Then, Ticket};
use crate::ground::once::other_body;
use crate::ground::own::Own;
use crate::ground::posts::Telling;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::trouble::Told;
use crate::wire::hops::{Begun, SentAt};
use crate::wire::http::{HttpError, Method};
use crate::wire::json;
use crate::wire::names::check_name;
use crate::wire::status::Status;

/// The body of a like, and of taking it back.
#[derive(Debug, Deserialize)]
pub(crate) struct LikeBody {
    member: Option<String>,
    #[serde(default = "default_reaction")]
    reaction: String,
    #[serde(default)]
    sent_at: SentAt,
}

pub(crate) fn default_reaction() -> String {
    "like".to_owned()
}

impl Backend {
    /// `/v1/videos/{video}/likes`
    pub(crate) fn likes(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        video: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, body, .. } = incoming;
        let topic = place_topic(PostKind::Comment, video)?;
        let read = |sent_at, ground: &Ground| (conn, Begun::read(request.traceparent, sent_at, ground.clock.instant));
        let (command, then, asked) = match request.method {
            Method::Get | Method::Head => {
                access.require_subscribe(&topic)?;
                (Command::Counts { video: video.to_owned() }, Then::Counts, read(SentAt::default(), ground))
            }
            _ => {
                access.require_publish(topic.as_str())?;
                let LikeBody { member, reaction, sent_at } = json::object(body).map_err(|error| {
                    HttpError::bad(format!("the body must be {{\"member\":\"…\",\"reaction\":\"like\"}}: {error}"))
                })?;
                let member =
                    access.member(member)?.ok_or(HttpError::bad("the field \"member\" is missing: who likes?"))?;
                check_name("member", &member)?;
                self.check_reaction(ground, &reaction)?;
                let video = video.to_owned();
                if request.method == Method::Post {
                    let command = Command::Like {
                        video,
                        member: member.clone(),
                        reaction: reaction.clone(),
                        at: ground.clock.unix_ms,
                    };
                    let command = ground.once(request, &member, ["likes", topic.as_str()], body, command)?;
                    (command, Then::Liked { topic, member, reaction }, read(sent_at, ground))
                } else {
                    (Command::Unlike { video, member, reaction }, Then::Unliked { topic }, read(sent_at, ground))
                }
            }
        };
        self.store(ground, command, asked, then)
    }

    /// Only reactions that are configured: the database keeps a count of each.
    pub(crate) fn check_reaction(&self, ground: &Ground, reaction: &str) -> Result<(), HttpError> {
        if ground.live.reactions.iter().any(|known| known == reaction) {
            return Ok(());
        }
        let known = ground.live.reactions.join(", ");
        Err(HttpError::bad(format!("unknown reaction; this node takes {known}")))
    }

    /// The database answered: tell the viewers what is stored now, then the one who asked.
    pub(crate) fn on_stored(&mut self, ground: &mut Ground, ticket: Ticket, result: Result<Outcome, StoreError>) {
        let took = ground.clock.instant.saturating_duration_since(ticket.asked_at);
        ground.counters().store_answer.observe(took.as_micros() as u64);
        if let (Err(error), false) = (&result, matches!(ticket.then, Then::OutboxHeld)) {
            ground.happened(What::StoreError, 1, Subject::says(format_args!("{error}")));
        }
        if ticket.then.is_of_hooks() {
            return self.on_hooks_stored(ground, ticket, result);
        }
        let answer = match (ticket.then, result) {
            (Then::Outbox, result) => return self.on_outbox(ground, result),
            (Then::OutboxHeld, _) => return,
            (Then::Totals(topic), result) => return self.on_totals(ground, &topic, result),
            (Then::Tapped { tapped, taps }, result) => return self.on_taps_stored(ground, tapped, taps, result),
            (Then::RulesAsked(topic), result) => return self.on_rules(ground, &topic, result),
            (Then::Marked(marking), result) => return self.on_marked(ground, marking, result.is_ok()),
            (then, Ok(outcome)) => {
                let begun = Begun { stored_at: Some(ground.clock.instant), ..ticket.begun };
                self.tell(ground, then, outcome, begun)
            }
            (then, Err(error)) => {
                if let Then::Liked { topic, .. } | Then::Unliked { topic } = then {
                    // It may be stored all the same, and who asks again is told that it was, which is no change.
                    self.likes_changed(ground, &topic);
                }
                Err(store_error(error, ground.clock.instant))
            }
        };
        ground.reply_to((ticket.asker, ticket.conn), answer);
    }

    /// Which of two likes was stored later, as far as one backend knows, or the clocks of several do.
    fn order_of_storing(&mut self, ground: &mut Ground) -> u64 {
        self.stored_last = (self.stored_last + 1).max(ground.clock.unix_ms * 1_000);
        self.stored_last
    }

    /// Publishes what changed by a request. Gives the answer to who asked.
    fn tell(
        &mut self,
        ground: &mut Ground,
        then: Then,
        outcome: Outcome,
        begun: Begun,
    ) -> Result<(Status, String), HttpError> {
        let answer = outcome.answer();
        let told = |answer: Option<(Status, String)>| answer.expect("it is what a client is told");
        Ok(match (then, outcome) {
            // Who did it first told the viewers; of a post the outbox sees to that.
            (_, Outcome::Again { status, answer }) => (status, answer),
            (_, Outcome::OtherBody) => return Err(other_body()),
            (Then::Liked { topic, member, reaction }, Outcome::Liked { created, reaction_likes, .. }) => {
                if created {
                    ground.counters().likes_stored.add(1);
                    let data = json!({"member": member, "reaction": reaction, "likes": reaction_likes}).to_string();
                    let version = Some(self.order_of_storing(ground));
                    ground.publish(Own { version, begun, ..Own::keyed(&topic, "like", &reaction, data) });
                    self.likes_changed(ground, &topic);
                }
                told(answer)
            }
            (Then::Unliked { topic }, Outcome::Unliked { removed, likes, .. }) => {
                if removed {
                    ground.counters().likes_stored.add(1);
                    if !planted(Mistake::UnlikeUntold) {
                        self.likes_changed(ground, &topic);
                    }
                }
                (Status::Ok, json!({"likes": likes}).to_string())
            }
            (Then::Counts, Outcome::Counts { likes, reactions, .. }) => {
                let reactions: serde_json::Map<_, _> =
                    reactions.into_iter().map(|(reaction, likes)| (reaction, likes.into())).collect();
                (Status::Ok, json!({"likes": likes, "reactions": reactions}).to_string())
            }
            (Then::Posted { kind, topic, member, text, always }, Outcome::Posted { id, .. }) => {
                self.hasten_hooks(ground);
                let record = Record { id, change: Change::Posted };
                self.tell_of_post(ground, &topic, Telling { kind, record, member, text, always, begun });
                told(answer)
            }
            (Then::Posted { topic, member, .. }, Outcome::Barred(bar)) => {
                if let Bar::Slow { .. } = bar {
                    ground.tell_hooks_limited("slow_mode", Some(Who::Member(member)), Some(topic.as_str().to_owned()));
                }
                return Err(rules::barred(&topic, bar));
            }
            (Then::Rules, Outcome::Rules { rules, .. }) => rules::read(rules),
            (Then::RulesSet { topic }, Outcome::Rules { rules, version }) => {
                self.rules_set(ground, &topic, rules, version)
            }
            (Then::TimedOut { member }, Outcome::TimedOut { until }) => rules::timed_out(&member, until),
            (Then::Deleted { kind, topic, id }, Outcome::Deletion(deletion)) => {
                return self.tell_deleted(ground, (kind, begun), &topic, id, deletion);
            }
            (Then::Listed(kind), outcome @ Outcome::Posts { .. }) => (Status::Ok, listed(kind, outcome)),
            (Then::Read { topic, member }, Outcome::Receipt { moved, message }) => {
                if moved {
                    let data = json!({"member": member, "message": message}).to_string();
                    ground.publish(Own { begun, ..Own::keyed(&topic, "receipt", &member, data) });
                }
                (Status::Accepted, json!({"message": message}).to_string())
            }
            (Then::Receipts, Outcome::Receipts { receipts, more }) => {
                let receipts: Vec<_> = receipts
                    .into_iter()
                    .map(|receipt| json!({"member": receipt.member, "message": receipt.message, "at": receipt.at}))
                    .collect();
                (Status::Ok, json!({"receipts": receipts, "more": more}).to_string())
            }
            (then, outcome) => unreachable!("the database answers what it was asked: {then:?}, {outcome:?}"),
        })
    }
}

/// What a client is told of the database's errors: what they quote of addresses and statements stands in the log only.
pub(crate) fn store_error(error: StoreError, now: Instant) -> HttpError {
    static LOGGED: Mutex<Told> = Mutex::new(Told::new());
    let answer = match &error {
        // The store says why, once for all of them.
        StoreError::Unavailable { .. } => {
            return HttpError::unavailable("the database is unavailable; ask again, it may be stored or not");
        }
        StoreError::Refused { .. } => {
            HttpError::bad("the database refuses this request, now and later; nothing was stored, and the log says why")
        }
        StoreError::Invalid { detail } => return HttpError::bad(detail.clone()),
    };
    if is_due(&LOGGED, now) {
        warn!(%error, "the database refused; further errors are counted in fanfare_store_errors_total");
    }
    answer
}
