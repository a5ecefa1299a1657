//! Telling viewers of posts: at their topics' homes, in the order of their ids; and the outbox, of which one shard takes what
//! is due and hands it to the homes.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tracing::warn;

use crate::backend::Backend;
use crate::backend::passes::{Passes, Step};
use crate::backend::posts::place_topic;
use crate::backend::telling::{Due, Lines, PassEnd};
use crate::db::{Change, Command, OutboxAsk, Outcome, Record, StoreError};
use crate::ground::Ground;
use crate::ground::asking::is_due;
use crate::ground::message::{Message, Then};
use crate::ground::own::Own;
use crate::ground::posts::{Marking, News, Telling, Told};
use crate::ground::publishing::Publisher;
use crate::ground::slots::Conn;
use crate::limits::{ASKED_BYTES, OUTBOX_AGE, OUTBOX_LEASE, OUTBOX_PAGE_BYTES, TOLD_AT_ONCE};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::random::Set;
use crate::runtime::trouble;
use crate::wire::event::DELETED_SUFFIX;
use crate::wire::hops::Begun;
use crate::wire::topic::Topic;

/// The shard that looks into the outbox.
const LOOKS: usize = 0;

/// What a backend's shard knows of the posts that viewers are told of.
#[derive(Debug)]
pub struct Posts {
    /// Those of topics whose home it is.
    pub(crate) lines: Lines,
    /// When the outbox is looked into.
    passes: Passes,
    /// What is reserved for the page that was asked for.
    page: Option<Reservation>,
}

impl Posts {
    /// Nothing waits.
    pub fn new(account: &Account, now: Instant) -> Posts {
        Posts { lines: Lines::new(account, now), passes: Passes::new(now), page: None }
    }
}

impl Backend {
    /// Publishes posts whose turn it is, as many as one turn allows, and marks what became of others.
    pub(crate) fn tell_posts(&mut self, ground: &mut Ground) {
        let mut published = 0;
        while published < TOLD_AT_ONCE
            && let Some((topic, tellings)) = self.posts.lines.next_tellings()
        {
            published += tellings.len();
            for telling in tellings {
                self.publish_post(ground, &topic, &telling);
            }
        }
        while let Some(marking) = self.posts.lines.next_marks() {
            let store = ground.node.store.as_ref().expect("a backend has a database");
            let command = Command::Mark(Arc::clone(&marking.marks));
            let held = ground.node.storing.settle(ASKED_BYTES);
            if let Err(full) = store
                .try_submit(command, self.ticket(ground, (Conn::NOBODY, Begun::default()), Then::Marked(marking), held))
                && let Then::Marked(marking) = full.ticket.then
            {
                self.posts.lines.unmarked(marking);
            }
        }
        self.report_told(ground);
    }

    fn report_told(&mut self, ground: &mut Ground) {
        let left = self.posts.lines.take_left();
        if left > 0 {
            ground.happened(What::OutboxLeft, left, Subject::default());
        }
        let told = self.posts.lines.take_told();
        if told != Told::default() {
            ground.happened(What::OutboxResent, told.told as u64, Subject::default());
            ground.send(LOOKS, Message::Outbox(News::Told(told)));
        }
    }

    fn publish_post(&mut self, ground: &mut Ground, topic: &Topic, telling: &Telling) {
        let Telling { kind, record, member, text, always, begun } = telling;
        let (event, id, data) = match record.change {
            Change::Posted => (kind.event(), record.id.clone(), json!({"member": member, "text": text})),
            Change::Deleted => ("deleted", format!("{}{DELETED_SUFFIX}", record.id), json!({"id": record.id})),
        };
        ground.publish(Own {
            id: Some(id),
            always: *always,
            begun: *begun,
            publisher: Publisher::Post(topic.clone(), record.clone()),
            ..Own::new(topic, event, data.to_string())
        });
    }

    /// A post was published, or could not be.
    pub(crate) fn on_told(&mut self, ground: &mut Ground, topic: &Topic, record: &Record, is_told: bool) {
        // What failed is compared with when others began: not with a clock that stands still for a turn.
        let now = if is_told { ground.clock.instant } else { ground.clock.times.instant() };
        self.posts.lines.told(topic, record, is_told, now);
    }

    /// Once a tick.
    pub(crate) fn tick_outbox(&mut self, ground: &mut Ground) {
        if ground.node.store.is_none() {
            return;
        }
        self.posts.lines.tick(ground.clock.instant);
        if self.posts.lines.lags() {
            ground.send(LOOKS, Message::Outbox(News::Awaited));
        }
        if ground.id == LOOKS {
            self.look_into_outbox(ground);
        }
    }

