//! Members who are connected to this shard, and when their signs of life are due. No IO, no clock.

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits::PRESENCE_BEAT;
use crate::runtime::random::Map;

#[derive(Debug)]
struct Member {
    streams: u32,
    /// Until when there is nothing to say; an entry of the queue counts only if it says the same.
    due: Instant,
}

/// A shard's members.
#[derive(Debug, Default)]
pub struct Members {
    members: Map<Box<str>, Member>,
    queue: VecDeque<(Instant, Box<str>)>,
    /// Signs to give in this turn: of those who came.
    came: Vec<String>,
    /// Signs of some who came are on their way: those of others wait for the answer, so that a flood of them costs few
    /// questions.
    greeting: bool,
    /// Signs to give with the next tick: of those who left, and those that were not heard.
    now: Vec<String>,
}

impl Members {
    /// Members with streams here.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A stream of `member` opened.
    pub fn join(&mut self, member: &str, now: Instant) {
        if let Some(known) = self.members.get_mut(member) {
            known.streams += 1;
            return;
        }
        let due = now + PRESENCE_BEAT;
        self.members.insert(member.into(), Member { streams: 1, due });
        self.queue.push_back((due, member.into()));
        self.came.push(member.to_owned());
    }

    /// A stream of `member` closed. The last one's end is a sign of life too: the guard counts from there.
    pub fn leave(&mut self, member: &str) {
        let Some(known) = self.members.get_mut(member) else { return };
        known.streams -= 1;
        if known.streams == 0 {
            self.members.remove(member);
            self.now.push(member.to_owned());
        }
    }

    /// Up to `limit` members who came, and of whom nothing was said yet: viewers wait for that, so it is not left to the
    /// tick. None until it is known whether the last ones were [heard](Members::heard).
    pub fn newcomers(&mut self, limit: usize) -> Vec<String> {
        let limit = if self.greeting { 0 } else { limit };
        self.greeting |= !self.came.is_empty();
        self.came.drain(..limit.min(self.came.len())).collect()
    }

    /// Signs were heard, or were not.
    pub fn heard(&mut self) {
        self.greeting = false;
    }

    /// Up to `limit` members whose signs of life are to be given now.
    pub fn due(&mut self, now: Instant, limit: usize) -> Vec<String> {
        let mut due: Vec<String> = self.came.drain(..limit.min(self.came.len())).collect();
        due.extend(self.now.drain(..(limit - due.len()).min(self.now.len())));
        while due.len() < limit && self.queue.front().is_some_and(|(at, _)| *at <= now) {
            let Some((at, name)) = self.queue.pop_front() else { break };
            if let Some(member) = self.members.get_mut(&name).filter(|member| member.due == at) {
                member.due = now + PRESENCE_BEAT;
                due.push(name.to_string());
                self.queue.push_back((member.due, name));
            }
        }
        due
    }

    /// These signs were not heard: they are given again.
    pub fn unheard(&mut self, members: Vec<String>) {
        self.now.extend(members);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn signs_come_at_once_then_regularly_and_at_the_end() {
        let (mut members, start) = (Members::default(), Instant::now());
        members.join("ana", start);
        members.join("ana", start);
        members.join("bob", start);
        members.join("cy", start);
        assert_eq!(members.newcomers(1), ["ana"]);
        assert_eq!(members.due(start, 1), ["bob"]);
        members.leave("cy");
        assert_eq!(members.newcomers(9), [""; 0], "whether ana was heard is not known");
        members.heard();
        assert_eq!(members.newcomers(9), ["cy"]);
        members.heard();
        assert_eq!(members.newcomers(9), [""; 0], "who left can wait for the tick");
        assert_eq!(members.due(start, 9), ["cy"]);
        let almost = start + PRESENCE_BEAT - Duration::from_millis(1);
        assert_eq!(members.due(almost, 9), [""; 0]);
        members.leave("ana");
        assert_eq!(members.due(almost, 9), [""; 0], "another device is there");
        members.leave("bob");
        assert_eq!(members.due(almost, 9), ["bob"]);
        assert_eq!(members.due(start + PRESENCE_BEAT, 9), ["ana"]);
        assert_eq!(members.due(start + PRESENCE_BEAT, 9), [""; 0]);
        // Who comes back before an old entry of the queue is due is not told of twice.
        members.leave("ana");
        members.join("ana", start + PRESENCE_BEAT);
        assert_eq!(members.due(start + PRESENCE_BEAT, 9), ["ana", "ana"]);
        members.unheard(vec!["ana".to_owned()]);
        assert_eq!(members.newcomers(9), [""; 0], "a store that is away is not asked every turn");
        assert_eq!(members.due(start + PRESENCE_BEAT, 9), ["ana"]);
        members.leave("ana");
        assert!(members.is_empty() && members.due(start + PRESENCE_BEAT * 9, 9) == ["ana"]);
    }
}
