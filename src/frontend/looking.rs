//! A shard looks through its streams, all of them once for all that was told meanwhile, in slices.

use std::sync::Arc;

use crate::auth::{Patterns, Rights};
use crate::frontend::Frontend;
use crate::frontend::ending::Ended;
use crate::ground::Ground;
use crate::ground::access::Access;
use crate::ground::control::{Change, News};
use crate::ground::slots::Conn;
use crate::limits::{CONTROL_LOOKS, CROWD_SLICE};
use crate::runtime::random::Map;
use crate::wire::sse::ByeReason;

/// What is to become of a member's streams.
#[derive(Debug, Clone)]
enum Act {
    End,
    Change(Arc<Change>),
}

/// A look through all streams.
#[derive(Debug)]
pub struct Look {
    /// The next slot.
    at: u32,
    acts: Map<Box<str>, Vec<Act>>,
}

impl Look {
    fn of(told: impl Iterator<Item = Arc<Vec<News>>>) -> Look {
        let mut acts: Map<Box<str>, Vec<Act>> = Map::default();
        for news in told.flat_map(|told| told.to_vec()) {
            let (member, act) = match news {
                News::Revoked(..) => continue,
                News::Disconnected(member) => (Box::from(&*member), Act::End),
                News::Changed(change) => (Box::from(&*change.member), Act::Change(change)),
            };
            acts.entry(member).or_default().push(act);
        }
        Look { at: 0, acts }
    }
}

/// What all streams are to be looked through for.
#[derive(Debug, Default)]
pub struct Looks {
    /// What was told since the present look began.
    waiting: Vec<Arc<Vec<News>>>,
    look: Option<Look>,
}

impl Looks {
    /// What was told to all nodes is to be done with the streams here.
    pub fn add(&mut self, news: Arc<Vec<News>>) {
        self.waiting.push(news);
    }

    /// Whether streams are yet to be looked at.
    pub fn are_due(&self) -> bool {
        self.look.is_some() || !self.waiting.is_empty()
    }
}

impl Frontend {
    /// Looks at streams for as long as one turn may. True if there are more.
    pub(crate) fn look_at_streams(&mut self, ground: &mut Ground) -> bool {
        let mut slice = ground.clock.slice(CROWD_SLICE);
        loop {
            let capacity = ground.slots.capacity();
            let Some(look) = self.looks.look.as_mut().filter(|look| look.at < capacity) else {
                self.looks.look = None;
                if self.looks.waiting.is_empty() {
                    return false;
                }
                self.looks.look = Some(Look::of(self.looks.waiting.drain(..)));
                continue;
            };
            let number = look.at;
            look.at += 1;
            let acted = self.look_at(ground, number);
            if (acted || number.is_multiple_of(CONTROL_LOOKS)) && slice.is_over() {
                return true;
            }
        }
    }

    /// Does what is to be done with one stream. True if there was something.
    fn look_at(&mut self, ground: &mut Ground, number: u32) -> bool {
        let slot = ground.slots.at(number);
        let is_open = slot.is_stream() && !slot.is_ending();
        let Some(rights) = slot.rights.as_deref().filter(|_| is_open) else { return false };
        let Some(conn) = ground.slots.owner(number) else { return false };
        if rights.are_revoked(&ground.control.revoked) {
            self.say_bye(ground, conn, ByeReason::Token, Ended::Token);
            return true;
        }
        let acts = self.looks.look.as_ref().and_then(|look| look.acts.get(rights.member.as_deref()?)).cloned();
        let Some(acts) = acts else { return false };
        for act in acts {
            match act {
                Act::End => self.say_bye(ground, conn, ByeReason::Token, Ended::Disconnected),
                Act::Change(_) if ground.slots.get(conn).is_none_or(|slot| slot.is_of_mercure()) => {}
                Act::Change(change) => self.change_as_told(ground, conn, &change),
            }
        }
        true
    }

    /// A server changes a stream's topics: it needs no right of the stream's. What would be too many is left out.
    fn change_as_told(&mut self, ground: &mut Ground, conn: Conn, change: &Change) {
        if ground.slots.get(conn).is_none_or(|slot| slot.is_ending()) {
            return;
        }
        let none = Patterns::default;
        let access = match ground.node.tokens {
            Some(_) => Access::Token(Arc::new(Rights::handed_on(Some(&change.member), None, none(), none()))),
            None => Access::Open,
        };
        match self.change_stream(ground, conn, &change.add, &change.remove, &access) {
            Ok((added, _)) => self.show_topics(ground, conn, &added),
            Err(_) => ground.counters().rejected.add(1),
        }
    }
}
