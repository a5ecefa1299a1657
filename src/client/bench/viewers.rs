//! Viewers who watch a topic, one after the other until all are there, and are cut and come back where a scenario asks for it.
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::args::ReadyOn;
use super::schedule::Published;
use super::sink::{Reading, Sink};
use crate::client::fleet::Clients;
use crate::client::fleet::frames::Stream;
use crate::client::fleet::known::{Said, line};
use crate::client::fleet::measured::{Measured, Status, latencies};
use crate::client::fleet::sockets::Sockets;
use crate::client::fleet::sys::now_us;
use crate::client::fleet::worker::Part;

/// Receive buffer of a connection that is not to read: the kernel's least.
const STALLED_RECEIVE_BYTES: usize = 2048;

/// What all connections have in common.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The request up to the topic, and what follows it.
    pub request: (Vec<u8>, Vec<u8>),
    /// Names of topics, by index.
    pub topics: Arc<Vec<String>>,
    pub ready_on: ReadyOn,
    /// Likes through the backend: of many writers, so without an order to check.
    pub likes: bool,
    /// Connections come back with the id that they saw last, and are given again what they may have missed.
    pub resumes: bool,
}

/// What viewers are told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Open the connections numbered `first` to `first + count`, keeping `window` under way; `published` is where their topics
    /// stand.
    Open { first: u32, count: u32, window: u32, stalled: bool, published: Published },
    /// Time events that are due from then on; `interval_us` apart on a topic.
    Begin { from_us: u64, interval_us: f64 },
    /// Settle what was published.
    Collect { published: Published },
    /// Close all connections.
    CloseAll,
    /// The same, and open them again, with what each saw last, keeping `window` under way.
    Reconnect { window: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// To be opened.
    Away,
    Coming,
    Ready,
    /// Its connection broke: what is published afterwards is lost.
    Gone,
    /// It never was ready.
    Failed,
}

#[derive(Debug)]
struct Viewer {
    state: State,
    number: u32,
    reading: Reading,
    /// What the stream's last `id:` line said, if connections come back with it.
    last_id: String,
    started_us: u64,
    stalled: bool,
}

/// Viewers still to be opened.
#[derive(Debug)]
struct Opening {
    places: Range<usize>,
    window: u32,
    under_way: u32,
}

/// A thread's viewers.
#[derive(Debug)]
pub struct Viewers {
    subscription: Subscription,
    part: Part,
    viewers: Vec<Viewer>,
    opening: Option<Opening>,
    status: Status,
    sink: Sink,
}

impl Viewers {
    fn open_all(&mut self, places: Range<usize>, window: u32) {
        self.opening = Some(Opening { places, window: window.div_ceil(self.part.of).max(1), under_way: 0 });
    }

    fn opened(&mut self) {
        if let Some(opening) = &mut self.opening {
            opening.under_way = opening.under_way.saturating_sub(1);
        }
    }

    fn became_ready(&mut self, place: usize, now_us: u64) {
        self.viewers[place].state = State::Ready;
        self.status.ready += 1;
        self.status.last_ready_us = now_us;
        self.opened();
    }
}

impl Clients for Viewers {
    type Plan = Subscription;
    type Order = Order;

    fn new(subscription: Subscription, part: Part) -> Self {
        Self {
            sink: Sink::new(subscription.likes, subscription.topics.len()),
            subscription,
            part,
            viewers: Vec::new(),
            opening: None,
            status: Status::default(),
        }
    }

