//! Spans for a collector of OpenTelemetry, by OTLP over HTTP. A thread of its own sends them; a collector that is away or slow, or
//! answers with whatever, loses spans, which are counted, and holds nothing up.

pub mod message;

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};
use tracing::{info, warn};
use ureq::Agent;
use url::Url;

use crate::limits::*;
use crate::observe::otlp::message::{Resource, Span};
use crate::runtime::tls::requests_config;
use crate::runtime::trouble::{Say, Told};

/// Why spans are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// Too many wait, since the collector does not keep up, or is away.
    Queue,
    /// The collector did not answer, however often it was asked.
    Unreachable,
    /// It answered each time that it can take no more now.
    Busy,
    /// It does not take such requests.
    Refused,
    /// It took a request but for some of its spans.
    Rejected,
}

impl Lost {
    /// Each of them.
    pub const ALL: [Lost; 5] = [Lost::Queue, Lost::Unreachable, Lost::Busy, Lost::Refused, Lost::Rejected];

    /// As the label `reason`.
    pub const fn reason(self) -> &'static str {
        match self {
            Lost::Queue => "queue",
            Lost::Unreachable => "unreachable",
            Lost::Busy => "busy",
            Lost::Refused => "refused",
            Lost::Rejected => "rejected",
        }
    }
}

/// How many spans were sent, and lost, by this process.
#[derive(Debug, Default)]
pub struct Counts {
    sent: AtomicU64,
    lost: [AtomicU64; Lost::ALL.len()],
}

static COUNTS: LazyLock<Counts> = LazyLock::new(Counts::default);

impl Counts {
    /// Those of this process.
    pub fn of_process() -> &'static Counts {
        &COUNTS
    }

    /// How many a collector took.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// How many were lost for this.
    pub fn lost(&self, why: Lost) -> u64 {
        self.lost[why as usize].load(Ordering::Relaxed)
    }

    fn lose(&self, why: Lost, spans: usize) {
        self.lost[why as usize].fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// By which shards give their spans. Giving never waits.
#[derive(Debug, Clone)]
pub struct Spans(Sender<Span>);

impl Spans {
    /// One more.
    pub fn give(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            COUNTS.lose(Lost::Queue, 1);
        }
    }
}

/// Sends spans for as long as it lives.
pub struct Exporter {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl Exporter {
    /// Begins to send what is given, as spans of this resource, to the collector at this URL.
    ///
    /// # Errors
    /// This machine trusts no authority, or has no thread left.
    pub fn start(url: &Url, resource: Resource) -> Result<(Exporter, Spans), String> {
        let (give, given) = bounded(SPANS_WAITING);
        let ((stop, stopped), (end, ended)) = (bounded(1), bounded(1));
        let tls = requests_config(url.scheme() == "https")?;
        let config = Agent::config_builder().tls_config(tls).timeout_global(Some(SPANS_TIMEOUT));
        let config = config.http_status_as_error(false).max_redirects(0).max_redirects_will_error(false);
        let agent = config.user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION"))).build().new_agent();
        let work = Work { url: endpoint(url), agent, resource, given, stopped, told: Told::new() };
        let run = move || {
            work.run();
            let _ = end.try_send(());
        };
        let thread = std::thread::Builder::new().name("otlp".to_owned()).spawn(run);
        thread.map_err(|error| format!("no thread to send spans: {error}"))?;
        Ok((Exporter { stop, ended }, Spans(give)))
    }

