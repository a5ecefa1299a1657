//! Who watches a topic: how many streams, and how many members have them, each counted once however many streams, nodes and data
//! centers. Members are told by hashes: all of them where they are few, else by a sketch of their number. Both add up alike,
//! whatever the order, so that each node says its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::kv::buckets::stable_hash;
use crate::limits::MEMBERS_EXACT;

/// Bits of a member's hash. Of two thousand members two have the same one in one of 500,000 topics.
const HASH_BITS: u32 = 40;
const HASH_BYTES: usize = HASH_BITS as usize / 8;

/// Bits of a hash that choose its register: 8,192 of them, whose standard error is 1.04 / √8192, or 1.15 %.
const REGISTER_BITS: u32 = 13;
const REGISTERS: usize = 1 << REGISTER_BITS;

/// The highest value of a register less one.
const RANKS: usize = (HASH_BITS - REGISTER_BITS) as usize;

/// By which a member is known.
pub fn member_hash(member: &str) -> u64 {
    stable_hash(member.as_bytes()) >> (u64::BITS - HASH_BITS)
}

/// Members, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// Their hashes, in order: at most [`MEMBERS_EXACT`].
    Exact(Arc<[u64]>),
    /// The registers of a HyperLogLog sketch (Flajolet et al., 2007): how many zeros a hash began with at most, plus one.
    Sketch(Arc<[u8]>),
}

impl Default for Members {
    fn default() -> Members {
        Members::Exact(Arc::new([]))
    }
}

impl Members {
    /// Those of these hashes, each given once.
    pub fn of(hashes: impl ExactSizeIterator<Item = u64>) -> Members {
        if hashes.len() > MEMBERS_EXACT {
            let mut registers = vec![0; REGISTERS];
            hashes.for_each(|hash| count(&mut registers, hash));
            return Members::Sketch(registers.into());
        }
        let mut all: Vec<u64> = hashes.collect();
        all.sort_unstable();
        Members::Exact(all.into())
    }

    /// How long they are as text, about.
    pub fn bytes(&self) -> usize {
        match self {
            Members::Exact(all) => all.len() * HASH_BYTES * 4 / 3,
            Members::Sketch(registers) => registers.len() * 4 / 3,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Members::Exact(all) if all.is_empty())
    }

    /// How many: exact up to [`MEMBERS_EXACT`], beyond with a standard error of 1.15 %.
    pub fn count(&self) -> u32 {
        match self {
            Members::Exact(all) => all.len() as u32,
            Members::Sketch(registers) => estimate(registers).round() as u32,
        }
    }

    /// Whether one is among them, if that is known.
    pub fn has(&self, member: u64) -> Option<bool> {
        match self {
            Members::Exact(all) => Some(all.binary_search(&member).is_ok()),
            Members::Sketch(_) => None,
        }
    }

    /// All of both.
    pub fn and(&self, other: &Members) -> Members {
        match (self, other) {
            (some, none) | (none, some) if none.is_empty() => some.clone(),
            (Members::Exact(one), Members::Exact(other)) => {
                let mut all = [&one[..], &other[..]].concat();
                all.sort_unstable();
                all.dedup();
                Members::of(all.into_iter())
            }
            (Members::Sketch(one), Members::Sketch(other)) => {
                Members::Sketch(one.iter().zip(&other[..]).map(|(one, other)| *one.max(other)).collect())
            }
            (Members::Sketch(registers), Members::Exact(all)) | (Members::Exact(all), Members::Sketch(registers)) => {
                let mut registers = registers.to_vec();
                all.iter().for_each(|hash| count(&mut registers, *hash));
                Members::Sketch(registers.into())
            }
        }
    }
}

/// Counts one by its register.
fn count(registers: &mut [u8], hash: u64) {
    let rest = hash << (u64::BITS - HASH_BITS + REGISTER_BITS);
    let rank = (rest.leading_zeros() as usize).min(RANKS) as u8 + 1;
    let register = &mut registers[(hash >> (HASH_BITS - REGISTER_BITS)) as usize];
    *register = rank.max(*register);
}

/// How many a sketch counted, by Ertl's estimator, which needs no table of corrections (New cardinality estimation algorithms for
/// HyperLogLog sketches, 2017, algorithm 6).
fn estimate(registers: &[u8]) -> f64 {
    let mut histogram = [0.0; RANKS + 2];
    registers.iter().for_each(|rank| histogram[usize::from(*rank)] += 1.0);
    let all = REGISTERS as f64;
    let highest = all * tau(1.0 - histogram[RANKS + 1] / all);
    let sum = histogram[1..=RANKS].iter().rev().fold(highest, |sum, of_rank| 0.5 * (sum + of_rank));
    all * all / (2.0 * std::f64::consts::LN_2 * (sum + all * sigma(histogram[0] / all)))
}

/// Infinite where no register counted anything.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum, mut before) = (1.0, x, f64::NAN);
    while sum != before {
        x *= x;
        before = sum;
        sum += x * y;
        y *= 2.0;
    }
    sum
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum, mut before) = (1.0, 1.0 - x, f64::NAN);
    while sum != before {
        x = x.sqrt();
        before = sum;
        y *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * y;
    }
    sum / 3.0
}

/// Who watches a topic, on one node, in one data center, or anywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crowd {
    /// Streams.
    pub viewers: u32,
    /// Members whose streams these are, as far as streams name one.
    pub members: Members,
}

impl Crowd {
    /// So many streams of nobody known.
    pub fn nameless(viewers: u32) -> Crowd {
        Crowd { viewers, members: Members::default() }
    }

    /// Whether nobody watches.
    pub fn is_none(&self) -> bool {
        self.viewers == 0
    }

