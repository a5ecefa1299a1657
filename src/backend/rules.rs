//! What moderators ask of who comments on a video, and members' time-outs. The database decides about each comment; here is
//! who may set what, and how pages are told.

use serde::Deserialize;
use serde_json::json;

use crate::backend::Backend;
use crate::backend::posts::place_topic;
use crate::db::rules::{Bar, Change, Comments, Rules, Standing};
use crate::db::{Command, Outcome, PostKind, StoreError};
use crate::ground::Ground;
use crate::ground::access::{Access, moderated};
use crate::ground::answering::{Handled, Incoming};
use crate::ground::message::Then;
use crate::ground::own::Own;
use crate::limits::{SLOW_SECONDS_MAX, TIMEOUT_SECONDS_MAX};
use crate::runtime::planted::{Mistake, planted};
use crate::wire::event::RULES;
use crate::wire::hops::Begun;
use crate::wire::http::{HttpError, Method};
use crate::wire::json;
use crate::wire::names::check_name;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// The body of a change.
#[derive(Debug, Deserialize)]
pub(crate) struct RulesBody {
    slow_seconds: Option<u32>,
    comments: Option<String>,
}

/// The body of a time-out.
#[derive(Debug, Deserialize)]
pub(crate) struct TimeoutBody {
    member: Option<String>,
    seconds: Option<u32>,
}

impl RulesBody {
    fn change(self) -> Result<Change, HttpError> {
        let RulesBody { slow_seconds, comments } = self;
        if slow_seconds.is_some_and(|seconds| seconds > SLOW_SECONDS_MAX) {
            return Err(HttpError::bad(format!(
                "\"slow_seconds\" must be at most {SLOW_SECONDS_MAX}, which is a day; 0 is no slow mode"
            )));
        }
        let comments = comments.map(|name| {
            let unknown = HttpError::bad("\"comments\" must be \"open\", \"members\" or \"moderators\"");
            Comments::named(&name).ok_or(unknown)
        });
        let change = Change { slow_seconds, comments: comments.transpose()? };
        if change == Change::default() {
            return Err(HttpError::bad("give \"slow_seconds\", \"comments\" or both; what is left out stays as it is"));
        }
        Ok(change)
    }
}

impl TimeoutBody {
    fn read(self) -> Result<(String, u32), HttpError> {
        let member = self.member.ok_or(HttpError::bad("the field \"member\" is missing: whose time-out?"))?;
        check_name("member", &member)?;
        let seconds = self.seconds.ok_or(HttpError::bad("the field \"seconds\" is missing: how long?"))?;
        if seconds > TIMEOUT_SECONDS_MAX {
            return Err(HttpError::bad(format!(
                "\"seconds\" must be at most {TIMEOUT_SECONDS_MAX}, which is a year; 0 ends a time-out"
            )));
        }
        Ok((member, seconds))
    }
}

/// What one must be allowed to publish to for counting as one of a video's members.
pub(crate) fn membership(topic: &Topic) -> String {
    format!("members:{topic}")
}

/// The topic of a video that whoever asks may moderate.
pub(crate) fn moderated_topic(access: &Access, video: &str) -> Result<Topic, HttpError> {
    let topic = place_topic(PostKind::Comment, video)?;
    access.require_publish(&moderated(&topic))?;
    Ok(topic)
}

/// As whom somebody comments.
pub(crate) fn standing(access: &Access, topic: &Topic) -> Standing {
    match access {
        // Who names a member acts as that one, which without tokens anybody may.
        Access::Open | Access::Node => Standing::Member,
        Access::Token(_) if access.require_publish(&moderated(topic)).is_ok() => Standing::Moderator,
        Access::Token(_) if access.require_publish(&membership(topic)).is_ok() => Standing::Member,
        Access::Token(_) => Standing::Guest,
    }
}

pub(crate) fn body(rules: Rules) -> String {
    json!({"slow_seconds": rules.slow_seconds, "comments": rules.comments.name()}).to_string()
}

/// What somebody is told whose comment is not taken.
pub(crate) fn barred(topic: &Topic, bar: Bar) -> HttpError {
    let later = |wait_ms: u64, why: String| {
        let seconds = u32::try_from(wait_ms.div_ceil(1_000)).unwrap_or(u32::MAX);
        let detail = format!("{why}; the next comment may come in {seconds} s");
        HttpError { retry_after: Some(seconds), ..HttpError::new(Status::TooManyRequests, detail) }
    };
    match bar {
        Bar::Closed(Comments::Moderators) => HttpError::new(
            Status::Forbidden,
            format!("only moderators comment here now, who may publish to {}", moderated(topic)),
        ),
        Bar::Closed(_) => HttpError::new(
            Status::Forbidden,
            format!("only members comment here now, who may publish to {}", membership(topic)),
        ),
        Bar::TimedOut { wait_ms } => later(wait_ms, "a moderator has given this member a time-out".to_owned()),
        Bar::Slow { slow_seconds, wait_ms } => {
            later(wait_ms, format!("slow mode is on: a member comments every {slow_seconds} s at most"))
        }
    }
}

