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
}

impl Shard {
    /// A topic is to be served again after so many milliseconds, or a little later if others rest already.
    pub(super) fn rest_topic(&mut self, index: TopicIndex, ms: u64) {
        let pacer = &mut self.pacer;
        if pacer.resting.contains(&index) {
            return;
        }
        if pacer.resting.is_empty() {
            let after = Timespec { tv_sec: (ms / 1_000) as _, tv_nsec: (ms % 1_000 * 1_000_000) as _ };
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let once = Itimerspec { it_interval: never, it_value: after };
            if timerfd_settime(&pacer.timer, TimerfdTimerFlags::empty(), &once).is_err() {
                return self.queue_topic(index);
            }
        }
        pacer.resting.push(index);
    }

    /// The timer ran out.
    pub(super) fn end_rests(&mut self) {
        let _ = io::read(&self.pacer.timer, &mut [0; 8]);
        for index in std::mem::take(&mut self.pacer.resting) {
            if self.topics.try_get_mut(index).is_some() {
                self.queue_topic(index);
            }
        }
    }
}
