//! What may change while a node runs: settings that a shard looks up whenever it needs them, so that taking up new ones is
//! to put others in their place. What a node is built from (listeners, cores, stores, other nodes) is in
//! [`Node`](crate::ground::node::Node), and changes with a restart.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::Admission;
use crate::ground::Ground;
use crate::ground::description::{Descriptions, Served};
use crate::limits::IDLE_TIMEOUT;
use crate::runtime::account::ByUse;
use crate::settings::{CorsOrigins, Settings};
use crate::wire::frame::topic_hash;
use crate::wire::response::{Answers, Origins};
use crate::wire::types::{DEFAULT, TypeInfo, Types};

/// How the operator's server is asked.
#[derive(Debug)]
pub struct Authorize {
    /// Its answer is to come within this.
    pub deadline: Duration,
    /// An answer that allows, and does not say for how long, is kept for this.
    pub keep: Duration,
    /// What it does not answer is allowed, and not refused.
    pub away_allows: bool,
    /// Headers of the request that it is told, by name.
    pub headers: Vec<&'static str>,
}

/// Settings that each shard has a pointer to, replaced whole.
#[derive(Debug)]
pub struct Live {
    /// Event types.
    pub types: Types,
    /// Reactions that can be stored.
    pub reactions: Vec<String>,
    /// Origins that browsers may call from.
    pub origins: Origins,
    /// Whether streams of Mercure's protocol need no token, and then get what is public.
    pub mercure_anonymous: bool,
    /// How long a drain takes.
    pub drain: Duration,
    /// How long a connection to the public listener may be without a request, in seconds.
    idle_seconds: u16,
    /// Topics of one stream.
    pub topics_max: usize,
    /// A shard's longest turn; zero is no bound.
    pub turn_max: Duration,
    /// The journey of one event in so many is noted; of none if 0.
    pub trace_sample: u32,
    /// What `/openapi.json` and `/asyncapi.json` say of this node.
    pub descriptions: Descriptions,
    /// How a server is asked who may do what, where there is one.
    pub authorize: Authorize,
    /// Canaries are published and watched.
    pub canary: bool,
    /// Bytes that one shard may hold, by what they are for.
    pub held_max: ByUse<usize>,
    /// All settings with where each came from, as JSON. Secrets are not in it.
    pub shown: Arc<str>,
    /// Another number for another text.
    pub number: u64,
}

impl Live {
    /// By these settings, on a node that lets in by `admission`.
    pub fn of(settings: &Settings, admission: &Admission) -> Live {
        let mut types = Types::default();
        for (name, event) in &settings.events {
            let ttl_ms = event.ttl.map_or(DEFAULT.ttl_ms, |ttl| u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX));
            let max_age_ms = event.max_age.map_or(DEFAULT.max_age_ms, |age| age.as_millis() as u64);
            let history = event.history.unwrap_or(DEFAULT.history);
            let window = event.window.unwrap_or(DEFAULT.window);
            types.set(name, TypeInfo { class: event.class, ttl_ms, history, max_age_ms, window, pace: event.pace });
        }
        let shown: Arc<str> = settings.to_json().into();
        Live {
            types,
            reactions: settings.reactions.clone(),
            origins: Origins(match &settings.cors_origin {
                CorsOrigins::Any => vec!["*".to_owned()],
                CorsOrigins::Listed(list) => list.clone(),
            }),
            mercure_anonymous: settings.mercure_anonymous,
            drain: settings.drain,
            idle_seconds: u16::try_from(settings.idle_timeout.as_secs()).expect("an hour has 3,600"),
            topics_max: settings.most.topics,
            turn_max: settings.most.turn,
            trace_sample: settings.trace_sample,
            descriptions: Served::of(settings).descriptions(),
            authorize: Authorize {
                deadline: settings.authorize_deadline,
                keep: settings.authorize_keep,
                away_allows: settings.authorize_away,
                headers: settings.authorize_headers.clone(),
            },
            canary: settings.canary,
            held_max: admission.held_max(&settings.most),
            number: topic_hash(&shown) >> 32,
            shown,
        }
    }

    /// How long a connection may be without a request, in seconds. Links between nodes go by a time that all nodes know.
    pub fn idle_seconds(&self, internal: bool) -> u16 {
        if internal { IDLE_TIMEOUT.as_secs() as u16 } else { self.idle_seconds }
    }
}

impl Ground {
    /// From now on these settings hold.
    pub(crate) fn take_up(&mut self, live: Arc<Live>) {
        self.account.bound(live.held_max);
        self.live = live;
    }

    /// What writes answers, behind what is in `out` already.
    pub(crate) fn answers(&mut self) -> Answers<'_> {
        Answers {
            out: &mut self.out,
            origins: &self.live.origins,
            date: self.clock.date(),
            clock: (&self.node.name, &self.clock.times),
            request_id: self.request_id.as_deref(),
        }
    }
}
