//! What a run was like from one moment to the next, for its page: read by a thread of its own while scenarios run.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use super::chart::Line;
use super::server::{Server, Usage};
use crate::client::fleet::processes::Statuses;
use crate::client::fleet::sys::now_us;

/// CPU times are known to 10 ms, so that of so long they are known to 4 %.
const EVERY: Duration = Duration::from_millis(250);
/// Points that a picture has at most; of more, neighbours become one.
const POINTS_MAX: usize = 400;

/// What is looked at.
#[derive(Debug)]
pub struct Watched {
    pub statuses: Statuses,
    pub server: Server,
    /// Events that were taken so far.
    pub taken: Arc<AtomicU64>,
    /// Deliveries that each of them leads to.
    pub deliveries_each: f64,
}

/// How things stood at one time.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at_us: u64,
    ready: u64,
    received: u64,
    taken: u64,
    usage: Usage,
}

/// A thread that looks, until this is asked what it saw.
#[derive(Debug)]
pub struct Recorder {
    stop: Sender<()>,
    thread: JoinHandle<Vec<Moment>>,
    deliveries_each: f64,
}

impl Watched {
    fn now(&self) -> Moment {
        let status = self.statuses.now();
        let (ready, received, taken) = (status.ready, status.received, self.taken.load(Relaxed));
        Moment { at_us: now_us(), ready, received, taken, usage: self.server.usage() }
    }
}

impl Recorder {
    /// # Errors
    /// When the kernel has no thread left.
    pub fn start(watched: Watched) -> std::io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let deliveries_each = watched.deliveries_each;
        let thread = thread::Builder::new().name("bench-recorder".to_owned()).spawn(move || {
            let mut moments = vec![watched.now()];
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                moments.push(watched.now());
            }
            moments
        })?;
        Ok(Self { stop, thread, deliveries_each })
    }

    /// Ends it, and gives what it saw, as lines over the seconds since it began.
    pub fn lines(self) -> Vec<Line> {
        drop(self.stop);
        // Of a run whose recorder failed there are no lines.
        lines(&self.thread.join().unwrap_or_default(), self.deliveries_each)
    }
}

fn lines(moments: &[Moment], deliveries_each: f64) -> Vec<Line> {
    let step = moments.len().div_ceil(POINTS_MAX).max(1);
    let some: Vec<Moment> = moments.iter().copied().step_by(step).collect();
    let Some(first) = some.first().copied() else { return Vec::new() };
    let seconds = |moment: &Moment| moment.at_us.saturating_sub(first.at_us) as f64 / 1e6;
    let each = |name: &str, unit: &str, value: &dyn Fn(&Moment) -> f64| {
        Line::over_time(name, unit, some.iter().map(|moment| (seconds(moment), value(moment))).collect())
    };
    let rate = |name: &str, unit: &str, value: &dyn Fn(&Moment) -> f64| {
        let between = some.windows(2).map(|pair| {
            let passed_s = (seconds(&pair[1]) - seconds(&pair[0])).max(1e-3);
            (seconds(&pair[1]), (value(&pair[1]) - value(&pair[0])).max(0.0) / passed_s)
        });
        Line::over_time(name, unit, between.collect())
    };
    let backlog = |moment: &Moment| {
        let due = (moment.taken - first.taken) as f64 * deliveries_each;
        (due - moment.received.saturating_sub(first.received) as f64).max(0.0)
    };
    let cpu_s = |moment: &Moment| (moment.usage.user_us + moment.usage.system_us) as f64 / 1e6;
    let all = [
        rate("Deliveries", "a second", &|moment| moment.received as f64),
        each("Backlog: taken and not yet delivered", "deliveries", &backlog),
        rate("Events taken", "a second", &|moment| moment.taken as f64),
        each("Connections", "ready", &|moment| moment.ready as f64),
        each("The server's memory", "MB resident", &|moment| moment.usage.rss_bytes as f64 / 1e6),
        rate("The server's CPU", "cores", &cpu_s),
    ];
    // What was nothing all the time was not asked for, or cannot be seen from here.
    all.into_iter().filter(|line| line.points.iter().any(|(_, y)| *y > 0.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_becomes_rates_and_a_backlog() {
        let moment = |at_us: u64, taken: u64, received: u64, user_us: u64| {
            let usage = Usage { user_us, rss_bytes: 0, ..Usage::default() };
            Moment { at_us: 7_000_000 + at_us, ready: 4, received: 100 + received, taken, usage }
        };
        let moments = [moment(0, 0, 0, 0), moment(500_000, 10, 30, 250_000), moment(1_000_000, 10, 40, 250_000)];
        let lines = lines(&moments, 4.0);
        let of = |name: &str| &lines.iter().find(|line| line.name.starts_with(name)).expect(name).points;
        assert_eq!(of("Deliveries"), &[(0.5, 60.0), (1.0, 20.0)]);
        assert_eq!(of("Backlog"), &[(0.0, 0.0), (0.5, 10.0), (1.0, 0.0)]);
        assert_eq!(of("The server's CPU"), &[(0.5, 0.5), (1.0, 0.0)]);
        assert!(!lines.iter().any(|line| line.name == "The server's memory"), "it was not seen");
    }
}
