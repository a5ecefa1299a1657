//! States that receivers of hooks were told of, compared with what the key-value store knows: a member who went while nobody
//! noticed, and a topic whose viewers a dead node took with it, are told of all the same.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::Backend;
use crate::db::hooks::{HookCommand, HookOutcome};
use crate::db::{Command, Outcome, StoreError};
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::ground::cluster::among;
use crate::ground::hooks::{HookNews, TAKES_HOOKS};
use crate::ground::message::Then;
use crate::kv::{Answer, Request, Turn, Unavailable, highest};
use crate::limits::{HOOK_COMPARE, HOOK_COMPARED, HOOK_DOUBT, HOOK_DOUBTED_MAX};
use crate::runtime::random::Map;
use crate::wire::http::percent_decode;
use crate::wire::topic::Topic;

/// A subject, and the version of its state.
type State = (String, u64);

/// Of one hook.
#[derive(Debug)]
pub struct Comparing {
    next: Instant,
    /// Up to which subject all were compared.
    after: String,
    asking: bool,
    /// Of which the store knew nothing, by when they are asked for again.
    doubted: VecDeque<(Instant, State)>,
    /// The same by subject; true once they were asked for again.
    doubts: Map<String, bool>,
}

impl Comparing {
    /// That of a backend which begins.
    pub fn new(now: Instant) -> Comparing {
        Comparing {
            next: now + HOOK_COMPARE,
            after: String::new(),
            asking: false,
            doubted: VecDeque::new(),
            doubts: Map::default(),
        }
    }

    /// Something is known that does not fit a state. True if it is so for the second time, long after the first.
    fn doubt(&mut self, state: &State, now: Instant) -> bool {
        if self.doubts.get(&state.0) == Some(&true) {
            self.doubts.remove(&state.0);
            return true;
        }
        if !self.doubts.contains_key(&state.0) && self.doubted.len() < HOOK_DOUBTED_MAX {
            self.doubts.insert(state.0.clone(), false);
            self.doubted.push_back((now + HOOK_DOUBT, state.clone()));
        }
        false
    }

    /// A state holds, or nobody knows.
    fn believe(&mut self, subject: &str) {
        if self.doubts.get(subject) == Some(&true) {
            self.doubts.remove(subject);
        }
    }

    /// Those that are to be asked for again now.
    fn due(&mut self, now: Instant) -> Vec<State> {
        let mut due = Vec::new();
        while due.len() < HOOK_COMPARED as usize
            && self.doubted.front().is_some_and(|(at, _)| *at <= now)
            && let Some((_, state)) = self.doubted.pop_front()
        {
            self.doubts.insert(state.0.clone(), true);
            due.push(state);
        }
        due
    }
}

impl Backend {
    /// Once a tick, on the shard that sends: goes on comparing, where this node is the one to.
    pub(crate) fn compare_hooks(&mut self, ground: &mut Ground) {
        let now = ground.clock.instant;
        for hook in 0..self.hooks.comparing.len() {
            let comparing = &mut self.hooks.comparing[hook];
            if comparing.asking || comparing.next > now || ground.is_draining() {
                continue;
            }
            comparing.next = now + HOOK_COMPARE;
            let alive = Arc::clone(&ground.alive);
            let takers = || alive.iter().filter(|node| node.is(TAKES_HOOKS)).map(|node| node.id);
            let key = Arc::clone(&ground.node.hooks[hook].key);
            if highest(&format!("hook {key}"), takers()) != Some(ground.node.id) {
                continue;
            }
            let due = comparing.due(now);
            if !due.is_empty() {
                self.ask_of_states(ground, hook, due);
                continue;
            }
            let after = comparing.after.clone();
            let command = Command::Hooks(HookCommand::States { hook: key, after, limit: HOOK_COMPARED });
            self.hooks.comparing[hook].asking = self.store_own(ground, command, Then::HookStates(hook));
        }
    }

    /// The database listed states.
    pub(crate) fn on_hook_states(&mut self, ground: &mut Ground, hook: usize, result: Result<Outcome, StoreError>) {
        let comparing = &mut self.hooks.comparing[hook];
        comparing.asking = false;
        let Ok(Outcome::Hooks(HookOutcome::States(states))) = result else { return };
        let is_last = states.len() < HOOK_COMPARED as usize;
        comparing.after = states.last().filter(|_| !is_last).map_or(String::new(), |(subject, _)| subject.clone());
        let known = |state: &State| comparing.doubts.contains_key(&state.0);
        let states = states.into_iter().filter(|state| !known(state)).collect();
        self.ask_of_states(ground, hook, states);
    }

    fn ask_of_states(&mut self, ground: &mut Ground, hook: usize, states: Vec<State>) {
        let (mut members, mut names) = (Vec::new(), Vec::new());
        for state in states {
            let Ok(topic) = Topic::parse(&state.0) else { continue };
            if topic.as_str().starts_with("presence:") {
                let Ok(name) = percent_decode(&topic.as_str()["presence:".len()..], false) else { continue };
                names.push(name.into_owned());
                members.push(state);
            } else {
                ground.ask(Request::Subscribers(topic), Asked::HookTopic { hook, state });
            }
        }
        if !names.is_empty() {
            ground.ask(Request::Presence(names.clone()), Asked::HookMembers { hook, names, states: members });
        }
    }

    /// What is known of members who were told of as online.
    pub(crate) fn on_hook_members(
        &mut self,
        ground: &mut Ground,
        hook: usize,
        (names, states): (Vec<String>, &[State]),
        result: Result<Answer, Unavailable>,
    ) {
        let now = ground.clock.instant;
        let turns = match result {
            Ok(Answer::Presence(turns)) => turns,
            _ => return states.iter().for_each(|(subject, _)| self.hooks.comparing[hook].believe(subject)),
        };
        let mut news = Vec::new();
        for ((member, state), turn) in names.into_iter().zip(states).zip(turns) {
            let comparing = &mut self.hooks.comparing[hook];
            match turn {
                Some(turn) if turn.online => comparing.believe(&state.0),
                turn if comparing.doubt(state, now) => {
                    // Only if nothing newer was told meanwhile.
                    let at = turn.as_ref().map_or(ground.clock.unix_ms, |turn| turn.at);
                    let version = turn.map_or(state.1, |turn| turn.version.max(state.1));
                    news.push(HookNews::Member(Turn { member, online: false, at, version }));
                }
                _ => {}
            }
        }
        for news in news {
            ground.tell_hooks(news);
        }
    }

    /// Which nodes want a topic that was told of as occupied.
    pub(crate) fn on_hook_topic(
        &mut self,
        ground: &mut Ground,
        hook: usize,
        state: &State,
        result: Result<Answer, Unavailable>,
    ) {
        let comparing = &mut self.hooks.comparing[hook];
        let Ok(Answer::Subscribers(nodes)) = result else { return comparing.believe(&state.0) };
        if nodes.iter().any(|node| among(&ground.alive, *node).is_some()) {
            comparing.believe(&state.0);
        } else if comparing.doubt(state, ground.clock.instant) {
            // As of what was told: a viewer who came since is newer.
            let (topic, at) = (state.0.clone(), state.1);
            ground.tell_hooks(HookNews::Topic { topic, occupied: false, at });
        }
    }
}
