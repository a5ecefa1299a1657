//! The members of one thread: they arrive, watch, leave, and come back.
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};

use super::script::Chance;
use super::texts::{self, Run};
use super::viewer::{Acknowledged, State, Viewer};
use crate::client::fleet::Clients;
use crate::client::fleet::frames::Stream;
use crate::client::fleet::known::{Kind, Known, Said, line};
use crate::client::fleet::measured::{Measured, Status};
use crate::client::fleet::sockets::Sockets;
use crate::client::fleet::sys::now_us;
use crate::client::fleet::worker::Part;
use crate::client::http::percent_encode;

/// A stream that is not `connected` by then is given up.
const CONNECT_US: u64 = 20_000_000;
/// Mean time away, and mean wait before a failed connect is tried again, in µs.
const AWAY_US: f64 = 5_000_000.0;
const RETRY_US: f64 = 2_000_000.0;
/// Nobody leaves sooner.
const STAY_US_MIN: u64 = 3_000_000;
/// Over which those who are away come back once the script is over: all in one moment would be another load than the one
/// that is measured.
const RETURN_US: f64 = 500_000.0;

/// What all processes know.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What precedes a path, the `Host` header's value, and further headers as whole lines.
    pub prefix: String,
    pub authority: String,
    pub headers: String,
    /// Topics as they stand in a query.
    pub live: String,
    pub chat: String,
    pub run: Run,
    pub members: u32,
    /// Members 0 to this follow the chat, too.
    pub chatters: u32,
    pub arrive_us: u64,
    pub stay_us: f64,
    pub seed: u64,
}

/// What members are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// The script is over: all come back, and each must have seen these.
    Finish(Vec<Acknowledged>),
    /// Count what has not been seen.
    Count,
    /// Count it once more, and close all streams.
    End,
}

/// A thread's part of a crowd.
#[derive(Debug)]
pub struct Audience {
    plan: Plan,
    part: Part,
    viewers: Vec<Viewer>,
    /// When each arrives, leaves, comes back, or has waited too long; with its generation.
    due: BinaryHeap<Reverse<(u64, usize, u32)>>,
    chance: Chance,
    /// From then on nobody leaves, and who is away comes back.
    acknowledged: Option<Vec<Acknowledged>>,
    known: Known<Run>,
    status: Status,
    measured: Measured,
}

impl Audience {
    /// The member at a place.
    fn number(&self, place: usize) -> u32 {
        place as u32 * self.part.of + self.part.index
    }

    fn count_missing(&mut self) {
        if let Some(acknowledged) = &self.acknowledged {
            self.status.missing = self.viewers.iter().map(|viewer| viewer.missing(acknowledged)).sum();
        }
    }

    /// A member has no stream now; it comes back after a while.
    fn go(&mut self, place: usize, wait_us: u64) {
        let viewer = &mut self.viewers[place];
        if viewer.state == State::Here {
            self.status.ready -= 1;
            self.status.absent += 1;
        }
        viewer.state = State::Away;
        viewer.generation += 1;
        self.due.push(Reverse((now_us() + wait_us, place, viewer.generation)));
    }
}

impl Clients for Audience {
    type Plan = Plan;
    type Order = Order;

    fn new(plan: Plan, part: Part) -> Self {
        let mut chance = Chance::new(plan.seed ^ (u64::from(part.index) << 32 | 0xa0d1));
        let count = part.numbers(0, plan.members).count();
        // Arrivals of a Poisson process, given how many there are, are spread evenly by chance.
        let mut arrival = || plan.run.start_us + (chance.share() * plan.arrive_us as f64) as u64;
        Self {
            part,
            viewers: (0..count).map(|_| Viewer::default()).collect(),
            due: (0..count).map(|place| Reverse((arrival(), place, 0))).collect(),
            chance,
            acknowledged: None,
            known: Known::new(plan.run.clone(), true),
            status: Status { absent: count as u64, ..Status::default() },
            measured: Measured::default(),
            plan,
        }
    }

    fn obey(&mut self, order: Order, sockets: &mut Sockets) {
        match order {
            Order::Finish(acknowledged) => {
                self.acknowledged = Some(acknowledged);
                for place in 0..self.viewers.len() {
                    if self.viewers[place].state == State::Away {
                        let wait_us = (self.chance.share() * RETURN_US) as u64;
                        self.go(place, wait_us);
                    }
                }
            }
            Order::Count => self.count_missing(),
            Order::End => {
                self.count_missing();
                sockets.reset_all();
            }
        }
    }

