//! What tells viewers that something may be missing goes their events' way.

use super::{Frame, Paced, place, topic_hash};
use crate::wire::event::Class;
use crate::wire::position::Reach;
use crate::wire::sse::{self, Framing};

impl Frame {
    /// The control event that tells viewers of a topic that events which followed `after` may be missing. It is queued
    /// like an event of class `every`, without a place in history.
    pub fn gap(topic: &str, after: &str, told: Reach) -> Frame {
        let mut bytes = Vec::new();
        Framing::Chunked.wrap(&mut bytes, |out| sse::gap(out, topic, Some(after)));
        let start = memchr::memchr(b'\n', &bytes).expect("a chunk has a size line") + 1;
        let name = memchr::memmem::rfind(&bytes, topic.as_bytes()).expect("it was just written");
        let end = place(bytes.len());
        let topic_place = place(name)..place(name + topic.len());
        Frame {
            bytes: bytes.into_boxed_slice(),
            start: place(start),
            end,
            identity: topic_place.clone(),
            topic: topic_place,
            count_at: 0..0,
            class: Class::Every,
            ttl_ms: 0,
            count: 1,
            at: 0,
            topic_hash: topic_hash(topic),
            position: None,
            prev: told.place(),
            version: 0,
            paced: Paced::SHOWN,
            dc: None,
            origins: None,
            merged: None,
            audience: None,
            hops: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_names_its_topic() {
        let gap = Frame::gap("a:b", "local:5-1", Reach::START);
        let text = std::str::from_utf8(gap.event()).unwrap();
        assert_eq!(text, "event: gap\ndata: {\"after\":\"local:5-1\",\"topic\":\"a:b\"}\n\n");
        assert_eq!((gap.topic(), gap.class(), gap.position()), ("a:b", Class::Every, None));
    }
}
