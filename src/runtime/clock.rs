//! A shard's idea of now: read once a turn, since reading it once an event would cost more than the event.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits::{LOOKS_A_READ, SIMULATED_LOOKS};

/// What a simulation calls now: monotonic, and since 1970.
type Simulated = Arc<dyn Fn() -> (Instant, Duration) + Send + Sync>;

/// Where the time comes from: the machine, or a simulation.
#[derive(Clone)]
pub struct Times(Option<Simulated>);

impl Times {
    /// From the machine.
    pub const fn machine() -> Times {
        Times(None)
    }

    /// From a simulation.
    pub fn simulated(read: impl Fn() -> (Instant, Duration) + Send + Sync + 'static) -> Times {
        Times(Some(Arc::new(read)))
    }

    /// Monotonic.
    pub fn instant(&self) -> Instant {
        self.0.as_ref().map_or_else(Instant::now, |read| read().0)
    }

    /// Since 1970; a clock before that is as wrong as one that stands still there.
    pub fn unix(&self) -> Duration {
        match &self.0 {
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO),
            Some(read) => read().1,
        }
    }

    /// Unix time in milliseconds.
    pub fn unix_ms(&self) -> u64 {
        self.unix().as_millis() as u64
    }
}

impl fmt::Debug for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_none() { "Machine" } else { "Simulated" })
    }
}

/// A part of a turn, which is over after its time: what is left then waits for the next turn.
#[derive(Debug)]
pub struct Slice {
    times: Times,
    until: Instant,
    looks: u32,
}

impl Slice {
    /// Whether it is over. To be asked once something was done in it.
    #[inline]
    pub fn is_over(&mut self) -> bool {
        self.looks += 1;
        if self.times.0.is_none() {
            return self.looks.is_multiple_of(LOOKS_A_READ) && self.times.instant() >= self.until;
        }
        self.looks >= SIMULATED_LOOKS
    }
}

/// Now, as of the shard's present turn.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Monotonic.
    pub instant: Instant,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
    /// From where it is read.
    pub times: Times,
    started: Instant,
    date: String,
    date_seconds: u64,
}

impl Clock {
    /// Reads the clocks for the first time.
    pub fn start(times: Times) -> Clock {
        let now = times.instant();
        let mut clock =
            Clock { instant: now, unix_ms: 0, times, started: now, date: String::new(), date_seconds: u64::MAX };
        clock.update();
        clock
    }

    /// Reads the clocks again.
    pub fn update(&mut self) {
        self.instant = self.times.instant();
        let unix = self.times.unix();
        self.unix_ms = unix.as_millis() as u64;
        if self.date_seconds != unix.as_secs() {
            self.date_seconds = unix.as_secs();
            self.date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.date_seconds));
        }
    }

    /// A part of this turn, from now on.
    pub fn slice(&self, time: Duration) -> Slice {
        Slice { times: self.times.clone(), until: self.times.instant() + time, looks: 0 }
    }

    /// An IMF-fixdate (RFC 9110 section 5.6.7) for the `Date` header.
    pub fn date(&self) -> &str {
        &self.date
    }

    /// Whole seconds since the shard started: a short time stamp for things there are many of.
    pub fn seconds(&self) -> u32 {
        self.instant.saturating_duration_since(self.started).as_secs() as u32
    }
}
