//! Who is online, in memory: what the embedded key-value store keeps of members.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kv::{Turn, bucket};
use crate::limits::{MEMORY_MEMBERS_BYTES, PRESENCE_AGE, PRESENCE_GUARD, PRESENCE_RESEND};
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;

/// What a member costs beside the name: its entries in three tables, and an allocation.
const MEMBER_BYTES: usize = 256;

#[derive(Debug, Default)]
struct Member {
    online: bool,
    /// Since when online, or when last seen.
    at: u64,
    version: u64,
    /// While online: when the member goes offline unless there is another sign of life.
    until: u64,
    /// Its last turn was given out at this time and not settled yet.
    given_at: Option<u64>,
}

/// All members.
#[derive(Debug)]
pub struct Members {
    members: Map<Arc<str>, Member>,
    /// Who is online, by bucket and time at which that ends.
    ends: BTreeSet<(u8, u64, Arc<str>)>,
    /// Who is not, by when they were last seen.
    offline: BTreeSet<(u64, Arc<str>)>,
    /// Whose last turn was not settled.
    unsettled: BTreeSet<Arc<str>>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Members {
    fn default() -> Members {
        let (members, ends, offline, unsettled) = Default::default();
        Members { members, ends, offline, unsettled, bytes: 0, bytes_max: MEMORY_MEMBERS_BYTES }
    }
}

impl Members {
    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// They are to take no more than this, from the next sign of life on.
    pub fn bound(&mut self, bytes: usize) {
        self.bytes_max = bytes;
    }

    /// Signs of life. Gives those who came online by it.
    pub fn beat(&mut self, names: Vec<String>, now_ms: u64) -> Vec<Turn> {
        let until = now_ms + PRESENCE_GUARD.as_millis() as u64;
        let mut turned = Vec::new();
        for name in names {
            let number = bucket(&name);
            let known = self.members.get_key_value(&*name).map(|(known, _)| Arc::clone(known));
            let shared = known.unwrap_or_else(|| {
                self.bytes += MEMBER_BYTES + name.len();
                Arc::from(&*name)
            });
            let member = self.members.entry(Arc::clone(&shared)).or_default();
            if member.online {
                self.ends.remove(&(number, member.until, Arc::clone(&shared)));
            } else {
                self.offline.remove(&(member.at, Arc::clone(&shared)));
                let version = now_ms.max(member.version + 1);
                *member = Member { online: true, at: now_ms, version, until, given_at: Some(now_ms) };
                self.unsettled.insert(Arc::clone(&shared));
                turned.push(Turn { member: name, online: true, at: now_ms, version });
            }
            member.until = until;
            self.ends.insert((number, until, shared));
        }
        self.forget(now_ms);
        turned
    }

    /// Forgets whom nobody saw for [`PRESENCE_AGE`], and past their bound those who were not seen for longest.
    fn forget(&mut self, now_ms: u64) {
        let age = PRESENCE_AGE.as_millis() as u64;
        while let Some((at, name)) = self.offline.first().cloned() {
            if at + age > now_ms && self.bytes <= self.bytes_max {
                return;
            }
            self.offline.pop_first();
            self.unsettled.remove(&name);
            self.members.remove(&name);
            self.bytes -= MEMBER_BYTES + name.len();
        }
    }

    /// Those of these buckets who went offline, and those whose last turn was given before and not settled.
    pub fn due(&mut self, buckets: &[u8], limit: u32, now_ms: u64) -> Vec<Turn> {
        let mut turned = Vec::new();
        let limit = limit as usize;
        let nobody: Arc<str> = Arc::from("");
        for &number in buckets {
            while turned.len() < limit {
                let first = self.ends.range((number, 0, Arc::clone(&nobody))..).next();
                let Some((_, until, name)) = first
                    .filter(|(of, until, _)| *of == number && *until <= now_ms && !planted(Mistake::MemberKept))
                    .cloned()
                else {
                    break;
                };
                self.ends.remove(&(number, until, Arc::clone(&name)));
                let Some(member) = self.members.get_mut(&name) else { continue };
                member.online = false;
                member.at = until - PRESENCE_GUARD.as_millis() as u64;
                self.offline.insert((member.at, Arc::clone(&name)));
                member.version = now_ms.max(member.version + 1);
                member.given_at = Some(now_ms);
                turned.push(Turn { member: name.to_string(), online: false, at: member.at, version: member.version });
                self.unsettled.insert(name);
            }
        }
        let again = self.unsettled.iter().filter(|name| buckets.contains(&bucket(name)));
        for name in again {
            let Some(member) = self.members.get_mut(name) else { continue };
            let waited = member.given_at.is_some_and(|at| at + (PRESENCE_RESEND.as_millis() as u64) <= now_ms);
            if waited && turned.len() < limit {
                member.given_at = Some(now_ms);
                turned.push(Turn {
                    member: name.to_string(),
                    online: member.online,
                    at: member.at,
                    version: member.version,
                });
            }
        }
        turned
    }

