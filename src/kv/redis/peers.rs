//! What is kept of other data centers: what waits for them, how far theirs was taken, how they are, and their viewers.

use std::collections::HashMap;

use redis::Value;

use crate::kv::datacenter::{PeerNote, PeerState, PeerViewers, Placed, QueueAsk, QueuePage, Queued, Taking};
use crate::kv::redis::history::{behind, placed};
use crate::kv::redis::keys::Place;
use crate::kv::redis::master::{Argument, Call, Lane};
use crate::kv::redis::replies;
use crate::kv::redis::scripts::Script;
use crate::kv::redis::store::Store;
use crate::kv::redis::subscriptions::{join_all, text, unreadable, value};
use crate::kv::redis::withdrawal::Withdrawal;
use crate::kv::{Answer, Unavailable, bucket};
use crate::limits::{
    PEER_FORGOTTEN, PEER_HELLO_AGE, PEER_LACKED_AGE, PEER_QUEUE_AGE, PEER_QUEUE_PAGE_BYTES, PEER_SILENT, REDIS_COUNTS,
};

/// A peer, and for how long nobody has heard of it, in ms.
pub type Known = (PeerState, u64);

impl Store {
    /// What waits for a peer in a bucket.
    pub async fn waiting(&self, ask: QueueAsk) -> Result<Answer, Unavailable> {
        let (epoch, from) = match ask.done {
            Some((epoch, done)) => (epoch.to_string(), behind(done).to_string()),
            None => (String::new(), String::new()),
        };
        let arguments = vec![
            text(epoch),
            text(from),
            text(PEER_QUEUE_AGE.as_millis()),
            text(ask.limit.max(1)),
            text(PEER_QUEUE_PAGE_BYTES),
        ];
        let call = Call::Script(Script::Waiting, self.keys.queue(ask.bucket, &ask.peer).into(), arguments);
        let page = value(self.call(Place::Bucket(ask.bucket), Lane::Commands, call).await)?;
        queue_page(page).map(Answer::Queue).ok_or_else(|| unreadable("what waits for a peer"))
    }

    /// Puts a peer's events into history, where a replica has them, too, before anybody is told.
    pub async fn take(&self, taking: Taking) -> Result<Answer, Unavailable> {
        let Taking { dc, bucket: number, epoch, events } = taking;
        if events.is_empty() {
            return Ok(Answer::Taken(Vec::new()));
        }
        let count = events.len();
        let mut keys = vec![self.keys.since(number), self.keys.taken(number, &dc)];
        let mut arguments = vec![Argument::RunId, text(epoch), text(PEER_FORGOTTEN.as_millis())];
        arguments.push(text(self.config.history_age_ms));
        let mut histories = HashMap::new();
        // Also what was taken before, since whoever took it may have got no further.
        let withdrawals: Vec<Withdrawal> = events.iter().filter_map(|(_, append)| Withdrawal::by(append)).collect();
        for (at, append) in events {
            let topic = append.topic.as_str();
            debug_assert_eq!(
                (bucket(topic), append.peers.len()),
                (number, 0),
                "it stays in this bucket, and goes no further"
            );
            let its = [
                self.keys.history(number, topic),
                self.keys.kept(number, topic),
                self.keys.places(number, topic, &append.kind),
            ];
            // The first of these three among all keys, as scripts count.
            let next = keys.len() + 1;
            let which = *histories.entry((append.topic, append.kind.clone())).or_insert_with(|| {
                keys.extend(its);
                next
            });
            arguments.extend([text(which), text(at.ms), text(at.seq), Argument::Event(append.event)]);
            arguments.extend([text(append.kind), text(append.count_max.max(1)), text(append.age_max_ms)]);
        }
        let place = Place::Bucket(number);
        let mut answers = self.run(place, Lane::Commands, vec![Call::Script(Script::Take, keys, arguments)]).await;
        self.withdraw(&withdrawals).await.into_iter().collect::<Result<(), Unavailable>>()?;
        self.confirm(place, &mut answers).await;
        let answer = value(answers.pop().expect("an answer for each call"))?;
        let placed =
            replies::list(answer).and_then(|list| list.into_iter().map(taken).collect::<Option<Vec<Placed>>>());
        placed
            .filter(|placed| placed.len() == count)
            .map(Answer::Taken)
            .ok_or_else(|| unreadable("where a peer's events were put"))
    }

