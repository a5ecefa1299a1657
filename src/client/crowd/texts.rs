//! What the crowd is called and says. Whatever it posts tells the run, its number and the time of the post, so that
//! whoever receives it, in whatever process, knows how long it took and whether one is missing.
use memchr::memmem;

/// First names of members.
const NAMES: [&str; 32] = [
    "aino", "amir", "bilal", "carla", "dev", "elif", "femi", "greta", "hugo", "imani", "ines", "jana", "jun", "kai",
    "kofi", "lena", "leo", "mila", "nia", "noor", "omar", "otto", "petra", "pia", "quinn", "rosa", "sam", "tara",
    "uma", "viktor", "wren", "yuki",
];
const CALM: [&str; 16] = [
    "Hello from Lisbon",
    "Sound is perfect here",
    "That bass line",
    "Is this a new song?",
    "First row, can you see me?",
    "Greetings from the night shift",
    "Who is the support act?",
    "Lights are unreal tonight",
    "Best seat is my sofa",
    "My cat is dancing",
    "Turned it up to eleven",
    "This one gives me chills",
    "How long is the set?",
    "Rain here, sunshine there",
    "We are four on one screen",
    "Never missed a show",
];
const WILD: [&str; 8] = [
    "WHAT A DROP 🔥",
    "Again! Again!",
    "Goosebumps",
    "Encore!",
    "I lost my voice",
    "The whole house is jumping",
    "Incredible 🙌",
    "Hands up everyone",
];
const CHAT: [&str; 8] = [
    "Who records this?",
    "Left side is open again",
    "Meet at the bar after it?",
    "Camera two is great",
    "Can you see the merch table?",
    "Next one is mine",
    "Did you hear that?",
    "Back in a minute",
];

/// The time in a stamp counts in units of so many µs: short in base 36, and finer than what is measured.
const UNIT_US: u64 = 100;

/// Tells one run's posts from another's, and its times from the epoch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Four letters or digits.
    pub tag: String,
    /// When it began, in µs since the epoch.
    pub start_us: u64,
}

/// What a stamp says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number of the post among its kind in this run, from 0.
    pub number: u64,
    /// When it was posted, in µs since the epoch, to 100 µs.
    pub posted_us: u64,
}

impl Run {
    /// A run that begins then.
    pub fn new(start_us: u64) -> Self {
        let mut tag = base36((start_us / 1000) % 36u64.pow(4));
        tag.insert_str(0, &"0".repeat(4 - tag.len()));
        Self { tag, start_us }
    }

    fn units(&self, now_us: u64) -> u64 {
        now_us.saturating_sub(self.start_us) / UNIT_US
    }

    /// The name of who likes: a new one for each like, such as `lena-k3f9.2s.9xk2f`.
    pub fn liker(&self, number: u64, now_us: u64) -> String {
        let name = NAMES[(number.wrapping_mul(0x9e37_79b9) >> 8) as usize % NAMES.len()];
        format!("{name}-{}.{}.{}", self.tag, base36(number), base36(self.units(now_us)))
    }

    /// A comment or message, such as `Encore! · 1:02.3456 #k3f9.17`.
    pub fn text(&self, kind: Mood, dice: u64, number: u64, now_us: u64) -> String {
        let phrases: &[&str] = match kind {
            Mood::Calm => &CALM,
            Mood::Wild => &WILD,
            Mood::Chat => &CHAT,
        };
        let units = self.units(now_us);
        let (minutes, rest) = (units / 600_000, units % 600_000);
        let phrase = phrases[dice as usize % phrases.len()];
        format!("{phrase} · {minutes}:{:02}.{:04} #{}.{number}", rest / 10_000, rest % 10_000, self.tag)
    }

