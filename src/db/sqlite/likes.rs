//! Likes and their counts.
use rusqlite::{Connection, params};

use crate::db::sqlite::batch::Failure;
use crate::db::{Outcome, StoreError};
use crate::runtime::random::Map;

/// The counts of the videos that a batch touches: read once, changed in memory, written back before the commit, so a
/// hot video costs one read and one write a batch instead of one a like. It lives no longer than its transaction,
/// which holds the write lock, so it can be neither stale nor ahead of what is stored.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    videos: Map<String, Vec<ReactionCount>>,
}

#[derive(Debug)]
struct ReactionCount {
    reaction: String,
    likes: u64,
    changed: bool,
}

impl Counts {
    pub(crate) fn clear(&mut self) {
        self.videos.clear();
    }

    /// Stores a like. One statement changes the database, so one that fails leaves nothing behind.
    pub(crate) fn like(
        &mut self,
        connection: &Connection,
        video: &str,
        member: &str,
        reaction: &str,
        at: u64,
    ) -> Result<Outcome, Failure> {
        let Ok(at) = i64::try_from(at) else {
            let detail = format!("the time {at} ms is beyond what the database holds");
            return Err(Failure::Refused(StoreError::Invalid { detail }));
        };
        let counts = self.of_video(connection, video)?;
        let created = connection
            .prepare_cached(
                "INSERT INTO likes (video, member, reaction, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?
            .execute(params![video, member, reaction, at])?
            == 1;
        let reaction_likes = change(counts, reaction, created, |likes| likes + 1);
        Ok(Outcome::Liked { created, likes: total(counts), reaction_likes })
    }

    /// Takes a like back, in one statement as well.
    pub(crate) fn unlike(
        &mut self,
        connection: &Connection,
        video: &str,
        member: &str,
        reaction: &str,
    ) -> Result<Outcome, Failure> {
        let counts = self.of_video(connection, video)?;
        let removed = connection
            .prepare_cached("DELETE FROM likes WHERE video = ?1 AND member = ?2 AND reaction = ?3")?
            .execute(params![video, member, reaction])?
            == 1;
        // Saturating, since somebody may have edited the database by hand.
        let reaction_likes = change(counts, reaction, removed, |likes| likes.saturating_sub(1));
        Ok(Outcome::Unliked { removed, likes: total(counts), reaction_likes })
    }

    pub(crate) fn counts(&mut self, connection: &Connection, video: &str) -> Result<Outcome, Failure> {
        let counts = self.of_video(connection, video)?;
        let mut reactions: Vec<_> =
            counts.iter().filter(|count| count.likes > 0).map(|count| (count.reaction.clone(), count.likes)).collect();
        reactions.sort_unstable();
        let likes = total(counts);
        let taps = connection
            .prepare_cached("SELECT reaction, taps FROM taps WHERE video = ?1 ORDER BY reaction")?
            .query_map([video], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.max(0).cast_unsigned())))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Outcome::Counts { likes, reactions, taps })
    }

    /// Writes what changed; must come before the commit.
    pub(crate) fn flush(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        for (video, counts) in &mut self.videos {
            for count in counts.iter_mut().filter(|count| count.changed) {
                if count.likes > 0 {
                    connection
                        .prepare_cached(
                            "INSERT INTO like_counts (video, reaction, likes) VALUES (?1, ?2, ?3)
                             ON CONFLICT DO UPDATE SET likes = excluded.likes",
                        )?
                        .execute(params![video, count.reaction, count.likes.cast_signed()])?;
                } else {
                    connection
                        .prepare_cached("DELETE FROM like_counts WHERE video = ?1 AND reaction = ?2")?
                        .execute(params![video, count.reaction])?;
                }
                count.changed = false;
            }
        }
        Ok(())
    }

    fn of_video(&mut self, connection: &Connection, video: &str) -> rusqlite::Result<&mut Vec<ReactionCount>> {
        if !self.videos.contains_key(video) {
            let counts = connection
                .prepare_cached("SELECT reaction, likes FROM like_counts WHERE video = ?1")?
                .query_map([video], |row| {
                    let likes: i64 = row.get(1)?;
                    Ok(ReactionCount { reaction: row.get(0)?, likes: likes.max(0).cast_unsigned(), changed: false })
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            self.videos.insert(video.to_owned(), counts);
        }
        Ok(self.videos.get_mut(video).expect("it was there or has just been inserted"))
    }
}

/// Adds taps.
pub(crate) fn tap(connection: &Connection, video: &str, reaction: &str, taps: u64) -> Result<Outcome, Failure> {
    connection
        .prepare_cached(
            "INSERT INTO taps (video, reaction, taps) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET taps = taps + excluded.taps",
        )?
        .execute(params![video, reaction, taps.cast_signed()])?;
    Ok(Outcome::Tapped)
}

/// Applies `step` to the count of `reaction` if `changed`, and returns it. A video has a handful of reactions, so a
/// scan beats a table.
fn change(counts: &mut Vec<ReactionCount>, reaction: &str, changed: bool, step: impl Fn(u64) -> u64) -> u64 {
    let position = counts.iter().position(|count| count.reaction == reaction);
    if !changed {
        return position.map_or(0, |position| counts[position].likes);
    }
    let position = position.unwrap_or_else(|| {
        counts.push(ReactionCount { reaction: reaction.to_owned(), likes: 0, changed: true });
        counts.len() - 1
    });
    let count = &mut counts[position];
    count.likes = step(count.likes);
    count.changed = true;
    count.likes
}

fn total(counts: &[ReactionCount]) -> u64 {
    counts.iter().map(|count| count.likes).sum()
}
