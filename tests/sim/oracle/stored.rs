//! What must hold of the database, and of what viewers are told of it.

use std::collections::{BTreeMap, BTreeSet};

use fanfare::wire::event::DELETED_SUFFIX;

use crate::poster::{Deed, Done};
use crate::publisher::Acked;
use crate::world::{Client, SLOW_VIDEO, World};

/// What members did in a data center.
fn deeds(world: &World, dc: usize) -> impl Iterator<Item = &Done> {
    let posters = world.present().filter_map(move |client| match client {
        Client::Poster(poster) if world.homes[poster.number] == dc => Some(poster),
        _ => None,
    });
    posters.flat_map(|poster| &poster.done)
}

fn is_post(done: &Done) -> bool {
    matches!(done.deed, Deed::Comment | Deed::Message)
}

/// Nothing that was acknowledged is missing, and nothing is there more often than it was sent. Gives all that viewers are to be
/// told of, whether it was acknowledged or not.
pub fn judge(world: &World, wrong: &mut Vec<String>) -> Vec<Acked> {
    let mut told = Vec::new();
    for dc in 0..world.disks.len() {
        posts(world, dc, wrong, &mut told);
        slow(world, dc, wrong);
        likes(world, dc, wrong, &mut told);
    }
    told
}

fn posts(world: &World, dc: usize, wrong: &mut Vec<String>, told: &mut Vec<Acked>) {
    let connection = world.disks[dc].memory.connection();
    let posts: BTreeMap<&str, &Done> =
        deeds(world, dc).filter(|done| is_post(done)).map(|done| (&*done.mark, done)).collect();
    let deleted: BTreeMap<&str, &Done> =
        deeds(world, dc).filter(|done| done.deed == Deed::Delete).map(|done| (&*done.id, done)).collect();
    let sql = "SELECT id || '-' || name, kind, place, text, deleted_at IS NOT NULL FROM posts, database";
    let mut statement = connection.prepare(sql).expect("the tables are there");
    let rows = statement.query_map([], |row| {
        Ok((
            row.get::<_, String>(0)?,
            row.get::<_, u8>(1)?,
            row.get::<_, String>(2)?,
            row.get::<_, String>(3)?,
            row.get(4)?,
        ))
    });
    let (mut known, mut copies) = (BTreeSet::new(), BTreeMap::<&str, u64>::new());
    for row in rows.expect("they can be read") {
        let (id, kind, place, text, is_deleted) = row.expect("it can be read");
        let done = if is_deleted { deleted.get(&*id) } else { posts.get(&*text) };
        let Some(done) = done else {
            wrong.push(format!("the database has the post {id} of {place}, {text:?}, which nobody sent, or deleted"));
            continue;
        };
        let topic = format!("{}:{place}", if kind == 0 { "live" } else { "chat" });
        // Backends tell of it as often as it takes until they know that it was taken.
        let (begun, attempts, once) = (done.begun, u64::MAX, false);
        let mut tell = |kind, id, begun| {
            told.push(Acked { topic: topic.clone(), kind, id, key: None, number: 0, begun, attempts, once, dc });
        };
        if is_deleted {
            tell("deleted", format!("{id}{DELETED_SUFFIX}"), begun);
            // Who was there in time saw it, and nobody must.
            tell("gone", id, 0);
        } else {
            *copies.entry(&done.mark).or_default() += 1;
            known.insert(id.clone());
            tell(if kind == 0 { "comment" } else { "message" }, id, begun);
        }
    }
    for done in posts.values() {
        if !done.is_barred && !known.contains(&done.id) && !deleted.contains_key(&*done.id) {
            wrong.push(format!("the database lacks what was acknowledged: {done:?}"));
        }
        let copies = copies.get(&*done.mark).copied().unwrap_or(0);
        if copies > if done.once { 1 } else { done.attempts } {
            wrong.push(format!("the database has {copies} times what was sent by {done:?}"));
        }
    }
    let left: u64 =
        connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("the table is there");
    if left > 0 {
        wrong.push(format!("{left} records are in the outbox long after all works"));
    }
}

/// Where slow mode is on a member's comments lie so far apart, by the times that they have. A time that is far before another one
/// is of a clock that was changed, or is another one.
fn slow(world: &World, dc: usize, wrong: &mut Vec<String>) {
    let (connection, slow_ms) = (world.disks[dc].memory.connection(), world.plan.slow as i64 * 1_000);
    let sql = "SELECT member, at FROM posts WHERE kind = 0 AND place = ?1 ORDER BY id";
    let mut statement = connection.prepare(sql).expect("the table is there");
    let rows = statement.query_map([SLOW_VIDEO], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)));
    let mut last: BTreeMap<String, i64> = BTreeMap::new();
    for row in rows.expect("they can be read") {
        let (member, at) = row.expect("it can be read");
        if let Some(before) = last.insert(member.clone(), at)
            && (-slow_ms..slow_ms).contains(&(at - before))
        {
            wrong
                .push(format!("{member} commented {} ms after the comment before, in spite of slow mode", at - before));
        }
    }
}

fn likes(world: &World, dc: usize, wrong: &mut Vec<String>, told: &mut Vec<Acked>) {
    let connection = world.disks[dc].memory.connection();
    let mut statement = connection.prepare("SELECT video, member FROM likes").expect("the table is there");
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    let stored: BTreeSet<(String, String)> =
        rows.expect("they can be read").map(|row| row.expect("it can be read")).collect();
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    for (video, _) in &stored {
        *counted.entry(video).or_default() += 1;
    }
    let undone: BTreeSet<&str> =
        deeds(world, dc).filter(|done| done.deed == Deed::Unlike).map(|done| &*done.mark).collect();
    for like in deeds(world, dc).filter(|done| done.deed == Deed::Like) {
        let is_stored = stored.contains(&(like.place.clone(), like.mark.clone()));
        let is_undone = undone.contains(&*like.mark);
        // It is told once, unless a late try stores it anew behind the one that takes it back.
        let attempts = if is_undone && !like.once { like.attempts } else { 1 };
        told.push(Acked {
            topic: format!("live:{}", like.place),
            kind: "like",
            id: like.mark.clone(),
            key: Some("like".to_owned()),
            number: 0,
            // One that was stored by a try that got no answer may have been told by nobody: the next one's total heals that.
            begun: if like.attempts == 1 { like.begun } else { 0 },
            attempts,
            once: false,
            dc,
        });
        match is_undone {
            false if !is_stored => wrong.push(format!("the database lacks what was acknowledged: {like:?}")),
            true if is_stored && (like.once || like.attempts == 1) => {
                wrong.push(format!("the database has what was taken back: {like:?}"));
            }
            _ => {}
        }
    }
    for (video, likes) in counted {
        let count = count(world, dc, video);
        if count != likes {
            wrong.push(format!("the database says that {count} like {video}, and {likes} do"));
        }
    }
}

/// How many like a video, as the database of a data center says.
pub fn count(world: &World, dc: usize, video: &str) -> u64 {
    let connection = world.disks[dc].memory.connection();
    let sql = "SELECT coalesce(sum(likes), 0) FROM like_counts WHERE video = ?1";
    connection.query_row(sql, [video], |row| row.get(0)).expect("the table is there")
}
