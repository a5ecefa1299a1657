//! What the load generator publishes and finds again in the frames: a sequence number, the time at which the event was
//! due, and its topic.
use memchr::memmem;

use super::args::Common;
use crate::client::fleet::known::{Kind, Reader, Said, Sample, control, number, number_after};

/// Writes one event's data: `{"seq":…,"sent":…,"t":…}`, padded to `bytes_min`.
pub fn write_data(out: &mut Vec<u8>, sequence: u64, due_us: u64, topic: u32, bytes_min: usize) {
    let start = out.len();
    let mut digits = itoa::Buffer::new();
    out.extend_from_slice(b"{\"seq\":");
    out.extend_from_slice(digits.format(sequence).as_bytes());
    out.extend_from_slice(b",\"sent\":");
    out.extend_from_slice(digits.format(due_us).as_bytes());
    out.extend_from_slice(b",\"t\":");
    out.extend_from_slice(digits.format(topic).as_bytes());
    const PAD: &[u8] = b",\"pad\":\"";
    let have = out.len() - start + 1;
    if have < bytes_min {
        out.extend_from_slice(PAD);
        let pad = bytes_min.saturating_sub(have + PAD.len() + 1);
        out.resize(out.len() + pad, b'x');
        out.push(b'"');
    }
    out.push(b'}');
}

/// The bodies of publish requests.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// `"type":"like","key":"like",` as JSON.
    kind_and_key: String,
    payload: usize,
    raw: bool,
}

impl Encoder {
    /// An encoder of events of that type and key; an empty key is left out.
    pub fn new(common: &Common, payload: usize) -> Self {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let mut kind_and_key = format!("\"type\":{},", text(&common.kind));
        if !common.key.is_empty() {
            kind_and_key.push_str(&format!("\"key\":{},", text(&common.key)));
        }
        Self { kind_and_key, payload, raw: common.raw_body }
    }

    /// Writes one event as JSON. `topic_name` goes in where the request's path does not name the topic.
    pub fn write(&self, out: &mut Vec<u8>, topic_name: Option<&str>, topic: u32, sequence: u64, due_us: u64) {
        let mut digits = itoa::Buffer::new();
        out.push(b'{');
        if self.raw {
            out.extend_from_slice(b"\"id\":\"");
            out.extend_from_slice(digits.format(sequence).as_bytes());
            out.extend_from_slice(b"\",");
        }
        if let Some(name) = topic_name {
            out.extend_from_slice(b"\"topic\":\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\",");
        }
        out.extend_from_slice(self.kind_and_key.as_bytes());
        if self.raw {
            out.extend_from_slice(b"\"at\":");
            out.extend_from_slice(digits.format(due_us / 1000).as_bytes());
            out.extend_from_slice(b",\"count\":1,");
        }
        out.extend_from_slice(b"\"data\":");
        write_data(out, sequence, due_us, topic, self.payload);
        out.push(b'}');
    }

    /// Whether the body is the whole event, as subscribers are to see it.
    pub fn is_raw(&self) -> bool {
        self.raw
    }
}

/// Finds the fields in frames. The frames of one run end alike, so it looks first where the last ones had them.
#[derive(Debug)]
pub struct Extractor {
    events: memmem::Finder<'static>,
    likes: memmem::Finder<'static>,
    /// Of likes that came through the backend it is a member's name that tells.
    reads_likes: bool,
    count: memmem::Finder<'static>,
    total: memmem::Finder<'static>,
    /// Bytes from the field's begin to the frame's end, in the last frame.
    distance: usize,
}

const EVENT: &[u8] = b"\"data\":{\"seq\":";
const LIKE: &[u8] = b"\"member\":\"s";
const COUNT: &[u8] = b"\"count\":";
const TOTAL: &[u8] = b"\"type\":\"likes\",";
const TOTAL_DATA: &[u8] = b"\"data\":{\"likes\":";

impl Extractor {
    /// An extractor of published events, or of likes that came through the backend.
    pub fn new(likes: bool) -> Self {
        Self {
            events: memmem::Finder::new(EVENT),
            likes: memmem::Finder::new(LIKE),
            reads_likes: likes,
            count: memmem::Finder::new(COUNT),
            total: memmem::Finder::new(TOTAL),
            distance: 0,
        }
    }

