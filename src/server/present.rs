//! `GET /v1/topics/{topic}/members`: who watches a topic now. Any node takes the request; a dispatcher, which knows where viewers
//! are, asks those Frontends and data centers that have some, and puts together what they say.

use crate::server::dispatcher::Dispatcher;
use crate::server::frontend::Frontend;
use crate::server::ground::Ground;
use crate::server::services::Services;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::audience::{COUNTED, is_counted};
use super::link::{Call, Called, Destination, Lane, Outcome};
use super::listing::Listing;
use super::message::Message;
use super::routes::Handled;
use super::slots::Conn;
use crate::dispatch::crowd::{Crowd, member_hash};
use crate::limits::{CHANGE_TIMEOUT, PRESENT_DEFAULT, PRESENT_LOOKS, PRESENT_MAX, PRESENT_NAMES_MAX};
use crate::runtime::account::Held;
use crate::wire::connection_id::NodeId;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// Who of a topic's viewers is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresentAsk {
    /// The topic.
    topic: Topic,
    /// Members who watch are named, at most so many.
    limit: usize,
    /// Of these it is said whether they watch.
    of: Vec<String>,
    /// Whose viewers.
    whose: Whose,
}

/// Whose viewers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Whose {
    /// One node's.
    Node,
    /// One data center's.
    DataCenter,
    /// All.
    Anybodys,
}

/// Who of them watches.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Present {
    viewers: u32,
    members: u32,
    sample: BTreeSet<String>,
    here: BTreeMap<String, bool>,
}

impl Present {
    /// Takes what another part of the same node, or another node, says.
    pub fn take(&mut self, part: Present) {
        self.viewers = self.viewers.saturating_add(part.viewers);
        self.members = self.members.saturating_add(part.members);
        self.sample.extend(part.sample);
        for (member, is_here) in part.here {
            *self.here.entry(member).or_default() |= is_here;
        }
    }
}

/// A question to several nodes that not all have answered. It ends with its connection.
#[derive(Debug)]
pub struct Presents {
    ask: PresentAsk,
    crowd: Crowd,
    /// So many have not answered.
    missing: usize,
    /// Some did not answer in time.
    lacks: bool,
    found: Present,
}

/// Who has a topic's viewers, as its home knows.
#[derive(Debug)]
pub struct Whereabouts {
    /// All of them, or this data center's.
    pub crowd: Crowd,
    /// Nodes of this data center that have some.
    pub nodes: Vec<NodeId>,
    /// Other data centers that do.
    pub peers: Vec<Arc<str>>,
}

