//! How much a node gives to whom, typed.

use super::SettingsError;
use super::source::Layers;
use super::values::{self, Fault, fault};
use crate::limits::{RATE_MAX, TOPICS_PER_CONNECTION_MAX, TURN_BOUND_MAX};
use std::time::Duration;

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Bytes, at least one.
    Bytes(u64),
    /// Percent of what this process may use, 1 to 100.
    Percent(u8),
}

impl Memory {
    /// In bytes, where this process may use `available` bytes.
    pub fn bytes(self, available: u64) -> u64 {
        match self {
            Memory::Bytes(bytes) => bytes,
            Memory::Percent(percent) => (u128::from(available) * u128::from(percent) / 100) as u64,
        }
    }
}

/// How much a node gives. A zero is no limit, where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Most {
    /// Connections in all; `None` is what the open files allow.
    pub connections: Option<usize>,
    /// Connections of one address, an IPv6 address counting with its /64; 0 is no limit.
    pub address_connections: u32,
    /// Connections a second of one address; 0 is no limit.
    pub address_connects: u32,
    /// Events a second of one member, or without tokens of one address; 0 is no limit.
    pub publishes: u32,
    /// Topics of one stream, 1 to [`TOPICS_PER_CONNECTION_MAX`].
    pub topics: usize,
    /// The process's resident memory, past which no stream is opened.
    pub memory: Memory,
    /// What waits for clients that read too slowly, over all of them; `None` is a share of `memory`.
    pub backlog: Option<Memory>,
    /// A shard's turn; while its turns take longer it opens no stream. Zero is no limit.
    pub turn: Duration,
}

impl Most {
    /// From the layers.
    pub(super) fn resolve(layers: &Layers) -> Result<Most, SettingsError> {
        const GIVEN: &str = "the defaults hold this setting";
        Ok(Most {
            connections: layers.one("max_connections", connections)?.expect(GIVEN),
            address_connections: layers.one("max_address_connections", |text| number(text, u32::MAX))?.expect(GIVEN),
            address_connects: layers.one("max_address_connects", |text| number(text, RATE_MAX))?.expect(GIVEN),
            publishes: layers.one("max_publishes", |text| number(text, RATE_MAX))?.expect(GIVEN),
            topics: layers.one("max_topics", topics)?.expect(GIVEN),
            memory: layers.one("max_memory", memory)?.expect(GIVEN),
            backlog: layers.one("max_backlog", backlog)?.expect(GIVEN),
            turn: layers.one("max_turn", turn)?.expect(GIVEN),
        })
    }
}

fn number(text: &str, most: u32) -> Result<u32, Fault> {
    match text.parse() {
        Ok(count) if count <= most => Ok(count),
        _ => fault(format!("not a whole number up to {most}"), "give one such as 100, or 0 for no limit"),
    }
}

fn connections(text: &str) -> Result<Option<usize>, Fault> {
    match text.parse() {
        _ if text == "auto" => Ok(None),
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => fault("neither auto nor a number from 1 up", "give auto for what the open files allow, or a number"),
    }
}

fn topics(text: &str) -> Result<usize, Fault> {
    match text.parse() {
        Ok(count) if (1..=TOPICS_PER_CONNECTION_MAX).contains(&count) => Ok(count),
        _ => fault(format!("not a number from 1 to {TOPICS_PER_CONNECTION_MAX}"), "give one such as 20"),
    }
}

fn memory(text: &str) -> Result<Memory, Fault> {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    const REMEDY: &str = "give a size such as 512MiB or 8GiB, or a share such as 50%";
    if let Some(share) = text.strip_suffix('%') {
        return match share.trim_end().parse() {
            Ok(percent @ 1..=100) => Ok(Memory::Percent(percent)),
            _ => fault("not a share from 1% to 100%", REMEDY),
        };
    }
    let sized = UNITS.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let bytes = sized.and_then(|(count, shift)| count.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift));
    match bytes {
        Some(bytes) if bytes > 0 => Ok(Memory::Bytes(bytes)),
        _ => fault("neither a size nor a share of the memory", REMEDY),
    }
}

fn backlog(text: &str) -> Result<Option<Memory>, Fault> {
    if text == "auto" { Ok(None) } else { memory(text).map(Some) }
}

fn turn(text: &str) -> Result<Duration, Fault> {
    let turn = values::duration(text)?;
    if turn > TURN_BOUND_MAX {
        return fault(format!("longer than {TURN_BOUND_MAX:?}"), "give one such as 250ms, or 0s for no limit");
    }
    Ok(turn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_are_shares() {
        assert_eq!(memory("8GiB").unwrap(), Memory::Bytes(8 << 30));
        assert_eq!(memory("64 KiB").unwrap(), Memory::Bytes(64 << 10));
        assert_eq!(memory("12%").unwrap(), Memory::Percent(12));
        assert_eq!((backlog("auto").unwrap(), backlog("7B").unwrap()), (None, Some(Memory::Bytes(7))));
        assert_eq!((Memory::Percent(12).bytes(1000), Memory::Bytes(7).bytes(1000)), (120, 7));
        assert_eq!(Memory::Percent(100).bytes(u64::MAX), u64::MAX);
        for bad in ["", "8", "8GB", "0B", "0%", "101%", "-1GiB", "1.5GiB", "99999999999999GiB", "%"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_in_their_bounds() {
        assert_eq!((connections("auto").unwrap(), connections("7").unwrap()), (None, Some(7)));
        assert_eq!((number("0", 5).unwrap(), number("5", 5).unwrap(), topics("100").unwrap()), (0, 5, 100));
        assert!(connections("0").is_err() && connections("").is_err() && connections("-1").is_err());
        assert!(number("6", 5).is_err() && number("", 5).is_err() && topics("0").is_err() && topics("101").is_err());
        assert!(turn("0s").is_ok() && turn("2m").is_err() && turn("250").is_err());
    }
}
