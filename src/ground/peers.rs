//! Other data centers, and what is under way between them and this one.

use std::sync::Arc;

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::auth::watch::Shared;
use crate::ground::Ground;
use crate::kv::crowd::Crowd;
use crate::observe::peers::PeerMetrics;
use crate::settings::Secret;
use crate::wire::hops::Hops;
use crate::wire::http::HttpError;
use crate::wire::position::Position;
use crate::wire::request::Request;
use crate::wire::status::Status;
use crate::wire::topic::Topic;

/// A request that was sent.
#[derive(Debug)]
pub struct Told {
    /// The peer.
    pub peer: usize,
    /// When, in Unix ms.
    pub at: u64,
    /// Topics and viewers.
    pub viewers: Vec<(Topic, Crowd)>,
    /// See [`Said::restart`].
    pub restart: bool,
}

/// An event of a peer on its way into history: as JSON, and the checkpoints that it passed, if it is sampled.
pub type Arriving = (Arc<str>, Option<Arc<Hops>>);

impl Ground {
    /// Which peer sends this request, if it may.
    ///
    /// # Errors
    /// 401 without that peer's secret; 403 for a data center that the settings do not name, or that has this one's name;
    /// 421 where another data center is meant.
    pub(crate) fn peer_of(&self, request: &Request<'_>) -> Result<usize, HttpError> {
        let (from, to) = (request.fanfare_from.unwrap_or(""), request.fanfare_to.unwrap_or(""));
        let own = &self.node.dc;
        if from == own {
            let detail = format!("this is data center {own} itself; a --peer here or there leads to the wrong one");
            return Err(HttpError::new(if to == own { Status::Forbidden } else { Status::MisdirectedRequest }, detail));
        }
        let Some(peer) = self.node.peers.iter().position(|peer| peer.name == from) else {
            let detail = format!("data center {own} has no --peer of the name that Fanfare-From gives");
            return Err(HttpError::new(Status::Forbidden, detail));
        };
        if let Some(secret) = &self.node.peers[peer].secret {
            self.check_shown(request, secret, Some(from), "this needs the secret that the two data centers share")?;
        }
        if to != own {
            let detail = format!("this is data center {own}, not {to}; a --peer of {from} has a wrong name or URL");
            return Err(HttpError::new(Status::MisdirectedRequest, detail));
        }
        Ok(peer)
    }
}

/// Another data center, as the settings name it.
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its dispatchers, or what is in front of them.
    pub urls: Vec<Url>,
    /// The secret shared with it.
    pub secret: Option<Shared<Secret>>,
    /// Whom TLS to it trusts; none where no URL asks for TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// What each shard counts of it.
    pub metrics: Arc<PeerMetrics>,
}

/// What a peer answers of a page that it took but for some events. Nothing, where it took all: so did those of older versions.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LeftOut {
    /// How many it left out.
    pub events: u64,
    /// Why the first of them.
    pub detail: String,
}

impl LeftOut {
    /// One more is left out.
    pub fn add(&mut self, reason: String) {
        if self.events == 0 {
            self.detail = reason;
        }
        self.events += 1;
    }
}

/// A page that was sent.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// The peer.
    pub peer: usize,
    /// The bucket.
    pub bucket: u8,
    /// [`QueuePage::epoch`].
    pub epoch: u64,
    /// The number of its last event.
    pub last: Position,
    /// Its events.
    pub count: u64,
}
