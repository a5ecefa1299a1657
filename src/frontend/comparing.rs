//! What viewers were told of presence, compared with the store now and then: a value that was lost on its way, with a node
//! that died or was away, or with a store that came back empty, would otherwise be shown for good.

use std::sync::Arc;
use std::time::Instant;

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::turns::turn_data;
use crate::kv::{Answer, Request, Turn, Unavailable};
use crate::limits::{PRESENCE_COMPARE, PRESENCE_NAMES_MAX};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::random::Set;
use crate::wire::event::Class;
use crate::wire::frame::{Event, Frame, Stored};
use crate::wire::http::percent_decode;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// What topics of presence begin with.
pub const PRESENCE: &str = "presence:";

/// A shard's round of comparing.
#[derive(Debug, Default)]
pub struct Comparing {
    /// Topics that are still to be compared in this round.
    topics: Vec<Topic>,
    /// When the next one begins.
    next: Option<Instant>,
    /// Members who are online as viewers were told, and of whom the store knew nothing in the last round. If it knows
    /// nothing in this one either they gave no sign in between, so they are gone.
    unknown: Set<String>,
}

impl Frontend {
    /// Once a tick: asks of the next members.
    pub(crate) fn compare_presence(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        let comparing = &mut self.comparing;
        if comparing.topics.is_empty() {
            if now < *comparing.next.get_or_insert(now + PRESENCE_COMPARE) {
                return;
            }
            comparing.next = Some(now + PRESENCE_COMPARE);
            comparing.topics = self.homes.of_presence();
        }
        let left = comparing.topics.len().saturating_sub(PRESENCE_NAMES_MAX);
        let name =
            |topic: Topic| Some(percent_decode(topic.as_str().strip_prefix(PRESENCE)?, false).ok()?.into_owned());
        let members: Vec<String> = comparing.topics.drain(left..).filter_map(name).collect();
        if !members.is_empty() {
            ground.ask(Request::Presence(members.clone()), Asked::Compared(members));
        }
    }

    /// What the store knows of members whom viewers here watch.
    pub(crate) fn on_compared(
        &mut self,
        ground: &mut Ground,
        members: Vec<String>,
        result: Result<Answer, Unavailable>,
    ) {
        let Ok(Answer::Presence(turns)) = result else { return };
        for (member, turn) in members.into_iter().zip(turns) {
            let Ok(topic) = Topic::encode("presence", &member) else { continue };
            let Some(newest) = self.homes.newest(&topic) else { continue };
            let told = newest.as_ref().map_or(0, |frame| frame.version().number);
            let was_unknown = self.comparing.unknown.remove(&member);
            let version = match &turn {
                Some(turn) if turn.version > told => turn.version,
                None if newest.is_some_and(|frame| says_online(&frame)) => {
                    if !was_unknown {
                        self.comparing.unknown.insert(member);
                        continue;
                    }
                    // Versions are times, so what the store tells later is newer.
                    told + 1
                }
                _ => continue,
            };
            self.tell_here(ground, &topic, &member, turn.as_ref(), version);
        }
    }

    /// Tells viewers on this node of a member's turn.
    fn tell_here(&mut self, ground: &mut Ground, topic: &Topic, member: &str, turn: Option<&Turn>, version: u64) {
        let data = turn_data(turn, Some(member)).to_string();
        let mut id = String::new();
        ground.new_event_id(&mut id);
        let event = Event {
            id: &id,
            topic: topic.as_str(),
            kind: "presence",
            key: Some(member),
            at: ground.clock.unix_ms,
            data: data.as_bytes(),
            class: Class::Latest,
            ttl_ms: 0,
            place: None,
            version: Version { number: version, dc: &ground.node.dc },
            hops: None,
        };
        ground.happened(What::PresenceHealed, 1, Subject { member: Some(member), ..Subject::topic(topic.as_str()) });
        self.order(ground, &Arc::new(Frame::encode(&event)));
    }
}

fn says_online(frame: &Frame) -> bool {
    let data = Stored::read(frame.json()).and_then(|stored| serde_json::from_slice(stored.data).ok());
    data.is_some_and(|data: serde_json::Value| data["online"] == true)
}
