//! Hooks: a backend stores what they are to be told of, and one shard of it has what is due sent.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::json;
use tracing::{error, info, warn};

use crate::backend::Backend;
use crate::backend::comparing::Comparing;
use crate::backend::deliveries::{Deliveries, Seen};
use crate::db::hooks::{Delivery, HookAsk, HookCommand, HookKey, HookLook, HookOutcome, Note, Step};
use crate::db::{Command, Outcome, StoreError};
use crate::ground::Ground;
use crate::ground::asking::is_due;
use crate::ground::hooks::{Attempt, HookNews, Ran, Run, Who};
use crate::ground::message::{Message, Then, Ticket};
use crate::ground::slots::Conn;
use crate::limits::{ASKED_BYTES, HOOK_CLAIM, HOOK_LIMIT_EVERY, HOOK_REPORT, HOOK_WAITING_MAX};
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::trouble::Told;
use crate::wire::hooks::HookEvent;
use crate::wire::hops::Begun;
use crate::wire::http::HttpError;
use crate::wire::topic::Topic;

/// The shard that has deliveries sent.
pub(crate) const SENDS: usize = 0;

/// What a backend's shard knows of hooks.
#[derive(Debug)]
pub struct Hooks {
    /// Of each hook, on the shard that sends.
    lines: Vec<Deliveries>,
    /// States that are compared with what holds.
    pub(crate) comparing: Vec<Comparing>,
    /// The database knows them.
    are_open: bool,
    opening: bool,
    /// What each look found last.
    looks: Vec<HookLook>,
}

/// Who is answered once news is stored.
pub type Teller = Option<Conn>;

impl Hooks {
    /// Those of a backend which begins.
    pub fn new(ground: &Ground) -> Hooks {
        let hooks = if ground.id == SENDS { ground.node.hooks.len() } else { 0 };
        let now = ground.clock.instant;
        Hooks {
            lines: (0..hooks).map(|_| Deliveries::new(now)).collect(),
            comparing: (0..hooks).map(|_| Comparing::new(now)).collect(),
            are_open: false,
            opening: false,
            looks: vec![HookLook::default(); hooks],
        }
    }

    /// Nothing is on its way to a receiver.
    pub(crate) fn are_settled(&self) -> bool {
        self.lines.iter().all(Deliveries::is_settled)
    }
}

/// The hooks that are told of new comments.
pub(crate) fn of_comments(ground: &Ground) -> Arc<[HookKey]> {
    let told = ground.node.hooks.iter().filter(|hook| hook.events.contains(&HookEvent::CommentPosted));
    told.map(|hook| Arc::clone(&hook.key)).collect()
}

/// What news is as hooks are told: its subject, what changes, its version, what of, the data, and when.
fn read(news: &HookNews) -> Option<(String, Step, u64, HookEvent, serde_json::Value, u64)> {
    Some(match news {
        HookNews::Member(turn) => {
            let topic = Topic::encode("presence", &turn.member).ok()?;
            let (step, event) = match turn.online {
                true => (Step::Begins, HookEvent::MemberOnline),
                false => (Step::Ends, HookEvent::MemberOffline),
            };
            (topic.to_string(), step, turn.version, event, json!({"member": turn.member}), turn.at)
        }
        HookNews::Topic { topic, occupied, at } => {
            let (step, event) = match occupied {
                true => (Step::Begins, HookEvent::TopicOccupied),
                false => (Step::Ends, HookEvent::TopicVacated),
            };
            (topic.clone(), step, *at, event, json!({"topic": topic}), *at)
        }
        HookNews::Limit { limit, who, topic, at } => {
            let (key, name) = match who {
                Who::Member(name) => ("member", name),
                Who::Address(name) => ("address", name),
            };
            let mut data = json!({"limit": limit, key: name});
            if let Some(topic) = topic {
                data["topic"] = topic.as_str().into();
            }
            let step = Step::Repeats(HOOK_LIMIT_EVERY.as_millis() as u64);
            (format!("limit:{limit}:{key}:{name}"), step, *at, HookEvent::LimitExceeded, data, *at)
        }
    })
}

/// What each hook that asks for such news is to have noted.
fn notes(ground: &Ground, news: &[HookNews]) -> Arc<[Note]> {
    let mut notes = Vec::new();
    for (subject, step, version, event, data, at) in news.iter().filter_map(read) {
        for hook in &ground.node.hooks {
            let twin = match event {
                HookEvent::MemberOnline => HookEvent::MemberOffline,
                HookEvent::MemberOffline => HookEvent::MemberOnline,
                HookEvent::TopicOccupied => HookEvent::TopicVacated,
                HookEvent::TopicVacated => HookEvent::TopicOccupied,
                other => other,
            };
            let is_told = hook.events.contains(&event);
            if is_told || hook.events.contains(&twin) {
                let delivery = is_told.then(|| (event, data.to_string()));
                let (hook, subject) = (Arc::clone(&hook.key), subject.clone());
                notes.push(Note { hook, subject, step, version, delivery, at });
            }
        }
    }
    notes.into()
}

