//! The rules and time-outs of a batch, worked out in memory like its likes: the comments' places are locked meanwhile, so that
//! nobody else changes either.
use std::collections::BTreeMap;

use tokio_postgres::Row;

use crate::db::rules::{Kept, Past, Standing};
use crate::db::{Command, Outcome, PostKind, StoreError, checks};

#[derive(Debug, Default)]
pub(crate) struct Rules<'a> {
    videos: BTreeMap<&'a str, Video>,
    /// By video and name.
    members: BTreeMap<(&'a str, &'a str), Member>,
    /// The newest time that this batch knows of.
    now: i64,
}

#[derive(Debug, Default)]
struct Video {
    kept: Kept,
    /// A command of this batch may change it.
    written: bool,
    /// One did.
    changed: bool,
}

#[derive(Debug, Default)]
struct Member {
    past: Past,
    /// This batch gave them a time-out, or ended one.
    timed_out: bool,
}

/// Rules as the columns that a statement takes.
pub(crate) type RulesColumns<'a> = (Vec<&'a str>, Vec<i64>, Vec<i16>, Vec<i64>);

/// Time-outs as the columns that a statement takes.
pub(crate) type TimeoutColumns<'a> = (Vec<&'a str>, Vec<&'a str>, Vec<i64>);

impl<'a> Rules<'a> {
    /// Takes in what the batch is about.
    pub(crate) fn add(&mut self, command: &'a Command) {
        match command {
            Command::Post { kind: PostKind::Comment, place, member, standing, .. }
                if *standing != Standing::Moderator =>
            {
                self.videos.entry(place).or_default();
                self.members.entry((place, member)).or_default();
            }
            Command::Rules { video } => {
                self.videos.entry(video).or_default();
            }
            Command::SetRules { video, .. } => self.videos.entry(video).or_default().written = true,
            Command::TimeOut { video, member, .. } => {
                self.members.entry((video, member)).or_default();
            }
            _ => {}
        }
    }

    /// The videos whose rules have to be read, and those of them that may get others.
    pub(crate) fn videos(&self) -> (Vec<&'a str>, Vec<&'a str>) {
        let written = self.videos.iter().filter(|(_, video)| video.written).map(|(name, _)| *name);
        (self.videos.keys().copied().collect(), written.collect())
    }

    /// The videos and members that have to be looked up, in order.
    pub(crate) fn members(&self) -> (Vec<&'a str>, Vec<&'a str>) {
        self.members.keys().copied().unzip()
    }

    /// Takes in what was looked up: rules by video, and of members by their places in [`Rules::members`] when a time-out ends,
    /// and when they commented.
    pub(crate) fn found(&mut self, rules: &[Row], members: impl Iterator<Item = (usize, Past)>) {
        for row in rules {
            if let Some(video) = self.videos.get_mut(row.get::<_, &str>(0)) {
                video.kept = Kept::stored(row.get(1), row.get::<_, i16>(2).into(), row.get(3));
            }
        }
        let mut found = vec![Past::default(); self.members.len()];
        members.for_each(|(position, past)| found[position] = past);
        for (member, past) in self.members.values_mut().zip(found) {
            member.past = past;
        }
    }

    /// Runs one command, if it is about rules, or a comment that they bar.
    pub(crate) fn run(&mut self, command: &'a Command) -> Option<Result<Outcome, StoreError>> {
        match command {
            Command::Post { kind: PostKind::Comment, place, member, standing, at, .. } => {
                // Nothing binds a moderator, of whom nothing was looked up.
                let member = self.members.get_mut(&(place.as_str(), member.as_str()))?;
                let rules = self.videos.get(place.as_str())?.kept.rules;
                let bar = rules.bar(*standing, member.past, *at);
                if bar.is_none() {
                    member.past.commented = Some(i64::try_from(*at).unwrap_or(i64::MAX));
                }
                bar.map(|bar| Ok(Outcome::Barred(bar)))
            }
            Command::Rules { video } => {
                let Kept { rules, version } = self.videos.get(video.as_str()).expect(ADDED).kept;
                Some(Ok(Outcome::Rules { rules, version }))
            }
            Command::SetRules { video, change, at } => {
                let video = self.videos.get_mut(video.as_str()).expect(ADDED);
                video.kept = video.kept.changed(*change, *at);
                video.changed = true;
                let Kept { rules, version } = video.kept;
                Some(Ok(Outcome::Rules { rules, version }))
            }
            Command::TimeOut { video, member, seconds, at } => Some(self.time_out(video, member, *seconds, *at)),
            _ => None,
        }
    }

    fn time_out(&mut self, video: &'a str, member: &'a str, seconds: u32, at: u64) -> Result<Outcome, StoreError> {
        let until = checks::time(at + u64::from(seconds) * 1_000)?;
        self.now = self.now.max(checks::time(at)?);
        let member = self.members.get_mut(&(video, member)).expect(ADDED);
        member.past.until = Some(until);
        member.timed_out = true;
        Ok(Outcome::TimedOut { until: (seconds > 0).then_some(until.cast_unsigned()) })
    }

    /// The rules to write, in order.
    pub(crate) fn changed(&self) -> RulesColumns<'a> {
        let mut columns = RulesColumns::default();
        for (name, video) in self.videos.iter().filter(|(_, video)| video.changed) {
            columns.0.push(name);
            columns.1.push(video.kept.rules.slow_seconds.into());
            columns.2.push(video.kept.rules.comments.number().into());
            columns.3.push(i64::try_from(video.kept.version).unwrap_or(i64::MAX));
        }
        columns
    }

    /// The time-outs to write, in order: videos, members, and when they end. Then go those that ended before the time given
    /// beside them.
    pub(crate) fn timed_out(&self) -> (TimeoutColumns<'a>, i64) {
        let mut columns = TimeoutColumns::default();
        for ((video, name), member) in self.members.iter().filter(|(_, member)| member.timed_out) {
            columns.0.push(*video);
            columns.1.push(*name);
            columns.2.push(member.past.until.unwrap_or(0));
        }
        (columns, self.now)
    }
}

const ADDED: &str = "every command of the batch was added";
