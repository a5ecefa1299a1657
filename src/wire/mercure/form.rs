//! What a publisher of Mercure's protocol sends: a form.

use std::borrow::Cow;

use crate::limits::{EVENT_BYTES_MAX, ID_BYTES_MAX, UPDATE_TOPIC_BYTES_MAX, UPDATE_TOPICS_MAX};
use crate::wire::http::{HttpError, percent_decode};
use crate::wire::mercure::{Update, is_one_line};
use crate::wire::sse::CONTROLS;
use crate::wire::status::Status;

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// A form that was sent: an update, and the id that its publisher gives it, if any.
#[derive(Debug, PartialEq, Eq)]
pub struct Form<'a> {
    /// The update.
    pub update: Update<'a>,
    /// Its id: 1 to 128 bytes, without control characters, and not with `#` at its start.
    pub id: Option<Cow<'a, str>>,
}

impl<'a> Form<'a> {
    /// Reads a request's body. What the protocol does not know is passed over, as it asks for.
    ///
    /// # Errors
    /// 415 for another media type than a form's, 413 for an update that no event can hold, and 400, with the field.
    pub fn read(content_type: Option<&str>, body: &'a [u8]) -> Result<Form<'a>, HttpError> {
        let media = content_type.map_or(FORM, |given| given.split(';').next().unwrap_or(given).trim());
        if !media.eq_ignore_ascii_case(FORM) {
            return Err(HttpError::new(
                Status::UnsupportedMediaType,
                format!("an update is a form: send it as {FORM}, such as topic=…&data=…"),
            ));
        }
        let body = std::str::from_utf8(body).map_err(|_| HttpError::bad("the form is not UTF-8"))?;
        let mut topics: Vec<Cow<'a, str>> = Vec::new();
        let (mut data, mut id, mut name, mut retry, mut private) = (None, None, None, None, false);
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (field, value) = pair.split_once('=').unwrap_or((pair, ""));
            let field = percent_decode(field, true)
                .map_err(|_| HttpError::bad("a field's name is not percent-encoded UTF-8"))?;
            let value = percent_decode(value, true)
                .map_err(|_| HttpError::bad(format!("the field {field:?} is not percent-encoded UTF-8")))?;
            let (slot, field) = match &*field {
                "topic" => {
                    add_topic(&mut topics, value)?;
                    continue;
                }
                // By its name alone, whatever its value.
                "private" => {
                    private = true;
                    continue;
                }
                "data" => (&mut data, "data"),
                "id" => (&mut id, "id"),
                "type" => (&mut name, "type"),
                "retry" => (&mut retry, "retry"),
                // To pass it over would make public what was meant for some.
                "target" => {
                    return Err(HttpError::bad(
                        "\"target\" is of Mercure before 0.10: send private=on, and name who may see it by a topic",
                    ));
                }
                "topic[]" => {
                    return Err(HttpError::bad("\"topic[]\" is no field: several topics are \"topic\", several times"));
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(HttpError::bad(format!("the field \"{field}\" is given twice")));
            }
        }
        if topics.is_empty() {
            return Err(HttpError::bad("the field \"topic\" is missing: an update has one or more"));
        }
        let one_line = |text: Option<Cow<'a, str>>, field: &str| match text.filter(|text| !text.is_empty()) {
            Some(text) if text.len() > ID_BYTES_MAX || !is_one_line(&text) => Err(HttpError::bad(format!(
                "the field \"{field}\" has at most {ID_BYTES_MAX} bytes and no control characters such as line feeds"
            ))),
            text => Ok(text),
        };
        let (id, name) = (one_line(id, "id")?, one_line(name, "type")?);
        if name.as_deref().is_some_and(|name| CONTROLS.contains(&name)) {
            return Err(HttpError::bad(format!(
                "a \"type\" is none of {}: these are a stream's own",
                CONTROLS.join(", ")
            )));
        }
        if id.as_deref().is_some_and(|id| id.starts_with('#')) {
            return Err(HttpError::bad("an \"id\" does not begin with #"));
        }
        let retry = match retry.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= RETRY_DIGITS_MAX => {
                text.parse().ok()
            }
            Some(_) => return Err(HttpError::bad("the field \"retry\" must be a number of milliseconds")),
        };
        let update = Update { topics, data: data.unwrap_or_default(), private, name, retry };
        if update.lines_bytes() > EVENT_BYTES_MAX {
            return Err(too_large());
        }
        Ok(Form { update, id })
    }

    /// The data of its events.
    ///
    /// # Errors
    /// 413 for more than an event holds.
    pub fn event_data(&self) -> Result<Vec<u8>, HttpError> {
        let data = serde_json::to_vec(&self.update).expect("an update is plain data");
        if data.len() > EVENT_BYTES_MAX { Err(too_large()) } else { Ok(data) }
    }
}

/// Digits of a reconnection time: 11 days fit.
const RETRY_DIGITS_MAX: usize = 9;

