//! Frames of Mercure's updates: they have the form that its subscribers read from the start, with the event as JSON beside it,
//! which other nodes get.

use std::io::Write as _;
use std::sync::Arc;

use super::{Event, Frame, Paced, Place, SIZE_LINE_BYTES_MAX, Stored, push_json};
use crate::limits::EVENT_BYTES_MAX;
use crate::wire::mercure::subscriber::Subscriber;
use crate::wire::mercure::{self, Update, is_one_line};
use crate::wire::topic::Topic;

// Its text on lines, its name, and its JSON, and what stands around them.
const _: () = assert!(3 * EVENT_BYTES_MAX + 4096 <= u16::MAX as usize);

/// For whom of those who watch the frame's topic an update is.
#[derive(Debug, PartialEq, Eq)]
pub struct Audience {
    /// The update's topics before the frame's: who has one of them gets it there.
    pub earlier: Box<[Topic]>,
    /// Its topics as they were published: those, the frame's, and of a private one all others.
    pub texts: Box<[Box<str>]>,
    /// It is only for those who have a right to one of its topics.
    pub is_private: bool,
    /// The frame's topic is known by its hash: who has that by a selector is to look at its text.
    pub is_hashed: bool,
}

impl Audience {
    /// Whether it is for a stream that `names` topics and has others as this subscriber: one that gets all private updates of the
    /// frame's topic, or not, and has that by a prefix, or not.
    pub fn has(
        &self,
        gets_private: bool,
        by_prefix: bool,
        subscriber: Option<&Subscriber>,
        names: impl Fn(&Topic) -> bool,
    ) -> bool {
        let wants = |number: usize| subscriber.is_some_and(|by| by.wanted.select(&self.texts[number]));
        if self.earlier.iter().enumerate().any(|(number, topic)| wants(number) || names(topic)) {
            return false;
        }
        if self.is_hashed && by_prefix && !wants(self.earlier.len()) {
            return false;
        }
        let may_see = |by: &Subscriber| self.texts.iter().any(|text| by.private.select(text));
        !self.is_private || gets_private || subscriber.is_some_and(may_see)
    }

