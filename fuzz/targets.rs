//! What is fed with anything, and what holds whatever it is fed with. `tests/single/corpora.rs` runs the committed corpora through
//! the same functions.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare::auth::{Keys, Patterns, Token, credentials};
use fanfare::ground::lines::{Lines, Remaining, Taken};
use fanfare::settings::Flags;
use fanfare::settings::{Role, Settings};
use fanfare::wire::batch::{Batch, Writer};
use fanfare::wire::binary::Reader;
use fanfare::wire::chunked::{Chunked, Piece};
use fanfare::wire::connection_id::ConnectionId;
use fanfare::wire::event::{Class, Draft};
use fanfare::wire::frame::{Event, Frame, Paced, Place, Stored};
use fanfare::wire::mercure::form::Form;
use fanfare::wire::mercure::selectors::{Selectors, literal_begin};
use fanfare::wire::mercure::{self, Update};
use fanfare::wire::pack::unpack;
use fanfare::wire::position::{Position, Resume};
use fanfare::wire::reply::Replies;
use fanfare::wire::request::{BodyLength, Request, head_end, parse};
use fanfare::wire::response::AnswerTo;
use fanfare::wire::topic::{Topic, mended};
use fanfare::wire::version::Version;
use serde_json::Value;

pub type Target = fn(&[u8]);

/// All of them, by name.
pub const ALL: [(&str, Target); 9] = [
    ("request", request),
    ("ndjson", ndjson),
    ("batch", batch),
    ("frame", frame),
    ("token", token),
    ("jwks", jwks),
    ("topic", topic),
    ("update", update),
    ("configuration", configuration),
];

/// A size for pieces, taken from the data themselves.
fn pieces(data: &[u8]) -> usize {
    1 + usize::from(data.first().copied().unwrap_or(0)) % 40
}

/// A request's head and body mean the same however they come in pieces.
pub fn request(data: &[u8]) {
    let (size, mut at_once) = (pieces(data), head_end(data, 0));
    let (mut from, mut bit_by_bit) = (0, Ok(None));
    for end in (1..=data.len()).filter(|end| end % size == 0 || *end == data.len()) {
        bit_by_bit = head_end(&data[..end], from);
        if !matches!(bit_by_bit, Ok(None)) {
            break;
        }
        from = end.saturating_sub(3);
    }
    assert_eq!(at_once.as_ref().ok(), bit_by_bit.as_ref().ok());
    let Ok(Some(end)) = at_once.as_mut() else { return };
    let Ok(request) = parse(&data[..*end]) else { return };
    assert!(request.path.starts_with('/') || request.path == "*", "{}", request.path);
    let Request { authorization, cookie, .. } = request;
    let _ = credentials(authorization, cookie.map(|cookie| ("session", cookie)), None);
    if request.body == BodyLength::Chunked {
        let body = &data[*end..];
        assert_eq!(chunks(body, body.len().max(1)), chunks(body, size));
    }
    // The same bytes from another node as an answer.
    let (mut whole, mut parts) = (Replies::default(), Replies::default());
    let whole = whole.next(data);
    let mut last = Ok(None);
    for end in (1..=data.len()).filter(|end| end % size == 0 || *end == data.len()) {
        last = parts.next(&data[..end]);
        if !matches!(last, Ok(None)) {
            break;
        }
    }
    assert_eq!(whole.ok().flatten(), last.ok().flatten());
}

/// A chunked body: its data, and where it ended; none if it is not one.
fn chunks(body: &[u8], size: usize) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut chunked, mut data) = (Chunked::default(), Vec::new());
    for (number, piece) in body.chunks(size).enumerate() {
        let mut at = 0;
        loop {
            match chunked.next(piece, at) {
                Ok(Piece::Data(range)) => {
                    assert!(range.start >= at && range.end <= piece.len() && !range.is_empty());
                    at = range.end;
                    data.extend_from_slice(&piece[range]);
                }
                Ok(Piece::More) => break,
                Ok(Piece::End(used)) => return Some((data, Some(number * size + used))),
                Err(_) => return None,
            }
        }
    }
    Some((data, None))
}

