//! The backend's requests about comments and messages: stored first, acknowledged once they are on disk, told to the
//! viewers, and told again where nobody knows whether that worked.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::json;

use crate::backend::Backend;
use crate::backend::hooks::of_comments;
use crate::backend::rules::standing;
use crate::db::rules::Standing;
use crate::db::{Change, Command, Deletion, Outcome, Part, Post, PostKind, Record};
use crate::ground::Ground;
use crate::ground::access::{Access, moderated};
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::{Message, Then, Ticket};
use crate::ground::own::Own;
use crate::ground::posts::Telling;
use crate::ground::slots::Conn;
use crate::limits::{ASKED_BYTES, POST_TEXT_BYTES_MAX, POSTS_PAGE_BYTES_MAX, POSTS_PAGE_DEFAULT, TEXT_BYTES_MAX};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::Share;
use crate::wire::hops::{Begun, SentAt};
use crate::wire::http::{HttpError, Method};
use crate::wire::json;
use crate::wire::names::check_name;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// The body of a new post.
#[derive(Debug, Deserialize)]
pub(crate) struct PostBody {
    member: Option<String>,
    text: Option<String>,
    #[serde(default)]
    sent_at: SentAt,
}

/// The body of a deletion, which may be absent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteBody {
    member: Option<String>,
    sent_at: SentAt,
}

impl PostKind {
    /// The kind of the topic on which its viewers are.
    pub fn topic_kind(self) -> &'static str {
        match self {
            PostKind::Comment => "live",
            PostKind::Message => "chat",
        }
    }

    /// The type of the event that tells of a new one.
    pub(crate) fn event(self) -> &'static str {
        match self {
            PostKind::Comment => "comment",
            PostKind::Message => "message",
        }
    }

    /// The field of an answer that lists them.
    fn list(self) -> &'static str {
        match self {
            PostKind::Comment => "comments",
            PostKind::Message => "messages",
        }
    }

    /// What `place` is called in errors.
    fn place(self) -> &'static str {
        match self {
            PostKind::Comment => "video",
            PostKind::Message => "conversation",
        }
    }
}

/// Text that people see: not blank, bounded, and free of control characters other than line feeds and tabs.
pub(crate) fn check_text(text: &str) -> Result<(), HttpError> {
    let forbidden = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if text.trim().is_empty() || text.len() > TEXT_BYTES_MAX {
        let detail = format!("\"text\" must have 1 to {TEXT_BYTES_MAX} bytes that are not all blank");
        return Err(if text.len() > TEXT_BYTES_MAX {
            HttpError::new(Status::ContentTooLarge, detail)
        } else {
            HttpError::bad(detail)
        });
    }
    match text.char_indices().find(|(_, character)| forbidden(*character)) {
        None => Ok(()),
        Some((at, character)) => Err(HttpError::bad(format!(
            "\"text\" has the control character U+{:04X} at byte {at}; line feeds and tabs are allowed",
            u32::from(character)
        ))),
    }
}

/// About how many bytes a command takes, with its answer, beside names: a text is there, and once more where viewers are told.
pub(crate) fn bytes(command: &Command) -> usize {
    match command.inner() {
        Command::Post { text, .. } => 2 * text.len(),
        Command::ListPosts { limit, .. } => POSTS_PAGE_BYTES_MAX.min(*limit as usize * POST_TEXT_BYTES_MAX),
        _ => 0,
    }
}