    /// That of an update on its topic of this number; none if it is for everyone.
    fn of(update: &Update<'_>, number: usize, topic: &str) -> Option<Arc<Audience>> {
        let (is_private, is_hashed) = (update.private, mercure::is_hashed(topic));
        if number == 0 && !is_private && !is_hashed {
            return None;
        }
        let earlier = update.topics[..number].iter().map(|text| mercure::topic(text)).collect();
        let texts = if is_private { &update.topics[..] } else { &update.topics[..=number] };
        let texts = texts.iter().map(|text| text.as_ref().into()).collect();
        Some(Arc::new(Audience { earlier, texts, is_private, is_hashed }))
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
        Some(Frame { audience: Audience::of(&update, number, event.topic), ..frame })
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
    use proptest::prelude::*;

    use super::*;
    use crate::wire::binary::Reader;
    use crate::wire::event::Class;
    use crate::wire::mercure::selectors::Selectors;
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
        let texts: [Box<str>; 2] = ["https://a.example/1".into(), "b".into()];
        assert_eq!((&audience.texts[..], audience.is_private, audience.is_hashed), (&texts[..], true, false));
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

    fn audience(topics: &[&str], on: &str, private: bool) -> Arc<Audience> {
        let data = serde_json::json!({"topics": topics, "private": private}).to_string();
        update("urn:x", on, &data, Some(PLACE)).audience.expect("it is not for all")
    }

    fn subscriber(wanted: &[&str], private: &[&str]) -> Subscriber {
        let of = |texts: &[&str]| Selectors::of(texts.iter().copied());
        Subscriber { wanted: of(wanted), private: Arc::new(of(private)) }
    }

    #[test]
    fn an_update_is_for_who_watches_its_first_topic_and_may_see_it() {
        let (users, others) = (subscriber(&[], &["/users/{id}"]), subscriber(&[], &["/x"]));
        let nothing = |_: &Topic| false;
        let alone = audience(&["a"], "a", true);
        assert!(alone.has(true, false, None, nothing));
        assert!(!alone.has(false, false, None, nothing) && !alone.has(false, false, Some(&users), nothing));
        let of_two = audience(&["a", "/users/ana"], "/users/ana", true);
        assert!(of_two.has(false, false, Some(&users), nothing) && !of_two.has(false, false, Some(&others), nothing));
        // Whatever it may see, it gets it by the first of them.
        let names = |topic: &Topic| *topic == mercure::topic("a");
        assert!(!of_two.has(true, false, Some(&users), names));
        assert!(audience(&["a", "b"], "a", true).has(true, false, None, names));
    }

    #[test]
    fn an_update_is_for_who_has_its_first_topic_by_a_template() {
        let nothing = |_: &Topic| false;
        let books = subscriber(&["/books/{id}"], &[]);
        let (first, second) = (["/books/1", "/authors/1"], ["/authors/1", "/books/1"]);
        let public = |topics: &[&str], on: &str| audience(topics, on, false).has(false, true, Some(&books), nothing);
        assert!(!public(&first, "/authors/1") && public(&second, "/books/1"));
        // Of a topic that is known by its hash only what the template selects, and in private only what a token does.
        let long = format!("/books/{}", "1".repeat(300));
        let longer = format!("{long}/reviews");
        assert!(public(&[&long], &long) && !public(&[&longer], &longer));
        assert!(audience(&[&longer], &longer, false).has(false, false, Some(&books), nothing), "it is named");
        let private = audience(&[&long], &long, true);
        assert!(!private.has(false, true, Some(&books), nothing));
        assert!(private.has(false, true, Some(&subscriber(&["*"], &["/books/{id}"])), nothing));
    }

    proptest! {
        /// Whatever an update's topics are: who has some, by their names or by templates, is given it once, by the first of them,
        /// and a private one just if a selector of the token selects one of all.
        #[test]
        fn an_update_of_several_topics_is_given_once(
            topics in prop::collection::vec("/[ab]/[ab]", 1..4),
            named in prop::collection::vec("/[ab]/[ab]", 0..3), wanted in prop::collection::vec("/[ab]/\\{x\\}|\\*", 0..2),
            mine in prop::collection::vec("/[ab]/\\{x\\}|/[ab]/[ab]|\\*", 0..2), private: bool,
        ) {
            let texts = |list: &[String]| Selectors::of(list.iter().map(String::as_str));
            let subscriber = Subscriber { wanted: texts(&wanted), private: Arc::new(texts(&mine)) };
            let names = |topic: &Topic| named.iter().any(|text| mercure::topic(text) == *topic);
            let mut each: Vec<&str> = Vec::new();
            topics.iter().for_each(|text| if !each.contains(&&**text) { each.push(text) });
            let given = each.iter().filter(|text| {
                let (topic, data) = (mercure::topic(text), serde_json::json!({"topics": each, "private": private}).to_string());
                // As the stream has the topic, if it has it.
                let (by_prefix, gets_private) = match (names(&topic), subscriber.has(topic.as_str())) {
                    (true, _) => (false, subscriber.private.select(text)),
                    (false, Some(gets_private)) => (true, gets_private),
                    (false, None) => return false,
                };
                let frame = update("urn:x", text, &data, Some(PLACE));
                frame.audience().is_none_or(|audience| audience.has(gets_private, by_prefix, Some(&subscriber), names))
            });
            let has = |text: &&&str| named.iter().any(|name| name == **text) || subscriber.wanted.select(text);
            let may_see = !private || each.iter().any(|text| subscriber.private.select(text));
            let expected: Vec<&str> = each.iter().find(has).copied().filter(|_| may_see).into_iter().collect();
            prop_assert_eq!(given.copied().collect::<Vec<_>>(), expected);
        }
    }
}