    /// News of a peer. Where they list very many viewers, who listens reads all.
    pub async fn note_peer(&self, note: PeerNote) -> Result<Answer, Unavailable> {
        let mut keys = vec![self.keys.peers(), self.keys.peer_viewers(&note.dc)];
        keys.extend(note.hello.map(|hello| self.keys.peer_hello(&note.dc, hello.node, hello.shard)));
        let last = note.viewers.len().div_ceil(REDIS_COUNTS).max(1) - 1;
        let calls = (0..=last).map(|at| {
            let slice = note.viewers.chunks(REDIS_COUNTS).nth(at).unwrap_or(&[]);
            let kind = match (last, at) {
                (0, _) if !note.restart => "v",
                (_, at) if at < last => "p",
                _ => "V",
            };
            let mut arguments = vec![
                text(self.keys.counts_channel()),
                text(&note.dc),
                text(note.heard.map_or_else(String::new, |ahead| ahead.to_string())),
                text(note.lacks.map_or_else(String::new, |since| since.to_string())),
                text(PEER_SILENT.as_millis()),
                text(PEER_LACKED_AGE.as_millis()),
                text(kind),
                text(u8::from(note.restart && at == 0)),
                text(note.hello.map_or(0, |hello| hello.number)),
                text(PEER_HELLO_AGE.as_millis()),
            ];
            arguments.extend(slice.iter().flat_map(|(topic, count)| [text(topic), text(count)]));
            Call::Script(Script::NotePeer, keys.clone(), arguments)
        });
        let answers = self.run(Place::Nodes, Lane::Commands, calls.collect()).await;
        let answers = answers.into_iter().map(value).collect::<Result<Vec<Value>, _>>()?;
        let number = answers.last().and_then(replies::number);
        number.map(Answer::Noted).ok_or_else(|| unreadable("news of a peer"))
    }

    /// The viewers of all peers that live.
    pub async fn all_peer_viewers(&self) -> Result<Answer, Unavailable> {
        let known = self.leases(None).await?.peers;
        let living = known.into_iter().filter(|(peer, _)| peer.alive);
        let read = join_all(living.map(|(peer, _)| self.peer_viewers(peer.dc))).await;
        read.into_iter().collect::<Result<_, _>>().map(Answer::PeerViewers)
    }

    /// All of a peer's viewers.
    pub async fn peer_viewers(&self, dc: String) -> Result<PeerViewers, Unavailable> {
        let viewers = self.viewers(self.keys.peer_viewers(&dc)).await?;
        Ok(PeerViewers { dc, full: true, viewers })
    }
}

/// The epoch, how many were given up, whether more wait, and the oldest, each with its number.
fn queue_page(value: Value) -> Option<QueuePage> {
    let mut fields = replies::list(value)?.into_iter();
    let mut number = || replies::number(&fields.next()?);
    let (epoch, lost, more) = (number()?, number()?, number()? == 1);
    let event = |entry| {
        let mut entry = replies::list(entry)?.into_iter();
        let number = replies::position(entry.next()?)??;
        Some(Queued { number, event: replies::text(entry.next()?)?.into() })
    };
    let events = replies::list(fields.next()?)?.into_iter().map(event).collect::<Option<Vec<_>>>()?;
    Some(QueuePage { epoch, events, more, lost })
}

/// Where an event was put; an empty list for one that was there before.
fn taken(value: Value) -> Option<Placed> {
    let list = replies::list(value)?;
    if list.is_empty() { Some(None) } else { placed(list).map(Some) }
}

/// What is known of peers, by their names. What another version wrote and this one cannot read is no peer for it.
pub fn known(value: Value, now_ms: u64) -> Option<Vec<Known>> {
    let read = |(dc, held)| known_one(replies::text(dc)?, &replies::text(held)?, now_ms);
    let mut known: Vec<Known> = replies::pairs(value)?.into_iter().filter_map(read).collect();
    known.sort_unstable_by(|(one, _), (other, _)| one.dc.cmp(&other.dc));
    Some(known)
}

/// `<heard last> <clock ahead> <since> <lacked since> <lacked until>`, as `note_peer.lua` wrote it.
fn known_one(dc: String, held: &str, now_ms: u64) -> Option<Known> {
    let mut words = held.split(' ');
    let (heard_ms, ahead) = (words.next()?.parse::<u64>().ok()?, words.next()?.parse().ok()?);
    let mut number = || words.next()?.parse::<u64>().ok();
    let (_, from, until) = (number()?, number()?, number()?);
    let remembered = until + PEER_LACKED_AGE.as_millis() as u64 > now_ms;
    let state = PeerState {
        dc,
        alive: heard_ms + PEER_SILENT.as_millis() as u64 > now_ms,
        clock_ahead_ms: ahead,
        lacked: remembered.then_some((from, until)),
    };
    Some((state, now_ms.saturating_sub(heard_ms.max(until))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_known_of_peers() {
        let (silent, now) = (PEER_SILENT.as_millis() as u64, 1_700_000_000_000);
        let state = |alive, clock_ahead_ms, lacked| PeerState { dc: "eu".to_owned(), alive, clock_ahead_ms, lacked };
        let read = |held: &str, now| known_one("eu".to_owned(), held, now);
        assert_eq!(read(&format!("{now} -7 5 0 0"), now + silent - 1), Some((state(true, -7, None), silent - 1)));
        assert_eq!(read(&format!("{now} 7 5 0 0"), now + silent), Some((state(false, 7, None), silent)));
        assert_eq!(read(&format!("0 0 0 {now} {now}"), now + 1), Some((state(false, 0, Some((now, now))), 1)));
        assert_eq!(read(&format!("{now} 0 0 1"), now), None);
    }
}