impl Backend {
    /// `/v1/videos/{video}/comments` and `/v1/conversations/{conversation}/messages`
    #[allow(clippy::too_many_arguments)] // What a request names.
    pub(crate) fn posts(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        access: &Access,
        kind: PostKind,
        place: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, body, .. } = incoming;
        let topic = place_topic(kind, place)?;
        match request.method {
            Method::Get | Method::Head => {
                access.require_subscribe(&topic)?;
                let part = match (query.last(Parameter::After), query.last(Parameter::Before)) {
                    (Some(_), Some(_)) => return Err(HttpError::bad("give \"after\" or \"before\", not both")),
                    (Some(id), None) => Part::After(id.into_owned()),
                    (None, Some(id)) => Part::Before(id.into_owned()),
                    (None, None) => Part::Newest,
                };
                let limit = query.limit(POSTS_PAGE_DEFAULT)?;
                let command = Command::ListPosts { kind, place: place.to_owned(), part, limit };
                self.store(ground, command, (conn, Begun::default()), Then::Listed(kind))
            }
            _ => {
                access.require_publish(topic.as_str())?;
                let PostBody { member, text, sent_at } = json::object(body).map_err(|error| {
                    HttpError::bad(format!("the body must be {{\"member\":\"…\",\"text\":\"…\"}}: {error}"))
                })?;
                let missing = HttpError::bad("the field \"member\" is missing: who writes?");
                let member = access.member(member)?.ok_or(missing)?;
                check_name("member", &member)?;
                let text = text.ok_or(HttpError::bad("the field \"text\" is missing"))?;
                // As forms send line ends (WHATWG HTML, section 4.10.21.4).
                let text = text.replace("\r\n", "\n");
                check_text(&text)?;
                let at = ground.clock.unix_ms;
                let (standing, place) = (standing(access, &topic), place.to_owned());
                let hooks = if kind == PostKind::Comment { of_comments(ground) } else { [].into() };
                let (by, said) = (member.clone(), text.clone());
                let command = Command::Post { kind, place, member: by, text: said, standing, at, hooks };
                let always = standing == Standing::Moderator;
                let command = ground.once(request, &member, [kind.list(), topic.as_str()], body, command)?;
                let begun = Begun::read(request.traceparent, sent_at, ground.clock.instant);
                self.store(ground, command, (conn, begun), Then::Posted { kind, topic, member, text, always })
            }
        }
    }

    /// `DELETE …/{id}`
    pub(crate) fn delete_post(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        kind: PostKind,
        place: &str,
        id: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, body, .. } = incoming;
        let topic = place_topic(kind, place)?;
        let DeleteBody { member, sent_at } = if body.trim_ascii().is_empty() {
            DeleteBody::default()
        } else {
            json::object(body)
                .map_err(|error| HttpError::bad(format!("the body must be {{\"member\":\"…\"}}: {error}")))?
        };
        let by = match access {
            // Everyone may do everything; who names a member acts as that one.
            Access::Open | Access::Node => member,
            Access::Token(_) if access.is_moderator(&topic) => None,
            Access::Token(_) => {
                access.require_publish(topic.as_str())?;
                access.member(member)?
            }
        };
        let at = ground.clock.unix_ms;
        let command = Command::DeletePost { kind, place: place.to_owned(), id: id.to_owned(), by, at };
        let begun = Begun::read(request.traceparent, sent_at, ground.clock.instant);
        self.store(ground, command, (conn, begun), Then::Deleted { kind, topic, id: id.to_owned() })
    }

    /// Hands a command to the database.
    pub(crate) fn store(
        &mut self,
        ground: &mut Ground,
        command: Command,
        (conn, begun): (Conn, Begun),
        then: Then,
    ) -> Result<Handled, HttpError> {
        let store = ground.node.store.as_ref().expect("a backend has a database");
        let held = ground.node.storing.reserve(ASKED_BYTES + bytes(&command));
        let submitted = held.map_err(|full| full.to_string()).and_then(|held| {
            store.try_submit(command, self.ticket(ground, (conn, begun), then, held)).map_err(|full| full.to_string())
        });
        submitted.map_err(|why| {
            ground.happened(What::StoreError, 1, Subject::says(format_args!("{why}")));
            HttpError::unavailable(why)
        })?;
        Ok(Handled::Later)
    }

    /// The same on nobody's behalf. False if the database's queue is full; true also on a node without a database.
    pub(crate) fn store_own(&self, ground: &Ground, command: Command, then: Then) -> bool {
        let Some(store) = &ground.node.store else { return true };
        let held = ground.node.storing.settle(ASKED_BYTES);
        store.try_submit(command, self.ticket(ground, (Conn::NOBODY, Begun::default()), then, held)).is_ok()
    }

    pub(crate) fn ticket(&self, ground: &Ground, (conn, begun): (Conn, Begun), then: Then, held: Share) -> Ticket {
        let shard = match &then {
            Then::Liked { topic, .. }
            | Then::Unliked { topic, .. }
            | Then::Read { topic, .. }
            | Then::Posted { topic, .. }
            | Then::Deleted { topic, .. } => ground.node.home(topic.as_str()),
            _ => ground.id,
        };
        Ticket { shard, asker: ground.id, conn, asked_at: ground.clock.instant, then, begun, held: Some(held) }
    }

    /// A post is on disk, or deleted: viewers are told, after what precedes it.
    pub(crate) fn tell_of_post(&mut self, ground: &mut Ground, topic: &Topic, telling: Telling) {
        self.posts.lines.add(topic, telling, ground.clock.instant);
    }

    /// What came of a deletion.
    pub(crate) fn tell_deleted(
        &mut self,
        ground: &mut Ground,
        (kind, begun): (PostKind, Begun),
        topic: &Topic,
        id: String,
        deletion: Deletion,
    ) -> Result<(Status, String), HttpError> {
        match deletion {
            Deletion::Forbidden => {
                let right = moderated(topic);
                Err(HttpError::new(
                    Status::Forbidden,
                    format!("only its author deletes this, or who may publish to {right}"),
                ))
            }
            Deletion::NotFound => Err(HttpError::new(Status::NotFound, "there is no such post here")),
            Deletion::Already => Ok((Status::Ok, json!({"id": id}).to_string())),
            Deletion::Deleted => {
                let answer = json!({"id": id}).to_string();
                let record = Record { id, change: Change::Deleted };
                self.tell_of_post(
                    ground,
                    topic,
                    Telling { kind, record, member: String::new(), text: String::new(), always: false, begun },
                );
                Ok((Status::Ok, answer))
            }
        }
    }

    /// `POST /v1/conversations/{conversation}/typing`: told at once, stored nowhere.
    pub(crate) fn typing(
        &mut self,
        ground: &mut Ground,
        access: &Access,
        conversation: &str,
        body: &[u8],
    ) -> Result<(), HttpError> {
        let topic = place_topic(PostKind::Message, conversation)?;
        access.require_publish(topic.as_str())?;
        let DeleteBody { member, .. } = json::object(body)
            .map_err(|error| HttpError::bad(format!("the body must be {{\"member\":\"…\"}}: {error}")))?;
        let member = access.member(member)?.ok_or(HttpError::bad("the field \"member\" is missing: who types?"))?;
        check_name("member", &member)?;
        // One core hears all of a conversation's, so that repeats are known as such.
        ground.send(ground.node.home(topic.as_str()), Message::Typing { topic, member });
        Ok(())
    }

    /// Somebody types.
    pub(crate) fn on_typing(&mut self, ground: &mut Ground, topic: Topic, member: String) {
        if !self.typists.is_news(&topic, &member, ground.clock.instant) {
            return;
        }
        let data = json!({"member": member}).to_string();
        ground.publish(Own::new(&topic, "typing", data));
    }

    /// `/v1/conversations/{conversation}/receipts`
    pub(crate) fn receipts(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        query: Query<'_>,
        access: &Access,
        conversation: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, body, .. } = incoming;
        #[derive(Deserialize)]
        struct Body {
            member: Option<String>,
            message: Option<String>,
            #[serde(default)]
            sent_at: SentAt,
        }
        let topic = place_topic(PostKind::Message, conversation)?;
        match request.method {
            Method::Get | Method::Head => {
                access.require_subscribe(&topic)?;
                let after = query.last(Parameter::After).map(Cow::into_owned);
                let limit = crate::limits::RECEIPTS_PAGE_MAX;
                self.store(
                    ground,
                    Command::Receipts { conversation: conversation.to_owned(), after, limit },
                    (conn, Begun::default()),
                    Then::Receipts,
                )
            }
            _ => {
                access.require_publish(topic.as_str())?;
                let Body { member, message, sent_at } = json::object(body).map_err(|error| {
                    HttpError::bad(format!("the body must be {{\"member\":\"…\",\"message\":\"…\"}}: {error}"))
                })?;
                let member =
                    access.member(member)?.ok_or(HttpError::bad("the field \"member\" is missing: who read?"))?;
                check_name("member", &member)?;
                let message = message.ok_or(HttpError::bad("the field \"message\" is missing: up to which one?"))?;
                let command = Command::Receipt {
                    conversation: conversation.to_owned(),
                    member: member.clone(),
                    message,
                    at: ground.clock.unix_ms,
                };
                let begun = Begun::read(request.traceparent, sent_at, ground.clock.instant);
                self.store(ground, command, (conn, begun), Then::Read { topic, member })
            }
        }
    }
}

