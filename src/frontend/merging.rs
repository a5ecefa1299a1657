//! Whether a topic's events merge round by round, since more comes than its viewers can be given one by one. No IO, no clock.

use crate::limits::{LOG_BYTES_MAX, LOG_BYTES_MIN, MERGING, ROUND_BYTES_MAX};

/// Bytes that the log of a topic may hold.
pub fn log_bytes_max(viewers: usize) -> usize {
    (ROUND_BYTES_MAX / viewers.max(1)).clamp(LOG_BYTES_MIN, LOG_BYTES_MAX)
}

/// One topic's.
#[derive(Debug, Default)]
pub struct Merging {
    began: Option<Began>,
}

/// The log was full.
#[derive(Debug, Clone, Copy)]
struct Began {
    at_ms: u64,
    /// Bytes that came since.
    came: usize,
}

impl Merging {
    /// Whether it does.
    pub fn is_on(&self) -> bool {
        self.began.is_some()
    }

    /// `size` bytes came while the log held `held` of `most`. Merging begins when it is full, and goes on while so much comes
    /// that it would soon be full again.
    pub fn came(&mut self, size: usize, held: usize, most: usize, now_ms: u64) {
        if let Some(began) = &mut self.began {
            began.came += size;
            if now_ms.saturating_sub(began.at_ms) >= MERGING.as_millis() as u64 {
                let goes_on = began.came >= 2 * most;
                self.began = goes_on.then_some(Began { at_ms: now_ms, came: 0 });
            }
        }
        if held >= most {
            self.began.get_or_insert(Began { at_ms: now_ms, came: 0 });
        }
    }
}
