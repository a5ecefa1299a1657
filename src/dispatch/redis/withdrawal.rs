//! Events that were taken back: their text goes from history and from what waits for peers.

use super::keys::Place;
use super::master::{Call, Lane};
use super::replies;
use super::scripts::Script;
use super::store::{Answered, Store};
use super::subscriptions::{text, unreadable};
use crate::dispatch::kv::{Append, Request, Unavailable, bucket};
use crate::limits::WITHDRAWN_REFUSED;
use crate::wire::frame::Withdrawn;
use crate::wire::topic::Topic;

/// An event to take back.
#[derive(Debug, Clone)]
pub struct Withdrawal {
    topic: Topic,
    id: String,
    peers: Vec<String>,
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
        for (answered, withdrawal) in answers.iter_mut().zip(withdrawals) {
            if answered.is_ok()
                && let Some(withdrawal) = withdrawal
                && let Err(unavailable) = self.withdraw(withdrawal).await
            {
                *answered = Err(unavailable);
            }
        }
    }

    /// Takes an event out of its topic's history and out of the queues of peers.
    pub async fn withdraw(&self, Withdrawal { topic, id, peers }: Withdrawal) -> Result<(), Unavailable> {
        let (number, topic) = (bucket(topic.as_str()), topic.as_str());
        let keys = vec![
            self.keys.history(number, topic),
            self.keys.kept(number, topic),
            self.keys.withdrawn(number, topic),
            self.keys.without(number, topic, &id),
        ];
        let queues = peers.iter().map(|peer| {
            let [queue, _] = self.keys.queue(number, peer);
            vec![queue]
        });
        for keys in std::iter::once(keys).chain(queues) {
            self.withdraw_from(number, keys, &Withdrawn::of(&id)).await?;
        }
        Ok(())
    }

    /// Takes an event out of a stream, slice by slice, so that others are served in between.
    async fn withdraw_from(&self, number: u8, keys: Vec<String>, withdrawn: &Withdrawn) -> Result<(), Unavailable> {
        let mut from = "+".to_owned();
        while !from.is_empty() {
            let arguments = vec![
                text(withdrawn.beginning()),
                text(from),
                text(self.config.history_age_ms),
                text(WITHDRAWN_REFUSED.as_millis()),
            ];
            let call = Call::Script(Script::Withdraw, keys.clone(), arguments);
            let (value, _) = self.call(Place::Bucket(number), Lane::Commands, call).await?;
            from = replies::text(value).ok_or_else(|| unreadable("where to look on"))?;
        }
        Ok(())
    }
}