/// Lines are the same however they come in pieces; an event that is taken is JSON, and stays what it was when it is stored and
/// read again, or goes to another node.
pub fn ndjson(data: &[u8]) {
    let to = AnswerTo::default();
    let read = |size: usize| {
        let (mut lines, mut taken) = (Lines::new(to, Remaining::Known(data.len() as u64)), Vec::new());
        let mut each = |number: u64, line: &[u8]| match Draft::parse_line(line) {
            Ok((_, more)) => {
                // Nodes store and hand over an event for several topics once for each.
                if more.is_empty() {
                    taken.push((number, line.to_vec()));
                }
                Ok(Taken::Now)
            }
            Err(error) => Err(error.to_string()),
        };
        data.chunks(size).for_each(|piece| lines.feed(piece, &mut each));
        lines.finish(&mut each);
        (lines.answer(), taken)
    };
    let (at_once, bit_by_bit) = (read(data.len().max(1)), read(pieces(data)));
    assert_eq!(at_once, bit_by_bit);
    let (_, taken) = at_once;
    for (_, line) in taken {
        let draft = Draft::parse(&line, None).expect("it was just read");
        let parsed: Value = serde_json::from_slice(draft.data).expect("data is JSON");
        let event = Event {
            id: draft.id.as_deref().unwrap_or("made-up"),
            topic: &draft.topic,
            kind: &draft.kind,
            key: draft.key.as_deref(),
            at: 1_732_313_131_123,
            data: draft.data,
            class: Class::Sum,
            ttl_ms: 5000,
            place: None,
            version: Version::NONE,
            hops: None,
        };
        let frame = Frame::encode(&event);
        let stored = Stored::read(frame.json()).expect("it was just written");
        assert_eq!((&*stored.topic, &*stored.kind, &*stored.id), (event.topic, event.kind, event.id));
        assert_eq!(serde_json::from_slice::<Value>(stored.data).expect("data stay JSON"), parsed);
        same_on_wire(&frame);
    }
}

/// A frame goes to other nodes unchanged. Gives its record.
fn same_on_wire(frame: &Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame.to_wire(&mut bytes);
    let mut reader = Reader(&bytes);
    let record = Frame::next_record(&mut reader).expect("it was just written");
    assert!(reader.0.is_empty());
    let again = Frame::from_wire(record).expect("what is written can be read");
    let mut second = Vec::new();
    again.to_wire(&mut second);
    assert_eq!(bytes, second);
    record.to_vec()
}

/// A batch that is taken can be handed on, and means the same.
pub fn batch(data: &[u8]) {
    let Ok(bytes) = unpack(data) else { return };
    let Ok(batch) = Batch::parse(&bytes) else { return };
    let header = batch.header;
    // As many as it says may be more than there are: nothing is reserved for them.
    let Ok(frames) = batch.frames(|_| true) else { return };
    assert_eq!(frames.len(), header.count as usize);
    let mut writer = Writer::default();
    frames.iter().for_each(|(_, frame)| writer.push(frame));
    let written = writer.finish(header.sender, header.shard, header.first, header.floor);
    let again = Batch::parse(&written).expect("what is written can be read");
    assert_eq!(again.header, header);
    let again = again.frames(|_| true).expect("what is written can be read");
    for ((number, frame), (other_number, other)) in frames.iter().zip(&again) {
        assert_eq!((number, frame.bytes()), (other_number, other.bytes()));
    }
}

/// A frame that is taken is one event in one chunk, can be handed on, counted anew and merged.
pub fn frame(data: &[u8]) {
    let Ok(frame) = Frame::from_wire(data) else { return };
    same_on_wire(&frame);
    let frame = Arc::new(frame);
    let (body, end) = chunks(frame.bytes(), frame.bytes().len()).expect("it is a chunk");
    assert_eq!((end, &*body), (None, frame.event()), "the chunk is the event, and all of it");
    assert!(!frame.json().contains(['\n', '\r']), "a line break would end the event");
    assert!(Topic::parse(frame.topic()).is_ok_and(|topic| topic.as_str() == frame.topic()));
    if frame.class() == Class::Sum {
        let more = frame.recounted(u64::from(frame.count()) + 9_999_999);
        assert!(more.json().contains("\"count\":"));
        same_on_wire(&more);
    }
    if frame.merges_with(&frame) {
        let _ = frame.merged_with(&frame);
    }
    let _ = frame.withdraws();
}

const SECRET: &[u8] = b"a secret that has more than 32 bytes, for fuzzing";
const NOW_MS: u64 = 1_800_000_000_000;

/// A file that this process has for itself.
fn file(name: &str, content: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("fanfare-fuzz-{}-{name}", std::process::id()));
    std::fs::write(&path, content).expect("a temporary file");
    path
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::load(&file("key", SECRET)).expect("a secret is a key"));

/// A token: the data as they are, and signed, with a header and claims of which either is the data's.
pub fn token(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = Token(text).verify(&KEYS, NOW_MS);
    let (header, claims) = match text.split_once('\n') {
        Some((header, claims)) => (header, claims),
        None => ("{\"alg\":\"HS256\"}", text),
    };
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256);
    let signed = format!("{message}.{}", signature.expect("a secret signs"));
    if let Ok(rights) = Token(&signed).verify(&KEYS, NOW_MS) {
        assert!(!rights.is_expired(NOW_MS), "what has expired gives no rights");
        let claims: Value = serde_json::from_str(claims).expect("claims are JSON");
        assert!(claims.get("exp").is_some(), "a token must expire");
        let _ = rights.may_publish(&Topic::parse("live:1").expect("a topic"));
    }
}

