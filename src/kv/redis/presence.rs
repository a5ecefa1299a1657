//! Who is online: signs of life of members, bucket by bucket, and what follows from their absence.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use crate::kv::datacenter::{PeerTurns, anywhere};
use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{join_all, text, unreadable, value};
use crate::kv::{Answer, Turn, Unavailable, bucket};
use crate::limits::{REDIS_FORGET, REDIS_MEMBERS};

impl Store {
    /// Runs a script for these arguments, which belong to members, where the members' buckets are: all at once.
    async fn by_bucket<T>(
        &self,
        members: BTreeMap<u8, Vec<T>>,
        call: impl Fn(u8, &[T]) -> Call,
    ) -> Vec<(Vec<T>, Result<Value, Unavailable>)> {
        let mut slices = Vec::new();
        for (number, mut rest) in members {
            while rest.len() > REDIS_MEMBERS {
                let slice = rest.split_off(rest.len() - REDIS_MEMBERS);
                slices.push((number, slice));
            }
            slices.push((number, rest));
        }
        let calls = slices.iter().map(|(number, slice)| {
            let call = call(*number, slice);
            async move { value(self.call(Place::Bucket(*number), Lane::Commands, call).await) }
        });
        let answers = join_all(calls).await;
        slices.into_iter().map(|(_, slice)| slice).zip(answers).collect()
    }

    /// Signs of life. Where a part of the store is away, the others' turns are given by [`Store::due`] later.
    pub async fn beat(&self, members: Vec<String>) -> Result<Answer, Unavailable> {
        let mut grouped: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
        for member in members {
            grouped.entry(bucket(&member)).or_default().insert(member);
        }
        let grouped = grouped.into_iter().map(|(number, members)| (number, Vec::from_iter(members))).collect();
        let guard = self.config.presence.guard_ms;
        let answers = self.by_bucket(grouped, |number, members| {
            let arguments = std::iter::once(text(guard)).chain(members.iter().map(text)).collect();
            Call::Script(Script::Beat, self.keys.members(number).into(), arguments)
        });
        let mut turned = Vec::new();
        for (_, answer) in answers.await {
            for turn in replies::list(answer?).ok_or_else(|| unreadable("signs of life"))? {
                turned.push(came(turn).ok_or_else(|| unreadable("signs of life"))?);
            }
        }
        Ok(Answer::Turned(turned))
    }

    /// Members of these buckets who went offline, and turns that were not settled in time. What was given by a part of the
    /// store is passed on, also where another part is away.
    pub async fn due(&self, mut buckets: Vec<u8>, limit: u32) -> Result<Answer, Unavailable> {
        let (mut turned, mut left) = (Vec::new(), limit as usize);
        let mut problem = None;
        let mut answered = false;
        let broken = || unreadable("what is due");
        buckets.sort_unstable();
        buckets.dedup();
        // Each may give its share; what some leave is for those that have more.
        while left > 0 && !buckets.is_empty() {
            let share = (left / buckets.len()).clamp(1, REDIS_MEMBERS);
            let asked: Vec<u8> = buckets.iter().copied().take(left).collect();
            buckets.drain(..asked.len());
            let looks = asked.iter().map(|number| self.due_of(*number, share));
            let answers = join_all(looks).await;
            for (number, answer) in asked.into_iter().zip(answers) {
                let turns = answer.and_then(|value| {
                    let list = replies::list(value).ok_or_else(broken)?;
                    list.into_iter().map(|turn| went(turn).ok_or_else(broken)).collect::<Result<Vec<_>, _>>()
                });
                match turns {
                    Err(error) => problem = Some(error),
                    Ok(turns) => {
                        answered = true;
                        left -= turns.len();
                        if turns.len() == share {
                            buckets.push(number);
                        }
                        turned.extend(turns);
                    }
                }
            }
        }
        match problem {
            Some(problem) if !answered => Err(problem),
            _ => Ok(Answer::Turned(turned)),
        }
    }

    async fn due_of(&self, number: u8, share: usize) -> Result<Value, Unavailable> {
        let times = self.config.presence;
        let arguments =
            vec![text(times.guard_ms), text(times.resend_ms), text(times.age_ms), text(share), text(REDIS_FORGET)];
        let keys = [&self.keys.members(number)[..], &self.keys.members_elsewhere(number)].concat();
        let call = Call::Script(Script::Due, keys, arguments);
        value(self.call(Place::Bucket(number), Lane::Commands, call).await)
    }

    /// Turns that were published.
    pub async fn settled(&self, members: Vec<(String, u64)>) -> Result<Answer, Unavailable> {
        let mut grouped: BTreeMap<u8, Vec<(String, u64)>> = BTreeMap::new();
        for (member, version) in members {
            grouped.entry(bucket(&member)).or_default().push((member, version));
        }
        let answers = self.by_bucket(grouped, |number, members| {
            let [known, _, _, unsettled] = self.keys.members(number);
            let keys = vec![known, unsettled];
            let arguments: Vec<Argument> =
                members.iter().flat_map(|(member, version)| [text(member), text(version)]).collect();
            Call::Script(Script::Settled, keys, arguments)
        });
        answers.await.into_iter().try_for_each(|(_, answer)| answer.map(drop))?;
        Ok(Answer::Applied)
    }

