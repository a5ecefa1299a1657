//! Whom and what something that happened is about, by the names that one can look for.

use std::fmt;
use std::net::IpAddr;

use crate::observe::happenings::ring::Line;
use crate::wire::connection_id::ConnectionId;
use crate::wire::frame::{Frame, Stored};

/// See the [module](self).
#[derive(Clone, Copy, Default)]
pub struct Subject<'a> {
    /// What there is to say beside the names.
    pub says: Option<fmt::Arguments<'a>>,
    /// The address that a client has.
    pub address: Option<IpAddr>,
    /// The connection of a client.
    pub connection: Option<ConnectionId>,
    /// The member.
    pub member: Option<&'a str>,
    /// The topic.
    pub topic: Option<&'a str>,
    /// The event, by its id.
    pub event: Option<&'a str>,
    /// The event, whose topic and id are looked up in it.
    pub frame: Option<&'a Frame>,
}

impl<'a> Subject<'a> {
    /// What there is to say, of nobody in particular.
    pub fn says(says: fmt::Arguments<'a>) -> Subject<'a> {
        Subject { says: Some(says), ..Subject::default() }
    }

    /// A topic.
    pub fn topic(topic: &'a str) -> Subject<'a> {
        Subject { topic: Some(topic), ..Subject::default() }
    }

    /// An event.
    pub fn frame(frame: &'a Frame) -> Subject<'a> {
        Subject { frame: Some(frame), ..Subject::default() }
    }

    /// The topic, and the event's id if it can be read.
    pub fn names(&self) -> (Option<&'a str>, Option<String>) {
        let stored = self.frame.and_then(|frame| Stored::read(frame.json()));
        let event = self.event.map(str::to_owned).or_else(|| Some(stored?.id.into_owned()));
        (self.topic.or_else(|| Some(self.frame?.topic())), event)
    }

    /// As a text.
    pub(super) fn line(&self, times: u64) -> Line {
        Line::of(Text(self, times))
    }
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Text(self, 1), formatter)
    }
}

struct Text<'a>(&'a Subject<'a>, u64);

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Text(about, times) = self;
        let mut between = "";
        let mut put = |name: &str, value: &dyn fmt::Display| {
            let written = write!(out, "{between}{name}{value}");
            between = " ";
            written
        };
        let (topic, event) = about.names();
        // The names first: a text that is cut still says whose it was.
        if let Some(connection) = about.connection {
            put("connection=", &connection.shown())?;
        }
        if let Some(member) = about.member {
            put("member=", &member)?;
        }
        if let Some(address) = about.address {
            put("address=", &address.to_canonical())?;
        }
        if let Some(topic) = topic {
            put("topic=", &topic)?;
        }
        if let Some(event) = event {
            put("event=", &event)?;
        }
        if *times > 1 {
            put("times=", times)?;
        }
        about.says.map_or(Ok(()), |says| put("", &says))
    }
}
