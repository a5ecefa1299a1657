//! Typed values of limits, each parsed from one text.

use super::layers::{Fault, fault};
use super::values;
use crate::limits::{TOPICS_PER_CONNECTION_MAX, TURN_BOUND_MAX};
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

pub(super) fn number(text: &str, most: u32) -> Result<u32, Fault> {
    match text.parse() {
        Ok(count) if count <= most => Ok(count),
        _ => fault(format!("not a whole number up to {most}"), "give one such as 100, or 0 for no limit"),
    }
}

pub(super) fn connections(text: &str) -> Result<Option<usize>, Fault> {
    match text.parse() {
        _ if text == "auto" => Ok(None),
        Ok(count) if count > 0 => Ok(Some(count)),
        _ => fault("neither auto nor a number from 1 up", "give auto for what the open files allow, or a number"),
    }
}

pub(super) fn topics(text: &str) -> Result<usize, Fault> {
    match text.parse() {
        Ok(count) if (1..=TOPICS_PER_CONNECTION_MAX).contains(&count) => Ok(count),
        _ => fault(format!("not a number from 1 to {TOPICS_PER_CONNECTION_MAX}"), "give one such as 20"),
    }
}

pub(super) fn memory(text: &str) -> Result<Memory, Fault> {
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

pub(super) fn backlog(text: &str) -> Result<Option<Memory>, Fault> {
    if text == "auto" { Ok(None) } else { memory(text).map(Some) }
}

pub(super) fn turn(text: &str) -> Result<Duration, Fault> {
    let problem = format!("longer than {TURN_BOUND_MAX:?}");
    values::time(text, |turn| turn <= TURN_BOUND_MAX, &problem, "give one such as 250ms, or 0s for no limit")
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
