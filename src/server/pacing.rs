//! Rests of topics that merge: what ends them when nothing else wakes the shard.

use std::os::fd::OwnedFd;

use rustix::io;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::shard::Shard;
use crate::frontend::topics::TopicIndex;

/// Topics that rest, and a timer.
#[derive(Debug)]
pub struct Pacer {
    timer: OwnedFd,
    /// The timer runs if there are some.
    resting: Vec<TopicIndex>,
}

impl Pacer {
    /// One without topics.
    ///
    /// # Errors
    /// The kernel gives no timer.
    pub fn new() -> io::Result<Pacer> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Pacer { timer, resting: Vec::new() })
    }

    /// What becomes readable when a rest is over.
    pub fn timer(&self) -> &OwnedFd {
        &self.timer
    }

    /// A topic rests for so many milliseconds, or a little longer if others rest already.
    ///
    /// # Errors
    /// The timer cannot be set, and the topic does not rest.
    fn rest(&mut self, index: TopicIndex, ms: u64) -> io::Result<()> {
        if self.resting.contains(&index) {
            return Ok(());
        }
        if self.resting.is_empty() {
            let after = Timespec { tv_sec: (ms / 1_000) as _, tv_nsec: (ms % 1_000 * 1_000_000) as _ };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: never, it_value: after };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        }
        self.resting.push(index);
        Ok(())
    }

    /// The timer ran out. Gives the topics that rested.
    fn end(&mut self) -> Vec<TopicIndex> {
        let _ = io::read(&self.timer, &mut [0; 8]);
        std::mem::take(&mut self.resting)
    }
}

impl Shard {
    /// A topic is to be served again after so many milliseconds, or a little later if others rest already.
    pub(super) fn rest_topic(&mut self, index: TopicIndex, ms: u64) {
        if self.pacer.rest(index, ms).is_err() {
            self.queue_topic(index);
        }
    }

    /// The timer ran out.
    pub(super) fn end_rests(&mut self) {
        for index in self.pacer.end() {
            if self.topics.try_get_mut(index).is_some() {
                self.queue_topic(index);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, poll};

    use super::*;

    /// Whether the timer has run out, or does so within `ms`.
    fn is_over(pacer: &Pacer, ms: i64) -> bool {
        let timeout = Timespec { tv_sec: ms / 1_000, tv_nsec: ms % 1_000 * 1_000_000 };
        poll(&mut [PollFd::new(pacer.timer(), PollFlags::IN)], Some(&timeout)).expect("it can be asked") > 0
    }

    #[test]
    fn the_timer_ends_all_rests_at_once() {
        let mut pacer = Pacer::new().unwrap();
        assert!(!is_over(&pacer, 0), "nobody rests");
        for (index, ms) in [(3, 20), (4, 600_000), (3, 600_000)] {
            pacer.rest(index, ms).unwrap();
        }
        assert!(is_over(&pacer, 30_000), "by the first one's time");
        assert_eq!(pacer.end(), [3, 4]);
        assert!(!is_over(&pacer, 0));
        pacer.rest(3, 600_000).unwrap();
        assert!(!is_over(&pacer, 0), "a new rest has its own time");
        assert_eq!((pacer.end(), pacer.end()), (vec![3], vec![]));
    }
}
