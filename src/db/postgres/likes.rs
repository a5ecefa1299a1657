//! The likes of a batch, worked out in memory: what is stored is read once, the commands run on it one by one, and what
//! they changed is written once. The videos are locked meanwhile, so nobody else changes it.
use std::collections::BTreeMap;

use crate::db::{Command, Outcome, StoreError, checks};
use crate::runtime::random::Map;

/// Who liked what, and how: a row's key.
pub(crate) type Key<'a> = (&'a str, &'a str, &'a str);

#[derive(Debug, Default)]
pub(crate) struct Likes<'a> {
    likes: BTreeMap<Key<'a>, Like>,
    videos: BTreeMap<&'a str, Video<'a>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Like {
    /// Before the batch.
    stored: bool,
    /// Now.
    present: bool,
    /// When it was given by this batch, if it was.
    given: Option<i64>,
}

#[derive(Debug, Default)]
struct Video<'a> {
    /// Whether a command may change it.
    written: bool,
    reactions: Map<&'a str, Count>,
    /// Of reactions that no command of the batch is about.
    others: Vec<(String, u64)>,
    /// Whether a command asks for its taps.
    counted: bool,
    /// Taps by reaction: those that are stored, where they are asked for, and what the batch adds.
    taps: BTreeMap<String, (u64, u64)>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    stored: u64,
    likes: u64,
}

impl<'a> Likes<'a> {
    /// Takes in what the batch is about. What is no like is left alone.
    pub(crate) fn add(&mut self, command: &'a Command) {
        match command {
            Command::Like { video, member, reaction, .. } | Command::Unlike { video, member, reaction } => {
                self.likes.entry((video, member, reaction)).or_default();
                let video = self.videos.entry(video).or_default();
                video.written = true;
                video.reactions.entry(reaction).or_default();
            }
            Command::Taps { video, .. } => self.videos.entry(video).or_default().written = true,
            Command::Counts { video } => self.videos.entry(video).or_default().counted = true,
            _ => {}
        }
    }