impl Services {
    /// `GET /v1/topics/{topic}/members[?limit=n][&of=ana,bob]`
    pub(super) fn list_members(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        query: Query<'_>,
        topic: Topic,
    ) -> Result<Handled, HttpError> {
        if !is_counted(&topic) {
            return Err(HttpError::bad(format!("viewers are counted of topics {COUNTED}… only")));
        }
        let limit = query.limit(PRESENT_DEFAULT)?.min(PRESENT_MAX) as usize;
        let lists: Vec<_> = query.all(Parameter::Of).collect();
        let of = lists.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty()).map(str::to_owned);
        let of: BTreeSet<String> = of.collect();
        if of.len() > PRESENT_NAMES_MAX {
            return Err(HttpError::bad(format!("\"of\" may name {PRESENT_NAMES_MAX} members at once")));
        }
        self.present(ground, conn, PresentAsk { topic, limit, of: of.into_iter().collect(), whose: Whose::Anybodys })
    }

    /// `POST /v1/internal/members` and `/v1/internal/peer/members`: another node asks, or another data center for this one's.
    pub(super) fn members_asked(
        &mut self,
        ground: &mut Ground,
        conn: Conn,
        is_peer: bool,
        body: &[u8],
    ) -> Result<Handled, HttpError> {
        let mut ask: PresentAsk = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body does not ask who is here: {error}")))?;
        if ask.of.len() > PRESENT_NAMES_MAX || ask.limit > PRESENT_MAX as usize {
            return Err(HttpError::bad("too many members are asked for"));
        }
        if is_peer {
            ask.whose = Whose::DataCenter;
        }
        self.present(ground, conn, ask)
    }

    fn present(&mut self, ground: &mut Ground, conn: Conn, ask: PresentAsk) -> Result<Handled, HttpError> {
        let names = ask.of.iter().map(|name| name.len() + size_of::<String>()).sum();
        let held = ground.reserve_question(names)?;
        if ask.whose == Whose::Node {
            self.gather(ground, conn, Listing::Members(ask));
        } else if ground.node.roles.dispatcher {
            let (home, topic) = (ground.node.home(ask.topic.as_str()), ask.topic.clone());
            let anywhere = ask.whose == Whose::Anybodys;
            let here = ask.of.iter().map(|member| (member.clone(), false)).collect();
            let found = Present { here, ..Present::default() };
            let presents = Presents { ask, crowd: Crowd::default(), missing: 1, lacks: false, found };
            self.presents.insert(conn, Held::new(Box::new(presents), held));
            ground.send(home, Message::Whereabouts { topic, anywhere, asker: (ground.id, conn) });
        } else {
            let unavailable = || HttpError::unavailable("no dispatcher can be asked who is here");
            let dispatcher = ground.pick_dispatcher(Lane::Changes, None).ok_or_else(unavailable)?;
            let call = members_call(ground, "/v1/internal/members", &ask, Called::MembersRelayed(conn));
            ground.call((dispatcher, Lane::Changes), call).map_err(|_| unavailable())?;
        }
        Ok(Handled::Later)
    }
}

fn members_call(ground: &Ground, path: &'static str, ask: &PresentAsk, what: Called) -> Call {
    Call {
        path,
        content_type: "application/json",
        body: Arc::new(serde_json::to_vec(ask).expect("a question is plain data")),
        deadline: ground.clock.instant + CHANGE_TIMEOUT,
        what,
    }
}

impl Dispatcher {
    /// At a topic's home: who has its viewers.
    pub(super) fn on_whereabouts_asked(
        &mut self,
        ground: &mut Ground,
        topic: &Topic,
        anywhere: bool,
        asker: (usize, Conn),
    ) {
        let (crowd, nodes, peers) = self.tally.watched(topic, anywhere);
        ground.send(asker.0, Message::WhereaboutsKnown(asker.1, Box::new(Whereabouts { crowd, nodes, peers })));
    }
}

impl Services {
    /// Asks those who have a topic's viewers.
    pub(super) fn on_whereabouts(&mut self, ground: &mut Ground, conn: Conn, whereabouts: Whereabouts) {
        let Some(presents) = self.presents.get_mut(&conn) else { return };
        presents.crowd = whereabouts.crowd;
        let (node_ask, peer_ask) = (
            PresentAsk { whose: Whose::Node, ..presents.ask.clone() },
            PresentAsk { whose: Whose::DataCenter, ..presents.ask.clone() },
        );
        presents.missing += whereabouts.nodes.len() + whereabouts.peers.len();
        for node in whereabouts.nodes {
            if node == ground.node.id {
                self.gather(ground, conn, Listing::Members(node_ask.clone()));
                continue;
            }
            let call = members_call(ground, "/v1/internal/members", &node_ask, Called::Members(conn));
            if ground.call((Destination::Node(node), Lane::Changes), call).is_err() {
                self.on_members_answered(ground, conn, Outcome::NotTaken);
            }
        }
        for dc in whereabouts.peers {
            let peer = ground.node.peers.iter().position(|peer| peer.name == *dc);
            let to = peer
                .zip(self.dispatcher.as_mut())
                .and_then(|(peer, dispatcher)| dispatcher.pick_url(ground, peer, Lane::Changes));
            let call = members_call(ground, "/v1/internal/peer/members", &peer_ask, Called::Members(conn));
            if to.is_none_or(|to| ground.call((to, Lane::Changes), call).is_err()) {
                self.on_members_answered(ground, conn, Outcome::NotTaken);
            }
        }
        self.on_members_found(ground, conn, Some(Present::default()));
    }

