//! What clients do, in lines for people.

use std::collections::BTreeMap;

use super::{Client, World};
use crate::publisher::Publisher;
use crate::viewer::{Stream, Viewer};

/// What a client has come to. A line of the story tells of what grew, or changed.
#[derive(Default)]
pub(super) struct Stand {
    connects: u64,
    resumes: u64,
    is_connected: bool,
    shown: usize,
    gaps: usize,
    byes: u64,
    /// By topic, type and key.
    sums: BTreeMap<(String, String, String), u64>,
    /// By topic and key.
    latest: BTreeMap<(String, String), u64>,
    /// What it sends, and how often it did.
    sends: Option<(u64, u64)>,
    acked: usize,
    refused: u64,
}

impl Client {
    pub(super) fn stand(&self) -> Stand {
        match self {
            Client::Viewer(viewer) => viewer.stand(),
            Client::Publisher(publisher) => Stand {
                sends: publisher.current().map(|event| (event.number, event.attempts)),
                acked: publisher.acked.len(),
                refused: publisher.refused,
                ..Stand::default()
            },
        }
    }

    pub fn number(&self) -> usize {
        match self {
            Client::Viewer(viewer) => viewer.number,
            Client::Publisher(publisher) => publisher.number,
        }
    }

    fn lines(&self, before: &Stand) -> Vec<String> {
        match self {
            Client::Viewer(viewer) => viewer.lines(before),
            Client::Publisher(publisher) => publisher.lines(before),
        }
    }
}

impl Viewer {
    fn stand(&self) -> Stand {
        let (sums, latest) = match self.streams.last() {
            Some(Stream { sums, latest, .. }) => (sums.clone(), latest.clone()),
            None => Default::default(),
        };
        Stand {
            connects: self.connects,
            resumes: self.resumes,
            is_connected: self.is_connected,
            shown: self.shown.len(),
            gaps: self.gaps.len(),
            byes: self.byes,
            sums,
            latest,
            ..Stand::default()
        }
    }

    fn lines(&self, before: &Stand) -> Vec<String> {
        let (now, mut lines) = (self.stand(), Vec::new());
        if now.connects > before.connects {
            lines.push(format!("connects for {}", self.topics.join(" and ")));
        }
        if now.resumes > before.resumes {
            lines.push("asks for what it missed".to_owned());
        }
        if now.is_connected && !before.is_connected {
            lines.push("has a stream".to_owned());
        }
        for (_, topic, after) in &self.gaps[before.gaps..] {
            lines.push(format!("is told of a gap in {topic} behind {after}"));
        }
        for shown in &self.shown[before.shown..] {
            lines.push(format!("is shown {} at {}", shown.id, shown.place));
        }
        for ((topic, kind, key), count) in now.sums.iter().filter(|(key, count)| before.sums.get(key) != Some(count)) {
            lines.push(format!("has counted {count} of {kind} {key} in {topic}"));
        }
        for ((topic, key), number) in now.latest.iter().filter(|(key, number)| before.latest.get(key) != Some(number)) {
            lines.push(format!("is shown {number} as the newest {key} of {topic}"));
        }
        if now.byes > before.byes {
            lines.push("is told goodbye".to_owned());
        }
        if before.is_connected && !now.is_connected {
            lines.push("has no stream any more".to_owned());
        }
        lines.into_iter().map(|line| format!("viewer {} {line}", self.number)).collect()
    }
}

impl Publisher {
    fn lines(&self, before: &Stand) -> Vec<String> {
        let mut lines = Vec::new();
        if self.refused > before.refused {
            lines.push("is refused".to_owned());
        }
        for event in &self.acked[before.acked..] {
            lines.push(format!("has {} acknowledged", event.id));
        }
        if let Some(event) = self.current()
            && event.attempts > 0
            && before.sends != Some((event.number, event.attempts))
        {
            lines.push(format!("sends the {} {} to {}, attempt {}", event.kind, event.id, event.topic, event.attempts));
        }
        lines.into_iter().map(|line| format!("publisher {} {line}", self.number)).collect()
    }
}

impl World {
    /// What a client did in its turn.
    pub(super) fn tell(&mut self, number: usize, before: &Stand) {
        for line in self.clients[number].lines(before) {
            self.say(|| line);
        }
    }
}
