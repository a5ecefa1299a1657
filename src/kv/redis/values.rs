//! Newest values: what the store keeps of each topic's class `latest`. Their bytes are bounded, names included, and those of
//! topics that nobody watches are given up by age.

use crate::kv::redis::history::slices;
use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{join_all, text, unreadable};
use crate::kv::{Answer, LatestValue, Newer, SetLatest, Unavailable, bucket};
use crate::limits::{
    LATEST_AGE, LATEST_KEYS_MAX, REDIS_VALUES_LOOK, REDIS_VALUES_SLICE, REDIS_VALUES_SPARE, VALUES_LOOKED_AT,
    VERSION_TIME_MIN,
};
use crate::wire::topic::Topic;

impl Store {
    /// The call that keeps a value.
    pub fn set_latest_call(&self, latest: SetLatest) -> (Place, Call) {
        let (number, topic) = (bucket(latest.topic.as_str()), latest.topic.as_str());
        let mut keys = vec![self.keys.latest(number, topic), self.keys.versions(number, topic)];
        keys.extend(self.keys.values(number));
        let age_ms = latest.age_ms.unwrap_or(LATEST_AGE.as_millis() as u64);
        let arguments = vec![
            text(latest.field),
            Argument::Event(latest.event),
            text(latest.version.map_or_else(String::new, |version| version.to_string())),
            text(latest.dc),
            text(age_ms),
            text(LATEST_KEYS_MAX),
            text(&latest.topic),
            text(self.keys.prefix(number)),
            text(LATEST_AGE.as_millis()),
            Argument::ValuesBytes,
            text(VALUES_LOOKED_AT),
            text(REDIS_VALUES_SPARE.as_millis()),
        ];
        (Place::Bucket(number), Call::Script(Script::SetLatest, keys, arguments))
    }

    /// Whether topics have newer values than is known, bucket by bucket, all at once.
    pub async fn newer(&self, topics: Vec<(Topic, u64)>) -> Result<Answer, Unavailable> {
        let slices = slices(&topics, |(topic, _)| topic);
        let calls = slices.iter().map(|(number, slice)| {
            let keys = slice.iter().map(|at| self.keys.versions(*number, topics[*at].0.as_str())).collect();
            let after = slice.iter().map(|at| text(topics[*at].1));
            let arguments = after.chain([text(VERSION_TIME_MIN)]).collect();
            self.call(Place::Bucket(*number), Lane::Commands, Call::Script(Script::Newer, keys, arguments))
        });
        let mut newer = vec![Newer::default(); topics.len()];
        for (answered, (_, slice)) in join_all(calls).await.into_iter().zip(&slices) {
            let (value, _) = answered?;
            let numbers: Option<Vec<u64>> =
                replies::list(value).and_then(|list| list.iter().map(replies::number).collect());
            let numbers = numbers.filter(|numbers| numbers.len() == 3 * slice.len());
            let numbers = numbers.ok_or_else(|| unreadable("newer values"))?;
            for (at, found) in slice.iter().zip(numbers.chunks(3)) {
                newer[*at] = Newer { beyond: found[0], newest: found[1], counted: found[2] };
            }
        }
        Ok(Answer::Newer(newer))
    }

    /// A topic's newest values, oldest first. Where nobody watches it, none whose time is over.
    pub async fn latest(&self, topic: Topic) -> Result<Answer, Unavailable> {
        let number = bucket(topic.as_str());
        let subscribers = format!("{}{topic}", self.keys.subscribers_prefix(number));
        let keys = vec![self.keys.latest(number, topic.as_str()), subscribers];
        let call = Call::Script(Script::Latest, keys, Vec::new());
        let (value, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
        let read = || {
            let mut fields = replies::list(value)?.into_iter();
            let now_ms = replies::number(&fields.next()?)?;
            let is_watched = replies::number(&fields.next()?)? > 0;
            let mut found = Vec::new();
            for held in replies::list(fields.next()?)? {
                let (until_ms, value) = latest_value(&replies::text(held)?)?;
                if is_watched || until_ms > now_ms {
                    found.push(value);
                }
            }
            found.sort_unstable_by_key(|value| value.version);
            Some(found)
        };
        read().map(Answer::Latest).ok_or_else(|| unreadable("newest values"))
    }

    /// Gives up values of a bucket whose time is over, in slices that are short for the server, at most so many. True if there
    /// may be more.
    pub async fn give_up_values(&self, number: u8, slices: usize) -> Result<bool, Unavailable> {
        for _ in 0..slices {
            let arguments = vec![
                text(self.keys.prefix(number)),
                text(REDIS_VALUES_SLICE),
                text(REDIS_VALUES_LOOK.as_millis()),
                text(REDIS_VALUES_SPARE.as_millis()),
            ];
            let call = Call::Script(Script::GiveUp, self.keys.values(number).into(), arguments);
            let (more, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
            if !matches!(more, redis::Value::Int(1)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What a script says of a value that it was given.
pub fn versioned(list: Vec<redis::Value>) -> Option<Answer> {
    let version = replies::number(list.first()?)?;
    Some(Answer::Versioned { version, newest: replies::number(list.get(1)?)? == 1 })
}

/// A value as `set_latest.lua` wrote it, and until when it is kept while nobody watches.
fn latest_value(text: &str) -> Option<(u64, LatestValue)> {
    let (version, rest) = text.split_once(' ')?;
    let (until_less_age, rest) = rest.split_once(' ')?;
    let (length, rest) = rest.split_once(':')?;
    let (dc, event) = rest.split_at_checked(length.parse().ok()?)?;
    let until_ms = until_less_age.parse::<u64>().ok()? + LATEST_AGE.as_millis() as u64;
    Some((until_ms, LatestValue { version: version.parse().ok()?, dc: dc.into(), event: event.into() }))
}