impl Backend {
    /// Once a tick.
    pub(crate) fn tick_hooks(&mut self, ground: &mut Ground) {
        if ground.id != SENDS || ground.node.hooks.is_empty() {
            return;
        }
        if !self.hooks.are_open {
            if !self.hooks.opening {
                let keys = ground.node.hooks.iter().map(|hook| Arc::clone(&hook.key)).collect();
                self.hooks.opening = self.store_own(ground, Command::Hooks(HookCommand::Open(keys)), Then::HooksOpen);
            }
            return;
        }
        for hook in 0..self.hooks.lines.len() {
            self.take_deliveries(ground, hook);
            self.settle_deliveries(ground, hook);
        }
        self.compare_hooks(ground);
    }

    fn take_deliveries(&mut self, ground: &mut Ground, hook: usize) {
        if ground.is_draining() {
            return;
        }
        let Some(ask) = self.hooks.lines[hook].ask(ground.clock.instant) else { return };
        let command = Command::Hooks(HookCommand::Take(HookAsk {
            hook: Arc::clone(&ground.node.hooks[hook].key),
            claim_ms: HOOK_CLAIM.as_millis() as u64,
            limit: ask.limit,
            look: ask.look,
        }));
        let then = Then::HookTaken { hook, limit: ask.limit, asked_at: ground.clock.instant };
        if !self.store_own(ground, command, then) {
            self.hooks.lines[hook].took(0, ask.limit, ground.clock.instant);
        }
    }

    fn settle_deliveries(&mut self, ground: &Ground, hook: usize) {
        let Some((settled, ends)) = self.hooks.lines[hook].settle(ground.clock.instant) else { return };
        let store = ground.node.store.as_ref().expect("a backend has a database");
        let key = Arc::clone(&ground.node.hooks[hook].key);
        let command = Command::Hooks(HookCommand::Settle { hook: key, settled: settled.clone(), ends });
        let held = ground.node.storing.settle(ASKED_BYTES);
        let ticket =
            self.ticket(ground, (Conn::NOBODY, Begun::default()), Then::HookSettled { hook, settled, ends }, held);
        if let Err(full) = store.try_submit(command, ticket)
            && let Then::HookSettled { hook, settled, ends } = full.ticket.then
        {
            self.hooks.lines[hook].settled(settled, ends, false, ground.clock.instant);
        }
    }

    /// The database answered what hooks asked it.
    pub(crate) fn on_hooks_stored(&mut self, ground: &mut Ground, ticket: Ticket, result: Result<Outcome, StoreError>) {
        let now = ground.clock.instant;
        match ticket.then {
            Then::HooksOpen => (self.hooks.opening, self.hooks.are_open) = (false, result.is_ok()),
            Then::HookTaken { hook, limit, asked_at } => self.on_deliveries(ground, hook, limit, asked_at, result),
            Then::HookSettled { hook, settled, ends } => {
                self.hooks.lines[hook].settled(settled, ends, result.is_ok(), now);
            }
            Then::HookNoted(teller) => self.on_noted_hooks(ground, teller, result.is_ok()),
            Then::HookStates(hook) => self.on_hook_states(ground, hook, result),
            _ => {}
        }
    }

    fn on_deliveries(
        &mut self,
        ground: &mut Ground,
        hook: usize,
        limit: u32,
        asked_at: Instant,
        result: Result<Outcome, StoreError>,
    ) {
        let line = &mut self.hooks.lines[hook];
        let Ok(Outcome::Hooks(HookOutcome::Taken { deliveries, look, .. })) = result else {
            return line.took(0, limit, ground.clock.instant);
        };
        line.took(deliveries.len(), limit, ground.clock.instant);
        let mut runs: Vec<(String, Vec<Delivery>)> = Vec::new();
        for delivery in deliveries {
            match runs.iter_mut().find(|(subject, _)| *subject == delivery.subject) {
                Some((_, run)) => run.push(delivery),
                None => runs.push((delivery.subject.clone(), vec![delivery])),
            }
        }
        let sender = ground.node.hook_sender.as_ref().expect("who has hooks has a sender");
        for (_, deliveries) in runs {
            sender.submit(Run { hook, until: asked_at + HOOK_CLAIM, deliveries });
        }
        if let Some(look) = look {
            self.on_hook_look(ground, hook, look);
        }
    }