    /// What is known of members, here and elsewhere.
    pub async fn presence(&self, members: &[String]) -> Result<Answer, Unavailable> {
        let answers = self.by_bucket(places(members.iter().map(String::as_str)), |number, places| {
            let [known, ..] = self.keys.members(number);
            let [elsewhere, _] = self.keys.members_elsewhere(number);
            let arguments = places.iter().map(|at| text(&members[*at])).collect();
            Call::Script(Script::Presence, vec![known, elsewhere], arguments)
        });
        let mut found: Vec<Option<Turn>> = vec![None; members.len()];
        let broken = || unreadable("who is online");
        for (places, answer) in answers.await {
            let mut fields = replies::list(answer?).ok_or_else(broken)?.into_iter();
            let now_ms = fields.next().and_then(|value| replies::number(&value)).ok_or_else(broken)?;
            let mut held = || fields.next().and_then(replies::list).ok_or_else(broken);
            let (here, elsewhere) = (held()?, held()?);
            for (at, (here, elsewhere)) in places.into_iter().zip(here.into_iter().zip(elsewhere)) {
                found[at] = self.anywhere(&members[at], here, elsewhere, now_ms).ok_or_else(broken)?;
            }
        }
        Ok(Answer::Presence(found))
    }

    /// Turns of a peer's members. What is known of those that turned, here and elsewhere.
    pub async fn peer_turns(&self, said: PeerTurns) -> Result<Answer, Unavailable> {
        let PeerTurns { dc, turns } = said;
        let answers = self.by_bucket(places(turns.iter().map(|turn| turn.member.as_str())), |number, places| {
            let [known, ..] = self.keys.members(number);
            let [elsewhere, offline] = self.keys.members_elsewhere(number);
            let turn = |at: &usize| {
                let turn = &turns[*at];
                [text(&turn.member), text(u8::from(turn.online)), text(turn.at), text(turn.version)]
            };
            let arguments = std::iter::once(text(&dc)).chain(places.iter().flat_map(turn)).collect();
            Call::Script(Script::PeerTurns, vec![known, elsewhere, offline], arguments)
        });
        let mut found: Vec<Option<Turn>> = vec![None; turns.len()];
        let broken = || unreadable("turns of a peer's members");
        for (places, answer) in answers.await {
            let mut fields = replies::list(answer?).ok_or_else(broken)?.into_iter();
            let now_ms = fields.next().and_then(|value| replies::number(&value)).ok_or_else(broken)?;
            let held = fields.next().and_then(replies::list).ok_or_else(broken)?;
            for (at, held) in places.into_iter().zip(held) {
                let mut held = replies::list(held).ok_or_else(broken)?.into_iter();
                // Nothing of a turn that is no news.
                let Some((here, elsewhere)) = held.next().zip(held.next()) else { continue };
                found[at] = self.anywhere(&turns[at].member, here, elsewhere, now_ms).ok_or_else(broken)?;
            }
        }
        Ok(Answer::Presence(found))
    }

    /// What holds of a member, of what is stored here and elsewhere; none of one not seen for too long.
    fn anywhere(&self, member: &str, here: Value, elsewhere: Value, now_ms: u64) -> Option<Option<Turn>> {
        let recent = |turn: &Turn| turn.online || turn.at + self.config.presence.age_ms > now_ms;
        let held = |value| replies::text(value).unwrap_or_default();
        let here = known(member, &held(here))?.filter(recent);
        let elsewhere = known_elsewhere(member, &held(elsewhere))?;
        Some(anywhere(here.iter().chain(&elsewhere)).filter(recent))
    }
}

/// The places of members in a list, bucket by bucket.
fn places<'a>(members: impl Iterator<Item = &'a str>) -> BTreeMap<u8, Vec<usize>> {
    let mut grouped: BTreeMap<u8, Vec<usize>> = BTreeMap::new();
    for (at, member) in members.enumerate() {
        grouped.entry(bucket(member)).or_default().push(at);
    }
    grouped
}

/// Who came online: name, since when, version.
fn came(value: Value) -> Option<Turn> {
    let mut fields = replies::list(value)?.into_iter();
    let member = replies::text(fields.next()?)?;
    Some(Turn {
        member,
        online: true,
        at: replies::number(&fields.next()?)?,
        version: replies::number(&fields.next()?)?,
    })
}

/// A turn: name, 1 if online, since when or last seen, version.
fn went(value: Value) -> Option<Turn> {
    let mut fields = replies::list(value)?.into_iter();
    let member = replies::text(fields.next()?)?;
    let mut number = || replies::number(&fields.next()?);
    Some(Turn { member, online: number()? == 1, at: number()?, version: number()? })
}

/// `<1 if online> <since when, or last seen> <version>`, or nothing.
fn known(member: &str, held: &str) -> Option<Option<Turn>> {
    if held.is_empty() { Some(None) } else { turn(member, &mut held.split(' ')).map(Some) }
}

/// The same for each other data center, behind its name.
fn known_elsewhere(member: &str, held: &str) -> Option<Vec<Turn>> {
    let mut words = held.split_ascii_whitespace();
    let mut turns = Vec::new();
    while words.next().is_some() {
        turns.push(turn(member, &mut words)?);
    }
    Some(turns)
}

fn turn<'a>(member: &str, words: &mut impl Iterator<Item = &'a str>) -> Option<Turn> {
    let online = words.next()? == "1";
    let mut number = || words.next()?.parse().ok();
    Some(Turn { member: member.to_owned(), online, at: number()?, version: number()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_stored() {
        let turn = |online, at, version| Turn { member: "ana b".to_owned(), online, at, version };
        assert_eq!(known("ana b", "1 5 6"), Some(Some(turn(true, 5, 6))));
        assert_eq!(known("ana b", "0 7 8"), Some(Some(turn(false, 7, 8))));
        assert_eq!((known("ana b", ""), known("ana b", "0 7")), (Some(None), None));
        let both = vec![turn(true, 5, 6), turn(false, 7, 8)];
        assert_eq!(known_elsewhere("ana b", "eu-1 1 5 6 us 0 7 8"), Some(both));
        assert_eq!((known_elsewhere("ana b", ""), known_elsewhere("ana b", "eu-1 1 5")), (Some(vec![]), None));
    }
}
