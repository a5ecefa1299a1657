//! What backends are told of for hooks, by nodes that see it: who is online, which topics have viewers, who is over a limit. Each
//! shard says what it knows until a backend has stored it. A backend that comes is told all that holds: what one that died took
//! with it is told again.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::db::hooks::{Delivery, HookKey};
use crate::ground::link::{Call, Called, Destination, Lane, Outcome};
use crate::ground::{Ground, Todo};
use crate::kv::Turn;
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::planted::{Mistake, planted};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::hooks::HookEvent;

/// A word among a node's roles: it takes what hooks are told of.
pub const TAKES_HOOKS: &str = "hooks";

/// A hook, as shards know it.
#[derive(Debug, Clone)]
pub struct Hook {
    /// By which the database knows it.
    pub key: HookKey,
    /// What the log calls it: its URL, without what may be a secret.
    pub name: String,
    /// What it is told of.
    pub events: Vec<HookEvent>,
}

/// Sends deliveries to receivers.
pub trait HookSender: Send + Sync {
    /// Takes deliveries of one subject, in their order; never blocks. What became of them comes by
    /// [`Message::HooksSent`](crate::ground::message::Message::HooksSent) to the first shard, surely.
    fn submit(&self, run: Run);
}

/// Deliveries of one subject, which are sent one after the other.
#[derive(Debug)]
pub struct Run {
    /// Which hook, by its place.
    pub hook: usize,
    /// None is begun that might be under way later than this.
    pub until: Instant,
    /// In their order.
    pub deliveries: Vec<Delivery>,
}

/// What became of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// The receiver answered with a 2xx.
    Taken,
    /// It did not.
    Failed(Failure),
    /// It answered 410: it wants no more of the hook.
    Ended,
    /// There was no time left, or one before it failed.
    Untried,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: no such name, nobody listens, no TLS.
    Connect,
    /// It took longer than [`HOOK_TIMEOUT`].
    Timeout,
    /// The status, which is neither 2xx nor 3xx.
    Status(u16),
    /// It says to go elsewhere, where nobody goes.
    Redirect,
    /// What it answered is no HTTP, or the connection broke.
    Answer,
}

impl Failure {
    /// What such a failure is counted as.
    pub(crate) fn what(self) -> What {
        match self {
            Failure::Connect => What::HooksFailedConnect,
            Failure::Timeout => What::HooksFailedTimeout,
            Failure::Status(_) => What::HooksFailedStatus,
            Failure::Redirect => What::HooksFailedRedirect,
            Failure::Answer => What::HooksFailedAnswer,
        }
    }
}

/// What became of a run.
#[derive(Debug)]
pub struct Ran {
    /// Which hook, by its place.
    pub hook: usize,
    /// Each delivery's number, how often it had failed before, and what became of it.
    pub attempts: Vec<(i64, u32, Attempt)>,
}

/// Something that hooks may be told of, as one node tells another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookNews {
    /// A member came online or went offline.
    Member(Turn),
    /// A topic has its first viewer, or lost the last.
    Topic {
        /// Which.
        topic: String,
        /// Which of the two.
        occupied: bool,
        /// When, in Unix ms.
        at: u64,
    },
    /// Somebody was refused.
    Limit {
        /// By which limit.
        limit: String,
        /// Who: a member's name or an address.
        who: Who,
        /// The topic, of slow mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
        /// When, in Unix ms.
        at: u64,
    },
}

/// Whom a limit is counted to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A member.
    Member(String),
    /// An address.
    Address(String),
}

impl Who {
    /// Who has this address.
    pub(crate) fn address(address: IpAddr) -> Who {
        Who::Address(address.to_string())
    }

    /// Whom something is about: the member, or else the address.
    pub(crate) fn of(about: &Subject<'_>) -> Option<Who> {
        about.member.map(|member| Who::Member(member.to_owned())).or_else(|| about.address.map(Who::address))
    }
}

/// What news is about: of the same only the newest counts.
type About = (u8, String);

impl HookNews {
    fn about(&self) -> About {
        match self {
            HookNews::Member(turn) => (0, turn.member.clone()),
            HookNews::Topic { topic, .. } => (1, topic.clone()),
            HookNews::Limit { limit, who, .. } => {
                let (Who::Member(name) | Who::Address(name)) = who;
                (2, format!("{limit} {name}"))
            }
        }
    }
}

