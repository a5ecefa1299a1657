//! Events that were taken back: their text goes from history and from what waits for peers.

use std::collections::BTreeMap;

use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::{Answered, Store};
use crate::kv::redis::subscriptions::{text, unreadable};
use crate::kv::{Append, Request, Unavailable, bucket};
use crate::limits::{REDIS_WITHDRAWN, WITHDRAWN_REFUSED};
use crate::wire::frame::Withdrawn;
use crate::wire::topic::Topic;

/// An event to take back.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    topic: Topic,
    id: String,
    peers: Vec<String>,
}

/// Where events are taken out of: a topic's history, and what waits for a peer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum From {
    History(Topic),
    Queue(String),
}

impl Withdrawal {
    /// What an event on its way into history takes back, if it takes one back.
    pub fn by(append: &Append) -> Option<Withdrawal> {
        let id = append.withdraws.clone()?;
        Some(Withdrawal { topic: append.topic.clone(), id, peers: append.peers.clone() })
    }

    /// The same of a question.
    pub fn asked(request: &Request) -> Option<Withdrawal> {
        match request {
            Request::Append(append) | Request::AppendOnce(_, append) => Withdrawal::by(append),
            _ => None,
        }
    }
}

impl Store {
    /// What was written takes events back, each answer what is named for it. Where that fails the answer says so: whoever
    /// repeats it takes them back again.
    pub async fn withdraw_all(&self, answers: &mut [Answered], withdrawals: Vec<Option<Withdrawal>>) {
        let (mut which, mut written) = (Vec::new(), Vec::new());
        for (at, withdrawal) in withdrawals.into_iter().enumerate() {
            if let Some(withdrawal) = withdrawal.filter(|_| answers[at].is_ok()) {
                which.push(at);
                written.push(withdrawal);
            }
        }
        for (at, taken) in which.into_iter().zip(self.withdraw(&written).await) {
            if let Err(unavailable) = taken {
                answers[at] = Err(unavailable);
            }
        }
    }

    /// Takes events of one bucket out of their topics' histories and out of the queues of peers. Each of these is looked
    /// through once for all of them: it costs as much as a thousand appends.
    pub async fn withdraw(&self, withdrawals: &[Withdrawal]) -> Vec<Result<(), Unavailable>> {
        let mut results = vec![Ok(()); withdrawals.len()];
        let mut streams: BTreeMap<From, Vec<usize>> = BTreeMap::new();
        for (at, withdrawal) in withdrawals.iter().enumerate() {
            streams.entry(From::History(withdrawal.topic.clone())).or_default().push(at);
            for peer in &withdrawal.peers {
                streams.entry(From::Queue(peer.clone())).or_default().push(at);
            }
        }
        for (from, all) in streams {
            for some in all.chunks(REDIS_WITHDRAWN) {
                let number = bucket(withdrawals[some[0]].topic.as_str());
                let ids: Vec<&str> = some.iter().map(|at| &*withdrawals[*at].id).collect();
                if let Err(unavailable) = self.withdraw_from(number, &from, &ids).await {
                    some.iter().for_each(|at| results[*at] = Err(unavailable.clone()));
                }
            }
        }
        results
    }

    /// Takes events out of a stream, slice by slice, so that others are served in between.
    async fn withdraw_from(&self, number: u8, from: &From, ids: &[&str]) -> Result<(), Unavailable> {
        let keys = match from {
            From::History(topic) => {
                let topic = topic.as_str();
                let mut keys = vec![
                    self.keys.history(number, topic),
                    self.keys.kept(number, topic),
                    self.keys.withdrawn(number, topic),
                ];
                keys.extend(ids.iter().map(|id| self.keys.without(number, topic, id)));
                keys
            }
            From::Queue(peer) => self.keys.queue(number, peer)[..1].to_vec(),
        };
        let mut slice = "+".to_owned();
        while !slice.is_empty() {
            // As long as the deletion itself may be in history, and those who tell of the event anew need to be refused.
            let refused_ms = self.config.history_age_ms.max(WITHDRAWN_REFUSED.as_millis() as u64);
            let mut arguments = vec![text(slice), text(self.config.history_age_ms), text(refused_ms)];
            arguments.extend(ids.iter().map(|id| text(Withdrawn::of(id).beginning())));
            let call = Call::Script(Script::Withdraw, keys.clone(), arguments);
            let (value, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
            slice = replies::text(value).ok_or_else(|| unreadable("where to look on"))?;
        }
        Ok(())
    }
}
