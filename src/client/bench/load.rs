//! What is posted: events at their times, events as fast as they are taken, likes of ever new members.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;

use super::super::REACTIONS;
use super::args::PublishMode;
use super::message::Encoder;
use super::schedule::{Published, Schedule};
use crate::client::fleet::measured::latencies;
use crate::client::fleet::poster::{Load, Next, Tag};

/// Time between two NDJSON requests of a connection at least, in µs, unless a batch is full.
const BATCH_EVERY_US: u64 = 1_000;

/// What came of the posts.
#[derive(Debug, Clone)]
pub struct Posted {
    pub requests: u64,
    /// Events that the server said it took.
    pub accepted: u64,
    /// Events that it refused, or of which nothing was heard.
    pub failed: u64,
    /// From the time that a request's oldest event was due to the answer, in µs.
    pub latency: Histogram<u64>,
    /// How late the latest request was made, in µs: what this machine, or a full pipeline, added.
    pub behind_us_max: u64,
    pub errors: Vec<String>,
    /// Events that were taken, over all threads and steps of the run.
    pub taken: Arc<AtomicU64>,
}

impl Default for Posted {
    fn default() -> Self {
        Self::counted_in(Arc::default())
    }
}

impl Posted {
    /// Nothing yet; what is taken is counted there, too.
    pub fn counted_in(taken: Arc<AtomicU64>) -> Self {
        let (latency, errors) = (latencies(), Vec::new());
        Self { requests: 0, accepted: 0, failed: 0, latency, behind_us_max: 0, errors, taken }
    }

    /// Adds another thread's figures.
    pub fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.failed += other.failed;
        self.latency += other.latency;
        self.behind_us_max = self.behind_us_max.max(other.behind_us_max);
        other.errors.into_iter().for_each(|error| self.note(error));
    }

    fn answered(&mut self, tag: Tag, status: u16, accepted: u64, body: &[u8], now_us: u64) {
        self.requests += 1;
        self.accepted += accepted;
        self.taken.fetch_add(accepted, Relaxed);
        self.latency.saturating_record(now_us.saturating_sub(tag.due_us));
        let missing = u64::from(tag.events).saturating_sub(accepted);
        if missing > 0 {
            self.failed += missing;
            let text = String::from_utf8_lossy(&body[..body.len().min(200)]);
            self.note(format!("answer {status} to a publish: {}", text.trim()));
        }
    }

    fn unanswered(&mut self, tag: Tag, why: &str) {
        self.failed += u64::from(tag.events);
        self.note(format!("publish: {why}"));
    }

    fn made(&mut self, due_us: u64, now_us: u64) {
        self.behind_us_max = self.behind_us_max.max(now_us.saturating_sub(due_us));
    }

    fn note(&mut self, error: String) {
        if self.errors.len() < 4 && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Requests' fixed parts.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST` and the path up to the topic, and what follows it up to the length.
    pub before_topic: Vec<u8>,
    pub after_topic: Vec<u8>,
}

impl Request {
    /// Cuts a path template at `{topic}`; `headers` are whole lines.
    pub fn new(path: &str, authority: &str, media_type: &str, headers: &str) -> Self {
        let (before, after) = path.split_once("{topic}").unwrap_or((path, ""));
        let after =
            format!("{after} HTTP/1.1\r\nHost: {authority}\r\n{headers}Content-Type: {media_type}\r\nContent-Length: ");
        Self { before_topic: format!("POST {before}").into_bytes(), after_topic: after.into_bytes() }
    }

    fn write(&self, out: &mut Vec<u8>, topic: &str, body: &[u8]) {
        out.extend_from_slice(&self.before_topic);
        out.extend_from_slice(topic.as_bytes());
        out.extend_from_slice(&self.after_topic);
        out.extend_from_slice(itoa::Buffer::new().format(body.len()).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body);
    }
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    lane: u32,
    /// Number of the event that comes next, over all steps of the run.
    next: u64,
    /// What it was when this step began.
    base: u64,
    /// Where this step ends.
    end: u64,
    batch_us: u64,
}