/// A shard's news that no backend has stored yet.
#[derive(Debug, Default)]
pub struct HookReports {
    /// Some other node takes news.
    is_wanted_elsewhere: bool,
    waiting: Map<About, HookNews>,
    order: VecDeque<About>,
    under_way: Vec<HookNews>,
    retry_at: Option<Instant>,
    /// Until then all that holds is told again.
    renewing_until: Option<Instant>,
    /// Somebody asked for that, and who knows of topics has not heard yet.
    topics_renewed: bool,
    /// Whoever was over a limit less than [`HOOK_LIMIT_EVERY`] ago, by when that ends.
    limited: Map<About, Instant>,
}

impl HookReports {
    /// False if there was no room.
    fn add(&mut self, news: HookNews) -> bool {
        let about = news.about();
        if let Some(waiting) = self.waiting.get_mut(&about) {
            // A turn that says nothing of its version is no news to one that does.
            let is_older = matches!((&*waiting, &news), (HookNews::Member(known), HookNews::Member(turn)) if turn.version < known.version);
            if !is_older {
                *waiting = news;
            }
            return true;
        }
        if self.waiting.len() >= HOOK_REPORTS_MAX {
            return false;
        }
        self.order.push_back(about.clone());
        self.waiting.insert(about, news);
        true
    }

    fn take(&mut self) -> Vec<HookNews> {
        let mut taken = Vec::new();
        while taken.len() < HOOK_REPORT
            && let Some(about) = self.order.pop_front()
        {
            taken.extend(self.waiting.remove(&about));
        }
        shrink(&mut self.waiting);
        shrink(&mut self.order);
        taken
    }

    /// A backend stored what is under way, or did not: then it waits again, where there is nothing newer of the same.
    fn answered(&mut self, is_stored: bool, now: Instant) {
        let told = std::mem::take(&mut self.under_way);
        if is_stored || planted(Mistake::HookNewsOnce) {
            self.retry_at = None;
            return;
        }
        self.retry_at = Some(now + HOOK_REPORT_RETRY);
        for news in told.into_iter().rev() {
            let about = news.about();
            if !self.waiting.contains_key(&about) {
                self.order.push_front(about.clone());
                self.waiting.insert(about, news);
            }
        }
    }

    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_empty()
    }
}

impl Ground {
    /// Somebody takes news for hooks: this node, as it knows from its first moment, or another one.
    fn are_hooks_wanted(&self) -> bool {
        !self.node.hooks.is_empty() || self.hook_reports.is_wanted_elsewhere
    }

    /// Tells backends something for hooks, if one of them asks for such. False if there was no room.
    pub(crate) fn tell_hooks(&mut self, news: HookNews) -> bool {
        if !self.are_hooks_wanted() {
            return true;
        }
        let has_room = self.hook_reports.add(news);
        if !has_room {
            // What is told in a while is told with all the rest.
            self.renew_hooks();
        }
        has_room
    }

    /// A member is online, though nobody says since when.
    pub(crate) fn tell_hooks_online(&mut self, member: &str) {
        if self.are_hooks_wanted() {
            let turn = Turn { member: member.to_owned(), online: true, at: self.clock.unix_ms, version: 0 };
            self.tell_hooks(HookNews::Member(turn));
        }
    }

    /// Somebody was refused, with 429 by a limit of this name.
    pub(crate) fn tell_hooks_limited(&mut self, limit: &str, who: Option<Who>, topic: Option<String>) {
        let (now, at) = (self.clock.instant, self.clock.unix_ms);
        let Some(who) = who.filter(|_| self.are_hooks_wanted()) else { return };
        let news = HookNews::Limit { limit: limit.to_owned(), who, topic, at };
        let limited = &mut self.hook_reports.limited;
        let about = news.about();
        if limited.get(&about).is_some_and(|until| *until > now) {
            return;
        }
        if limited.len() >= HOOK_LIMITED_MAX {
            limited.retain(|_, until| *until > now);
        }
        if limited.len() < HOOK_LIMITED_MAX {
            limited.insert(about, now + HOOK_LIMIT_EVERY);
            self.tell_hooks(news);
        }
    }

    /// All that holds is told again: who is online within two signs of life, which topics have viewers at once.
    fn renew_hooks(&mut self) {
        self.hook_reports.renewing_until = Some(self.clock.instant + PRESENCE_BEAT + PRESENCE_BEAT / 4);
        self.hook_reports.topics_renewed = true;
    }

    /// Whether members are to be told of with their signs of life.
    pub(crate) fn is_renewing_hooks(&self) -> bool {
        self.hook_reports.renewing_until.is_some_and(|until| self.clock.instant < until)
    }