    /// What was given of these was published.
    pub fn settled(&mut self, members: Vec<(String, u64)>) {
        for (name, version) in members {
            if let Some(member) = self.members.get_mut(&*name).filter(|member| member.version == version) {
                member.given_at = None;
                self.unsettled.remove(&*name);
            }
        }
    }

    /// What is known of a member.
    pub fn get(&self, name: &str, now_ms: u64) -> Option<Turn> {
        let member = self.members.get(name)?;
        let Member { online, at, version, .. } = *member;
        let kept = online || at + PRESENCE_AGE.as_millis() as u64 > now_ms;
        kept.then(|| Turn { member: name.to_owned(), online, at, version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GUARD: u64 = PRESENCE_GUARD.as_millis() as u64;
    const ALL: std::ops::Range<u8> = 0..64;

    #[test]
    fn what_is_not_settled_comes_again_and_a_sign_of_life_takes_it_back() {
        let mut members = Members::default();
        let beat = |members: &mut Members, now| members.beat(vec!["ana".into()], now);
        let all: Vec<u8> = ALL.collect();
        let turn = |online, at, version| vec![Turn { member: "ana".into(), online, at, version }];
        assert_eq!(beat(&mut members, 5), turn(true, 5, 5));
        let resend = PRESENCE_RESEND.as_millis() as u64;
        assert_eq!(members.due(&all, 9, 4 + resend), []);
        assert_eq!(members.due(&all, 9, 5 + resend), turn(true, 5, 5));
        members.settled(vec![("ana".into(), 5)]);
        assert_eq!(beat(&mut members, 1005), []);
        assert_eq!(members.due(&all, 9, 1004 + GUARD), []);
        let end = 1005 + GUARD;
        assert_eq!(members.due(&all, 9, end), turn(false, 1005, end));
        assert_eq!(members.due(&all, 9, end + 1), []);
        let again = end + PRESENCE_RESEND.as_millis() as u64;
        assert_eq!(members.due(&all, 9, again), turn(false, 1005, end));
        members.settled(vec![("ana".into(), end - 1)]);
        assert_eq!(
            members.due(&all, 9, again + 5000),
            turn(false, 1005, end),
            "another turn's settling does not count"
        );
        assert_eq!(beat(&mut members, end), turn(true, end, end + 1));
        members.settled(vec![("ana".into(), end + 1)]);
        assert_eq!(members.due(&all, 9, again + 20_000), []);
        assert_eq!(members.get("ana", end), turn(true, end, end + 1).pop());
        assert_eq!(members.get("bob", end), None);
    }

    #[test]
    fn those_not_seen_for_longest_are_forgotten_for_want_of_memory() {
        let (mut members, all, name) = (Members::default(), ALL.collect::<Vec<u8>>(), "n".repeat(120));
        let settle = |members: &mut Members, turns: Vec<Turn>| {
            members.settled(turns.into_iter().map(|turn| (turn.member, turn.version)).collect());
        };
        for second in 0..500u64 {
            let names = (0..1000).map(|number| format!("{name}{second}-{number}")).chain(["here".to_owned()]);
            let turns = members.beat(names.collect(), second * 1000);
            settle(&mut members, turns);
            let turns = members.due(&all, 100_000, second * 1000);
            settle(&mut members, turns);
            assert!(members.bytes <= MEMORY_MEMBERS_BYTES);
        }
        let online = members.ends.len();
        assert_eq!(members.members.len(), online + members.offline.len());
        assert!(members.get("here", 500_000).is_some_and(|turn| turn.online));
        assert!(members.get(&format!("{name}0-0"), 500_000).is_none());
        members.due(&all, 1_000_000, 500_000 + 2 * GUARD);
        members.beat(vec!["other".to_owned()], 600_000 + PRESENCE_AGE.as_millis() as u64);
        assert_eq!((members.members.len(), members.bytes), (1, MEMBER_BYTES + 5));
    }

    proptest! {
        /// Whatever the order of signs and looks: online and offline alternate, and a pause shorter than the guard is
        /// never told.
        #[test]
        fn turns_alternate(steps in prop::collection::vec((0u64..30_000, any::<bool>()), 1..60)) {
            let (mut members, mut now, mut last_beat, mut online) = (Members::default(), 1, None, false);
            let all: Vec<u8> = ALL.collect();
            let mut version = 0;
            for (pause, beats) in steps {
                now += pause;
                let turned = if beats { members.beat(vec!["a".into()], now) } else { members.due(&all, 9, now) };
                for turn in &turned {
                    prop_assert!(turn.online != online && turn.version > version);
                    prop_assert!(turn.online || last_beat.is_some_and(|at: u64| at + GUARD <= now && turn.at == at));
                    (online, version) = (turn.online, turn.version);
                    members.settled(vec![("a".into(), turn.version)]);
                }
                if beats { last_beat = Some(now); }
                prop_assert_eq!(members.get("a", now).is_some_and(|turn| turn.online), online);
            }
        }
    }
}
