//! History: what the store keeps of each topic's events of class `every`.

use std::collections::HashMap;
use std::rc::Rc;

use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane, Master};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::{Answered, Store};
use crate::kv::redis::subscriptions::{join_all, text, unreadable};
use crate::kv::redis::values::versioned;
use crate::kv::redis::withdrawal::Withdrawal;
use crate::kv::{Answer, Append, Claim, End, Page, Read, Request, Stored, Unavailable, bucket};
use crate::limits::{
    ONCE_AGE, ONCE_KEPT_EVENTS, PEER_QUEUE_AGE, PEER_QUEUE_BYTES, PEER_QUEUE_ENTRY_BYTES, REDIS_BARRIERS, REDIS_ENDS,
};
use crate::wire::frame::Paced;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

impl Store {
    /// Writes that go together, in order.
    pub async fn write(&self, requests: Vec<Request>) -> Vec<Result<Answer, Unavailable>> {
        let mut home = Place::Nodes;
        let mut appends = false;
        let withdrawals = requests.iter().map(Withdrawal::asked).collect();
        let calls = requests.into_iter().map(|request| {
            appends |= matches!(request, Request::Append(_) | Request::AppendOnce(..));
            let (place, call) = match request {
                Request::Apply(batch) => self.apply_call(batch),
                Request::Append(append) => self.append_call(append),
                Request::AppendOnce(claim, append) => self.append_once_call(claim, append),
                Request::SetLatest(latest) => self.set_latest_call(latest),
                other => unreachable!("no write: {other:?}"),
            };
            home = place;
            (place, call)
        });
        let (places, calls): (Vec<Place>, Vec<Call>) = calls.unzip();
        debug_assert!(places.iter().all(|place| *place == home), "what goes together is in one place");
        let mut answers = self.run(home, Lane::Commands, calls).await;
        if appends {
            self.withdraw_all(&mut answers, withdrawals).await;
            self.confirm(home, &mut answers).await;
        }
        let read = |answered: Answered| {
            let (value, _) = answered?;
            let Some(list) = replies::list(value) else { return Ok(Answer::Applied) };
            let answer = if appends { appended(list) } else { versioned(list) };
            answer.ok_or_else(|| unreadable("a write"))
        };
        answers.into_iter().map(read).collect()
    }

    /// What is in history counts only once a replica has it, too. If none says so in time, nobody is told that it is there:
    /// it may be, and who repeats it under the same id does no harm.
    pub async fn confirm(&self, place: Place, answers: &mut [Answered]) {
        let mut confirmed: Option<(Rc<Master>, Result<(), String>)> = None;
        for answered in answers {
            let Ok((_, master)) = answered else { continue };
            let result = match &confirmed {
                Some((known, result)) if Rc::ptr_eq(known, master) => result.clone(),
                // Rare: the place moved in between.
                _ => {
                    // A slot that is on the move may take no writes; others here do.
                    let others = self.topology.places_of(&master.endpoint);
                    let places = std::iter::once(place).chain(others).take(REDIS_BARRIERS);
                    let keys: Vec<String> = places.map(|place| self.keys.barrier(place)).collect();
                    let master = Rc::clone(master);
                    let result = master.replicated(&keys).await;
                    confirmed = Some((master, result.clone()));
                    result
                }
            };
            if let Err(problem) = result {
                *answered = Err(Unavailable(problem));
            }
        }
    }