impl Backend {
    /// `/v1/videos/{video}/rules`
    pub(crate) fn rules(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        video: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, request, body, .. } = incoming;
        let topic = moderated_topic(access, video)?;
        let video = video.to_owned();
        if request.method != Method::Put {
            return self.store(ground, Command::Rules { video }, (conn, Begun::default()), Then::Rules);
        }
        let read: RulesBody = json::object(body).map_err(|error| {
            HttpError::bad(format!("the body must be {{\"slow_seconds\":5,\"comments\":\"open\"}}: {error}"))
        })?;
        let command = Command::SetRules { video, change: read.change()?, at: ground.clock.unix_ms };
        self.store(ground, command, (conn, Begun::default()), Then::RulesSet { topic })
    }

    /// `POST /v1/videos/{video}/timeouts`
    pub(crate) fn timeout(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        access: &Access,
        video: &str,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, body, .. } = incoming;
        moderated_topic(access, video)?;
        let read: TimeoutBody = json::object(body).map_err(|error| {
            HttpError::bad(format!("the body must be {{\"member\":\"…\",\"seconds\":60}}: {error}"))
        })?;
        let (member, seconds) = read.read()?;
        let command =
            Command::TimeOut { video: video.to_owned(), member: member.clone(), seconds, at: ground.clock.unix_ms };
        self.store(ground, command, (conn, Begun::default()), Then::TimedOut { member })
    }

    /// Rules are stored: pages are told.
    pub(crate) fn rules_set(
        &mut self,
        ground: &mut Ground,
        topic: &Topic,
        rules: Rules,
        version: u64,
    ) -> (Status, String) {
        self.tell_rules(ground, topic, rules, version);
        (Status::Ok, body(rules))
    }

    /// By the version of the database whoever hears of several knows the newest.
    fn tell_rules(&mut self, ground: &mut Ground, topic: &Topic, rules: Rules, version: u64) {
        ground.publish(Own { version: Some(version), ..Own::new(topic, RULES, body(rules)) });
    }

    /// The database said what the rules are of a video whose viewers may not know them, or could not.
    pub(crate) fn on_rules(&mut self, ground: &mut Ground, topic: &Topic, result: Result<Outcome, StoreError>) {
        match result {
            // Where none were ever set there is nothing to tell.
            Ok(Outcome::Rules { version: 0, .. }) => {}
            Ok(_) if planted(Mistake::RulesUntold) => {}
            Ok(Outcome::Rules { rules, version }) => self.tell_rules(ground, topic, rules, version),
            _ => self.on_asked_totals(ground, std::slice::from_ref(topic)),
        }
    }
}

/// The answer to a question for rules.
pub(crate) fn read(rules: Rules) -> (Status, String) {
    (Status::Ok, body(rules))
}

/// The answer to a time-out.
pub(crate) fn timed_out(member: &str, until: Option<u64>) -> (Status, String) {
    (Status::Ok, json!({"member": member, "until": until}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str) -> Result<Change, u16> {
        let body: Result<RulesBody, _> = json::object(text.as_bytes());
        body.map_err(|_| 400u16)?.change().map_err(|error| error.status.code())
    }

    #[test]
    fn rules_that_nobody_meant_are_taken() {
        let of = |slow_seconds, comments| Ok(Change { slow_seconds, comments });
        assert_eq!(change(r#"{"slow_seconds":5,"comments":"open"}"#), of(Some(5), Some(Comments::Open)));
        assert_eq!(change(r#"{"slow_seconds":0}"#), of(Some(0), None));
        assert_eq!(change(r#"{"slow_seconds":86400,"comments":"members"}"#), of(Some(86_400), Some(Comments::Members)));
        for bad in [
            "{}",
            r#"{"slow":5}"#,
            r#"{"slow_seconds":86401}"#,
            r#"{"slow_seconds":-1}"#,
            r#"{"slow_seconds":1.5}"#,
            r#"{"slow_seconds":"5"}"#,
            r#"{"comments":"Open"}"#,
            r#"{"comments":""}"#,
            r#"{"comments":true}"#,
            r#"[5,"open"]"#,
            "",
        ] {
            assert_eq!(change(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn time_out_of_nobody_or_without_end_is_taken() {
        let read = |text: &str| {
            let body: Result<TimeoutBody, _> = json::object(text.as_bytes());
            body.map_err(|_| 400u16)?.read().map_err(|error| error.status.code())
        };
        assert_eq!(read(r#"{"member":"bob","seconds":60}"#), Ok(("bob".to_owned(), 60)));
        assert_eq!(read(r#"{"member":"bob","seconds":0}"#), Ok(("bob".to_owned(), 0)));
        for bad in [
            "{}",
            r#"{"member":"bob"}"#,
            r#"{"seconds":60}"#,
            r#"{"member":"","seconds":60}"#,
            r#"{"member":"bob","seconds":31536001}"#,
            r#"{"member":"bob","seconds":-1}"#,
            r#"{"member":"bob","seconds":null}"#,
        ] {
            assert_eq!(read(bad), Err(400), "{bad}");
        }
    }

    #[test]
    fn whoever_waits_is_told_too_short_a_time() {
        let topic = Topic::parse("live:42").expect("it is one");
        for (wait_ms, seconds) in [(1, 1), (1_000, 1), (1_001, 2), (31_536_000_000, 31_536_000)] {
            for bar in [Bar::TimedOut { wait_ms }, Bar::Slow { slow_seconds: 5, wait_ms }] {
                let error = barred(&topic, bar);
                assert_eq!((error.status.code(), error.retry_after), (429, Some(seconds)), "{bar:?}");
                assert!(error.detail.contains(&format!("in {seconds} s")), "{error:?}");
            }
        }
        assert!(barred(&topic, Bar::Closed(Comments::Members)).detail.contains("members:live:42"));
        assert!(barred(&topic, Bar::Closed(Comments::Moderators)).detail.contains("moderate:live:42"));
    }
}
