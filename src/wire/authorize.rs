//! What an operator's own server is asked before somebody subscribes or publishes, and what it answers. No IO, no clock.

use std::sync::Arc;
use std::time::Duration;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};

use crate::limits::{AUTHORIZE_DETAIL_CHARS, AUTHORIZE_KEEP_MAX};
use crate::wire::json;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// To get a topic's events, or to read what was there.
    Subscribe,
    /// To send it some.
    Publish,
}

/// Who wants to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Who {
    /// The token's member; without tokens the one that the request names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Headers of the request that the settings list, by name.
    #[serde(serialize_with = "pairs", skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(&'static str, String)>,
}

/// A question, whose JSON is all that the answer may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// What is wanted.
    pub action: Action,
    /// Of which topics, each once.
    pub topics: Vec<Box<str>>,
    /// The events' type, where one is published; `mercure` of topics by Mercure's protocol.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    /// By whom.
    #[serde(flatten)]
    pub who: Arc<Who>,
}

fn pairs<S: Serializer>(pairs: &[(&'static str, String)], to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(pairs.len()))?;
    pairs.iter().try_for_each(|(name, value)| map.serialize_entry(name, value))?;
    map.end()
}

impl Question {
    /// As it is asked.
    pub fn text(&self) -> Arc<str> {
        serde_json::to_string(self).expect("a question is plain data").into()
    }
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is allowed.
    Allowed {
        /// Of these topics alone, where they are listed.
        topics: Option<Vec<Box<str>>>,
        /// For how long this may be kept, if it says so.
        kept: Option<Duration>,
    },
    /// It is not.
    Refused {
        /// Why, for the client.
        detail: Option<Box<str>>,
        /// For how long this may be kept, if it says so.
        kept: Option<Duration>,
    },
}

/// An answer that says neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusable;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    topics: Option<Vec<Box<str>>>,
    #[serde(rename = "for")]
    seconds: Option<f64>,
    detail: Option<serde_json::Value>,
}

impl Body {
    fn kept(&self) -> Result<Option<Duration>, Unusable> {
        let Some(seconds) = self.seconds else { return Ok(None) };
        if seconds < 0.0 {
            return Err(Unusable);
        }
        Ok(Some(Duration::from_secs_f64(seconds.min(AUTHORIZE_KEEP_MAX.as_secs_f64()))))
    }
}

impl Answer {
    /// Reads an answer of this status: a 2xx allows, 401 and 403 refuse. A body says more if it is a JSON object; what is none says
    /// nothing.
    ///
    /// # Errors
    /// Another status, or an object that is not as it should be: who means to allow some topics and slips must not allow all.
    pub fn read(status: u16, body: &[u8]) -> Result<Answer, Unusable> {
        let object = || match body.trim_ascii_start() {
            [b'{', ..] => json::object::<Body>(body).map_err(|_| Unusable),
            _ => Ok(Body::default()),
        };
        match status {
            200..=299 => {
                let body = object()?;
                let kept = body.kept()?;
                Ok(Answer::Allowed { topics: body.topics, kept })
            }
            401 | 403 => {
                // It is refused whatever the body is.
                let body = object().unwrap_or_default();
                let kept = body.kept().unwrap_or_default();
                Ok(Answer::Refused { detail: body.detail.as_ref().and_then(|detail| told(detail.as_str()?)), kept })
            }
            _ => Err(Unusable),
        }
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        let own = match self {
            Answer::Allowed { topics, .. } => {
                topics.iter().flatten().map(|topic| topic.len() + size_of::<Box<str>>()).sum()
            }
            Answer::Refused { detail, .. } => detail.as_ref().map_or(0, |detail| detail.len()),
        };
        own + size_of::<Answer>()
    }
}

/// A reason as a client is told it: one line, and no longer than one can read.
fn told(detail: &str) -> Option<Box<str>> {
    let line: String = detail
        .trim()
        .chars()
        .take(AUTHORIZE_DETAIL_CHARS)
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    (!line.is_empty()).then(|| line.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn allowed(topics: Option<&[&str]>, seconds: Option<f64>) -> Result<Answer, Unusable> {
        let topics = topics.map(|topics| topics.iter().map(|topic| Box::from(*topic)).collect());
        Ok(Answer::Allowed { topics, kept: seconds.map(Duration::from_secs_f64) })
    }

    #[test]
    fn what_a_2xx_says() {
        for (body, meant) in [
            ("", allowed(None, None)),
            ("OK", allowed(None, None)),
            ("[]", allowed(None, None)),
            (" {}", allowed(None, None)),
            (r#"{"for":1.5,"more":1}"#, allowed(None, Some(1.5))),
            (r#"{"for":1e99}"#, allowed(None, Some(86_400.0))),
            (r#"{"topics":["live:1"],"for":0}"#, allowed(Some(&["live:1"]), Some(0.0))),
            (r#"{"topics":[]}"#, allowed(Some(&[]), None)),
            (r#"{"topics":"live:1"}"#, Err(Unusable)),
            (r#"{"topics":["live:1"]"#, Err(Unusable)),
            (r#"{"for":-1}"#, Err(Unusable)),
            (r#"{"for":"1"}"#, Err(Unusable)),
            (r#"{"topics":[],"topics":["live:1"]}"#, Err(Unusable)),
        ] {
            assert_eq!(Answer::read(200, body.as_bytes()), meant, "{body}");
        }
        assert_eq!(Answer::read(204, b""), allowed(None, None));
        for status in [100, 301, 307, 400, 404, 410, 429, 500, 503] {
            assert_eq!(Answer::read(status, b"{}"), Err(Unusable), "{status}");
        }
    }

    #[test]
    fn a_refusal_holds_whatever_stands_in_it() {
        let refused = |detail: Option<&str>| Ok(Answer::Refused { detail: detail.map(Into::into), kept: None });
        for (body, detail) in [
            ("", None),
            ("no", None),
            ("{", None),
            (r#"{"detail":7}"#, None),
            (r#"{"detail":" "}"#, None),
            (r#"{"type":"about:blank","detail":"not\npaid"}"#, Some("not paid")),
        ] {
            assert_eq!(Answer::read(403, body.as_bytes()), refused(detail), "{body}");
            assert_eq!(Answer::read(401, body.as_bytes()), refused(detail), "{body}");
        }
        let long = format!(r#"{{"detail":"{}"}}"#, "é".repeat(1_000));
        let Ok(Answer::Refused { detail: Some(detail), .. }) = Answer::read(403, long.as_bytes()) else {
            panic!("{long}")
        };
        assert_eq!(detail.chars().count(), AUTHORIZE_DETAIL_CHARS);
    }

    proptest! {
        /// Whatever stands in it, two questions have the same text only if they are the same: an answer is kept by it.
        #[test]
        fn a_questions_text_is_all_of_it(
            fields in prop::collection::vec(("[ab\"\\\\]{0,2}", "[ab\"\\\\]{0,2}", prop::option::of("[ab,\"]{0,2}"), any::<bool>()), 2),
        ) {
            let question = |(topic, more, member, is_header): &(String, String, Option<String>, bool)| {
                let headers = if *is_header { vec![("cookie", more.clone())] } else { vec![] };
                let who = Arc::new(Who { member: member.clone(), address: None, headers });
                let topics = vec![Box::from(&**topic), Box::from(&**more)];
                Question { action: Action::Publish, topics, kind: Some("wave".into()), who }
            };
            let (one, two) = (question(&fields[0]), question(&fields[1]));
            prop_assert_eq!(one == two, one.text() == two.text());
            let text: serde_json::Value = serde_json::from_str(&one.text()).unwrap();
            prop_assert_eq!(text["topics"][0].as_str(), Some(&*fields[0].0));
            prop_assert_eq!(text["member"].as_str(), fields[0].2.as_deref());
        }

        /// Nothing that a server may answer breaks it.
        #[test]
        fn any_bytes_are_an_answer_or_none(status in 100u16..600, body in prop::collection::vec(any::<u8>(), 0..60)) {
            let is_refused = matches!(Answer::read(status, &body), Ok(Answer::Refused { .. }));
            prop_assert_eq!(is_refused, matches!(status, 401 | 403));
        }
    }
}
