//! Memory that the allocator keeps after it was freed goes back to the system.

use std::time::{Duration, Instant};

use crate::limits::{TRIM_PAUSE, TRIM_PAUSE_MAX};

/// Gives back what the allocator holds in whole pages, on a thread of its own: it takes milliseconds for each hundred
/// megabytes. Allocators other than glibc's do so by themselves.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        let trim = || {
            // SAFETY: it takes no pointers, may be called at any time from any thread, and changes nothing that is in use.
            unsafe { libc::malloc_trim(0) };
        };
        // Without a thread to spare it is done another time.
        let _ = std::thread::Builder::new().name("trim".to_owned()).spawn(trim);
    }
}

/// When that is worth it: what is held fell to half of what it was, or much is resident that is not held.
#[derive(Debug, Default)]
pub struct Trimming {
    /// The most that was held since the last time.
    highest: u64,
    /// The least that was ever resident beside what was held: what the program itself takes.
    rest_least: Option<u64>,
    /// When it was last done, and what was resident then beside what was held.
    last: Option<(Instant, u64)>,
    /// For how long it is not done again only for what is resident: longer each time that it was no use.
    pause: Duration,
}

impl Trimming {
    /// So many bytes are held now, and so many are resident. True if `least` or more can be given back.
    pub fn is_due(&mut self, held: u64, resident: u64, least: u64, now: Instant) -> bool {
        let rest = resident.saturating_sub(held);
        let rest_least = self.rest_least.map_or(rest, |least| least.min(rest));
        self.rest_least = Some(rest_least);
        self.highest = self.highest.max(held);
        let fell = self.highest - held;
        let is_less = fell >= least && fell >= held;
        let excess = rest - rest_least;
        let rests = self.last.is_some_and(|(at, _)| now.saturating_duration_since(at) < self.pause);
        let is_much = excess >= least && excess >= rest_least / 4 && !rests;
        if is_less || is_much {
            self.highest = held;
            let was_of_use = self.last.is_none_or(|(_, before)| rest < before / 8 * 7);
            let longer = (self.pause * 2).min(TRIM_PAUSE_MAX);
            self.pause = if was_of_use || is_less { TRIM_PAUSE } else { longer };
            self.last = Some((now, rest));
        }
        is_less || is_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_worth_it_once_half_is_gone() {
        let (mut trimming, now) = (Trimming::default(), Instant::now());
        let held = [100, 90, 60, 50, 50, 30, 26, 25, 90, 46, 45];
        let due = held.map(|held| trimming.is_due(held, held + 50, 20, now));
        assert_eq!(due, [false, false, false, true, false, false, false, true, false, false, true]);
        assert!(!trimming.is_due(26, 76, 20, now), "too little");
        give_back();
    }

    #[test]
    fn what_stays_resident_is_tried_again_and_ever_more_rarely_where_that_is_no_use() {
        let (mut trimming, start) = (Trimming::default(), Instant::now());
        let mut times = Vec::new();
        for second in 0..2 * TRIM_PAUSE_MAX.as_secs() {
            // From the start on there is much more than at first, and nothing helps.
            let resident = if second == 0 { 40 } else { 140 };
            if trimming.is_due(0, resident, 20, start + Duration::from_secs(second)) {
                times.push(second);
            }
        }
        let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!((times[0], pauses[0], pauses[1]), (1, TRIM_PAUSE.as_secs(), 2 * TRIM_PAUSE.as_secs()));
        assert!(pauses.len() < 9 && pauses.iter().all(|pause| *pause <= TRIM_PAUSE_MAX.as_secs()), "{pauses:?}");
        let end = start + 4 * TRIM_PAUSE_MAX;
        assert!(!trimming.is_due(0, 41, 20, end), "it is as it was");
        assert!(trimming.is_due(0, 90, 20, end));
    }
}