/// A file of keys.
pub fn jwks(data: &[u8]) {
    if let Ok(keys) = Keys::load(&file("keys", data)) {
        assert!(keys.count() > 0, "a file without keys is refused");
        let _ = Token("eyJhbGciOiJFUzI1NiJ9.e30.AAAA").verify(&keys, NOW_MS);
    }
}

/// Topics, what stands for several, and what names a stream or a place.
pub fn topic(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(topic) = Topic::parse(text) {
        let again = Topic::parse(topic.as_str()).expect("a topic is one");
        assert_eq!(again.as_str(), topic.as_str(), "it is normal already");
        assert!((3..=200).contains(&topic.as_str().len()), "{}", topic.as_str());
        assert!(topic.as_str().starts_with(topic.kind()));
        let itself = Patterns::parse([topic.as_str()]).expect("a topic is a pattern");
        assert!(itself.allow(&topic));
        assert!(Patterns::parse([text]).expect("so is what became one").allow(&topic));
        if let Some((kind, id)) = topic.as_str().split_once(':') {
            let _ = Topic::encode(kind, id);
        }
    }
    assert_eq!(mended(&mended(text)), mended(text), "what is mended needs no mending");
    if let Some(id) = ConnectionId::decode(text) {
        assert_eq!(ConnectionId::decode(&id.encode()).map(|id| id.encode()), Some(id.encode()));
    }
    let _ = Resume::read(text, "a", |_, ms| ms);
}

/// A configuration file: each setting is taken or refused.
pub fn configuration(data: &[u8]) {
    let path = file("toml", data);
    for role in [Role::All, Role::Frontend, Role::Dispatcher, Role::Backend] {
        let environment = [("FANFARE_CONFIG".into(), path.clone().into_os_string())];
        match Settings::resolve(role, &Flags::default(), environment) {
            Ok(settings) => {
                let _ = settings.event("like");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

/// A form of Mercure's that is taken is an event that every node can keep, hand on and show, as one block of a stream. What stands
/// before a line feed, and behind it, is a selector and a topic, too.
pub fn update(data: &[u8]) {
    if let Ok((selector, topic)) = std::str::from_utf8(data).map(|text| text.split_once('\n').unwrap_or((text, ""))) {
        let selects = Selectors::of([selector]).select(topic);
        match literal_begin(selector) {
            None => assert_eq!(selects, selector == topic, "{selector:?} {topic:?}"),
            Some(_) => {
                let is_found =
                    mercure::prefix(selector).is_none_or(|prefix| prefix.covers(mercure::topic(topic).as_str()));
                assert!((is_found || !selects) && (selects || selector != "*"), "{selector:?} {topic:?}");
            }
        }
        assert!(Selectors::of([selector]).select(selector));
    }
    let Ok(form) = Form::read(None, data) else { return };
    let Ok(json) = form.event_data() else { return };
    assert_eq!(Update::read(&json).as_ref(), Some(&form.update));
    let prev = Position { ms: 1, seq: 1 };
    let place = Place { dc: "dc", position: Position { ms: 2, seq: 3 }, prev, paced: Paced::SHOWN };
    for topic in &form.update.topics {
        let frame = Frame::encode(&Event {
            id: form.id.as_deref().unwrap_or("urn:x"),
            topic: mercure::topic(topic).as_str(),
            kind: mercure::TYPE,
            key: None,
            at: 7,
            data: &json,
            class: Class::Every,
            ttl_ms: 0,
            place: Some(place),
            version: Version::NONE,
            hops: None,
        });
        let text = std::str::from_utf8(frame.event()).expect("an event is UTF-8");
        assert!(text.starts_with("id: ") && text.ends_with("\n\n") && !text.contains('\r'), "{text:?}");
        assert_eq!(text.lines().filter(|line| line.is_empty()).count(), 1, "{text:?}");
        assert!(text.lines().all(|line| line.is_empty()
            || ["id: ", "event: ", "retry: ", "data: "].iter().any(|field| line.starts_with(field))));
        let mut record = Vec::new();
        frame.to_wire(&mut record);
        let read =
            Frame::from_wire(Frame::next_record(&mut Reader(&record)).expect("a record")).expect("it was just written");
        assert_eq!((read.bytes(), read.json(), read.audience()), (frame.bytes(), frame.json(), frame.audience()));
    }
}