/// The topic on which a video's or conversation's viewers are.
pub(crate) fn place_topic(kind: PostKind, place: &str) -> Result<Topic, HttpError> {
    check_name(kind.place(), place)?;
    Topic::encode(kind.topic_kind(), place)
        .map_err(|error| HttpError::bad(format!("the {}'s name: {error}", kind.place())))
}

/// The answer to a listing.
pub(crate) fn listed(kind: PostKind, outcome: Outcome) -> String {
    let Outcome::Posts { posts, more } = outcome else { unreachable!("the database answers what it was asked") };
    let posts: Vec<_> = posts
        .into_iter()
        .map(|Post { id, member, text, at }| json!({"id": id, "member": member, "text": text, "at": at}))
        .collect();
    json!({kind.list(): posts, "more": more}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_checked() {
        for text in ["a", "two\nlines\tand a tab", "naïve — 🙂", &"x".repeat(TEXT_BYTES_MAX)] {
            assert_eq!(check_text(text), Ok(()));
        }
        for (text, status) in [
            ("", 400),
            (" \n", 400),
            ("a\0", 400),
            ("a\r", 400),
            ("a\u{9b}b", 400),
            (&"x".repeat(TEXT_BYTES_MAX + 1), 413),
        ] {
            assert_eq!(check_text(text).unwrap_err().status.code(), status, "{text:?}");
        }
    }
}
