//! Presence over data centers: each keeps what it knows of its own members and what peers say of theirs. A turn goes to
//! peers as it is; viewers are told what holds of the member anywhere.

use std::sync::Arc;

use serde::Deserialize;

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::turns::turn_data;
use crate::kv::datacenter::PeerTurns;
use crate::kv::{Answer, Request, Turn, Unavailable};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::wire::event::Class;
use crate::wire::frame::{Event, Frame, Stored};
use crate::wire::names::check_name;
use crate::wire::topic::Topic;
use crate::wire::version::Version;

/// The data of an event of type `presence`.
#[derive(Deserialize)]
struct Data {
    online: bool,
    since: Option<u64>,
    last_seen: Option<u64>,
}

impl Dispatcher {
    /// A member of this data center came online or went offline.
    pub(crate) fn tell_presence(&mut self, ground: &mut Ground, event: &Event<'_>, version: u64) {
        let own = Event { version: Version { number: version, dc: &ground.node.dc }, ..*event };
        let frame = Arc::new(Frame::encode(&own));
        self.broadcast(ground, &frame);
        let member = event.key.unwrap_or_default().to_owned();
        ground.ask(Request::Presence(vec![member]), Asked::Anywhere { event: frame.json().into(), version });
    }

    /// A peer says so of a member there.
    pub(crate) fn take_peer_turn(
        &mut self,
        ground: &mut Ground,
        peer: usize,
        stored: &Stored<'_>,
        version: u64,
        json: &str,
    ) {
        let data = serde_json::from_slice::<Data>(stored.data);
        let (Ok(data), Some(member)) = (data, stored.key.as_deref()) else {
            return self.leave_out(ground, peer, "its data says of no member that they are online, or not");
        };
        if check_name("member", member).is_err()
            || Topic::encode("presence", member).is_ok_and(|own| own.as_str() != stored.topic)
        {
            return self.leave_out(ground, peer, "its topic is not that of its member's presence");
        }
        let at = if data.online { data.since } else { data.last_seen };
        let turn = Turn { member: member.to_owned(), online: data.online, at: at.unwrap_or(0), version };
        let said = PeerTurns { dc: ground.node.peers[peer].name.clone(), turns: vec![turn] };
        ground.ask(Request::PeerTurns(said), Asked::Anywhere { event: json.into(), version });
    }

    /// What holds of a member anywhere: viewers are told.
    pub(crate) fn on_anywhere(
        &mut self,
        ground: &mut Ground,
        json: &str,
        version: u64,
        result: Result<Answer, Unavailable>,
    ) {
        let turn = match result {
            Ok(Answer::Presence(turns)) => match turns.into_iter().next().flatten() {
                Some(turn) => Some(turn),
                // It was no news.
                None => return,
            },
            Ok(other) => unreachable!("a store answers what it was asked: {other:?}"),
            // Without the store viewers are told what is known here.
            Err(_) => None,
        };
        let stored = Stored::read(json).expect("it was written by this node, or read before");
        let data = turn.as_ref().map(|turn| turn_data(Some(turn), stored.key.as_deref()).to_string());
        let version = turn.map_or(version, |turn| turn.version);
        let mut event = stored.event(Class::Latest, 0);
        if let Some(data) = &data {
            event.data = data.as_bytes();
        }
        let node = Arc::clone(&ground.node);
        event.version = Version { number: version, dc: &node.dc };
        if self.version(ground, &event, false).is_err() {
            let about = Subject { event: Some(&stored.id), ..Subject::topic(&stored.topic) };
            ground.happened(What::DroppedBacklog, 1, about);
        }
    }
}