    /// Whether topics with viewers are to be told of; says so once.
    pub(crate) fn take_hooks_renewed(&mut self) -> bool {
        std::mem::take(&mut self.hook_reports.topics_renewed)
    }

    /// Who lives changed, or may have; `before` are those that lived.
    pub(crate) fn on_alive_hooks(&mut self, before: &[crate::kv::NodeInfo]) {
        let takes = |node: &&crate::kv::NodeInfo| node.is(TAKES_HOOKS);
        let is_new = |node: &crate::kv::NodeInfo| !before.iter().any(|known| known.id == node.id);
        let came = self.alive.iter().filter(takes).any(is_new);
        self.hook_reports.is_wanted_elsewhere = self.alive.iter().any(|node| node.is(TAKES_HOOKS));
        if !self.are_hooks_wanted() {
            (self.hook_reports.waiting, self.hook_reports.order) = (Map::default(), VecDeque::new());
        }
        if came {
            self.renew_hooks();
        }
    }

    /// Once a tick: gives a backend what waits.
    pub(crate) fn report_to_hooks(&mut self) {
        let now = self.clock.instant;
        let reports = &self.hook_reports;
        if !reports.under_way.is_empty() || reports.order.is_empty() || reports.retry_at.is_some_and(|at| now < at) {
            return;
        }
        if !self.node.hooks.is_empty() {
            let news = self.hook_reports.take();
            self.hook_reports.under_way.clone_from(&news);
            return self.todo.push_back(Todo::HookNews(news));
        }
        let able = |node: &crate::kv::NodeInfo| {
            let to = Destination::Node(node.id);
            (node.is(TAKES_HOOKS) && self.link_takes((to, Lane::Totals))).then_some(to)
        };
        let able: Vec<Destination> = self.alive.iter().filter_map(able).collect();
        let number = self.random.number() as usize;
        let Some(to) = able.get(number % able.len().max(1)).copied() else { return };
        let news = self.hook_reports.take();
        let call = Call {
            path: "/v1/internal/hooks",
            content_type: "application/json",
            body: Arc::new(serde_json::to_vec(&news).expect("news is plain data")),
            deadline: now + HOOK_REPORT_TIMEOUT,
            what: Called::HookNews,
        };
        self.hook_reports.under_way = news;
        if self.call((to, Lane::Totals), call).is_err() {
            self.on_hooks_told(false);
        }
    }

    /// Another node took the news, or did not.
    pub(crate) fn on_hook_news_answered(&mut self, outcome: &Outcome) {
        self.on_hooks_told(matches!(outcome, Outcome::Answer(200..=299, _)));
    }

    /// A backend stored the news, or did not.
    pub(crate) fn on_hooks_told(&mut self, is_stored: bool) {
        self.hook_reports.answered(is_stored, self.clock.instant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(member: u8, version: u64) -> HookNews {
        HookNews::Member(Turn { member: member.to_string(), online: version.is_multiple_of(2), at: 0, version })
    }

    proptest! {
        /// Whatever is stored or fails in between: what a backend has last of each member is the newest that was said.
        #[test]
        fn the_newest_of_each_is_stored_in_the_end(steps in prop::collection::vec((0u8..4, 0u8..4), 1..80)) {
            let (mut reports, now) = (HookReports::default(), Instant::now());
            let (mut said, mut stored) = (Map::default(), Map::default());
            let mut version = 0;
            for (kind, member) in steps.into_iter().chain([(1, 0), (2, 0), (1, 0), (2, 0)]) {
                match kind {
                    1 if reports.under_way.is_empty() => reports.under_way = reports.take(),
                    2 => {
                        stored.extend(reports.under_way.iter().map(|news| (news.about(), news.clone())));
                        reports.answered(true, now);
                    }
                    3 => reports.answered(false, now),
                    _ => {
                        version += 1;
                        let news = turn(member, version);
                        said.insert(news.about(), news.clone());
                        prop_assert!(reports.add(news));
                    }
                }
            }
            prop_assert!(reports.is_empty());
            prop_assert_eq!(stored, said);
        }
    }

    #[test]
    fn one_that_knows_no_version_is_no_news_to_one_that_does() {
        let mut reports = HookReports::default();
        assert!(reports.add(turn(1, 7)) && reports.add(turn(1, 0)));
        assert_eq!(reports.take(), [turn(1, 7)]);
    }
}
