//! A request's query, read by what its resource knows: a parameter that it does not know would be ignored, and whoever
//! sent it would wait for ever for what it never asked for. So it is refused, and the known ones are named.

use std::borrow::Cow;

use super::http::{HttpError, percent_decode};

/// A parameter that some resource takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// A token (RFC 6750 section 2.3).
    AccessToken,
    /// An IP address.
    Address,
    /// Where a page begins.
    After,
    /// A type of which a stream gets every event, whatever its pace.
    All,
    /// A token, as Mercure's clients call it.
    Authorization,
    /// What a listing ends before.
    Before,
    /// The demo page's conversation.
    Chat,
    /// What a stream that has nothing yet gets of history.
    From,
    /// What something is called.
    Id,
    /// The position that a stream resumes from.
    LastEventId,
    /// Of which level, at least.
    Level,
    /// How much of something.
    Limit,
    /// A member; several where several are asked for.
    Member,
    /// How many members the demo page shows.
    Members,
    /// Members of whom something is asked, with commas between them.
    Of,
    /// What a listing is sorted by.
    Sort,
    /// A topic; any number of them.
    Topic,
    /// The demo page's video.
    Video,
}

impl Parameter {
    /// Its names. The first is the one that is told; the others are what clients made for other servers send.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Parameter::AccessToken => &["access_token"],
            Parameter::Address => &["address"],
            Parameter::After => &["after"],
            Parameter::All => &["all"],
            Parameter::Authorization => &["authorization"],
            Parameter::Before => &["before"],
            Parameter::Chat => &["chat"],
            Parameter::From => &["from"],
            Parameter::Id => &["id"],
            // event-source-polyfill's name, and Mercure's two.
            Parameter::LastEventId => &["last_event_id", "lastEventId", "lastEventID", "Last-Event-ID"],
            Parameter::Level => &["level"],
            Parameter::Limit => &["limit"],
            Parameter::Member => &["member"],
            Parameter::Members => &["members"],
            Parameter::Of => &["of"],
            Parameter::Sort => &["sort"],
            Parameter::Topic => &["topic"],
            Parameter::Video => &["video"],
        }
    }

    /// The name that is told.
    pub const fn name(self) -> &'static str {
        self.names()[0]
    }
}

/// A query whose every parameter its resource knows.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    text: &'a str,
    known: &'static [Parameter],
}

impl<'a> Query<'a> {
    /// How much is asked for; `default` where that is not said.
    ///
    /// # Errors
    /// 400 for what is no number, or none from 1.
    pub fn limit(self, default: u32) -> Result<u32, HttpError> {
        let Some(text) = self.last(Parameter::Limit) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| *number > 0);
        number.ok_or_else(|| HttpError::bad("\"limit\" must be a number from 1"))
    }

    /// Checks a request's query.
    ///
    /// # Errors
    /// 400 for a parameter that is not in `known`, naming those that are, and for what cannot be decoded.
    pub fn read(text: Option<&'a str>, known: &'static [Parameter]) -> Result<Query<'a>, HttpError> {
        let query = Query { text: text.unwrap_or(""), known };
        for pair in query.pairs() {
            let (name, _) = pair?;
            if !known.iter().any(|parameter| parameter.names().contains(&&*name)) {
                return Err(unknown(&name, known));
            }
        }
        Ok(query)
    }

    /// All values of a parameter, decoded, in their order.
    ///
    /// # Panics
    /// If the resource's list of parameters lacks this one, whatever the request: no resource takes what it does not name.
    pub fn all(self, parameter: Parameter) -> impl Iterator<Item = Cow<'a, str>> {
        assert!(self.known.contains(&parameter), "a resource reads {parameter:?}, which its list of parameters lacks");
        let names = parameter.names();
        // They were decoded before, when the query was read.
        self.pairs().flatten().filter(move |(name, _)| names.contains(&&**name)).map(|(_, value)| value)
    }

    /// The last value of a parameter, decoded: what a client appends to a URL that it was given counts.
    ///
    /// # Panics
    /// As [`Query::all`].
    pub fn last(self, parameter: Parameter) -> Option<Cow<'a, str>> {
        self.all(parameter).last()
    }

    fn pairs(self) -> impl Iterator<Item = Result<(Cow<'a, str>, Cow<'a, str>), HttpError>> {
        self.text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decode(name, true)?, percent_decode(value, true)?))
        })
    }
}

fn unknown(name: &str, known: &[Parameter]) -> HttpError {
    let shown: String = name.chars().take(64).collect();
    let names: Vec<&str> = known.iter().map(|parameter| parameter.name()).collect();
    HttpError::bad(match names.split_last() {
        None => format!("this path takes no query, and so no parameter {shown:?}"),
        Some((only, [])) => format!("this path knows no query parameter {shown:?}; it knows {only}"),
        Some((last, others)) => {
            format!("this path knows no query parameter {shown:?}; it knows {} and {last}", others.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Parameter] = &[Parameter::Topic, Parameter::Member, Parameter::LastEventId];

    #[test]
    fn what_is_not_known_is_refused_and_the_known_named() {
        for text in ["topics=a:b", "topic[]=a:b", "topic%5B%5D=a:b", "Topic=a:b", "topic=a:b&channel", "=x"] {
            let error = Query::read(Some(text), KNOWN).unwrap_err();
            assert_eq!(error.status.code(), 400, "{text}");
            assert!(error.detail.ends_with("it knows topic, member and last_event_id"), "{}", error.detail);
        }
        assert!(Query::read(Some("x"), &[]).unwrap_err().detail.contains("takes no query"));
        assert_eq!(Query::read(Some("topic=%zz"), KNOWN).unwrap_err().status.code(), 400);
        for text in [None, Some(""), Some("&&"), Some("topic"), Some("top%69c=a:b&")] {
            assert!(Query::read(text, KNOWN).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn values_come_decoded_by_any_of_a_parameters_names() {
        let query = Query::read(Some("topic=a%3Ab&topic=c:d&lastEventId=1&Last-Event-ID=l:2-3"), KNOWN).unwrap();
        assert_eq!(query.all(Parameter::Topic).collect::<Vec<_>>(), ["a:b", "c:d"]);
        assert_eq!(query.last(Parameter::LastEventId).as_deref(), Some("l:2-3"));
        assert_eq!(query.last(Parameter::Member), None);
    }

    #[test]
    #[should_panic(expected = "lacks")]
    fn what_a_resource_does_not_name_it_cannot_read() {
        let _ = Query::read(None, KNOWN).unwrap().last(Parameter::Limit);
    }
}
