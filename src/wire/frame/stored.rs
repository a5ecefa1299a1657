//! Events read back from their text.

use std::borrow::Cow;

use super::{Event, Paced};
use crate::wire::event::{Class, Draft};
use crate::wire::json;
use crate::wire::version::Version;

/// An event read back from its JSON, [`Frame::json`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Its identity.
    pub id: Cow<'a, str>,
    /// Its topic.
    pub topic: Cow<'a, str>,
    /// Its type.
    pub kind: Cow<'a, str>,
    /// Its key.
    pub key: Option<Cow<'a, str>>,
    /// Unix ms when the first Fanfare node accepted it.
    pub at: u64,
    /// Its data.
    pub data: &'a [u8],
    /// What its topic's pace made of it.
    pub paced: Paced,
}

impl<'a> Stored<'a> {
    /// Reads what [`Frame::json`] gave; `None` for anything else.
    pub fn read(text: &'a str) -> Option<Stored<'a>> {
        let draft = Draft::parse(text.as_bytes(), None).ok()?;
        let mut at = None;
        json::members(text.as_bytes(), |name, value| {
            if name == b"at" {
                at = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            }
            Ok(())
        })
        .ok()?;
        let Draft { id, topic, kind, key, data, .. } = draft;
        Some(Stored { id: id?, topic, kind, key, at: at?, data, paced: Paced::of(text) })
    }

    /// To be encoded again.
    pub fn event(&self, class: Class, ttl_ms: u32) -> Event<'_> {
        Event {
            id: &self.id,
            topic: &self.topic,
            kind: &self.kind,
            key: self.key.as_deref(),
            at: self.at,
            data: self.data,
            class,
            ttl_ms,
            place: None,
            version: Version::NONE,
            hops: None,
        }
    }
}