/// Events of the schedule. Several targets each get all of them.
#[derive(Debug, Clone)]
pub struct Events {
    schedule: Schedule,
    mode: PublishMode,
    batch: u32,
    encoder: Encoder,
    /// Names as they stand in paths; topics' own characters need no encoding in JSON.
    topics: Arc<Vec<String>>,
    /// One a target.
    requests: Vec<Request>,
    lanes: Vec<Lane>,
    start_us: u64,
    /// With no rate: when to stop.
    stop_us: u64,
    body: Vec<u8>,
    pub posted: Posted,
}

impl Events {
    /// Lanes for each target, of which there are as many as `requests`.
    pub fn new(
        schedule: Schedule,
        mode: PublishMode,
        batch: u32,
        encoder: Encoder,
        topics: Arc<Vec<String>>,
        requests: Vec<Request>,
    ) -> Self {
        let lane = |lane| Lane { lane, next: 0, base: 0, end: 0, batch_us: 0 };
        Self {
            lanes: (0..requests.len()).flat_map(|_| (0..schedule.lanes).map(lane)).collect(),
            schedule,
            mode,
            batch,
            encoder,
            topics,
            requests,
            start_us: 0,
            stop_us: 0,
            body: Vec::new(),
            posted: Posted::default(),
        }
    }

    /// Begins a step of `duration_us` at `start_us`, at another rate if need be; numbers go on from the last step.
    pub fn begin(&mut self, start_us: u64, duration_us: u64, rate: f64) {
        self.schedule.rate = rate;
        self.start_us = start_us;
        self.stop_us = start_us + duration_us;
        for lane in &mut self.lanes {
            lane.base = lane.next;
            lane.end =
                if rate.is_finite() { lane.next + self.schedule.due_before(lane.lane, duration_us) } else { u64::MAX };
        }
        self.posted = Posted::counted_in(Arc::clone(&self.posted.taken));
    }

    /// What was published to each target, over all steps.
    pub fn published(&self) -> Published {
        Published {
            topics: self.schedule.topics,
            lanes: self.lanes.iter().take(self.schedule.lanes as usize).map(|lane| lane.next).collect(),
        }
    }

    /// When a lane's next event is due.
    fn due_us(&self, lane: &Lane, now_us: u64) -> u64 {
        if self.schedule.rate.is_finite() {
            self.start_us + self.schedule.due_us(lane.lane, lane.next - lane.base)
        } else {
            now_us.max(self.start_us)
        }
    }
}

impl Load for Events {
    fn next(&mut self, connection: usize, now_us: u64, out: &mut Vec<u8>) -> Next {
        let mut lane = self.lanes[connection];
        let endless = !self.schedule.rate.is_finite();
        if lane.next >= lane.end || endless && now_us >= self.stop_us {
            return Next::Done;
        }
        let first_due_us = self.due_us(&lane, now_us);
        if first_due_us > now_us {
            return Next::Wait(first_due_us);
        }
        self.body.clear();
        let first = lane.next;
        let mut path_topic = "";
        if self.mode == PublishMode::Single {
            let topic = self.schedule.topic(lane.lane, lane.next);
            path_topic = &self.topics[topic as usize];
            let name = self.encoder.is_raw().then_some(path_topic);
            let sequence = self.schedule.sequence(lane.lane, lane.next);
            self.encoder.write(&mut self.body, name, topic, sequence, first_due_us);
            lane.next += 1;
        } else {
            let full_us = self.due_us(&Lane { next: lane.next + u64::from(self.batch) - 1, ..lane }, now_us);
            if full_us > now_us && now_us < lane.batch_us + BATCH_EVERY_US && lane.next + 1 < lane.end {
                return Next::Wait(lane.batch_us + BATCH_EVERY_US);
            }
            lane.batch_us = now_us;
            while lane.next < lane.end && lane.next - first < u64::from(self.batch) {
                let due_us = self.due_us(&lane, now_us);
                if due_us > now_us {
                    break;
                }
                let topic = self.schedule.topic(lane.lane, lane.next);
                let sequence = self.schedule.sequence(lane.lane, lane.next);
                let name = &self.topics[topic as usize];
                self.encoder.write(&mut self.body, Some(name), topic, sequence, due_us);
                self.body.push(b'\n');
                lane.next += 1;
            }
        }
        let target = connection / self.schedule.lanes as usize;
        self.requests[target].write(out, path_topic, &self.body);
        self.posted.made(first_due_us, now_us);
        self.lanes[connection] = lane;
        Next::Request(Tag { due_us: first_due_us, events: (lane.next - first) as u32 })
    }