    /// Waits a moment until what was given is sent.
    pub fn end(self) {
        let _ = self.stop.try_send(());
        let _ = self.ended.recv_timeout(SPANS_LAST);
    }
}

/// Where traces go, of a collector's URL.
fn endpoint(url: &Url) -> Url {
    let mut url = url.clone();
    if !url.path().ends_with("/v1/traces") {
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

/// What came of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// It was taken, but for so many spans.
    Taken { rejected: u64, says: String },
    /// It is to be tried again, after this long if that is said.
    Again(Lost, String, Option<Duration>),
    /// It is of no use to try again.
    No(String),
}

struct Work {
    url: Url,
    agent: Agent,
    resource: Resource,
    given: Receiver<Span>,
    stopped: Receiver<()>,
    told: Told,
}

impl Work {
    fn run(mut self) {
        let mut goes_on = true;
        while goes_on {
            let first = select! {
                recv(self.stopped) -> _ => None,
                recv(self.given) -> span => span.ok(),
            };
            goes_on = first.is_some();
            let mut spans: Vec<Span> = first.into_iter().collect();
            self.gather(&mut spans, goes_on);
            while !spans.is_empty() {
                goes_on &= self.send(&spans);
                spans.clear();
                if !goes_on {
                    // The last ones: what is there now, each once.
                    self.gather(&mut spans, false);
                }
            }
        }
    }

    fn gather(&self, spans: &mut Vec<Span>, waits: bool) {
        let until = Instant::now() + if waits { SPANS_GATHER } else { Duration::ZERO };
        while spans.len() < SPANS_AT_ONCE
            && let Ok(span) = self.given.recv_deadline(until)
        {
            spans.push(span);
        }
    }

    /// Sends spans, and counts what became of them. False once the node ends.
    fn send(&mut self, spans: &[Span]) -> bool {
        let body = message::request(&self.resource, spans);
        let mut pause = SPANS_PAUSE;
        for tried in 1.. {
            let (why, says, after) = match self.ask(&body) {
                Answer::Taken { rejected, says } => {
                    let rejected = rejected.min(spans.len() as u64) as usize;
                    COUNTS.sent.fetch_add((spans.len() - rejected) as u64, Ordering::Relaxed);
                    self.tell(Lost::Rejected, rejected, &says);
                    return true;
                }
                Answer::No(says) => {
                    self.tell(Lost::Refused, spans.len(), &says);
                    return true;
                }
                Answer::Again(why, says, after) => (why, says, after),
            };
            let wait = after.unwrap_or(pause).min(SPANS_PAUSE_MAX);
            let ends = || self.stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout);
            let is_last = tried == SPANS_TRIES;
            let goes_on = is_last || !ends();
            if is_last || !goes_on {
                self.tell(why, spans.len(), &says);
                return goes_on;
            }
            pause *= 2;
        }
        true
    }

    /// Counts lost spans, and logs when that begins and ends.
    fn tell(&mut self, why: Lost, spans: usize, says: &str) {
        COUNTS.lose(why, spans);
        match self.told.hear(spans > 0, Instant::now()) {
            Some(Say::Fails) => {
                let (url, reason) = (self.url.as_str(), why.reason());
                warn!(url, reason, says, "spans are lost; counted in fanfare_spans_lost_total, told once a minute");
            }
            Some(Say::Works) => info!(url = self.url.as_str(), "spans are taken again"),
            None => {}
        }
    }

    fn ask(&self, body: &[u8]) -> Answer {
        let request = self.agent.post(self.url.as_str()).content_type("application/x-protobuf");
        let mut answer = match request.send(body) {
            Ok(answer) => answer,
            Err(error) => return Answer::Again(Lost::Unreachable, error.to_string(), None),
        };
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        // What cannot be read says nothing.
        let body = answer.body_mut().with_config().limit(SPANS_ANSWER_BYTES_MAX).read_to_vec().unwrap_or_default();
        match status {
            200..=299 => {
                let (rejected, says) = message::rejected(&body).unwrap_or_default();
                Answer::Taken { rejected, says }
            }
            // Those which OTLP names.
            429 | 502..=504 => Answer::Again(Lost::Busy, format!("status {status}"), after.map(Duration::from_secs)),
            _ => Answer::No(format!("status {status}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_have_a_path_of_their_own_unless_it_is_said() {
        for (given, asked) in [
            ("http://c:4318", "http://c:4318/v1/traces"),
            ("http://c:4318/", "http://c:4318/v1/traces"),
            ("https://c/otlp/", "https://c/otlp/v1/traces"),
            ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
            ("https://c/otlp?key=1", "https://c/otlp/v1/traces?key=1"),
        ] {
            assert_eq!(endpoint(&Url::parse(given).unwrap()).as_str(), asked);
        }
    }
}
