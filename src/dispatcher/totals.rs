//! A dispatcher has a backend tell totals of likes that somebody may not know.

use std::sync::Arc;

use crate::dispatcher::Dispatcher;
use crate::ground::link::{Call, Called, Destination, Lane, Outcome as CallOutcome};
use crate::ground::{Ground, Todo};
use crate::kv::highest;
use crate::limits::{QUESTIONS_TIMEOUT, TOTALS_ASKED_MAX};
use crate::wire::topic::Topic;

impl Dispatcher {
    /// Once a tick of a dispatcher: has a backend tell the totals of topics that somebody watches who may not know them.
    pub(crate) fn ask_totals(&mut self, ground: &mut Ground) {
        let (alive, own) = (Arc::clone(&ground.alive), ground.node.id);
        let dispatchers = || alive.iter().filter(|node| node.is("dispatcher")).map(|node| node.id);
        let alone = ground.node.info.is_none();
        let is_ours = |topic: &Topic| alone || highest(topic.as_str(), dispatchers()) == Some(own);
        let topics = self.tally.totals_due(TOTALS_ASKED_MAX, is_ours);
        if topics.is_empty() {
            return;
        }
        if ground.node.store.is_some() {
            return ground.todo.push_back(Todo::TotalsAsked(topics));
        }
        let backends: Vec<Destination> =
            alive.iter().filter(|node| node.is("backend")).map(|node| Destination::Node(node.id)).collect();
        let able: Vec<Destination> =
            backends.iter().copied().filter(|to| ground.link_takes((*to, Lane::Totals))).collect();
        let number = ground.random.number() as usize;
        let Some(to) = able.get(number % able.len().max(1)) else {
            // Where no backend lives nobody tells them; when one comes, those of all topics are asked for.
            if !backends.is_empty() {
                topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
            }
            return;
        };
        let call = Call {
            path: "/v1/internal/totals",
            content_type: "application/json",
            body: Arc::new(serde_json::to_vec(&topics).expect("names are plain data")),
            deadline: ground.clock.instant + QUESTIONS_TIMEOUT,
            what: Called::Totals(topics),
        };
        if let Err(Called::Totals(topics)) = ground.call((*to, Lane::Totals), call) {
            topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
        }
    }

    /// A backend took a list of topics, or did not: then another one is asked.
    pub(crate) fn on_totals_asked(&mut self, topics: &[Topic], outcome: &CallOutcome) {
        // One of the version before knows of no totals.
        if !matches!(outcome, CallOutcome::Answer(200..=299 | 404, _)) {
            topics.iter().for_each(|topic| self.tally.doubt_totals_of(topic));
        }
    }
}