    /// Takes what a crash, or a key-value store that was away, kept from being told, if it is time to.
    fn look_into_outbox(&mut self, ground: &mut Ground) {
        if ground.is_draining() {
            return;
        }
        let (now, is_away) = (ground.clock.instant, ground.trouble().is_some());
        match self.posts.passes.step(now, is_away) {
            None => {}
            Some(Step::GiveUp) => self.end_pass(ground, Due::Unknown),
            // Should there be no room for the question, it is asked again.
            Some(Step::Hold) => {
                self.ask_outbox(ground, None, 1, Then::OutboxHeld);
            }
            Some(Step::Ask { after, limit }) => {
                let Ok(room) = ground.account.reserve(Use::Questions, OUTBOX_PAGE_BYTES) else {
                    return self.end_pass(ground, Due::Unknown);
                };
                self.posts.page = Some(room);
                if !self.ask_outbox(ground, after, limit, Then::Outbox) {
                    self.end_pass(ground, Due::Unknown);
                }
            }
        }
    }

    /// False if the database's queue is full.
    fn ask_outbox(&self, ground: &Ground, after: Option<Record>, limit: u32, then: Then) -> bool {
        let command = Command::Unpublished(OutboxAsk {
            holder: ground.node.id.0.cast_signed(),
            lease_ms: OUTBOX_LEASE.as_millis() as u64,
            after,
            older_than_ms: OUTBOX_AGE.as_millis() as u64,
            limit,
        });
        self.store_own(ground, command, then)
    }

    /// The pass is over: every topic that waits for it learns so, behind all that it listed.
    fn end_pass(&mut self, ground: &mut Ground, due: Due) {
        self.posts.page = None;
        if let Some((began, asked)) = self.posts.passes.times() {
            self.say_pass_ends(ground, &PassEnd { began, asked, due });
        }
        self.posts.passes.end(ground.clock.instant);
    }

    fn say_pass_ends(&mut self, ground: &mut Ground, end: &PassEnd) {
        for shard in 0..ground.node.shards() {
            ground.send(shard, Message::Outbox(News::PassEnds(end.clone())));
        }
    }

    /// The database listed what is due, or could not.
    pub(crate) fn on_outbox(&mut self, ground: &mut Ground, result: Result<Outcome, StoreError>) {
        self.posts.page = None;
        let (Ok(Outcome::Unpublished { posts, more, elsewhere }), Some((began, asked))) =
            (result, self.posts.passes.times())
        else {
            return self.end_pass(ground, Due::Unknown);
        };
        if elsewhere {
            let topics: Set<Topic> = posts.iter().filter_map(|post| place_topic(post.kind, &post.place).ok()).collect();
            self.end_pass(ground, if more { Due::Unknown } else { Due::Of(Arc::new(topics)) });
            return self.posts.passes.elsewhere(ground.clock.instant);
        }
        let last = posts.last().map(|post| post.record.clone());
        let listed = posts.len();
        if listed > 0 && began == asked {
            static TOLD: Mutex<trouble::Told> = Mutex::new(trouble::Told::new());
            if is_due(&TOLD, ground.clock.instant) {
                warn!(posts = listed, more, "publishing what was stored and perhaps not published; told once a minute");
            }
        }
        let mut homes: Vec<Vec<(Topic, Telling)>> = (0..ground.node.shards()).map(|_| Vec::new()).collect();
        for post in posts {
            match place_topic(post.kind, &post.place) {
                Ok(topic) => homes[ground.node.home(topic.as_str())].push((topic, post.into())),
                // A name that an earlier version took.
                Err(_) => self.posts.lines.give_up(post.record),
            }
        }
        for (home, posts) in homes.into_iter().enumerate() {
            if !posts.is_empty() {
                ground.send(home, Message::Outbox(News::Listed { posts, began }));
            }
        }
        if self.posts.passes.listed(listed, last, more, ground.clock.instant) {
            self.say_pass_ends(ground, &PassEnd { began, asked, due: Due::Nothing });
        }
    }

    /// The outbox has posts of topics whose home this is, or those who publish them have news for who looks into it.
    pub(crate) fn on_outbox_news(&mut self, ground: &mut Ground, news: News) {
        let now = ground.clock.instant;
        match news {
            News::Listed { posts, began } => {
                for (topic, telling) in posts {
                    self.posts.lines.list(&topic, telling, began, now);
                }
            }
            News::PassEnds(end) => self.posts.lines.pass_ends(&end, now),
            News::Told(told) => {
                self.posts.passes.settled(told, now);
                self.look_into_outbox(ground);
            }
            News::Awaited => {
                self.posts.passes.hasten();
                self.look_into_outbox(ground);
            }
        }
    }

    /// Marks were stored, or could not be: then they wait for the next tick.
    pub(crate) fn on_marked(&mut self, ground: &mut Ground, marking: Marking, is_stored: bool) {
        if is_stored {
            self.posts.lines.marked(marking, ground.clock.times.instant());
        } else {
            self.posts.lines.unmarked(marking);
        }
    }
}