    fn append_call(&self, append: Append) -> (Place, Call) {
        let topic = append.topic.as_str();
        let number = bucket(topic);
        let mut keys = vec![
            self.keys.history(number, topic),
            self.keys.since(number),
            self.keys.kept(number, topic),
            self.keys.places(number, topic, &append.kind),
        ];
        let mut arguments = vec![
            Argument::Event(append.event),
            text(append.kind),
            text(append.count_max.max(1)),
            text(append.age_max_ms),
            text(self.config.history_age_ms),
            Argument::RunId,
            text(append.pace.map_or(0, |pace| {
                let rate = i64::from(pace.per_second.get());
                if pace.always { -rate } else { rate }
            })),
        ];
        if !append.peers.is_empty() {
            keys.extend(append.peers.iter().flat_map(|peer| self.keys.queue(number, peer)));
            arguments.extend([
                text(self.keys.counts_channel()),
                text(number),
                text(PEER_QUEUE_BYTES),
                text(PEER_QUEUE_ENTRY_BYTES),
                text(PEER_QUEUE_AGE.as_millis()),
            ]);
        }
        (Place::Bucket(number), Call::Script(Script::Append, keys, arguments))
    }

    fn append_once_call(&self, claim: Claim, append: Append) -> (Place, Call) {
        let number = bucket(append.topic.as_str());
        let (place, call) = self.append_call(append);
        let Call::Script(_, mut keys, arguments) = call else { unreachable!("an append is a script") };
        keys.splice(4..4, self.keys.onces(number));
        let arguments = claimed(claim).into_iter().chain(arguments).collect();
        (place, Call::Script(Script::AppendOnce, keys, arguments))
    }

