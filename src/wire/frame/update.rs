//! Frames of Mercure's updates: they have the form that its subscribers read from the start, with the event as JSON beside it,
//! which other nodes get.

use std::io::Write as _;
use std::sync::Arc;

use super::{Event, Frame, Paced, Place, SIZE_LINE_BYTES_MAX, Stored, push_json};
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::mercure::selectors::Selectors;
use crate::wire::mercure::{self, Update, is_one_line};
use crate::wire::topic::Topic;

// Its text on lines, its name, and its JSON, and what stands around them.
const _: () = assert!(3 * EVENT_BYTES_MAX + 4096 <= u16::MAX as usize);

/// For whom of those who watch the frame's topic an update is.
#[derive(Debug, PartialEq, Eq)]
pub struct Audience {
    /// The update's topics before this one: who watches one of them gets it there.
    pub earlier: Box<[Topic]>,
    /// All of its topics, as they were published, if it is only for those who have a right to one of them.
    pub private: Option<Box<[Box<str>]>>,
}

impl Audience {
    /// Whether it is for a stream which `watches` topics: one that gets the private updates of the frame's topic, or of others by
    /// `selectors`.
    pub fn has(&self, gets_private: bool, selectors: Option<&Selectors>, watches: impl Fn(&Topic) -> bool) -> bool {
        if self.earlier.iter().any(watches) {
            return false;
        }
        let select = |selectors: &Selectors, topics: &[Box<str>]| topics.iter().any(|topic| selectors.select(topic));
        let private = self.private.as_deref().filter(|_| !gets_private);
        private.is_none_or(|topics| selectors.is_some_and(|selectors| select(selectors, topics)))
    }

    /// That of an update on its topic of this number; none if it is for everyone.
    fn of(update: &Update<'_>, number: usize) -> Option<Arc<Audience>> {
        let earlier: Box<[Topic]> = update.topics[..number].iter().map(|text| mercure::topic(text)).collect();
        let private = update.private.then(|| update.topics.iter().map(|text| text.as_ref().into()).collect());
        (!earlier.is_empty() || private.is_some()).then(|| Arc::new(Audience { earlier, private }))
    }
}

impl Frame {
    /// Encodes an update that has its place in history; until then nobody is shown it. `None` if it is none, or not of its topic.
    pub(super) fn encode_update(event: &Event<'_>) -> Option<Frame> {
        let place = event.place?;
        if !mercure::is_of_kind(event.topic) || event.kind != mercure::TYPE || !is_one_line(event.id) {
            return None;
        }
        let update = Update::read(event.data)?;
        let number = update.topics.iter().position(|text| mercure::topic(text).as_str() == event.topic)?;
        let mut bytes = Vec::with_capacity(256 + 2 * event.data.len());
        bytes.extend_from_slice(&[0; SIZE_LINE_BYTES_MAX]);
        update.write(|out| write!(out, "{}#{}:{}", event.id, place.dc, place.position).expect("a Vec"), &mut bytes);
        let end = bytes.len();
        bytes.extend_from_slice(b"\r\n");
        let places = push_json(&mut bytes, event);
        let frame = Frame::chunk(event, bytes, end, places);
        Some(Frame { audience: Audience::of(&update, number), ..frame })
    }

    /// For whom of those who watch its topic it is; none if it is for all.
    pub fn audience(&self) -> Option<&Audience> {
        self.audience.as_deref()
    }

    /// The event as JSON, if viewers get it in another form.
    pub(super) fn beside(&self) -> Option<&str> {
        let beside = &self.bytes[usize::from(self.end)..];
        (!beside.is_empty()).then(|| std::str::from_utf8(beside).expect("it was encoded from texts"))
    }

    /// The data center of its place in history.
    pub(super) fn dc(&self) -> Option<&str> {
        let event = std::str::from_utf8(self.event()).expect("an event is UTF-8");
        let (id, _) = event.strip_prefix("id: ")?.split_once('\n')?;
        let place = id.rsplit_once('#').map_or(id, |(_, place)| place);
        Some(place.rsplit_once(':')?.0)
    }

    /// The same event as JSON, if viewers get it in another form: as other nodes are given it.
    pub(super) fn as_json(&self) -> Option<Frame> {
        let stored = Stored::read(self.beside()?)?;
        let place = Place { dc: self.dc()?, position: self.position?, prev: self.prev, paced: Paced::SHOWN };
        let hops = self.hops.as_ref();
        Some(Frame::encode_json(&Event { place: Some(place), hops, ..stored.event(self.class, self.ttl_ms) }))
    }