    fn event(&mut self, frame: &[u8]) -> Option<Sample> {
        let hinted = frame.len().checked_sub(self.distance).filter(|at| frame[*at..].starts_with(EVENT));
        let at = match hinted {
            Some(at) => at,
            None => {
                let at = self.events.find(frame)?;
                self.distance = frame.len() - at;
                at
            }
        };
        let (sequence, rest) = number(&frame[at + EVENT.len()..])?;
        let (due_us, rest) = number(rest.strip_prefix(b",\"sent\":")?)?;
        let (topic, _) = number(rest.strip_prefix(b",\"t\":")?)?;
        Some(self.sample(sequence, due_us, Some(u32::try_from(topic).ok()?), &frame[..at]))
    }

    fn like(&self, frame: &[u8]) -> Option<Sample> {
        let at = self.likes.find(frame)?;
        let (sequence, rest) = number(&frame[at + LIKE.len()..])?;
        let (due_us, _) = number(rest.strip_prefix(b"-")?)?;
        Some(self.sample(sequence, due_us, None, &frame[..at]))
    }

    fn sample(&self, number: u64, due_us: u64, topic: Option<u32>, before: &[u8]) -> Sample {
        Sample { kind: Kind::Like, number, due_us, topic, count: self.count_in(before), skipped: 0 }
    }

    /// The total over all reactions that a frame tells, if it is an event `likes`.
    fn total(&self, frame: &[u8]) -> Option<u64> {
        let at = self.total.find(frame)? + TOTAL.len();
        number_after(&frame[at..], TOTAL_DATA)
    }

    /// The count, which stands right before the data where the server keeps the design's order; 1 if there is none.
    fn count_in(&self, before: &[u8]) -> u64 {
        if before.ends_with(b"\"count\":1,") {
            return 1;
        }
        self.count.find(before).and_then(|at| number(&before[at + COUNT.len()..])).map_or(1, |(count, _)| count)
    }
}

impl Reader for Extractor {
    fn read(&mut self, frame: &[u8]) -> Said {
        let sample = if self.reads_likes { self.like(frame) } else { self.event(frame) };
        let total = || self.reads_likes.then(|| self.total(frame)).flatten();
        sample.map(Said::Event).or_else(|| total().map(Said::Total)).unwrap_or_else(|| control(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_found() {
        let mut extractor = Extractor::new(false);
        for (payload, sequence) in [(0, 0), (0, 9), (0, 10), (60, 11), (61, 99), (200, 12_345_678_901)] {
            let mut data = Vec::new();
            write_data(&mut data, sequence, 1_732_313_131_123_456, 7, payload);
            assert!(data.len() >= payload);
            let json: serde_json::Value = serde_json::from_slice(&data).unwrap();
            assert_eq!(json["seq"], sequence);
            let text = String::from_utf8(data).unwrap();
            for (count, field) in [(1, "\"count\":1,"), (1, ""), (1234, "\"count\":1234,"), (11, "\"count\":11,")] {
                let frame = format!("data: {{\"id\":\"x\",\"topic\":\"live:1\",\"at\":1,{field}\"data\":{text}}}\n\n");
                let (kind, due_us) = (Kind::Like, 1_732_313_131_123_456);
                let sample = Sample { kind, number: sequence, due_us, topic: Some(7), count, skipped: 0 };
                assert_eq!(extractor.read(frame.as_bytes()), Said::Event(sample), "{frame}");
            }
        }
        assert_eq!(extractor.read(b": keep-alive\n\n"), Said::Nothing);
        assert_eq!(extractor.read(b"event: connected\ndata: {\"connection\":\"\"}\n\n"), Said::Connected);
    }

    #[test]
    fn likes_are_found() {
        let frame = br#"data: {"id":"x","topic":"live:1","type":"like","key":"like","at":5,"count":3,"counts":{"like":2,"love":1},"members":["s17-99","s9-1"],"data":{"member":"s17-99","reaction":"like","likes":20}}"#;
        let sample = Sample { kind: Kind::Like, number: 17, due_us: 99, topic: None, count: 3, skipped: 0 };
        let mut extractor = Extractor::new(true);
        assert_eq!(extractor.read(frame), Said::Event(sample));
        let told = br#"data: {"id":"x","topic":"live:1","type":"likes","at":5,"data":{"likes":20,"reactions":{"like":20},"taps":{}}}"#;
        assert_eq!(extractor.read(told), Said::Total(20));
    }
}