    fn on_hook_look(&mut self, ground: &mut Ground, hook: usize, look: HookLook) {
        let before = std::mem::replace(&mut self.hooks.looks[hook], look);
        let (counters, name) = (ground.counters(), &ground.node.hooks[hook].name);
        for (what, lost) in [(What::HooksDroppedExpired, look.expired), (What::HooksDroppedFull, look.left_out)] {
            ground.happened(what, lost, Subject::says(format_args!("hook={name}")));
        }
        if look.expired > 0 {
            warn!(hook = name, deliveries = look.expired, "given up: the receiver did not take them for three days");
        }
        let is_full = |look: &HookLook| look.waiting >= HOOK_WAITING_MAX;
        if is_full(&look) && !is_full(&before) {
            error!(
                hook = name,
                waiting = look.waiting,
                "as much waits for the receiver as may; what comes now is not kept for it"
            );
        } else if is_full(&before) && !is_full(&look) {
            info!(hook = name, "there is room again for what the receiver is to be told of");
        }
        let oldest = self.hooks.looks.iter().filter_map(|look| look.oldest).min();
        counters.hooks_waiting.set(self.hooks.looks.iter().map(|look| look.waiting).sum());
        counters.hooks_oldest.set(oldest.map_or(0, |at| ground.clock.unix_ms.saturating_sub(at) / 1_000));
    }

    /// A run is over.
    pub(crate) fn on_hooks_sent(&mut self, ground: &mut Ground, ran: Ran) {
        let (now, mut fails) = (ground.clock.times.instant(), false);
        for (number, tries, attempt) in ran.attempts {
            let line = &mut self.hooks.lines[ran.hook];
            if fails {
                line.held_back();
                continue;
            }
            fails = matches!(attempt, Attempt::Failed(_));
            let seen = line.sent(number, tries, attempt, ground.random.number(), now);
            self.say_seen(ground, ran.hook, seen);
        }
        self.settle_deliveries(ground, ran.hook);
    }

    fn say_seen(&self, ground: &Ground, hook: usize, seen: Seen) {
        static TOLD: Mutex<Told> = Mutex::new(Told::new());
        let (counters, name) = (ground.counters(), &ground.node.hooks[hook].name);
        let happened = |what| ground.happened(what, 1, Subject::says(format_args!("hook={name}")));
        match seen {
            Seen::Taken => counters.hooks_sent.add(1),
            Seen::Back => {
                counters.hooks_sent.add(1);
                info!(hook = name, "the receiver takes deliveries again");
            }
            Seen::Failed(failure) => {
                happened(failure.what());
                if is_due(&TOLD, ground.clock.instant) {
                    warn!(
                        hook = name,
                        ?failure,
                        "the receiver did not take a delivery, which is tried again; told once a minute"
                    );
                }
            }
            Seen::Away(failure) => {
                happened(failure.what());
                warn!(
                    hook = name,
                    ?failure,
                    "the receiver takes nothing; one delivery at a time is tried until it does"
                );
            }
            Seen::Ended => {
                happened(What::HooksDroppedEnded);
                warn!(hook = name, "the receiver answered 410 and is told nothing more until a backend starts anew");
            }
            Seen::Untried => {}
        }
    }

    /// Another node's news, or this one's: it is stored, and `teller` is answered then.
    ///
    /// # Errors
    /// The database has no room for the command.
    pub(crate) fn note_hooks(&mut self, ground: &Ground, news: &[HookNews], teller: Teller) -> Result<(), HttpError> {
        let notes = notes(ground, news);
        if self.store_own(ground, Command::Hooks(HookCommand::Note(notes)), Then::HookNoted(teller)) {
            return Ok(());
        }
        Err(HttpError::unavailable("the database has too much to do"))
    }

    /// `POST /v1/internal/hooks`
    ///
    /// # Errors
    /// A body that is no news, or no room.
    pub(crate) fn hooks_told(&mut self, ground: &Ground, conn: Conn, body: &[u8]) -> Result<(), HttpError> {
        let news: Vec<HookNews> = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a list of news for hooks: {error}")))?;
        if news.len() > HOOK_REPORT {
            return Err(HttpError::bad(format!("at most {HOOK_REPORT} at a time")));
        }
        self.note_hooks(ground, &news, Some(conn))
    }

    fn on_noted_hooks(&mut self, ground: &mut Ground, teller: Teller, is_stored: bool) {
        match teller {
            Some(conn) => {
                let unavailable = || HttpError::unavailable("the database is unavailable; tell it again");
                ground.reply(conn, if is_stored { Ok(Vec::new()) } else { Err(unavailable()) });
            }
            None => ground.on_hooks_told(is_stored),
        }
        self.hasten_hooks(ground);
    }

    /// Something was stored for hooks: the shard that sends looks at once.
    pub(crate) fn hasten_hooks(&mut self, ground: &mut Ground) {
        if !ground.node.hooks.is_empty() {
            match ground.id {
                SENDS => self.on_hooks_due(ground),
                _ => ground.send(SENDS, Message::HooksDue),
            }
        }
    }

    /// See [`Backend::hasten_hooks`].
    pub(crate) fn on_hooks_due(&mut self, ground: &Ground) {
        self.hooks.lines.iter_mut().for_each(|line| line.hasten(ground.clock.instant));
    }
}