    /// The stamp in a like's frame, if it is of this run.
    pub fn in_like(&self, frame: &[u8]) -> Option<Stamp> {
        let at = memmem::find(frame, b"\"member\":\"")?;
        let name = text_until(&frame[at + 10..], b'"')?;
        let (_, stamp) = name.split_once('-')?;
        let mut parts = stamp.split('.');
        let tag = parts.next()?;
        let number = u64::from_str_radix(parts.next()?, 36).ok()?;
        let units = u64::from_str_radix(parts.next()?, 36).ok()?;
        (tag == self.tag).then(|| self.stamp(number, units))
    }

    /// The stamp in a comment's or message's frame, if it is of this run.
    pub fn in_text(&self, frame: &[u8]) -> Option<Stamp> {
        let at = memmem::rfind(frame, " · ".as_bytes())?;
        let stamp = text_until(&frame[at + " · ".len()..], b'"')?;
        let (time, number) = stamp.split_once(" #")?;
        let (tag, number) = number.split_once('.')?;
        let (minutes, rest) = time.split_once(':')?;
        let (seconds, units) = rest.split_once('.')?;
        let units = minutes.parse::<u64>().ok()?.checked_mul(600_000)?
            + seconds.parse::<u64>().ok()?.checked_mul(10_000)?
            + units.parse::<u64>().ok()?;
        (tag == self.tag).then_some(self.stamp(number.parse().ok()?, units))
    }

    fn stamp(&self, number: u64, units: u64) -> Stamp {
        Stamp { number, posted_us: self.start_us.saturating_add(units.saturating_mul(UNIT_US)) }
    }
}

/// What a text is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Calm,
    Wild,
    Chat,
}

/// The name of a member of the crowd, the same in every run: `lena-2s`.
pub fn member(number: u32) -> String {
    format!("{}-{}", NAMES[number as usize % NAMES.len()], base36(u64::from(number)))
}

fn text_until(bytes: &[u8], end: u8) -> Option<&str> {
    let length = memchr::memchr(end, bytes)?;
    std::str::from_utf8(&bytes[..length]).ok()
}

fn base36(mut number: u64) -> String {
    let mut digits = Vec::new();
    loop {
        digits.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize]);
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.reverse();
    String::from_utf8(digits).expect("they are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const START: u64 = 1_732_313_131_123_456;

    proptest! {
        /// Whatever is posted, when and as which number, its receiver reads it off again.
        #[test]
        fn stamps_are_read_back(number in 0u64..10_000_000_000, later_us in 0u64..90_000_000_000, dice: u64) {
            let run = Run::new(START);
            let now_us = START + later_us;
            let wanted = Some(Stamp { number, posted_us: START + later_us / UNIT_US * UNIT_US });
            let like = json!({"data": {"member": run.liker(number, now_us), "reaction": "like"}}).to_string();
            prop_assert_eq!(run.in_like(like.as_bytes()), wanted);
            for mood in [Mood::Calm, Mood::Wild, Mood::Chat] {
                let text = run.text(mood, dice, number, now_us);
                let frame = json!({"data": {"member": "lena-2s", "text": text}}).to_string();
                prop_assert_eq!(run.in_text(frame.as_bytes()), wanted, "{}", frame);
            }
            let other = Run { tag: "zzzz".to_owned(), start_us: START };
            prop_assert_eq!(other.in_like(like.as_bytes()), None);
        }

        #[test]
        fn what_others_say_is_not_taken_for_ours(frame: Vec<u8>) {
            let run = Run::new(START);
            prop_assert_eq!((run.in_like(&frame), run.in_text(&frame)), (None, None));
        }
    }

    #[test]
    fn a_persons_posts_are_no_stamps() {
        let run = Run::new(START);
        for text in ["hi", " · ", "a · 1:02.3 #x.1", "a · 1:02.3456 #", "a · b #c.d"] {
            assert_eq!(run.in_text(json!({"text": text}).to_string().as_bytes()), None, "{text}");
        }
        assert_eq!(run.in_like(br#"{"member":"ana-12"}"#), None);
        assert_eq!([base36(0), base36(35), base36(36)], ["0", "z", "10"]);
        assert_eq!(run.tag.len(), 4);
    }
}
