//! What a topic's pace made of an event of class `every`: decided once, by the append to history, and said in the event's text from
//! then on, in front of its data.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Frame;

/// What a topic's pace made of an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Paced(u32);

/// What stands in front of an event's data, and nowhere else: quotes within texts are escaped.
const DATA_LABEL: &str = ",\"data\":";
const SKIPPED_LABEL: &str = ",\"skipped\":";
const LEFT_OUT: &str = ",\"shown\":false";

impl Paced {
    /// Every stream gets it, and got the one before it of its topic and type.
    pub const SHOWN: Paced = Paced(0);
    /// Only streams get it that ask for all of its type.
    pub const LEFT_OUT: Paced = Paced(u32::MAX);

    /// Every stream gets it; so many were left out since the last one that was shown.
    pub fn shown(skipped: u32) -> Paced {
        Paced(skipped.min(u32::MAX - 1))
    }

    /// As a store, or another node, said it with [`Paced::number`].
    pub fn of_number(number: u32) -> Paced {
        Paced(number)
    }

    /// As one number.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether every stream gets it.
    pub fn is_shown(self) -> bool {
        self != Paced::LEFT_OUT
    }

    /// What an event's text says of it; the text is as [`Frame::json`] gave it, or [`Paced::mark`].
    pub fn of(json: &str) -> Paced {
        let head = memchr::memmem::find(json.as_bytes(), DATA_LABEL.as_bytes()).map_or("", |end| &json[..end]);
        if head.ends_with(LEFT_OUT) {
            return Paced::LEFT_OUT;
        }
        let digits = head.len() - head.bytes().rev().take_while(u8::is_ascii_digit).count();
        let skipped = head[digits..].parse().ok().filter(|_| head[..digits].ends_with(SKIPPED_LABEL));
        skipped.map_or(Paced::SHOWN, Paced::shown)
    }

    /// The text of an event that says nothing of it yet, saying this.
    pub fn mark(self, json: &str) -> Cow<'_, str> {
        let end = memchr::memmem::find(json.as_bytes(), DATA_LABEL.as_bytes()).filter(|_| self != Paced::SHOWN);
        let Some(end) = end else { return Cow::Borrowed(json) };
        let mut marked = Vec::with_capacity(json.len() + SKIPPED_LABEL.len() + 10);
        marked.extend_from_slice(&json.as_bytes()[..end]);
        self.push(&mut marked);
        marked.extend_from_slice(&json.as_bytes()[end..]);
        Cow::Owned(String::from_utf8(marked).expect("it was UTF-8, and ASCII was put between two characters"))
    }

    /// Appends what an event's text says of it.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        match self {
            Paced::SHOWN => {}
            Paced::LEFT_OUT => out.extend_from_slice(LEFT_OUT.as_bytes()),
            Paced(skipped) => {
                out.extend_from_slice(SKIPPED_LABEL.as_bytes());
                out.extend_from_slice(itoa::Buffer::new().format(skipped).as_bytes());
            }
        }
    }
}

impl Frame {
    /// What its topic's pace made of it.
    pub fn paced(&self) -> Paced {
        self.paced
    }
}

#[cfg(test)]
mod tests {
    use super::super::Stored;
    use super::super::tests::every;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_said_of_an_event_is_read_again(id in "\\PC{1,30}", data: String, skipped: u32, is_shown: bool) {
            let paced = if is_shown { Paced::shown(skipped) } else { Paced::LEFT_OUT };
            let data = serde_json::json!({"text": data, "data": 1, "skipped": 3, "shown": false}).to_string();
            let frame = every(&id, "live:1", "comment", None, &data);
            prop_assert_eq!(Paced::of(frame.json()), Paced::SHOWN);
            let marked = paced.mark(frame.json());
            prop_assert_eq!(Paced::of(&marked), paced);
            let stored = Stored::read(&marked).unwrap();
            prop_assert_eq!((&*stored.id, stored.data, stored.paced), (&*id, data.as_bytes(), paced));
        }
    }
}
