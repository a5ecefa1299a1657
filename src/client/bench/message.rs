//! What the load generator publishes and finds again in the frames: a sequence number, the time at which the event was
//! due, and its topic.
use memchr::memmem;

use super::args::Common;

/// What a received frame says about the events in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Number of the newest event within its topic, from 0.
    pub sequence: u64,
    /// When that event was due, in µs since the epoch.
    pub due_us: u64,
    /// Its topic's index; `None` when the frame does not say.
    pub topic: Option<u32>,
    /// Events in the frame: more than one when the server merged.
    pub count: u64,
}

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
    likes: Option<memmem::Finder<'static>>,
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
            likes: likes.then(|| memmem::Finder::new(LIKE)),
            count: memmem::Finder::new(COUNT),
            total: memmem::Finder::new(TOTAL),
            distance: 0,
        }
    }

    /// The frame's sample; `None` for a comment or a control event.
    pub fn extract(&mut self, frame: &[u8]) -> Option<Sample> {
        match &self.likes {
            None => self.event(frame),
            Some(finder) => {
                let at = finder.find(frame)?;
                let (sequence, rest) = number(&frame[at + LIKE.len()..])?;
                let (due_us, _) = number(rest.strip_prefix(b"-")?)?;
                Some(Sample { sequence, due_us, topic: None, count: self.count_in(&frame[..at]) })
            }
        }
    }

    /// The total over all reactions that a frame tells, if it is an event `likes`.
    pub fn total(&self, frame: &[u8]) -> Option<u64> {
        let at = self.total.find(frame)? + TOTAL.len();
        let data = memmem::find(&frame[at..], TOTAL_DATA)? + TOTAL_DATA.len();
        Some(number(&frame[at + data..])?.0)
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
        let topic = Some(u32::try_from(topic).ok()?);
        Some(Sample { sequence, due_us, topic, count: self.count_in(&frame[..at]) })
    }

    /// The count, which stands right before the data where the server keeps the design's order; 1 if there is none.
    fn count_in(&self, before: &[u8]) -> u64 {
        if before.ends_with(b"\"count\":1,") {
            return 1;
        }
        self.count.find(before).and_then(|at| number(&before[at + COUNT.len()..])).map_or(1, |(count, _)| count)
    }
}

/// The decimal number that the bytes begin with, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    let mut length = 0;
    // Times have 16 digits: eight at once are three multiplications instead of eight.
    while let Some(Ok(eight)) = bytes.get(length..length + 8).map(<[u8; 8]>::try_from) {
        let Some(part) = eight_digits(u64::from_le_bytes(eight)) else {
            break;
        };
        value = value.checked_mul(100_000_000)?.checked_add(part)?;
        length += 8;
    }
    while let Some(byte) = bytes.get(length).filter(|byte| byte.is_ascii_digit()) {
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
        length += 1;
    }
    (length > 0).then(|| (value, &bytes[length..]))
}

/// The value of eight ASCII digits, the first of which is in the lowest byte; `None` if one is no digit.
fn eight_digits(bytes: u64) -> Option<u64> {
    let high_nibbles = bytes & 0xf0f0_f0f0_f0f0_f0f0;
    let past_nine = bytes.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if high_nibbles != 0x3030_3030_3030_3030 || past_nine != 0x3030_3030_3030_3030 {
        return None;
    }
    let digits = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let quads = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    Some(quads.wrapping_mul(10_000).wrapping_add(quads >> 32) & 0xffff_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        let mut value = 0u64;
        for digit in (1..=9).cycle().take(19) {
            value = value * 10 + digit;
            let text = format!("{value},x");
            assert_eq!(number(text.as_bytes()), Some((value, &b",x"[..])));
        }
        assert_eq!(number(b"18446744073709551615"), Some((u64::MAX, &b""[..])));
        assert_eq!(number(b"18446744073709551616"), None);
        assert_eq!(number(b"1234567/"), Some((1_234_567, &b"/"[..])));
        assert_eq!(number(b"1234567:"), Some((1_234_567, &b":"[..])));
        assert_eq!(number(b"x"), None);
    }

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
                let sample = Sample { sequence, due_us: 1_732_313_131_123_456, topic: Some(7), count };
                assert_eq!(extractor.extract(frame.as_bytes()), Some(sample), "{frame}");
            }
        }
        assert_eq!(extractor.extract(b": keep-alive\n\n"), None);
        assert_eq!(extractor.extract(b"event: connected\ndata: {\"connection\":\"\"}\n\n"), None);
    }

    #[test]
    fn likes_are_found() {
        let frame = br#"data: {"id":"x","topic":"live:1","type":"like","key":"like","at":5,"count":3,"counts":{"like":2,"love":1},"members":["s17-99","s9-1"],"data":{"member":"s17-99","reaction":"like","likes":20}}"#;
        let sample = Sample { sequence: 17, due_us: 99, topic: None, count: 3 };
        let mut extractor = Extractor::new(true);
        assert_eq!((extractor.extract(frame), extractor.total(frame)), (Some(sample), None));
        let told = br#"data: {"id":"x","topic":"live:1","type":"likes","at":5,"data":{"likes":20,"reactions":{"like":20},"taps":{}}}"#;
        assert_eq!((extractor.extract(told), extractor.total(told)), (None, Some(20)));
    }
}
