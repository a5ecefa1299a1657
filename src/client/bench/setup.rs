//! What all scenarios begin with: the server's address, the client processes, the topics' names; and the steps that
//! they are made of.
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::client::http::{self, Url};

use super::args::{Common, PublishMode};
use super::load::{Events, Posted, Request};
use super::message::Encoder;
use super::recorder::{Recorder, Watched};
use super::report::Report;
use super::schedule::{Published, Schedule};
use super::server::{Server, Usage};
use super::viewers::{Order, Subscription, Viewers};
use crate::client::fleet::measured::{Measured, Status};
use crate::client::fleet::poster;
use crate::client::fleet::processes::{Fleet, cores, processes_for};
use crate::client::fleet::sys::now_us;
use crate::client::fleet::transport::Target;

/// Events a second above which NDJSON is the default.
const SINGLE_RATE_MAX: f64 = 2_000.0;
/// How long connections may make no progress while they are opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(10);
/// How long a publisher may go on after its schedule's end.
const PUBLISH_GRACE: Duration = Duration::from_secs(10);
/// How long deliveries may go on coming after the last publish.
const DRAIN_MAX: Duration = Duration::from_secs(120);
/// Time between setting a step up and its first event.
const LEAD: Duration = Duration::from_millis(150);

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("no connection could be opened: {0}")]
    Unreachable(String),
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What the connections read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// A topic's events, in order.
    Events,
    /// Likes of many writers, without an order to check.
    Likes,
    /// A topic's events, coming back with what they saw last.
    Resume,
}

/// A load that is ready to begin.
pub struct Setup {
    pub common: Common,
    pub fleet: Fleet,
    pub server: Server,
    pub topics: Arc<Vec<String>>,
    /// Where is published: each gets every event.
    targets: Vec<(Target, Url)>,
    pub connections: u32,
    /// Events that were taken so far, for who looks on.
    taken: Arc<AtomicU64>,
    recorder: Option<Recorder>,
    /// Connections opened so far, of all kinds; the next has this number.
    opened: u32,
    progress: ProgressBar,
}

/// What a step under load found out.
#[derive(Debug)]
pub struct Step {
    pub total: Measured,
    pub posted: Posted,
    pub before: Usage,
    pub after: Usage,
    pub status: Status,
    /// Bytes that viewers were sent, a second of the load.
    pub bytes_per_second: f64,
    /// Events that were timed, a second.
    pub deliveries_per_second: f64,
}

