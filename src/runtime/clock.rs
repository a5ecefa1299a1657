//! A shard's idea of now: read once a turn, since reading it once an event would cost more than the event.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Now, as of the shard's present turn.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Monotonic.
    pub instant: Instant,
    /// Unix time in milliseconds.
    pub unix_ms: u64,
    started: Instant,
    date: String,
    date_seconds: u64,
}

impl Clock {
    /// Reads the clocks for the first time.
    pub fn start() -> Clock {
        let now = Instant::now();
        let mut clock = Clock { instant: now, unix_ms: 0, started: now, date: String::new(), date_seconds: u64::MAX };
        clock.update();
        clock
    }

    /// Reads the clocks again.
    pub fn update(&mut self) {
        self.instant = Instant::now();
        // A clock before 1970 is as wrong as one that stands still there.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.unix_ms = unix.as_millis() as u64;
        if self.date_seconds != unix.as_secs() {
            self.date_seconds = unix.as_secs();
            self.date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(self.date_seconds));
        }
    }

    /// Unix time in milliseconds, read anew.
    pub fn unix_ms_now() -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
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
