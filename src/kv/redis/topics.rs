//! Which topics there are, by an index in each bucket.

use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{join_all, text, unreadable};
use crate::kv::{Answer, BUCKETS, Found, TopicsAsk, Unavailable};
use crate::limits::PREFIX_INDEX_LATE;
use crate::wire::position::{Position, Reach};
use crate::wire::topic::Topic;

impl Store {
    /// Topics that begin so, over all buckets.
    pub async fn topics(&self, ask: TopicsAsk) -> Result<Answer, Unavailable> {
        let calls = (0..BUCKETS as u8).map(|number| {
            let arguments = vec![
                Argument::RunId,
                text(&ask.begin),
                text(ask.after),
                text(self.keys.history(number, "")),
                text(PREFIX_INDEX_LATE.as_millis()),
            ];
            let call = Call::Script(Script::Topics, vec![self.keys.since(number)], arguments);
            self.call(Place::Bucket(number), Lane::Commands, call)
        });
        let broken = || unreadable("which topics there are");
        let (mut topics, mut since, mut clock) = (Vec::new(), Reach::START, Position::at(u64::MAX));
        for (number, answered) in join_all(calls).await.into_iter().enumerate() {
            let (value, master) = answered?;
            let mut fields = replies::list(value).ok_or_else(broken)?.into_iter();
            let mut place =
                || fields.next().and_then(|value| replies::number(&value)).map(Position::at).ok_or_else(broken);
            let bucket_since = Reach::back_to(place()?);
            master.is_marked(number as u8, Some(bucket_since));
            // Each bucket is as of its own time.
            (since, clock) = (since.max(bucket_since), clock.min(place()?));
            while let Some(topic) = fields.next() {
                let topic = replies::text(topic).and_then(|topic| Topic::parse(&topic).ok());
                let end = fields.next().and_then(replies::position).flatten();
                topics.push(topic.zip(end).ok_or_else(broken)?);
            }
        }
        let forgotten = Reach::back_to(clock.earlier(self.config.history_age_ms));
        Ok(Answer::Topics(Found::newest(topics, ask.limit, (since, since.max(forgotten)), clock)))
    }
}