    /// A node or a data center answered, or did not.
    pub(super) fn on_members_answered(&mut self, ground: &mut Ground, conn: Conn, outcome: Outcome) {
        let part = match outcome {
            Outcome::Answer(200, body) => serde_json::from_slice(&body).ok(),
            _ => None,
        };
        self.on_members_found(ground, conn, part);
    }

    /// A part came; the last one completes the answer.
    pub(super) fn on_members_found(&mut self, ground: &mut Ground, conn: Conn, part: Option<Present>) {
        let Some(presents) = self.presents.get_mut(&conn) else {
            // Nobody but this node was asked.
            return self.answer_present(
                ground,
                conn,
                part.ok_or_else(|| HttpError::unavailable("nobody knows who is here")),
            );
        };
        presents.missing -= 1;
        match part {
            Some(part) => presents.found.take(part),
            None => presents.lacks = true,
        }
        if presents.missing > 0 {
            return;
        }
        let Some(presents) = self.presents.remove(&conn) else { return };
        let Presents { ask, crowd, lacks, mut found, .. } = *presents.release();
        (found.viewers, found.members) = (crowd.viewers, crowd.members.count());
        found.sample = found.sample.into_iter().take(ask.limit).collect();
        let mut unknown = false;
        for (member, is_here) in found.here.iter_mut().filter(|(_, is_here)| !**is_here) {
            // Whose node does not answer is told by what it said before, as far as that names members.
            let known = crowd.members.has(member_hash(member));
            *is_here = lacks && known == Some(true);
            unknown |= lacks && known.is_none();
        }
        self.answer_present(
            ground,
            conn,
            match unknown {
                true => Err(HttpError::unavailable("a node that has viewers of this topic does not answer")),
                false => Ok(found),
            },
        );
    }

    fn answer_present(&mut self, ground: &mut Ground, conn: Conn, result: Result<Present, HttpError>) {
        let body = |present| serde_json::to_string(&present).expect("it is plain data");
        ground.reply(conn, result.map(|present| (Status::Ok, body(present))));
    }

    /// A dispatcher's answer, for who asked this node.
    pub(super) fn on_members_relayed(&mut self, ground: &mut Ground, conn: Conn, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Answer(200, body) => String::from_utf8(body).map(|body| (Status::Ok, body)).ok(),
            _ => None,
        };
        ground.reply(conn, answer.ok_or_else(|| HttpError::unavailable("no dispatcher says who is here")));
    }
}

impl Frontend {
    /// What this core knows of its viewers; the first one knows of all who watches.
    pub(super) fn present_here(&self, ground: &Ground, ask: &PresentAsk) -> Present {
        let mut present = Present::default();
        let entries = self.topics.views(ask.topic.as_str()).map(|index| self.topics.get(index));
        let viewers = entries.flat_map(|entry| entry.viewers.iter()).take(PRESENT_LOOKS);
        let members = viewers.filter_map(|viewer| ground.slots.at(viewer.slot).rights.as_ref()?.member.as_deref());
        for member in members {
            if present.sample.len() >= ask.limit {
                break;
            }
            present.sample.insert(member.to_owned());
        }
        if ground.id == 0 {
            let crowd = self.audience.crowd(&ask.topic);
            (present.viewers, present.members) = (crowd.viewers, crowd.members.count());
            let here = |member: &String| (member.clone(), self.audience.has(&ask.topic, member_hash(member)));
            present.here = ask.of.iter().map(here).collect();
        }
        present
    }
}