    /// Keeps a key, or frees it.
    pub async fn claim(&self, claim: Claim, what: &str) -> Result<Answer, Unavailable> {
        let number = bucket(claim.topic.as_str());
        let mut arguments = claimed(claim);
        arguments.push(text(what));
        let call = Call::Script(Script::Claim, self.keys.onces(number).into(), arguments);
        let (value, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
        let list = replies::list(value).ok_or_else(|| unreadable("a key"))?;
        Ok(repeated(&list).unwrap_or(Answer::Claimed))
    }

    /// Reads history forward.
    pub async fn read(&self, read: Read) -> Result<Answer, Unavailable> {
        let topic = read.topic.as_str();
        let number = bucket(topic);
        let limit = read.limit.max(1) as usize;
        let keys = vec![self.keys.history(number, topic), self.keys.since(number), self.keys.kept(number, topic)];
        let arguments = vec![text(behind(read.after)), text(limit + 1), Argument::RunId];
        let call = Call::Script(Script::Read, keys, arguments);
        let (value, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
        let page = replies::list(value).and_then(|list| self.page(list, read.after, limit));
        page.map(Answer::Page).ok_or_else(|| unreadable("a page of history"))
    }

    fn page(&self, fields: Vec<redis::Value>, after: Position, limit: usize) -> Option<Page> {
        let mut fields = fields.into_iter();
        let now_ms = replies::number(&fields.next()?)?;
        let since = Reach::back_to(Position::at(replies::number(&fields.next()?)?));
        let before_first = replies::position(fields.next()?)?;
        let gone = replies::position(fields.next()?)?;
        let mut events = Vec::new();
        for entry in replies::list(fields.next()?)? {
            let stored = stored(entry)?;
            // Only where there is no next place does the server give one that is not wanted.
            if stored.position > after {
                events.push(stored);
            }
        }
        let complete = events.len() <= limit;
        events.truncate(limit);
        // What was forgotten with its topic was older than any type is kept.
        let forgotten = Position::at(now_ms.saturating_sub(self.config.history_age_ms));
        let forgotten = if before_first.is_none() { forgotten } else { Position::START };
        let reaches = Reach::back_to(gone.unwrap_or_default().max(forgotten));
        Some(Page { events, complete, reaches: reaches.max(since), since })
    }

    /// Where histories end, bucket by bucket, all at once.
    pub async fn ends(&self, topics: Vec<Topic>) -> Result<Answer, Unavailable> {
        let slices = slices(&topics, |topic| topic);
        let calls = slices.iter().map(|(number, slice)| {
            let histories = slice.iter().flat_map(|at| {
                let topic = topics[*at].as_str();
                [self.keys.history(*number, topic), self.keys.kept(*number, topic)]
            });
            let keys = std::iter::once(self.keys.since(*number)).chain(histories).collect();
            let call = Call::Script(Script::Ends, keys, vec![Argument::RunId]);
            self.call(Place::Bucket(*number), Lane::Commands, call)
        });
        let mut ends = vec![End { position: None, since: Reach::START, clock: None }; topics.len()];
        for (answered, (number, slice)) in join_all(calls).await.into_iter().zip(&slices) {
            let (value, master) = answered?;
            let broken = || unreadable("where histories end");
            let mut fields = replies::list(value).ok_or_else(broken)?.into_iter();
            let mut place =
                || fields.next().and_then(|value| replies::number(&value)).map(Position::at).ok_or_else(broken);
            let (since, clock) = (Reach::back_to(place()?), Some(place()?));
            master.is_marked(*number, Some(since));
            for (at, field) in slice.iter().zip(fields) {
                ends[*at] = End { position: replies::position(field).ok_or_else(broken)?, since, clock };
            }
        }
        Ok(Answer::Ends(ends))
    }
}

/// The places of topics in their list, in parts that each one script looks up in its bucket.
pub fn slices<T>(topics: &[T], topic: impl Fn(&T) -> &Topic) -> Vec<(u8, Vec<usize>)> {
    let mut by_bucket: HashMap<u8, Vec<usize>> = HashMap::new();
    for (at, entry) in topics.iter().enumerate() {
        by_bucket.entry(bucket(topic(entry).as_str())).or_default().push(at);
    }
    let parts = |(number, places): (u8, Vec<usize>)| {
        places.chunks(REDIS_ENDS).map(|slice| (number, slice.to_vec())).collect::<Vec<_>>()
    };
    by_bucket.into_iter().flat_map(parts).collect()
}

/// The first place behind this one.
pub fn behind(position: Position) -> Position {
    match position {
        Position { ms, seq: u64::MAX } => Position::at(ms.saturating_add(1)),
        Position { ms, seq } => Position { ms, seq: seq + 1 },
    }
}

/// An entry of a stream: its place, then the names and values of its fields, as `append.lua` wrote them.
fn stored(entry: redis::Value) -> Option<Stored> {
    let mut entry = replies::list(entry)?.into_iter();
    let position = replies::position(entry.next()?)??;
    let mut fields = replies::list(entry.next()?)?.into_iter();
    let event = replies::text(fields.nth(1)?)?;
    let prev = replies::position(fields.nth(1)?)?;
    Some(Stored { position, prev, event: event.into() })
}

/// Where an event was put, and back to where nothing precedes it.
pub fn placed(list: Vec<redis::Value>) -> Option<(Position, Position)> {
    let mut fields = list.into_iter();
    let position = replies::position(fields.next()?)??;
    Some((position, replies::position(fields.next()?)??))
}

/// What scripts are told of an event that is published once.
fn claimed(claim: Claim) -> Vec<Argument> {
    vec![text(claim.key), text(claim.body), text(claim.id), text(ONCE_AGE.as_millis()), text(ONCE_KEPT_EVENTS)]
}

/// What `once.lua` says of a key that is known.
fn repeated(list: &[redis::Value]) -> Option<Answer> {
    match replies::text(list.first()?.clone())?.as_str() {
        "again" => Some(Answer::Repeated { id: Some(replies::text(list.get(1)?.clone())?) }),
        "other" => Some(Answer::Repeated { id: None }),
        _ => None,
    }
}

fn appended(list: Vec<redis::Value>) -> Option<Answer> {
    if let Some(known) = repeated(&list) {
        return Some(known);
    }
    let said: i64 = replies::text(list.get(2)?.clone())?.parse().ok()?;
    let paced = u32::try_from(said).map_or(Paced::LEFT_OUT, Paced::shown);
    placed(list).map(|(position, prev)| Answer::Appended { position, prev, paced })
}