    /// The likes that have to be looked up, in order.
    pub(crate) fn keys(&self) -> Keys<'a> {
        self.likes.keys().copied().collect()
    }

    /// The videos whose counts have to be read.
    pub(crate) fn videos(&self) -> Vec<&'a str> {
        self.videos.keys().copied().collect()
    }

    /// The videos whose taps have to be read.
    pub(crate) fn counted_videos(&self) -> Vec<&'a str> {
        self.videos.iter().filter(|(_, video)| video.counted).map(|(name, _)| *name).collect()
    }

    /// The videos that have to be locked, in order.
    pub(crate) fn written_videos(&self) -> impl Iterator<Item = &'a str> {
        self.videos.iter().filter(|(_, video)| video.written).map(|(name, _)| *name)
    }

    /// Takes in which of the keys are stored, by their places in [`Likes::keys`].
    pub(crate) fn found(&mut self, positions: impl Iterator<Item = usize>) {
        let mut stored = vec![false; self.likes.len()];
        positions.for_each(|position| stored[position] = true);
        for (like, stored) in self.likes.values_mut().zip(stored) {
            *like = Like { stored, present: stored, given: None };
        }
    }

    /// Takes in a count.
    pub(crate) fn count(&mut self, video: &str, reaction: &str, likes: u64) {
        let Some(video) = self.videos.get_mut(video) else { return };
        match video.reactions.get_mut(reaction) {
            Some(count) => *count = Count { stored: likes, likes },
            None => video.others.push((reaction.to_owned(), likes)),
        }
    }

    /// Takes in taps that are stored.
    pub(crate) fn tapped(&mut self, video: &str, reaction: &str, taps: u64) {
        if let Some(video) = self.videos.get_mut(video) {
            video.taps.insert(reaction.to_owned(), (taps, 0));
        }
    }

    /// Runs one command, if it is about likes.
    pub(crate) fn run(&mut self, command: &'a Command) -> Option<Result<Outcome, StoreError>> {
        Some(match command {
            Command::Like { video, member, reaction, at } => checks::time(*at).map(|at| {
                let like = self.likes.get_mut(&(video.as_str(), member.as_str(), reaction.as_str())).expect(ADDED);
                let created = !std::mem::replace(&mut like.present, true);
                if created {
                    like.given = Some(at);
                }
                let video = self.videos.get_mut(video.as_str()).expect(ADDED);
                let reaction_likes = video.change(reaction, |likes| likes + u64::from(created));
                Outcome::Liked { created, likes: video.likes(), reaction_likes }
            }),
            Command::Unlike { video, member, reaction } => {
                let like = self.likes.get_mut(&(video.as_str(), member.as_str(), reaction.as_str())).expect(ADDED);
                let removed = std::mem::take(&mut like.present);
                like.given = None;
                let video = self.videos.get_mut(video.as_str()).expect(ADDED);
                // Saturating, since somebody may have edited the database by hand.
                let reaction_likes = video.change(reaction, |likes| likes.saturating_sub(u64::from(removed)));
                Ok(Outcome::Unliked { removed, likes: video.likes(), reaction_likes })
            }
            Command::Taps { video, reaction, taps } => {
                let video = self.videos.get_mut(video.as_str()).expect(ADDED);
                video.taps.entry(reaction.clone()).or_default().1 += taps;
                Ok(Outcome::Tapped)
            }
            Command::Counts { video } => {
                let video = &self.videos[video.as_str()];
                let given = video.reactions.iter().map(|(reaction, count)| ((*reaction).to_owned(), count.likes));
                let mut reactions: Vec<_> = given.filter(|(_, likes)| *likes > 0).chain(video.others.clone()).collect();
                reactions.sort_unstable();
                let taps = video.taps.iter().map(|(reaction, (stored, added))| (reaction.clone(), stored + added));
                Ok(Outcome::Counts { likes: video.likes(), reactions, taps: taps.collect() })
            }
            _ => return None,
        })
    }

    /// The rows to delete, in order. One that was taken back and given again is among both.
    pub(crate) fn deleted(&self) -> Keys<'a> {
        let deleted = self.likes.iter().filter(|(_, like)| like.stored && (!like.present || like.given.is_some()));
        deleted.map(|(key, _)| *key).collect()
    }

    /// The rows to insert after that, in order, with their times.
    pub(crate) fn inserted(&self) -> (Keys<'a>, Vec<i64>) {
        self.likes.iter().filter_map(|(key, like)| Some((*key, like.given?))).unzip()
    }

    /// The counts that changed, in order: the video, the reaction, the likes.
    pub(crate) fn changed_counts(&self) -> Vec<(&'a str, &'a str, u64)> {
        let mut changed = Vec::new();
        for (name, video) in &self.videos {
            let before = changed.len();
            let counts = video.reactions.iter().filter(|(_, count)| count.stored != count.likes);
            changed.extend(counts.map(|(reaction, count)| (*name, *reaction, count.likes)));
            changed[before..].sort_unstable();
        }
        changed
    }

    /// The taps to add, in order: the video, the reaction, how many.
    pub(crate) fn added_taps(&self) -> (Vec<&'a str>, Vec<&str>, Vec<i64>) {
        let mut columns = (Vec::new(), Vec::new(), Vec::new());
        for (name, video) in &self.videos {
            for (reaction, (_, added)) in video.taps.iter().filter(|(_, (_, added))| *added > 0) {
                columns.0.push(*name);
                columns.1.push(reaction.as_str());
                columns.2.push(added.cast_signed());
            }
        }
        columns
    }
}

const ADDED: &str = "every command of the batch was added";

impl Video<'_> {
    fn change(&mut self, reaction: &str, step: impl Fn(u64) -> u64) -> u64 {
        let count = self.reactions.get_mut(reaction).expect(ADDED);
        count.likes = step(count.likes);
        count.likes
    }

    fn likes(&self) -> u64 {
        let given: u64 = self.reactions.values().map(|count| count.likes).sum();
        given + self.others.iter().map(|(_, likes)| likes).sum::<u64>()
    }
}

/// Keys as the columns that a statement takes.
#[derive(Debug, Default)]
pub(crate) struct Keys<'a> {
    pub(crate) videos: Vec<&'a str>,
    pub(crate) members: Vec<&'a str>,
    pub(crate) reactions: Vec<&'a str>,
}

impl Keys<'_> {
    pub(crate) fn is_empty(&self) -> bool {
        self.videos.is_empty()
    }
}

impl<'a> Extend<Key<'a>> for Keys<'a> {
    fn extend<I: IntoIterator<Item = Key<'a>>>(&mut self, keys: I) {
        for (video, member, reaction) in keys {
            self.videos.push(video);
            self.members.push(member);
            self.reactions.push(reaction);
        }
    }
}

impl<'a> FromIterator<Key<'a>> for Keys<'a> {
    fn from_iter<I: IntoIterator<Item = Key<'a>>>(keys: I) -> Self {
        let mut columns = Keys::default();
        columns.extend(keys);
        columns
    }
}