    /// The same event in the form that viewers get, as another node gave it; as it is where that is JSON.
    pub(super) fn in_form(self) -> Frame {
        let encoded = Some(self.topic()).filter(|topic| mercure::is_of_kind(topic)).and_then(|_| {
            let stored = Stored::read(self.json())?;
            let place = Place { dc: self.dc()?, position: self.position?, prev: self.prev, paced: self.paced };
            let hops = self.hops.as_ref();
            Frame::encode_update(&Event { place: Some(place), hops, ..stored.event(self.class, self.ttl_ms) })
        });
        encoded.unwrap_or(self)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::binary::Reader;
    use crate::wire::event::Class;
    use crate::wire::position::Position;
    use crate::wire::version::Version;

    pub(crate) const PLACE: Place<'static> =
        Place { dc: "dc", position: Position { ms: 5, seq: 2 }, prev: Position::at(4), paced: Paced::SHOWN };

    /// The frame of an update with these data, on this of Mercure's topics.
    pub(crate) fn update(id: &str, topic: &str, data: &str, place: Option<Place<'_>>) -> Frame {
        Frame::encode(&Event {
            id,
            topic: mercure::topic(topic).as_str(),
            kind: mercure::TYPE,
            key: None,
            at: 7,
            data: data.as_bytes(),
            class: Class::Every,
            ttl_ms: 0,
            place,
            version: Version::NONE,
            hops: None,
        })
    }

    const DATA: &str =
        r#"{"topics":["https://a.example/1","b"],"data":"{\"a\":\n1}","private":true,"type":"t","retry":9}"#;

    #[test]
    fn an_update_has_mercures_form_and_its_json_beside_it() {
        let frame = update("urn:x", "b", DATA, Some(PLACE));
        let text = std::str::from_utf8(frame.event()).unwrap();
        assert_eq!(text, "id: urn:x#dc:5-2\nevent: t\nretry: 9\ndata: {\"a\":\ndata: 1}\n\n");
        assert_eq!(std::str::from_utf8(frame.bytes()).unwrap(), format!("{:x}\r\n{text}\r\n", text.len()));
        let json = format!(r#"{{"id":"urn:x","topic":"mercure:b","type":"mercure","at":7,"data":{DATA}}}"#);
        assert_eq!((frame.json(), frame.topic(), frame.kind()), (&*json, "mercure:b", "mercure"));
        assert_eq!(frame.identity(), br#""topic":"mercure:b","type":"mercure""#);
        let audience = frame.audience().unwrap();
        assert_eq!(*audience.earlier, [mercure::topic("https://a.example/1")]);
        let private: [Box<str>; 2] = ["https://a.example/1".into(), "b".into()];
        assert_eq!(audience.private.as_deref(), Some(&private[..]));
        assert_eq!(update("urn:x", "b", r#"{"topics":["b","c"],"data":"x"}"#, Some(PLACE)).audience(), None);
    }

    #[test]
    fn it_goes_to_other_nodes_as_json_and_has_its_form_again_there() {
        for (data, paced) in [(DATA, Paced::SHOWN), (DATA, Paced::shown(3)), (DATA, Paced::LEFT_OUT)] {
            let frame = update("urn:x", "b", data, Some(Place { paced, ..PLACE }));
            let mut record = Vec::new();
            frame.to_wire(&mut record);
            let text = String::from_utf8_lossy(&record).into_owned();
            assert!(text.contains("id: dc:5-2\ndata: {\"id\":\"urn:x\"") && !text.contains("event: t"), "{text}");
            let read = Frame::from_wire(Frame::next_record(&mut Reader(&record)).unwrap()).unwrap();
            assert_eq!((read.bytes(), read.json(), read.paced()), (frame.bytes(), frame.json(), paced));
            assert_eq!(
                (read.audience(), read.prev(), read.position()),
                (frame.audience(), PLACE.prev, Some(PLACE.position))
            );
            let earlier = read.resuming_from("dc", Position { ms: 3, seq: 1 }).unwrap();
            assert!(earlier.event().starts_with(b"id: urn:x#dc:3-1\nevent: t\n"), "{earlier:?}");
            assert_eq!((earlier.position(), earlier.audience()), (Some(PLACE.position), frame.audience()));
        }
    }

    #[test]
    fn what_is_no_update_is_json_as_any_event() {
        for (id, topic, data, place) in [
            ("urn:x", "b", DATA, None),
            ("urn:x", "c", DATA, Some(PLACE)),
            ("urn:\nx", "b", DATA, Some(PLACE)),
            ("urn:x", "b", "{}", Some(PLACE)),
        ] {
            let frame = update(id, topic, data, place);
            assert!(frame.beside().is_none() && frame.json().starts_with("{\"id\":\"urn:"), "{frame:?}");
            assert_eq!(
                frame.event().iter().filter(|byte| **byte == b'\n').count(),
                if place.is_some() { 3 } else { 2 }
            );
        }
    }

    #[test]
    fn an_update_is_for_who_watches_its_first_topic_and_may_see_it() {
        let audience = |topics: &str, on: &str| {
            let data = format!("{{\"topics\":{topics},\"private\":true}}");
            update("urn:x", on, &data, Some(PLACE)).audience.expect("it is private")
        };
        let selectors = Selectors::of(["/users/{id}"]);
        let nothing = |_: &Topic| false;
        let alone = audience(r#"["a"]"#, "a");
        assert!(alone.has(true, None, nothing));
        assert!(!alone.has(false, None, nothing) && !alone.has(false, Some(&selectors), nothing));
        let of_two = audience(r#"["a","/users/ana"]"#, "/users/ana");
        assert!(
            of_two.has(false, Some(&selectors), nothing) && !of_two.has(false, Some(&Selectors::of(["/x"])), nothing)
        );
        // Whatever it may see, it gets it by the first of them.
        let watches = |topic: &Topic| *topic == mercure::topic("a");
        assert!(!of_two.has(true, Some(&selectors), watches));
        assert!(audience(r#"["a","b"]"#, "a").has(true, None, watches));
    }
}
