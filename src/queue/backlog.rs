//! What waits for one connection that does not read. Where something of class `every` finds no room its stream is to come
//! back and resume from history: nothing of that class may follow the hole, since the ids of what follows would say that the
//! client has everything before them.

use std::sync::Arc;

use crate::limits::{BACKLOG_BYTES, BACKLOG_KEYS_MAX};
use crate::queue::{Bounds, Drained, Pushed, Queue};
use crate::wire::event::Class;
use crate::wire::frame::Frame;

/// What [`Backlog::shed`] dropped.
#[must_use = "what is dropped is to be counted"]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shed {
    /// Events of class `every`.
    pub every: u64,
    /// Those of class `ephemeral`.
    pub ephemeral: u64,
}

/// A connection's queue.
#[derive(Debug)]
pub struct Backlog {
    queue: Queue,
    overrun: bool,
}

impl Default for Backlog {
    fn default() -> Backlog {
        let bounds = Bounds { bytes: BACKLOG_BYTES, keys: BACKLOG_KEYS_MAX };
        Backlog { queue: Queue::for_viewers(bounds), overrun: false }
    }
}

impl Backlog {
    /// Adds `frame`, standing for `count` events.
    pub fn push(&mut self, frame: &Arc<Frame>, count: u64, now_ms: u64) -> Pushed {
        if self.overrun && frame.class().has_history() {
            return Pushed::Overrun;
        }
        let pushed = self.queue.push(frame, count, now_ms);
        self.overrun |= pushed == Pushed::Overrun;
        pushed
    }

    /// Whether something of class `every` (or more keys than fit) found no room: what is handed out has a hole, and the
    /// client must resume from history.
    pub fn overrun(&self) -> bool {
        self.overrun
    }

    /// Hands out all that waits; then the queue is empty, but remembers whether it was overrun.
    pub fn drain(&mut self, now_ms: u64, each: impl FnMut(&Arc<Frame>, u64)) -> Drained {
        self.queue.drain(now_ms, each)
    }

    /// Drops what a client can have again or does without: class `every`, which it is to read from history, and
    /// `ephemeral`. What merges stays, since nothing else has it.
    pub fn shed(&mut self) -> Shed {
        let dropped = self.queue.retain(|frame| frame.class().merges());
        let shed = Shed { every: dropped[Class::Every as usize], ephemeral: dropped[Class::Ephemeral as usize] };
        self.overrun |= shed.every > 0;
        shed
    }

    /// Drops what its client was given already, which is counted there.
    pub fn forget(&mut self, is_given: impl Fn(&Arc<Frame>) -> bool) {
        let _ = self.queue.retain(|frame| !is_given(frame));
    }

    /// Bytes of the frames that wait.
    pub fn bytes(&self) -> usize {
        self.queue.bytes()
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Events that wait, counting what was merged, by class.
    pub fn events(&self) -> [u64; Class::ALL.len()] {
        self.queue.events()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::tests::{every, frame};

    #[test]
    fn nothing_of_class_every_follows_a_hole() {
        let mut backlog = Backlog::default();
        let comment = frame("live:1", "comment", None, Class::Every, &format!("\"{}\"", "x".repeat(16_000)));
        let like = frame("live:1", "like", Some("a"), Class::Sum, "1");
        while backlog.push(&comment, 1, 0) == Pushed::Queued {}
        assert_eq!(backlog.push(&like, 1, 0), Pushed::Queued);
        let mut given = 0;
        assert_eq!(backlog.drain(0, |_, _| given += 1), Drained { frames: given, expired: 0 });
        assert!(backlog.is_empty() && backlog.overrun() && given > 1);
        let small = frame("live:2", "comment", None, Class::Every, "1");
        assert_eq!(backlog.push(&small, 1, 0), Pushed::Overrun, "with room it would look complete");
        assert_eq!(backlog.push(&like, 1, 0), Pushed::Queued);
    }

    #[test]
    fn shedding_leaves_what_nothing_else_has() {
        let mut backlog = Backlog::default();
        let like = frame("live:1", "like", Some("a"), Class::Sum, "1");
        let comment = frame("live:1", "comment", None, Class::Every, "1");
        for number in 0..200 {
            assert_eq!(backlog.push(&like, 1, 0), if number == 0 { Pushed::Queued } else { Pushed::Merged });
            assert_eq!(backlog.push(&frame("chat:1", "typing", None, Class::Ephemeral, "1"), 1, 0), Pushed::Queued);
            assert_eq!(backlog.push(&comment, 1, 0), Pushed::Queued);
        }
        assert_eq!(backlog.shed(), Shed { every: 200, ephemeral: 200 });
        assert!(backlog.bytes() < 2 * like.bytes().len(), "one event, and how many there were of its key");
        assert_eq!((backlog.len(), backlog.overrun()), (1, true));
        assert_eq!(backlog.push(&like, 1, 0), Pushed::Merged);
        assert_eq!(backlog.push(&comment, 1, 0), Pushed::Overrun);
        let mut counts = Vec::new();
        assert_eq!(backlog.drain(0, |_, count| counts.push(count)).frames, 1);
        assert_eq!(counts, [201]);
        let mut calm = Backlog::default();
        assert_eq!(calm.push(&like, 1, 0), Pushed::Queued);
        assert!(calm.shed() == Shed::default() && !calm.overrun());
    }

    #[test]
    fn what_is_taken_back_waits_no_longer() {
        let mut backlog = Backlog::default();
        let event = |id: &str, kind: &str, topic: &str, data: &str| every(id, topic, kind, None, data);
        let waits =
            [event("1", "comment", "a:b", "1"), event("2", "comment", "a:b", "2"), event("1", "comment", "a:c", "3")];
        let deleted = event("1.deleted", "deleted", "a:b", "{\"id\":\"1\"}");
        for frame in waits.iter().chain([&deleted]) {
            assert_eq!(backlog.push(frame, 1, 0), Pushed::Queued);
        }
        let sum = [&waits[1], &waits[2], &deleted].iter().map(|frame| frame.bytes().len()).sum::<usize>();
        assert_eq!((backlog.len(), backlog.bytes()), (3, sum));
        let mut left = Vec::new();
        let drained =
            backlog.drain(0, |frame, _| left.push(frame.json().rsplit("\"data\":").next().map(str::to_owned)));
        assert_eq!(
            (drained.frames, left),
            (3, vec![Some("2}".to_owned()), Some("3}".to_owned()), Some("{\"id\":\"1\"}}".to_owned())])
        );
    }
}