impl Setup {
    /// Finds the server and starts the client processes for `connections` connections over `topics` topics.
    ///
    /// # Errors
    /// When the arguments make no sense, the server cannot be found, or a process cannot be started.
    pub fn new(common: &Common, connections: u32, topics: u32, kind: Readers) -> Result<Self, Error> {
        let url = Url::parse(&common.url)?;
        let target = Target::of(&url, common.full_handshakes)?;
        if let Some(internal) = &common.internal_url {
            wait_ready(&Url::parse(internal)?)?;
        }
        let mut targets = Vec::new();
        for publish in &common.publish_url {
            let url = Url::parse(publish)?;
            targets.push((Target::of(&url, false)?, url));
        }
        if targets.is_empty() {
            targets.push((target.clone(), url.clone()));
        }
        if common.rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e9)) {
            return Err(Error::Usage("--rate must be above 0 and at most 1e9 events a second".to_owned()));
        }
        let topics = Arc::new(topic_names(common, topics)?);
        let Some((before, after)) = common.subscribe_path.split_once("{topic}") else {
            return Err(Error::Usage(format!(
                "--subscribe-path {:?} has no {{topic}}, so nothing would be subscribed; try /v1/events?topic={{topic}}",
                common.subscribe_path
            )));
        };
        let head = format!(
            "{after} HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\n{}\r\n",
            url.authority,
            authorization(common)
        );
        let subscription = Subscription {
            request: (format!("GET {}{before}", url.prefix).into_bytes(), head.into_bytes()),
            topics: Arc::clone(&topics),
            ready_on: common.ready_on,
            likes: matches!(kind, Readers::Likes),
            resumes: matches!(kind, Readers::Resume),
        };
        let processes = processes_for(connections, "connections", common.processes).map_err(Error::Usage)?;
        let threads = common.threads.unwrap_or_else(cores);
        let server = Server::find(&common.pid, target.address);
        let fleet = Fleet::start::<Viewers>("bench", &subscription, target, processes, threads)?;
        let taken = Arc::new(AtomicU64::new(0));
        let recorder = match &common.report {
            Some(_) => {
                let deliveries_each = f64::from(connections) / topics.len() as f64;
                let (statuses, server, taken) = (fleet.statuses(), server.clone(), Arc::clone(&taken));
                Some(Recorder::start(Watched { statuses, server, taken, deliveries_each })?)
            }
            None => None,
        };
        let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if io::stderr().is_terminal() {
            progress.set_draw_target(ProgressDrawTarget::stderr());
        }
        let style = ProgressStyle::with_template("{prefix:>10} [{elapsed}] {bar:30} {pos}/{len} {msg}");
        progress.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Ok(Self {
            common: common.clone(),
            fleet,
            server,
            taken,
            recorder,
            topics,
            targets,
            connections,
            opened: 0,
            progress,
        })
    }

    /// Opens `count` more connections and waits until all are ready or no more become so. Returns when it began.
    ///
    /// # Errors
    /// When a client process is gone.
    pub fn open(&mut self, count: u32, stalled: bool, published: &Published) -> Result<u64, Error> {
        let before = self.fleet.status()?;
        let started_us = now_us();
        let (first, window, published) = (self.opened, self.common.window, published.clone());
        self.fleet.tell(Order::Open { first, count, window, stalled, published })?;
        self.opened += count;
        self.progress.reset();
        self.progress.set_prefix("connect");
        self.progress.set_length(u64::from(count));
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let now = self.fleet.status()?;
            let ready = now.ready.saturating_sub(before.ready);
            let ended = ready + (now.failed - before.failed) + (now.closed - before.closed);
            self.progress.set_position(ready);
            if ended >= u64::from(count) && (ready > 0 || count == 0) {
                return Ok(started_us);
            }
            if ended >= u64::from(count) {
                let errors = self.fleet.ask(Order::CloseAll)?.told_errors().join("; ");
                return Err(Error::Unreachable(errors));
            }
            if ended != seen {
                (seen, since) = (ended, Instant::now());
            }
            if since.elapsed() > OPEN_PATIENCE {
                return Ok(started_us);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// A publisher of the schedule's events.
    ///
    /// # Errors
    /// When the publish mode does not go with the body.
    pub fn events(&self, schedule: Schedule) -> Result<Events, Error> {
        let default = if schedule.rate > SINGLE_RATE_MAX && !self.common.raw_body {
            PublishMode::Ndjson
        } else {
            PublishMode::Single
        };
        self.events_in(schedule, self.common.publish_mode.unwrap_or(default))
    }

    /// The same in the given mode.
    ///
    /// # Errors
    /// When the publish mode does not go with the body.
    pub fn events_in(&self, schedule: Schedule, mode: PublishMode) -> Result<Events, Error> {
        if mode == PublishMode::Ndjson && self.common.raw_body {
            return Err(Error::Usage(
                "--raw-body is one event a POST: it does not go with --publish-mode ndjson".to_owned(),
            ));
        }
        let requests = match mode {
            PublishMode::Single => self.requests("/v1/topics/{topic}/events"),
            PublishMode::Ndjson => self.requests_to("/v1/events", "application/x-ndjson"),
        };
        let encoder = Encoder::new(&self.common, self.common.payload.unwrap_or(0) as usize);
        let topics = Arc::clone(&self.topics);
        let mut events = Events::new(schedule, mode, self.common.batch, encoder, topics, requests);
        events.posted = self.posted();
        Ok(events)
    }

    /// A POST to `--publish-path`, or else to `default_path`, of each target.
    pub fn requests(&self, default_path: &str) -> Vec<Request> {
        let path = self.common.publish_path.as_deref().unwrap_or(default_path);
        self.requests_to(path, "application/json")
    }

    fn requests_to(&self, path: &str, media_type: &str) -> Vec<Request> {
        let headers = authorization(&self.common);
        let request = |(_, url): &(Target, Url)| {
            let path = format!("{}{path}", url.prefix);
            Request::new(&path, &url.authority, media_type, &headers)
        };
        self.targets.iter().map(request).collect()
    }

    /// The target of each of a load's connections: `lanes` a target.
    pub fn lane_targets(&self, lanes: usize) -> Vec<Target> {
        self.targets.iter().flat_map(|(target, _)| std::iter::repeat_n(target.clone(), lanes)).collect()
    }

    /// One step under load: publishes at `rate` for warm-up and duration, waits for what is still to come, settles.
    ///
    /// # Errors
    /// When a client process is gone.
    pub fn step(&mut self, events: &mut Events, rate: f64, warmup_s: u32, duration_s: u32) -> Result<Step, Error> {
        let base = events.published();
        let schedule = Schedule { rate, ..Schedule::new(base.topics, base.lanes.len() as u32, rate) };
        let start_us = now_us() + LEAD.as_micros() as u64;
        let timed_us = start_us + u64::from(warmup_s) * 1_000_000;
        let duration_us = u64::from(warmup_s + duration_s) * 1_000_000;
        self.fleet.tell(Order::Begin { from_us: timed_us, interval_us: schedule.interval_us() })?;
        events.begin(start_us, duration_us, rate);
        let received_before = self.fleet.status()?.received;
        let before = self.server.usage();
        let targets = self.lane_targets(base.lanes.len());
        let depth = self.common.pipeline.unwrap_or(64) as usize;
        let deadline_us = start_us + duration_us + PUBLISH_GRACE.as_micros() as u64;
        self.progress.reset();
        self.progress.set_prefix("load");
        self.progress.set_length(u64::from(warmup_s + duration_s));
        let mut mid_failure = None;
        thread::scope(|scope| {
            let publisher = scope.spawn(|| poster::run(events, &targets, depth, deadline_us));
            while !publisher.is_finished() {
                match self.fleet.status() {
                    Ok(status) => {
                        let received = status.received - received_before;
                        self.progress.set_message(format!("{received} received"));
                    }
                    Err(error) => mid_failure = Some(error),
                }
                self.progress.set_position(now_us().saturating_sub(start_us) / 1_000_000);
                thread::sleep(Duration::from_millis(20));
            }
        });
        if let Some(error) = mid_failure {
            return Err(error.into());
        }
        let published = events.published();
        let readers = self.connections;
        let expected = published.deliveries(readers) - base.deliveries(readers);
        let status = self.drain(received_before, expected)?;
        let after = self.server.usage();
        let total = self.fleet.ask(Order::Collect { published })?;
        let taken_us = status.last_event_us.saturating_sub(timed_us).max(u64::from(duration_s) * 1_000_000);
        Ok(Step {
            deliveries_per_second: total.timed as f64 * 1e6 / taken_us as f64,
            bytes_per_second: total.tally.bytes as f64 * 1e6 / duration_us as f64,
            total,
            posted: std::mem::replace(&mut events.posted, self.posted()),
            before,
            after,
            status,
        })
    }

    /// Waits until `expected` events have come since `received_before`, or none for a while.
    ///
    /// # Errors
    /// When a client process is gone.
    pub fn drain(&mut self, received_before: u64, expected: u64) -> Result<Status, Error> {
        let patience = Duration::from_secs(u64::from(self.common.drain));
        let begin = Instant::now();
        let (mut seen, mut since) = (0, Instant::now());
        self.progress.set_prefix("drain");
        loop {
            let status = self.fleet.status()?;
            let received = status.received - received_before;
            if received != seen {
                (seen, since) = (received, Instant::now());
                self.progress.set_message(format!("{received} of {expected} received"));
            }
            if received >= expected || since.elapsed() > patience || begin.elapsed() > DRAIN_MAX {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sleeps, and shows it.
    pub fn hold(&self, seconds: u32) {
        self.progress.reset();
        self.progress.set_prefix("hold");
        self.progress.set_length(u64::from(seconds));
        for passed in 0..seconds {
            self.progress.set_position(u64::from(passed));
            thread::sleep(Duration::from_secs(1));
        }
    }

    /// How many likes of a video are stored.
    ///
    /// # Errors
    /// When the server does not say.
    pub fn likes_of(&self, video: &str) -> Result<u64, Error> {
        let path = format!("/v1/videos/{video}/likes");
        let answer = get(&self.targets[0].1, &path, self.common.token.as_deref())?.text()?;
        let counts: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
        let unknown = || Error::Usage(format!("the server answers {answer:?} to GET {path}: no number of likes"));
        counts["likes"].as_u64().ok_or_else(unknown)
    }

    /// Takes the progress bar away, and gives the report what was seen of the run from moment to moment.
    pub fn finish(&mut self, mut report: Report) -> Report {
        self.progress.finish_and_clear();
        report.lines.extend(self.recorder.take().map(Recorder::lines).into_iter().flatten());
        report
    }

    /// Nothing posted yet.
    pub fn posted(&self) -> Posted {
        Posted::counted_in(Arc::clone(&self.taken))
    }
}

fn authorization(common: &Common) -> String {
    let token = common.token.as_deref().unwrap_or_default();
    let token: String = token.chars().filter(|c| !c.is_control()).collect();
    if token.is_empty() { token } else { format!("Authorization: Bearer {token}\r\n") }
}

/// The names of topics, which go into paths and JSON as they are. A new run has new names, so that nothing of an
/// earlier one is counted.
fn topic_names(common: &Common, topics: u32) -> Result<Vec<String>, Error> {
    let stem = common
        .topic
        .clone()
        .unwrap_or_else(|| format!("live:bench-{:x}", (now_us() / 1000) ^ (u64::from(std::process::id()) << 20)));
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte);
    if stem.is_empty() || stem.len() > 180 || !stem.bytes().all(fits) {
        return Err(Error::Usage(format!(
            "--topic {stem:?} must be 1 to 180 of A-Z a-z 0-9 . _ ~ : -, such as live:42"
        )));
    }
    if topics == 1 {
        return Ok(vec![stem]);
    }
    Ok((0..topics).map(|index| format!("{stem}-{index}")).collect())
}

fn wait_ready(internal: &Url) -> Result<(), Error> {
    get(internal, "/health/ready", None).map(drop)
}

fn get(url: &Url, path: &str, token: Option<&str>) -> Result<http::Answer, Error> {
    let patience = Some(Duration::from_secs(5));
    Ok(http::send(url, &http::Request { path, token, patience, ..Default::default() })?)
}
