//! The place of an event in history, and what a client says when it comes back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{RESUME_AHEAD_MS, RESUME_FOREIGN_MS};

/// The place of a class `every` event in its data center's history: the key-value store's time in Unix ms when it was
/// appended (or later), and a number that tells apart what came in the same millisecond. Grows within a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Position {
    /// Unix milliseconds.
    pub ms: u64,
    /// Within the millisecond, from 1: no event is at the very start of one, so that a time is a place between events.
    pub seq: u64,
}

/// Viewers were given everything up to here, or were told that they may lack it. It says nothing of what history holds: for
/// that there is [`Reach`], and where one is made of the other a function says why that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shown(Position);

impl Shown {
    /// Up to this place.
    pub const fn to(position: Position) -> Shown {
        Shown(position)
    }

    /// Viewers are told that they may lack what lies before `reach`, or are new and expect nothing of it.
    pub const fn told(reach: Reach) -> Shown {
        Shown(reach.0)
    }

    /// The place.
    pub const fn place(self) -> Position {
        self.0
    }

    /// Whether an event of this place is among them.
    pub fn has(self, position: Position) -> bool {
        position <= self.0
    }
}

/// Nothing that followed this place is missing in history, or in a part of it. It says nothing of what anyone has seen: for
/// that there is [`Shown`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reach(Position);

impl Reach {
    /// Nothing at all is missing.
    pub const START: Reach = Reach(Position::START);

    /// Back to this place.
    pub const fn back_to(position: Position) -> Reach {
        Reach(position)
    }

    /// Of what is gathered as it is shown, everything that follows `shown` is there.
    pub const fn live_from(shown: Shown) -> Reach {
        Reach(shown.0)
    }

    /// The same, for someone to whom everything that follows `shown` comes live: of that nothing is missing.
    pub fn and_live_from(self, shown: Shown) -> Reach {
        self.min(Reach::live_from(shown))
    }

    /// The place.
    pub const fn place(self) -> Position {
        self.0
    }

    /// Whether nothing that followed `after` is missing.
    pub fn covers(self, after: Position) -> bool {
        self.0 <= after
    }

    /// Whether something may be missing that follows what was shown: a gap.
    pub fn lacks_after(self, shown: Shown) -> bool {
        !self.covers(shown.0)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a position, which is written <ms>-<seq>")]
pub struct NotAPosition;

impl Position {
    /// Before all events.
    pub const START: Position = Position { ms: 0, seq: 0 };

    /// Before all events of a millisecond, behind all earlier ones.
    pub const fn at(ms: u64) -> Position {
        Position { ms, seq: 0 }
    }

    /// So much earlier, at the start of that millisecond.
    pub const fn earlier(self, ms: u64) -> Position {
        Position { ms: self.ms.saturating_sub(ms), seq: 0 }
    }

    /// Whether it lies between events, as a time does.
    pub const fn is_between(self) -> bool {
        self.seq == 0
    }

    /// Itself if it lies between events, or else the end of its millisecond.
    pub const fn next_between(self) -> Position {
        if self.is_between() { self } else { Position::at(self.ms.saturating_add(1)) }
    }

    /// Whether it is the place before all events.
    pub fn is_start(self) -> bool {
        self == Position::START
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.ms, self.seq)
    }
}

impl From<Position> for String {
    fn from(position: Position) -> String {
        position.to_string()
    }
}

impl FromStr for Position {
    type Err = NotAPosition;

    fn from_str(text: &str) -> Result<Position, NotAPosition> {
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            if digits { text.parse().map_err(|_| NotAPosition) } else { Err(NotAPosition) }
        };
        let (ms, seq) = text.split_once('-').ok_or(NotAPosition)?;
        Ok(Position { ms: number(ms)?, seq: number(seq)? })
    }
}

impl TryFrom<String> for Position {
    type Error = NotAPosition;

    fn try_from(text: String) -> Result<Position, NotAPosition> {
        text.parse()
    }
}

/// What a `Last-Event-ID` means to a Frontend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// The client has all up to here.
    After(Position),
    /// It says nothing of what it has, and asks for what followed this.
    Since(Position),
    /// Same, for the newest so many events of each topic, or for all that there are.
    Newest(Option<usize>),
    /// Nobody can say what it has.
    Unreadable,
}

impl Resume {
    /// Reads the id that a client saw last, `<dc>:<ms>-<seq>`. Another data center's clock and order are its own, so its
    /// positions count by their time less [`RESUME_FOREIGN_MS`]. `here` says what a time of another data center means here.
    pub fn read(text: &str, dc: &str, here: impl Fn(&str, u64) -> u64) -> Resume {
        let Some((origin, position)) = text.rsplit_once(':') else { return Resume::Unreadable };
        match position.parse::<Position>() {
            Ok(position) if origin == dc => Resume::After(position),
            Ok(position) if !origin.is_empty() => {
                Resume::After(Position::at(here(origin, position.ms)).earlier(RESUME_FOREIGN_MS))
            }
            _ => Resume::Unreadable,
        }
    }

    /// A place further beyond the newest that was given out than [`RESUME_AHEAD_MS`] is none that this data center gave:
    /// nothing would ever follow it. Where a clock stands says nothing of that, since it may have been set back.
    pub fn within(self, newest_ms: u64) -> Resume {
        match self {
            Resume::After(position) if position.ms > newest_ms.saturating_add(RESUME_AHEAD_MS) => Resume::Unreadable,
            resume => resume,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_clients_send() {
        let own = Position { ms: 1_732_313_131_123, seq: 7 };
        let same = |_: &str, ms| ms;
        assert_eq!(Resume::read("dc1:1732313131123-7", "dc1", same), Resume::After(own));
        let foreign = Resume::read("dc2:1732313131123-7", "dc1", |dc, ms| ms - u64::from(dc == "dc2"));
        assert_eq!(foreign, Resume::After(Position::at(own.ms - 1 - RESUME_FOREIGN_MS)));
        for text in [
            "",
            "7",
            "dc1:",
            "dc1:7",
            "dc1:-7",
            "dc1:7-",
            "dc1:+7-1",
            ":7-1",
            "dc1:7-1-1",
            "dc1:99999999999999999999-1",
        ] {
            assert_eq!(Resume::read(text, "dc1", same), Resume::Unreadable, "{text}");
        }
        assert_eq!(Position::at(5).earlier(9), Position::START);
    }

    #[test]
    fn a_place_is_compared_with_the_newest_that_was_given_out() {
        let newest = 1_732_313_131_123;
        let after = |ms| Resume::After(Position { ms, seq: 4 });
        assert_eq!(after(newest).within(newest), after(newest));
        assert_eq!(after(newest + RESUME_AHEAD_MS).within(newest), after(newest + RESUME_AHEAD_MS));
        assert_eq!(after(newest + RESUME_AHEAD_MS + 1).within(newest), Resume::Unreadable);
        assert_eq!(after(u64::MAX).within(newest), Resume::Unreadable);
    }

    proptest! {
        #[test]
        fn texts_and_positions_go_together(ms: u64, seq: u64) {
            let position = Position { ms, seq };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
            prop_assert_eq!(serde_json::from_str::<Position>(&serde_json::to_string(&position).unwrap()).unwrap(), position);
        }
    }
}
