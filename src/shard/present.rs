//! `GET /v1/topics/{topic}/members`: who watches a topic now. Any node takes the request; a dispatcher, which knows where viewers
//! are, asks those Frontends and data centers that have some, and puts together what they say.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::frontend::counting::{COUNTED, is_counted};
use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::ground::listing::Listing;
use crate::ground::message::Message;
use crate::ground::present::{Present, PresentAsk, Whereabouts, Whose};
use crate::ground::slots::Conn;
use crate::kv::crowd::{Crowd, member_hash};
use crate::limits::{CHANGE_TIMEOUT, PRESENT_DEFAULT, PRESENT_MAX, PRESENT_NAMES_MAX};
use crate::runtime::account::Held;
use crate::shard::services::Services;
use crate::wire::http::HttpError;
use crate::wire::query::{Parameter, Query};
use crate::wire::status::Status;
use crate::wire::topic::Topic;

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

impl Services {
    /// `GET /v1/topics/{topic}/members[?limit=n][&of=ana,bob]`
    pub(crate) fn list_members(
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
    pub(crate) fn members_asked(
        &mut self,
        ground: &mut Ground,
        incoming: Incoming<'_>,
        is_peer: bool,
    ) -> Result<Handled, HttpError> {
        let Incoming { conn, body, .. } = incoming;
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

pub(crate) fn members_call(ground: &Ground, path: &'static str, ask: &PresentAsk, what: Called) -> Call {
    Call {
        path,
        content_type: "application/json",
        body: Arc::new(serde_json::to_vec(ask).expect("a question is plain data")),
        deadline: ground.clock.instant + CHANGE_TIMEOUT,
        what,
    }
}

impl Services {
    /// Asks those who have a topic's viewers.
    pub(crate) fn on_whereabouts(&mut self, ground: &mut Ground, conn: Conn, whereabouts: Whereabouts) {
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
    pub(crate) fn on_members_answered(&mut self, ground: &mut Ground, conn: Conn, outcome: Outcome) {
        let part = match outcome {
            Outcome::Answer(200, body) => serde_json::from_slice(&body).ok(),
            _ => None,
        };
        self.on_members_found(ground, conn, part);
    }

    /// A part came; the last one completes the answer.
    pub(crate) fn on_members_found(&mut self, ground: &mut Ground, conn: Conn, part: Option<Present>) {
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
    pub(crate) fn on_members_relayed(&mut self, ground: &mut Ground, conn: Conn, outcome: Outcome) {
        let answer = match outcome {
            Outcome::Answer(200, body) => String::from_utf8(body).map(|body| (Status::Ok, body)).ok(),
            _ => None,
        };
        ground.reply(conn, answer.ok_or_else(|| HttpError::unavailable("no dispatcher says who is here")));
    }
}