    fn obey(&mut self, order: Order, sockets: &mut Sockets) {
        let counts = &mut self.sink.counts;
        match order {
            Order::Open { first, count, window, stalled, published } => {
                let begin = self.viewers.len();
                for number in self.part.numbers(first, count) {
                    let topic = number % self.subscription.topics.len() as u32;
                    let begins = if counts.likes { 0 } else { published.on(topic) };
                    let (reading, last_id) = (Reading::new(topic, begins), String::new());
                    self.viewers.push(Viewer { state: State::Away, number, reading, last_id, started_us: 0, stalled });
                }
                self.open_all(begin..self.viewers.len(), window);
            }
            Order::Begin { from_us, interval_us } => {
                counts.settle();
                (counts.from_us, counts.interval_us) = (from_us, interval_us);
            }
            Order::Collect { published } => {
                for viewer in self.viewers.iter_mut().filter(|viewer| !viewer.stalled) {
                    let (checker, tally) = (&mut viewer.reading.checker, &mut counts.measured.tally);
                    if !matches!(viewer.state, State::Away | State::Failed) {
                        checker.settle(published.on(viewer.reading.topic), tally);
                    }
                    if counts.likes && matches!(viewer.state, State::Coming | State::Ready) {
                        tally.shows(checker.shown());
                    }
                }
            }
            Order::CloseAll => {
                sockets.reset_all();
                self.viewers.clear();
                self.opening = None;
                self.status.ready = 0;
            }
            Order::Reconnect { window } => {
                sockets.reset_all();
                for viewer in &mut self.viewers {
                    if matches!(viewer.state, State::Coming | State::Ready) {
                        viewer.state = State::Away;
                    }
                }
                self.status.ready = 0;
                // From now on the time to connect is theirs who come back.
                counts.measured.connect = latencies();
                self.open_all(0..self.viewers.len(), window);
            }
        }
    }

    fn act(&mut self, now_us: u64, sockets: &mut Sockets) {
        while let Some(opening) = self.opening.as_mut().filter(|opening| opening.under_way < opening.window) {
            let Some(place) = opening.places.next() else {
                if opening.under_way == 0 {
                    self.opening = None;
                }
                return;
            };
            let viewer = &mut self.viewers[place];
            if viewer.state == State::Away {
                opening.under_way += 1;
                (viewer.state, viewer.started_us) = (State::Coming, now_us);
                let receive_buffer = viewer.stalled.then_some(STALLED_RECEIVE_BYTES);
                let number = viewer.number;
                sockets.open(self, place, number, receive_buffer);
            }
        }
    }

    fn request(&self, place: usize) -> Vec<u8> {
        let viewer = &self.viewers[place];
        let (before, after) = &self.subscription.request;
        let topic = &self.subscription.topics[viewer.reading.topic as usize];
        let mut request = [before, topic.as_bytes(), after].concat();
        if !viewer.last_id.is_empty() {
            request.truncate(request.len() - 2);
            request.extend_from_slice(format!("Last-Event-ID: {}\r\n\r\n", viewer.last_id).as_bytes());
        }
        request
    }

    fn asked(&mut self, place: usize) -> bool {
        let stalled = self.viewers[place].stalled;
        if stalled {
            // Its bytes stay in the kernel, so there is nothing to wait for.
            self.became_ready(place, now_us());
        }
        !stalled
    }

    fn take(&mut self, place: usize, stream: &mut Stream, bytes: &[u8], now_us: u64) -> Result<(), String> {
        let viewer = &mut self.viewers[place];
        let before = self.sink.counts.measured.tally.received;
        let mut connected = false;
        let taken = self.sink.take(stream, bytes, &mut viewer.reading, now_us, |frame, said| {
            connected |= said == Said::Connected;
            if self.subscription.resumes
                && let Some(id) = line(frame, b"id: ")
            {
                viewer.last_id.clear();
                viewer.last_id.push_str(&String::from_utf8_lossy(id));
            }
        });
        let new = self.sink.counts.measured.tally.received - before;
        if new > 0 {
            self.status.received += new;
            self.status.last_event_us = now_us;
        }
        connected |= self.subscription.ready_on == ReadyOn::Head && stream.has_head();
        if connected && viewer.state == State::Coming {
            self.sink.counts.measured.connect.saturating_record(now_us.saturating_sub(viewer.started_us));
            self.became_ready(place, now_us);
        }
        taken.map_err(|broken| broken.to_string())
    }

    fn ended(&mut self, place: usize, why: String) {
        let viewer = &mut self.viewers[place];
        if viewer.state == State::Ready {
            viewer.state = State::Gone;
            self.status.ready -= 1;
            self.status.closed += 1;
        } else {
            viewer.state = State::Failed;
            self.status.failed += 1;
            self.opened();
        }
        self.sink.counts.measured.note(why);
    }

    fn status(&self) -> Status {
        self.status
    }

    fn hand_over(&mut self) -> Measured {
        self.sink.counts.settle();
        std::mem::take(&mut self.sink.counts.measured)
    }
}
