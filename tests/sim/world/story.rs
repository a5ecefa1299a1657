//! What clients do, in lines for people.

use std::collections::BTreeMap;
use std::fmt;

use super::{Client, World};
use crate::poster::Poster;
use crate::publisher::Publisher;
use crate::viewer::{Stream, Viewer};

/// What a client has come to. A line of the story tells of what grew, or changed.
#[derive(Default)]
pub(super) struct Stand {
    connects: u64,
    /// What it told by itself.
    story: usize,
    shown: usize,
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
                sends: publisher.current().map(|(event, attempts)| (event.number, attempts)),
                acked: publisher.acked.len(),
                refused: publisher.refused,
                ..Stand::default()
            },
            Client::Poster(poster) => Stand {
                sends: poster.current().map(|(_, attempts)| (poster.count, attempts)),
                acked: poster.done.len(),
                refused: poster.refused,
                ..Stand::default()
            },
        }
    }

    pub fn number(&self) -> usize {
        match self {
            Client::Viewer(viewer) => viewer.number,
            Client::Publisher(publisher) => publisher.number,
            Client::Poster(poster) => poster.number,
        }
    }

    fn lines(&self, before: &Stand) -> Vec<String> {
        match self {
            Client::Viewer(viewer) => viewer.lines(before),
            Client::Publisher(publisher) => publisher.lines(before),
            Client::Poster(poster) => poster.lines(before),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Client::Viewer(_) => "viewer",
            Client::Publisher(_) => "publisher",
            Client::Poster(_) => "poster",
        };
        write!(to, "{what} {}", self.number())
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
            story: self.story.len(),
            shown: self.shown.len(),
            sums,
            latest,
            ..Stand::default()
        }
    }

    fn lines(&self, before: &Stand) -> Vec<String> {
        let (now, mut lines) = (self.stand(), Vec::new());
        if now.connects > before.connects {
            let who = self.member.as_ref().map_or_else(String::new, |member| format!(" as {member}"));
            lines.push(format!("connects for {}{who}", self.topics.join(" and ")));
        }
        lines.extend_from_slice(&self.story[before.story..]);
        for shown in &self.shown[before.shown..] {
            lines.push(format!("is shown {} at {}", shown.id, shown.place));
        }
        for ((topic, kind, key), count) in now.sums.iter().filter(|(key, count)| before.sums.get(key) != Some(count)) {
            lines.push(format!("has counted {count} of {kind} {key} in {topic}"));
        }
        for ((topic, key), number) in now.latest.iter().filter(|(key, number)| before.latest.get(key) != Some(number)) {
            lines.push(format!("is shown {number} as the newest {key} of {topic}"));
        }
        lines
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
        if let Some((event, attempts)) = self.current()
            && attempts > 0
            && before.sends != Some((event.number, attempts))
        {
            lines.push(format!("sends the {} {} to {}, attempt {attempts}", event.kind, event.id, event.topic));
        }
        lines
    }
}

impl Poster {
    fn lines(&self, before: &Stand) -> Vec<String> {
        let mut lines = Vec::new();
        if self.refused > before.refused {
            lines.push("is refused".to_owned());
        }
        for done in &self.done[before.acked..] {
            lines.push(format!("has the {:?} {} of {} answered, {}", done.deed, done.mark, done.place, done.id));
        }
        if let Some((done, attempts)) = self.current()
            && attempts > 0
            && before.sends != Some((self.count, attempts))
        {
            lines.push(format!("sends the {:?} {} of {}, attempt {attempts}", done.deed, done.mark, done.place));
        }
        lines
    }
}

impl World {
    /// What a client did in its turn.
    pub(super) fn tell(&mut self, number: usize, before: &Stand) {
        let client = &self.clients[number];
        let (who, lines) = (client.to_string(), client.lines(before));
        for line in lines {
            self.say(|| format!("{who} {line}"));
        }
    }
}
