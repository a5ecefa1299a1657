//! Which shards still turn: told from counters that each of them moves on once a tick, and from the time that each had of its
//! own. How long a counter stands still says more of the box: where other programs keep all processors busy, or a virtual
//! machine is paused, a shard that is as it should be stands still as well.

use std::time::{Duration, Instant};

use crate::runtime::process::ThreadTime;

/// What is known of a shard at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// It moves on with each tick, and begins at 0.
    pub ticks: u64,
    /// What its thread had of processors; none where the kernel does not say.
    pub time: Option<ThreadTime>,
}

/// A shard since it last moved on.
#[derive(Debug, Default)]
struct Standing {
    ticks: u64,
    time: Option<ThreadTime>,
    /// Of its own: time that it ran, or waited for anything but a processor.
    own: Duration,
}

/// Which shards still turn.
#[derive(Debug)]
pub struct Turning {
    shards: Vec<Standing>,
    /// So much time of its own a shard may stand still.
    patience: Duration,
    /// The time between two looks. One that comes later was kept from it, as shards may have been.
    every: Duration,
    looked: Instant,
}

/// What [`Turning::look`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// This shard has never turned.
    Starting(usize),
    /// All have turned lately.
    Turning,
    /// This shard has not turned for longer than the patience.
    Stuck(usize),
}

impl Turning {
    /// Nothing was seen yet.
    pub fn new(shards: usize, patience: Duration, every: Duration, now: Instant) -> Turning {
        Turning { shards: (0..shards).map(|_| Standing::default()).collect(), patience, every, looked: now }
    }

    /// Compares the shards, in their order, with what they were.
    pub fn look(&mut self, shown: impl IntoIterator<Item = Shown>, now: Instant) -> Seen {
        let since = now.saturating_duration_since(std::mem::replace(&mut self.looked, now));
        let mut worst = Seen::Turning;
        for (shard, (shown, standing)) in shown.into_iter().zip(&mut self.shards).enumerate() {
            standing.look(shown, since.min(self.every));
            if worst != Seen::Turning {
                continue;
            }
            if standing.ticks == 0 {
                worst = Seen::Starting(shard);
            } else if standing.own > self.patience {
                worst = Seen::Stuck(shard);
            }
        }
        worst
    }
}