    /// Does what members' times have come for.
    fn act(&mut self, now_us: u64, sockets: &mut Sockets) {
        while let Some(&Reverse((at_us, place, generation))) = self.due.peek()
            && at_us <= now_us
        {
            self.due.pop();
            let viewer = &mut self.viewers[place];
            if viewer.generation != generation {
                continue;
            }
            match viewer.state {
                State::Away => {
                    (viewer.state, viewer.asked_us) = (State::Coming, now_us);
                    viewer.generation += 1;
                    self.due.push(Reverse((now_us + CONNECT_US, place, viewer.generation)));
                    sockets.open(self, place, self.number(place), None);
                }
                State::Coming => {
                    sockets.close(place);
                    self.ended(place, "no connected event in 20 s".to_owned());
                }
                // The time to connect in may end while it is here.
                State::Here if self.acknowledged.is_some() || now_us < viewer.leaves_us => {}
                State::Here => {
                    self.status.left += 1;
                    sockets.close(place);
                    let wait_us = 500_000 + self.chance.wait_us(AWAY_US);
                    self.go(place, wait_us);
                }
            }
        }
    }

    fn request(&self, place: usize) -> Vec<u8> {
        let (number, plan) = (self.number(place), &self.plan);
        let chat = if number < plan.chatters { format!("&topic={}", plan.chat) } else { String::new() };
        let resume = match self.viewers[place].position.as_str() {
            "" => String::new(),
            position => format!("&last_event_id={}", percent_encode(position)),
        };
        let request = format!(
            "GET {}/v1/events?topic={}{chat}&member={}{resume} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            plan.prefix,
            plan.live,
            percent_encode(&texts::member(number)),
            plan.authority,
            plan.headers
        );
        request.into_bytes()
    }

    fn asked(&mut self, _place: usize) -> bool {
        true
    }

    fn take(&mut self, place: usize, stream: &mut Stream, bytes: &[u8], now_us: u64) -> Result<(), String> {
        let Self { viewers, known, status, measured, chance, due, plan, .. } = self;
        let viewer = &mut viewers[place];
        let mut last = viewer.last;
        let mut said_bye = false;
        let taken = known.take(stream, bytes, &mut last, |frame, said| match said {
            Said::Connected if viewer.state != State::Here => {
                status.ready += 1;
                status.absent -= 1;
                status.came_back += u64::from(viewer.came());
                viewer.connected(now_us, line(frame, b"id: ").unwrap_or_default());
                viewer.leaves_us = now_us + STAY_US_MIN + chance.wait_us(plan.stay_us);
                due.push(Reverse((viewer.leaves_us, place, viewer.generation)));
            }
            Said::Bye(retry_ms) => (viewer.bye_us, said_bye) = (Some(retry_ms * 1_000), true),
            Said::Gap => {
                status.gaps += 1;
                viewer.gap(now_us);
            }
            Said::Event(sample) => {
                status.received += sample.count;
                if sample.kind != Kind::Like {
                    viewer.reached_in(frame);
                }
                let new = sample.kind != Kind::Comment || viewer.see(sample.number, sample.skipped);
                // What was replayed is late for another reason.
                if new && sample.due_us >= viewer.asked_us {
                    let latency = match sample.kind {
                        Kind::Like => &mut measured.latency,
                        Kind::Comment => &mut measured.comments,
                        Kind::Message | Kind::Other => &mut measured.messages,
                    };
                    latency.saturating_record(now_us.saturating_sub(sample.due_us));
                }
            }
            Said::Other(kind, count) => {
                status.received += count;
                if matches!(kind, Kind::Comment | Kind::Message) {
                    viewer.reached_in(frame);
                }
            }
            Said::Connected | Said::Total(_) | Said::Nothing => {}
        });
        viewer.last = last;
        if said_bye { Err("bye".to_owned()) } else { taken.map_err(|broken| format!("stream: {broken}")) }
    }

    /// A stream broke, or was refused.
    fn ended(&mut self, place: usize, why: String) {
        self.measured.note(why);
        let wait_us = self.viewers[place].bye_us.take();
        let wait_us = wait_us.unwrap_or_else(|| 200_000 + self.chance.wait_us(RETRY_US));
        self.go(place, wait_us);
    }

    fn status(&self) -> Status {
        self.status
    }

    fn hand_over(&mut self) -> Measured {
        std::mem::take(&mut self.measured)
    }
}