fn add_topic<'a>(topics: &mut Vec<Cow<'a, str>>, topic: Cow<'a, str>) -> Result<(), HttpError> {
    check_topic(&topic)?;
    if !topics.contains(&topic) {
        if topics.len() == UPDATE_TOPICS_MAX {
            return Err(HttpError::bad(format!("an update has at most {UPDATE_TOPICS_MAX} topics")));
        }
        topics.push(topic);
    }
    Ok(())
}

/// Checks a topic as a publisher or a subscriber gives it.
///
/// # Errors
/// 400.
pub fn check_topic(topic: &str) -> Result<(), HttpError> {
    if topic.is_empty() || topic.len() > UPDATE_TOPIC_BYTES_MAX || !is_one_line(topic) {
        return Err(HttpError::bad(format!(
            "a topic has 1 to {UPDATE_TOPIC_BYTES_MAX} bytes, and no control characters"
        )));
    }
    Ok(())
}

fn too_large() -> HttpError {
    HttpError::new(
        Status::ContentTooLarge,
        format!(
            "the update is too large: an event holds at most {EVENT_BYTES_MAX} bytes, topics and line ends among them; publish where it is to be found"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(body: &str) -> Result<Form<'_>, HttpError> {
        Form::read(Some(FORM), body.as_bytes())
    }

    #[test]
    fn a_form_is_an_update() {
        let form = read("topic=https%3A%2F%2Fa.example%2F1&topic=b+c&data=%7B%22a%22%3A+1%7D%0A&private=&id=urn:x&type=t&retry=12&topic=b%20c&more=1").unwrap();
        assert_eq!(form.update.topics, ["https://a.example/1", "b c"]);
        assert_eq!(
            (&*form.update.data, form.update.private, form.id.as_deref()),
            ("{\"a\": 1}\n", true, Some("urn:x"))
        );
        assert_eq!((form.update.name.as_deref(), form.update.retry), (Some("t"), Some(12)));
        let data = form.event_data().unwrap();
        assert_eq!(Update::read(&data), Some(form.update));
        let bare = read("topic=a&id=&type=&retry=").unwrap();
        let plain = Update { topics: vec!["a".into()], data: "".into(), private: false, name: None, retry: None };
        assert_eq!(bare, Form { update: plain, id: None });
        assert!(Form::read(None, b"topic=a").is_ok());
        assert!(Form::read(Some("Application/X-WWW-Form-Urlencoded; charset=UTF-8"), b"topic=a").is_ok());
    }

    #[test]
    fn says_what_is_wrong_with_a_form() {
        let detail = |body: &str| read(body).unwrap_err();
        for (body, of) in [
            ("", "\"topic\""),
            ("data=x", "\"topic\""),
            ("topic=", "1 to"),
            ("topic=a%0Ab", "control"),
            ("topic[]=a", "several times"),
            ("topic=a&data=1&data=2", "\"data\" is given twice"),
            ("topic=a&id=x%0Adata:y", "\"id\""),
            ("topic=a&id=%23x", "#"),
            ("topic=a&type=x%0D", "\"type\""),
            ("topic=a&type=bye", "\"type\""),
            ("topic=a&retry=soon", "\"retry\""),
            ("topic=a&retry=-1", "\"retry\""),
            ("topic=a&retry=99999999999999999999", "\"retry\""),
            ("topic=a&data=%zz", "\"data\""),
            ("topic=a&data=%ff", "\"data\""),
            ("topic=a&target=x", "private=on"),
        ] {
            let error = detail(body);
            assert!(error.status == Status::BadRequest && error.detail.contains(of), "{body}: {error:?}");
        }
        let many: Vec<String> = (0..=UPDATE_TOPICS_MAX).map(|number| format!("topic={number}")).collect();
        assert!(detail(&many.join("&")).detail.contains("at most"));
        for large in ["x".repeat(EVENT_BYTES_MAX), "%0A".repeat(EVENT_BYTES_MAX / 7 + 1)] {
            assert_eq!(detail(&format!("topic=a&data={large}")).status, Status::ContentTooLarge);
        }
        let quotes = format!("topic=a&data={}", "\"".repeat(EVENT_BYTES_MAX - 10));
        assert_eq!(read(&quotes).unwrap().event_data().unwrap_err().status, Status::ContentTooLarge);
        assert_eq!(Form::read(Some("application/json"), b"{}").unwrap_err().status, Status::UnsupportedMediaType);
        assert_eq!(Form::read(None, b"topic=\xff").unwrap_err().status, Status::BadRequest);
    }

    proptest! {
        /// Whatever is taken is an event that reads as it was, and takes as much on a stream as was said.
        #[test]
        fn what_is_taken_is_an_update(body in "(topic|data|id|type|retry|private|x)(=[a-z0-9%+\\r\\n#\u{e9}]{0,8})?(&(topic|data|id|type|retry|private)=[a-z0-9+ %A-F#]{0,8}){0,5}") {
            if let Ok(form) = Form::read(None, body.as_bytes()) {
                let data = form.event_data().unwrap();
                prop_assert_eq!(Update::read(&data), Some(form.update));
            }
        }
    }
}
