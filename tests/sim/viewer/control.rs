//! What a viewer asks of its open stream: other topics, and new rights before the old ones end.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use fanfare::runtime::random::Random;
use serde_json::{Value, json};

use super::{Viewer, covers};
use crate::clients::SECOND;
use crate::fabric::Fabric;
use crate::tokens::token;

/// A token.
#[derive(Debug, Clone)]
pub struct Pass {
    pub token: String,
    pub ends: u64,
    /// The topics that it lets one watch.
    rights: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) enum Doing {
    Topics { add: Vec<String>, remove: Vec<String> },
    Renew(Pass),
}

impl Viewer {
    /// A new token, for all topics.
    pub(super) fn pass(&self, now: u64) -> Option<Pass> {
        self.lasts.map(|lasts| self.pass_for(self.all.iter().cloned().collect(), now + lasts))
    }

    fn pass_for(&self, rights: BTreeSet<String>, ends: u64) -> Pass {
        let ends = ends / SECOND * SECOND;
        let subscribe: Vec<String> = rights.iter().cloned().collect();
        Pass { token: token(self.member.as_deref(), &subscribe, &[], ends), ends, rights }
    }

    /// When it has something to ask.
    pub(super) fn control_due(&self) -> u64 {
        match self.doing {
            Some(_) => self.call.next,
            None if !self.is_connected => u64::MAX,
            None => self.renews_at.min(self.changes_at),
        }
    }

    /// What is being asked of a stream that is over has no answer any more.
    pub(super) fn abandon(&mut self, fabric: &mut Fabric, random: &mut Random) {
        self.renews_at = u64::MAX;
        let Some(doing) = self.doing.take() else { return };
        self.call.again(fabric, random);
        if let Doing::Topics { add, remove } = doing {
            self.topics.extend(add);
            remove.into_iter().for_each(|topic| self.lose(topic, fabric.now.get()));
        }
    }

    /// It does not watch a topic any more.
    fn lose(&mut self, topic: String, now: u64) {
        self.topics.retain(|mine| *mine != topic);
        self.gone.insert(topic, now);
    }

    /// Asks what there is to ask.
    pub(super) fn control(&mut self, fabric: &mut Fabric, random: &mut Random, frontends: &[SocketAddr]) {
        if !self.is_connected || self.roams {
            return;
        }
        if self.doing.is_none() {
            self.doing = self.next_doing(random, fabric.now.get());
            self.call.begin();
            self.call.next = fabric.now.get();
        }
        let Some(doing) = &self.doing else { return };
        let (what, body) = match doing {
            Doing::Topics { add, remove } => ("topics", json!({"add": add, "remove": remove})),
            Doing::Renew(pass) => ("token", json!({"token": pass.token})),
        };
        let (connection, body, pass) = (&self.connection, body.to_string(), self.authorization());
        let request = |host: &str| {
            format!(
                "POST /v1/connections/{connection}/{what} HTTP/1.1\r\nHost: {host}:8080\r\n{pass}Content-Length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let Some((status, body)) = self.call.turn(fabric, random, frontends, request) else { return };
        let what = match doing {
            Doing::Topics { add, remove } => format!("asks for {add:?} and not for {remove:?}"),
            Doing::Renew(pass) => format!("asks for rights to {:?} until {} s", pass.rights, pass.ends / SECOND),
        };
        self.story.push(format!("{what}: {status}, {} tries", self.call.attempts));
        match status {
            200 | 204 => self.done(&body, fabric.now.get()),
            // The stream is gone, or the token has ended.
            401 | 412 => self.leave(fabric, random),
            503 => self.call.again(fabric, random),
            _ => {
                let wrong = format!("{}: {doing:?} came to {status}", fabric.now.get());
                self.faults.push(wrong);
                self.abandon(fabric, random);
            }
        }
    }

    fn next_doing(&mut self, random: &mut Random, now: u64) -> Option<Doing> {
        let draw = random.number() as usize;
        let changeable = |topic: &String| !self.settled.contains(topic);
        if now >= self.renews_at {
            self.renews_at = u64::MAX;
            let mut rights: BTreeSet<String> = self.all.iter().cloned().collect();
            // Some rights are not given again.
            let lost = self.topics.get((draw >> 8) % self.topics.len()).cloned();
            let covered = |lost: &String| self.all.iter().any(|mine| mine != lost && covers(mine, lost));
            if let Some(lost) = lost
                .filter(|lost| !covered(lost))
                .filter(|lost| draw.is_multiple_of(3) && self.topics.len() > 1 && !self.quiet && changeable(lost))
            {
                rights.remove(&lost);
                self.gives_up(&lost);
            }
            let pass = self.pass_for(rights, now + self.lasts?);
            // Whether it holds is not known before the answer.
            self.stream().ends = Some(pass.ends);
            return Some(Doing::Renew(pass));
        }
        if now < self.changes_at {
            return None;
        }
        let stays = (SECOND + draw as u64 % (6 * SECOND)) / if self.is_restless { 8 } else { 1 };
        self.changes_at = if self.quiet { u64::MAX } else { now + stays };
        let topic =
            self.all.get((draw >> 8) % self.all.len()).filter(|topic| !self.quiet && changeable(topic))?.clone();
        if self.topics.contains(&topic) {
            let remove = (self.topics.len() > 1).then(|| vec![topic.clone()])?;
            self.gives_up(&topic);
            return Some(Doing::Topics { add: Vec::new(), remove });
        }
        let may = self.pass.as_ref().is_none_or(|pass| pass.rights.contains(&topic));
        may.then(|| Doing::Topics { add: vec![topic], remove: Vec::new() })
    }

    /// From now on nothing of it must come, though it may.
    fn gives_up(&mut self, topic: &str) {
        self.since.remove(topic);
        self.stream().since.remove(topic);
    }

    fn done(&mut self, body: &[u8], now: u64) {
        self.changes += 1;
        // What a late try does, behind a later change, nobody promises.
        let tried_again = self.call.attempts > 1;
        match self.doing.take().expect("it is under way") {
            Doing::Topics { add, remove } => {
                let answer: Value = serde_json::from_slice(body).unwrap_or_default();
                let pending: Vec<&str> =
                    answer["pending"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                if tried_again {
                    self.settled.extend(add.iter().chain(&remove).cloned());
                }
                for topic in add {
                    if !pending.contains(&&*topic) {
                        self.since.insert(topic.clone(), now);
                        self.stream().since.insert(topic.clone(), now);
                    }
                    self.gone.remove(&topic);
                    if topic.ends_with('*') || self.topics.iter().any(|mine| covers(mine, &topic)) {
                        self.stream().asked.push((topic.clone(), now));
                    }
                    self.topics.push(topic);
                }
                remove.into_iter().for_each(|topic| self.lose(topic, now));
            }
            Doing::Renew(pass) => {
                let lost: Vec<String> =
                    self.topics.iter().filter(|topic| !pass.rights.contains(*topic)).cloned().collect();
                if tried_again {
                    self.settled.extend(lost.iter().cloned());
                }
                self.rights_lost += lost.len() as u64;
                lost.into_iter().for_each(|topic| self.lose(topic, now));
                self.pass = Some(pass);
            }
        }
    }
}