    fn answered(&mut self, tag: Tag, status: u16, body: &[u8], now_us: u64) {
        let accepted = match status {
            200..=299 if self.mode == PublishMode::Ndjson => accepted_in(body).unwrap_or(0),
            200..=299 => u64::from(tag.events),
            _ => 0,
        };
        self.posted.answered(tag, status, accepted, body, now_us);
    }

    fn unanswered(&mut self, tag: Tag, why: &str) {
        self.posted.unanswered(tag, why);
    }
}

/// `accepted` in the answer to NDJSON.
fn accepted_in(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Answer {
        accepted: u64,
    }
    serde_json::from_slice::<Answer>(body).ok().map(|answer| answer.accepted)
}

/// Likes of one video, each by another member, whose name tells number and time: `s<number>-<µs>`.
#[derive(Debug)]
pub struct Likes {
    request: Request,
    /// Number of the next member, and how many threads take turns.
    next: u64,
    step: u64,
    start_us: u64,
    stop_us: u64,
    /// µs between two likes of one connection; 0 means: as soon as the last is answered.
    interval_us: f64,
    /// Likes that each connection has made.
    made: Vec<u64>,
    pub posted: Posted,
}

impl Likes {
    /// Likes of `connections` clients, as thread `thread` of `threads`.
    pub fn new(
        request: Request,
        connections: usize,
        (thread, threads): (u64, u64),
        (start_us, stop_us): (u64, u64),
        interval_us: f64,
    ) -> Self {
        Self {
            request,
            next: thread,
            step: threads,
            start_us,
            stop_us,
            interval_us,
            made: vec![0; connections],
            posted: Posted::default(),
        }
    }
}

impl Load for Likes {
    fn next(&mut self, connection: usize, now_us: u64, out: &mut Vec<u8>) -> Next {
        let mut due_us = now_us.max(self.start_us);
        if self.interval_us > 0.0 {
            // The clients' likes are spread over the interval, not made all at once.
            let phase = connection as f64 / self.made.len() as f64;
            due_us = self.start_us + ((self.made[connection] as f64 + phase) * self.interval_us) as u64;
        }
        if due_us >= self.stop_us {
            return Next::Done;
        }
        if due_us > now_us {
            return Next::Wait(due_us);
        }
        let reaction = REACTIONS[(self.next / self.step) as usize % REACTIONS.len()];
        let body = format!("{{\"member\":\"s{}-{due_us}\",\"reaction\":\"{reaction}\"}}", self.next);
        self.next += self.step;
        self.made[connection] += 1;
        self.request.write(out, "", body.as_bytes());
        self.posted.made(due_us, now_us);
        Next::Request(Tag { due_us, events: 1 })
    }

    fn answered(&mut self, tag: Tag, status: u16, body: &[u8], now_us: u64) {
        // 200 would mean that this member's like was there before, which a new member's cannot be.
        self.posted.answered(tag, status, u64::from(status == 201), body, now_us);
    }

    fn unanswered(&mut self, tag: Tag, why: &str) {
        self.posted.unanswered(tag, why);
    }
}