impl Standing {
    fn look(&mut self, shown: Shown, since: Duration) {
        let before = std::mem::replace(&mut self.time, shown.time);
        if shown.ticks != self.ticks {
            self.ticks = shown.ticks;
            self.own = Duration::ZERO;
            return;
        }
        self.own += match (before, shown.time) {
            (Some(before), Some(time)) if time.runs => time.cpu.saturating_sub(before.cpu),
            _ => since,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::process::thread_time;
    use proptest::prelude::*;
    use rustix::process::Pid;
    use rustix::thread::{CpuSet, gettid, sched_getaffinity, sched_setaffinity};
    use std::hint::spin_loop;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Barrier, mpsc};
    use std::thread::Scope;

    const MS: Duration = Duration::from_millis(1);

    fn waits(ticks: u64) -> Shown {
        Shown { ticks, time: Some(ThreadTime { cpu: Duration::ZERO, runs: false }) }
    }

    fn runs(ticks: u64, cpu_ms: u32) -> Shown {
        Shown { ticks, time: Some(ThreadTime { cpu: cpu_ms * MS, runs: true }) }
    }

    #[test]
    fn every_shard_must_turn() {
        let start = Instant::now();
        let at = |ms| start + ms * MS;
        let mut turning = Turning::new(2, 100 * MS, 60 * MS, start);
        assert_eq!(turning.look([waits(0), waits(0)], at(0)), Seen::Starting(0));
        assert_eq!(turning.look([waits(1), waits(0)], at(10)), Seen::Starting(1));
        // However long a start takes, it is not a shard that is stuck.
        assert_eq!(turning.look([waits(9), waits(0)], at(5_000)), Seen::Starting(1));
        assert_eq!(turning.look([waits(10), waits(1)], at(5_010)), Seen::Turning);
        assert_eq!(turning.look([waits(11), waits(1)], at(5_060)), Seen::Turning);
        assert_eq!(turning.look([waits(12), waits(1)], at(5_110)), Seen::Turning);
        assert_eq!(turning.look([waits(13), waits(1)], at(5_111)), Seen::Stuck(1));
        assert_eq!(turning.look([waits(13), waits(2)], at(5_150)), Seen::Turning);
        // A look that came late says nothing of the shards.
        assert_eq!(turning.look([waits(13), waits(3)], at(9_000)), Seen::Turning);
        assert_eq!(turning.look([waits(13), waits(4)], at(9_002)), Seen::Stuck(0));
    }

    #[test]
    fn a_shard_without_a_processor_is_not_stuck() {
        let start = Instant::now();
        let mut turning = Turning::new(1, 100 * MS, 50 * MS, start);
        turning.look([runs(1, 7)], start);
        for look in 1..100 {
            assert_eq!(turning.look([runs(1, 7 + look)], start + look * 50 * MS), Seen::Turning);
        }
        assert_eq!(turning.look([runs(1, 107)], start + 5_000 * MS), Seen::Turning);
        assert_eq!(turning.look([runs(1, 108)], start + 5_050 * MS), Seen::Stuck(0));
        // Where the kernel does not say what it had, it had all of the time.
        let mut turning = Turning::new(1, 100 * MS, 50 * MS, start);
        let seen = [0, 50, 100, 101].map(|ms| turning.look([Shown { ticks: 1, time: None }], start + ms * MS));
        assert_eq!(seen, [Seen::Turning, Seen::Turning, Seen::Turning, Seen::Stuck(0)]);
    }

    proptest! {
        /// Against a sum over the whole history.
        #[test]
        fn agrees_with_a_look_at_the_whole_history(
            steps in proptest::collection::vec((0..2_u64, any::<bool>(), 0..40_u32, 1..80_u32), 1..60),
        ) {
            let start = Instant::now();
            let mut turning = Turning::new(1, 100 * MS, 50 * MS, start);
            turning.look([runs(1, 0)], start);
            let (mut now, mut shown, mut history) = (start, runs(1, 0), Vec::new());
            for (moves, is_running, cpu_ms, ms) in steps {
                now += ms * MS;
                let cpu = shown.time.map(|time| time.cpu).unwrap_or_default() + cpu_ms * MS;
                shown = Shown { ticks: shown.ticks + moves, time: Some(ThreadTime { cpu, runs: is_running }) };
                history.push((moves > 0, if is_running { cpu_ms } else { ms.min(50) }));
                let own: u32 = history.iter().rev().take_while(|(moved, _)| !moved).map(|(_, own)| own).sum();
                let expected = if own > 100 { Seen::Stuck(0) } else { Seen::Turning };
                prop_assert_eq!(turning.look([shown], now), expected);
            }
        }
    }

    /// From now on the calling thread runs on this processor only.
    fn stay(core: usize) {
        let mut set = CpuSet::new();
        set.set(core);
        sched_setaffinity(None, &set).expect("the processor is one of ours");
    }

    /// From now on the calling thread runs only while no other wants its processor.
    fn stand_back() {
        let param = libc::sched_param { sched_priority: 0 };
        // SAFETY: it reads one live structure. 0 is the calling thread.
        assert_eq!(unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &param) }, 0);
    }

    /// Starts a thread that tells which one it is, waits for the others, and works.
    fn begin<'scope>(
        scope: &'scope Scope<'scope, '_>,
        ready: &'scope Barrier,
        work: impl FnOnce() + Send + 'scope,
    ) -> Pid {
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            tell.send(gettid()).expect("somebody waits for it");
            ready.wait();
            work();
        });
        told.recv().expect("it says so first")
    }

    #[test]
    fn threads_that_spin_or_wait_are_stuck_and_one_that_others_keep_from_its_processor_is_not() {
        const PATIENCE: Duration = Duration::from_millis(300);
        const OTHERS: usize = 4;
        let available = sched_getaffinity(None).expect("a thread may be asked");
        let core = (0..CpuSet::MAX_CPU).rfind(|core| available.is_set(*core)).expect("this runs somewhere");
        let (stop, ready) = (AtomicBool::new(false), Barrier::new(OTHERS + 4));
        let spin = || {
            while !stop.load(Ordering::Relaxed) {
                spin_loop();
            }
        };
        let (until, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let spins = begin(scope, &ready, spin);
            let waits = begin(scope, &ready, move || assert!(ended.recv().is_err(), "nothing is sent"));
            let has_none = begin(scope, &ready, move || {
                stay(core);
                stand_back();
                spin();
            });
            for _ in 0..OTHERS {
                begin(scope, &ready, move || {
                    stay(core);
                    spin();
                });
            }
            ready.wait();
            let look = |thread| (thread, Turning::new(1, PATIENCE, PATIENCE / 4, Instant::now()));
            let (mut looks, mut stuck) = ([spins, waits, has_none].map(look), [false; 3]);
            let began = Instant::now();
            // Long enough that each would be, if only the time counted.
            while (stuck != [true, true, false] || began.elapsed() < 4 * PATIENCE) && !stuck[2] {
                std::thread::sleep(PATIENCE / 4);
                for ((thread, turning), stuck) in looks.iter_mut().zip(&mut stuck) {
                    let shown = Shown { ticks: 1, time: Some(thread_time(*thread).expect("it lives")) };
                    *stuck |= turning.look([shown], Instant::now()) != Seen::Turning;
                }
            }
            stop.store(true, Ordering::Relaxed);
            drop(until);
            assert_eq!(stuck, [true, true, false]);
        });
    }
}