    /// Both together.
    pub fn and(&self, other: &Crowd) -> Crowd {
        Crowd { viewers: self.viewers.saturating_add(other.viewers), members: self.members.and(&other.members) }
    }
}

/// As stores and nodes hold it: `12`, or with members `12/e` and their hashes or `12/s` and a sketch's registers, in base64.
impl fmt::Display for Crowd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.viewers)?;
        let (kind, bytes) = match &self.members {
            Members::Exact(all) if all.is_empty() => return Ok(()),
            Members::Exact(all) => {
                let bytes = all.iter().flat_map(|hash| hash.to_be_bytes().into_iter().skip(8 - HASH_BYTES));
                ('e', bytes.collect::<Vec<u8>>())
            }
            Members::Sketch(registers) => ('s', registers.to_vec()),
        };
        write!(out, "/{kind}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The text is no crowd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a number of viewers, with or without members")]
pub struct NoCrowd;

impl FromStr for Crowd {
    type Err = NoCrowd;

    fn from_str(text: &str) -> Result<Crowd, NoCrowd> {
        let (viewers, members) =
            text.split_once('/').map_or((text, None), |(viewers, members)| (viewers, Some(members)));
        let viewers = viewers.parse().map_err(|_| NoCrowd)?;
        let Some(members) = members else { return Ok(Crowd::nameless(viewers)) };
        let (kind, text) = members.split_at_checked(1).ok_or(NoCrowd)?;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| NoCrowd)?;
        let members = match kind {
            "e" if bytes.len() % HASH_BYTES == 0 && bytes.len() <= MEMBERS_EXACT * HASH_BYTES => {
                let number = |hash: &[u8]| hash.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
                let all: Arc<[u64]> = bytes.chunks(HASH_BYTES).map(number).collect();
                if !all.is_sorted_by(|one, next| one < next) {
                    return Err(NoCrowd);
                }
                Members::Exact(all)
            }
            "s" if bytes.len() == REGISTERS && bytes.iter().all(|rank| usize::from(*rank) <= RANKS + 1) => {
                Members::Sketch(bytes.into())
            }
            _ => return Err(NoCrowd),
        };
        Ok(Crowd { viewers, members })
    }
}

/// A number where there are no members, as nodes of earlier versions write and read it.
impl Serialize for Crowd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.members.is_empty() { serializer.serialize_u32(self.viewers) } else { serializer.collect_str(self) }
    }
}

impl<'de> Deserialize<'de> for Crowd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Crowd, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Crowd;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "a number of viewers, with or without members")
            }

            fn visit_u64<E: de::Error>(self, viewers: u64) -> Result<Crowd, E> {
                u32::try_from(viewers).map(Crowd::nameless).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Crowd, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn of(numbers: impl IntoIterator<Item = u32>) -> Members {
        let hashes: BTreeSet<u64> =
            numbers.into_iter().map(|number| member_hash(&format!("member-{number}"))).collect();
        Members::of(hashes.into_iter())
    }

    /// Four standard errors.
    fn is_near(members: &Members, count: u32) -> bool {
        (f64::from(members.count()) / f64::from(count) - 1.0).abs() < 4.0 * 1.04 / (REGISTERS as f64).sqrt()
    }

    proptest! {
        /// However members are spread over nodes, and over how many of them: each counts once, and text says the same.
        #[test]
        fn each_counts_once(parts in prop::collection::vec((0u32..3000, 0u32..1500), 0..6)) {
            let ranges = parts.iter().map(|(from, count)| *from..from + count);
            let all: BTreeSet<u32> = ranges.clone().flatten().collect();
            let together = ranges.map(of).fold(Members::default(), |sum, part| sum.and(&part));
            prop_assert_eq!(&together, &of(all.iter().copied()));
            if all.len() <= MEMBERS_EXACT {
                prop_assert_eq!(together.count(), all.len() as u32);
                prop_assert_eq!(together.has(member_hash("member-7")), Some(all.contains(&7)));
            } else {
                prop_assert!(is_near(&together, all.len() as u32) && together.has(7).is_none());
            }
            let crowd = Crowd { viewers: 7, members: together };
            prop_assert_eq!(crowd.to_string().parse(), Ok(crowd.clone()));
            let json = serde_json::to_string(&crowd).unwrap();
            prop_assert_eq!(serde_json::from_str::<Crowd>(&json).unwrap(), crowd);
        }

        #[test]
        fn any_text_is_a_crowd_or_none(text in "[0-9/esA-Za-z_-]{0,40}") {
            if let Ok(crowd) = text.parse::<Crowd>() {
                let again = crowd.to_string().parse::<Crowd>();
                prop_assert_eq!(again.as_ref(), Ok(&crowd));
                prop_assert!(crowd.members.count() < u32::MAX);
            }
        }
    }

    #[test]
    fn many_are_estimated_within_the_stated_error() {
        for count in [2_500, 10_000, 30_000, 100_000, 1_000_000] {
            assert!(is_near(&of(0..count), count), "{} for {count}", of(0..count).count());
        }
        assert_eq!(estimate(&[0; REGISTERS]), 0.0);
        assert!(estimate(&[RANKS as u8 + 1; REGISTERS]).is_infinite());
    }

    #[test]
    fn nodes_of_earlier_versions_read_crowds_without_members() {
        assert_eq!(serde_json::to_string(&Crowd::nameless(12)).unwrap(), "12");
        assert_eq!(serde_json::from_str::<Crowd>("12").unwrap(), Crowd::nameless(12));
        for broken in ["", "x", "-1", "4294967296", "1/", "1/x", "1/eAAAAAA", "1/eAAAAAAEAAAAAAA", "1/s", "1/sAAAA"] {
            assert_eq!(broken.parse::<Crowd>(), Err(NoCrowd), "{broken}");
        }
    }
}
