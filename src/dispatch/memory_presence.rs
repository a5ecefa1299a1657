//! Who is online, in memory: what the embedded key-value store keeps of members.

use std::collections::{BTreeSet, HashMap};

use super::kv::{Turn, bucket};
use crate::limits::{PRESENCE_AGE, PRESENCE_GUARD, PRESENCE_RESEND};

#[derive(Debug)]
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
#[derive(Debug, Default)]
pub struct Members {
    members: HashMap<String, Member, foldhash::fast::RandomState>,
    /// Who is online, by bucket and time at which that ends.
    ends: BTreeSet<(u8, u64, String)>,
    /// Whose last turn was not settled.
    unsettled: BTreeSet<String>,
    beats: u64,
}

impl Members {
    /// Signs of life. Gives those who came online by it.
    pub fn beat(&mut self, names: Vec<String>, now_ms: u64) -> Vec<Turn> {
        let until = now_ms + PRESENCE_GUARD.as_millis() as u64;
        let mut turned = Vec::new();
        for name in names {
            self.beats += 1;
            if self.beats.is_multiple_of(65_536) {
                let age = PRESENCE_AGE.as_millis() as u64;
                self.members.retain(|_, member| member.online || member.at + age > now_ms);
            }
            let number = bucket(&name);
            let member = self.members.entry(name.clone()).or_insert(Member {
                online: false,
                at: 0,
                version: 0,
                until: 0,
                given_at: None,
            });
            if member.online {
                self.ends.remove(&(number, member.until, name.clone()));
            } else {
                let version = now_ms.max(member.version + 1);
                *member = Member { online: true, at: now_ms, version, until, given_at: Some(now_ms) };
                self.unsettled.insert(name.clone());
                turned.push(Turn { member: name.clone(), online: true, at: now_ms, version });
            }
            member.until = until;
            self.ends.insert((number, until, name));
        }
        turned
    }

    /// Those of these buckets who went offline, and those whose last turn was given before and not settled.
    pub fn due(&mut self, buckets: &[u8], limit: u32, now_ms: u64) -> Vec<Turn> {
        let mut turned = Vec::new();
        let limit = limit as usize;
        for &number in buckets {
            while turned.len() < limit {
                let first = self.ends.range((number, 0, String::new())..).next();
                let Some((_, until, name)) = first.filter(|(of, until, _)| *of == number && *until <= now_ms).cloned()
                else {
                    break;
                };
                self.ends.remove(&(number, until, name.clone()));
                let Some(member) = self.members.get_mut(&name) else { continue };
                member.online = false;
                member.at = until - PRESENCE_GUARD.as_millis() as u64;
                member.version = now_ms.max(member.version + 1);
                member.given_at = Some(now_ms);
                turned.push(Turn { member: name.clone(), online: false, at: member.at, version: member.version });
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
                    member: name.clone(),
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
            if let Some(member) = self.members.get_mut(&name).filter(|member| member.version == version) {
                member.given_at = None;
                self.unsettled.remove(&name);
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
