//! What a store takes and answers, and the handle by which shards reach it.
//!
//! A store is one thread that may block, behind bounded queues. Shards submit without waiting and get each answer
//! through the function given at start, after the commit that holds it is durable. So no shard ever waits for a disk,
//! and a disk that cannot keep up shows as [`Full`], which is a 503, never as memory that grows.
//!
//! Comments and messages are posts. Each post, and each deletion of one, leaves a record in the outbox in the same
//! commit; [`Command::Mark`] takes it out once viewers have been told, and [`Command::Unpublished`] lists what was left
//! behind, so that a node that dies between storing and telling loses nothing.
pub mod checks;
#[allow(clippy::disallowed_methods, reason = "called on the threads of the databases")]
pub mod health;
pub mod hooks;
pub mod once;
pub mod open_error;
pub mod outbox;
pub mod part;
pub mod post;
pub mod post_id;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod postgres;
pub mod rules;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod sqlite;
pub mod store_error;

use std::hash::BuildHasher as _;
use std::sync::{Arc, PoisonError, RwLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::Notify;

use crate::db::health::Health;
use crate::db::hooks::{HookCommand, HookKey, HookOutcome};
use crate::db::once::Once;

pub use crate::db::open_error::OpenError;
pub use crate::db::outbox::{Change, Marks, OutboxAsk, Record, Unpublished};
pub use crate::db::part::Part;
pub use crate::db::post::{Deletion, Post, PostKind, Receipt};
use crate::db::rules::{Bar, Rules, Standing};
pub use crate::db::store_error::{Full, StoreError};
use crate::kv::kept::Keep;
use crate::limits::STORE_QUEUE_COMMANDS;
use crate::runtime::random::Seeded;
use crate::wire::status::Status;

/// One thing to do. The caller has checked lengths and characters; the store keeps any valid UTF-8, except that
/// PostgreSQL refuses U+0000 and names of more than [`crate::limits::STORE_NAME_BYTES_MAX`] ([`StoreError::Invalid`]).
///
/// Ids of posts are opaque text of at most [`crate::limits::POST_ID_BYTES_MAX`] bytes of `0-9 a-f -`: a number that grows
/// in the order of commits within a place, and the name of the database. So they are unique over all places of a database
/// and all backends on it, and also among the databases of several data centers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Stores that `member` reacted to `video`; the same again changes nothing and keeps the first `at`.
    ///
    /// `reaction` must come from the configured set: what one like costs grows with the number of different
    /// reactions of its video.
    Like {
        video: String,
        member: String,
        reaction: String,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// Takes that reaction back; one that is not there changes nothing.
    Unlike { video: String, member: String, reaction: String },
    /// Adds taps to those of a video and reaction. Repeating it adds them again.
    Taps { video: String, reaction: String, taps: u64 },
    /// Reads the counts of a video, with every command submitted before it on the same thread applied.
    Counts { video: String },
    /// Stores a comment or message as a new one, unpublished, unless the video's rules bar its author. Repeating it stores
    /// another.
    Post {
        kind: PostKind,
        /// The video or conversation.
        place: String,
        /// The author.
        member: String,
        /// At most [`crate::limits::POST_TEXT_BYTES_MAX`] bytes.
        text: String,
        /// As whom the author comments, which decides what rules of the video bind them, and that a moderator is shown whatever
        /// the pace; nothing binds who writes a message.
        standing: Standing,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
        /// Hooks that are told of it by the same commit, unless they have ended or have no room.
        hooks: Arc<[HookKey]>,
    },
    /// Deletes a post: its text is gone at once, and its deletion is unpublished. One that had not been published is no
    /// longer listed as such.
    DeletePost {
        kind: PostKind,
        /// The video or conversation that must have it.
        place: String,
        /// As the store gave it; any other text is a post that is not there.
        id: String,
        /// Who asks and must be the author; none is a moderator.
        by: Option<String>,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// Reads posts in ascending order of id, without deleted ones, and with every command submitted before it on the same
    /// thread for the same place applied.
    ListPosts {
        kind: PostKind,
        /// The video or conversation.
        place: String,
        /// Which of them. Text that is no id of this database is [`StoreError::Invalid`].
        part: Part,
        /// At most so many, taken as 1 to [`crate::limits::POSTS_PAGE_MAX`]; fewer where their texts together would pass
        /// [`crate::limits::POSTS_PAGE_BYTES_MAX`], but at least one if there is one.
        limit: u32,
    },
    /// Takes out of the outbox what viewers have been told of, and makes due what they could not be told of. Marking again, or
    /// what is not there, changes nothing.
    Mark(Arc<Marks>),
    /// Lists what is due in the outbox, in the order of ids: what was marked as left, and what is so old that whoever stored
    /// it cannot be about to publish it any more. Whoever lists it publishes it in this order under the same ids, and then
    /// marks it. One backend at a time does that, so that a place's posts keep their order: where there is something, the
    /// lease is taken first, and who does not get it is told so.
    Unpublished(OutboxAsk),
    /// Stores that `member` has read `conversation` up to `message`; only ever forward. A message that the conversation
    /// never had is [`StoreError::Invalid`]; one that was deleted will do.
    Receipt {
        conversation: String,
        member: String,
        /// The id of a message.
        message: String,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// Lists how far members have read, in the byte order of their names.
    Receipts {
        conversation: String,
        /// Only members whose names follow this one.
        after: Option<String>,
        /// At most so many, taken as 1 to [`crate::limits::RECEIPTS_PAGE_MAX`].
        limit: u32,
    },
    /// Reads the rules of a video, with every command submitted before it for the same video applied.
    Rules { video: String },
    /// Changes the rules of a video. They bind each comment that is stored after this, by whichever backend.
    SetRules {
        video: String,
        change: rules::Change,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// From now on `member` may not comment on `video` for a time, whatever was said before.
    TimeOut {
        video: String,
        member: String,
        /// 0 ends a time-out.
        seconds: u32,
        /// Unix milliseconds, at most `i64::MAX`.
        at: u64,
    },
    /// A [`Command::Like`] or [`Command::Post`] that is done once: what it came to is stored in the same commit, and the same
    /// again within [`crate::limits::ONCE_AGE`] is [`Outcome::Again`]. Of one that is refused nothing is stored.
    Once { once: Once, command: Box<Command> },
    /// Applies changes of the embedded key-value store's history, all or none of them, so that it outlives the process. SQLite
    /// only, since that store is one process's.
    Keep(Vec<Keep>),
    /// Something for hooks.
    Hooks(HookCommand),
}

impl Command {
    /// What is done, whether once or not.
    pub fn inner(&self) -> &Command {
        match self {
            Command::Once { command, .. } => command,
            command => command,
        }
    }

    /// Whether it may change the database, so that its batch needs the write lock.
    pub fn writes(&self) -> bool {
        if let Command::Hooks(command) = self {
            return command.writes();
        }
        !matches!(
            self.inner(),
            Command::Counts { .. } | Command::ListPosts { .. } | Command::Receipts { .. } | Command::Rules { .. }
        )
    }

    /// What decides its lane: commands that must keep their order have it in common.
    fn lane_key(&self) -> (u8, &str) {
        match self {
            Command::Once { command, .. } => command.lane_key(),
            Command::Like { video, .. }
            | Command::Unlike { video, .. }
            | Command::Taps { video, .. }
            | Command::Counts { video } => (0, video),
            Command::Post { kind, place, .. }
            | Command::DeletePost { kind, place, .. }
            | Command::ListPosts { kind, place, .. } => (1 + *kind as u8, place),
            // Beside the comments that rules are about.
            Command::Rules { video } | Command::SetRules { video, .. } | Command::TimeOut { video, .. } => {
                (1 + PostKind::Comment as u8, video)
            }
            // Beside the messages that receipts are about.
            Command::Receipt { conversation, .. } | Command::Receipts { conversation, .. } => {
                (1 + PostKind::Message as u8, conversation)
            }
            Command::Mark(marks) => {
                let first = marks.published.first().or(marks.left.first());
                (3, first.map_or("", |record| &record.id))
            }
            Command::Unpublished(_) => (4, ""),
            Command::Keep(_) => (5, ""),
            Command::Hooks(command) => (6, command.hook()),
        }
    }
}

/// What came of a command. Counts are those right after it, as if commands had run one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Liked {
        /// False when it was stored before.
        created: bool,
        /// Over all reactions of the video.
        likes: u64,
        /// Of this reaction alone.
        reaction_likes: u64,
    },
    Unliked {
        /// False when there was nothing to take back.
        removed: bool,
        /// Over all reactions of the video.
        likes: u64,
        /// Of this reaction alone.
        reaction_likes: u64,
    },
    Counts {
        /// Over all reactions of the video; 0 for an unknown video.
        likes: u64,
        /// Each reaction that has any, by name.
        reactions: Vec<(String, u64)>,
        /// Taps of each reaction that has any, by name.
        taps: Vec<(String, u64)>,
    },
    /// The taps are added.
    Tapped,
    Posted {
        /// Its identity, and that of the event that tells of it.
        id: String,
        /// As given.
        at: u64,
    },
    /// The video's rules do not let its author comment now; nothing is stored.
    Barred(Bar),
    Rules {
        rules: Rules,
        /// Greater than that of all that were there before them; 0 where they were never set.
        version: u64,
    },
    /// A time-out is stored, or ended.
    TimedOut {
        /// When it ends, in Unix milliseconds; none if there is none any more.
        until: Option<u64>,
    },
    /// What came of deleting a post.
    Deletion(Deletion),
    Posts {
        /// In ascending order of id.
        posts: Vec<Post>,
        /// Whether there are more: with `after` newer ones, without it older ones.
        more: bool,
    },
    Marked {
        /// Records that were taken out of the outbox: not those that were before, or are unknown.
        removed: usize,
    },
    /// What is due in the outbox.
    Unpublished {
        /// In the order of ids.
        posts: Vec<Unpublished>,
        /// There may be more behind these.
        more: bool,
        /// Another backend has the lease, and publishes them.
        elsewhere: bool,
    },
    Receipt {
        /// False when the member had read as far before.
        moved: bool,
        /// How far the member has read now: never behind the message of the command.
        message: String,
    },
    Receipts {
        receipts: Vec<Receipt>,
        /// Whether there are more members.
        more: bool,
    },
    /// The changes of history are kept.
    Kept,
    /// What came of something for hooks.
    Hooks(HookOutcome),
    /// The request was done before, with this answer; nothing changed.
    Again { status: Status, answer: String },
    /// A request of the same key had another body; nothing changed.
    OtherBody,
}

/// A handle to a running store; clones share its queues. The store ends when all handles are gone or one was closed.
#[derive(Debug)]
pub struct Store<T: Send + 'static> {
    /// The senders of all lanes, taken out by `close`. Submitting holds the lock for reading while it sends, so nothing
    /// enters a queue after its end saw it disconnected: every ticket taken is answered.
    lanes: Arc<RwLock<Lanes<T>>>,
    health: Health,
}

/// A command in a queue, with what its answer goes to.
pub(crate) type Submitted<T> = (Command, T);

/// The ways into a store, one for each thing that can work at the same time; commands for one place always take the same.
#[derive(Debug)]
struct Lanes<T> {
    lanes: Vec<Lane<T>>,
    hasher: Seeded,
}

#[derive(Debug)]
struct Lane<T> {
    sender: Sender<Submitted<T>>,
    /// Wakes the other end, where that waits for more than the queue.
    wake: Option<Arc<Notify>>,
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        // The end looks at the queue once more, and finds that nobody can send any longer.
        let (closed, _) = bounded(0);
        self.sender = closed;
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
    }
}

/// The end of a lane.
#[derive(Debug)]
pub(crate) struct LaneEnd<T> {
    pub(crate) receiver: Receiver<Submitted<T>>,
    /// Told after each command sent, and when the lane closes.
    pub(crate) wake: Arc<Notify>,
}

impl<T: Send + 'static> Clone for Store<T> {
    fn clone(&self) -> Self {
        Store { lanes: Arc::clone(&self.lanes), health: self.health.clone() }
    }
}

impl<T: Send + 'static> Store<T> {
    /// A handle and the end of its one queue, from which a thread takes that may block.
    pub(crate) fn channel() -> (Store<T>, Receiver<Submitted<T>>) {
        let (sender, receiver) = bounded(STORE_QUEUE_COMMANDS);
        (Store::over(vec![Lane { sender, wake: None }]), receiver)
    }

    /// A handle and the ends of `lanes` queues, for tasks that wait for other things as well.
    pub(crate) fn lanes(lanes: usize) -> (Store<T>, Vec<LaneEnd<T>>) {
        let lane = |_| {
            let (sender, receiver) = bounded(STORE_QUEUE_COMMANDS);
            let wake = Arc::new(Notify::new());
            (Lane { sender, wake: Some(Arc::clone(&wake)) }, LaneEnd { receiver, wake })
        };
        let (lanes, ends) = (0..lanes).map(lane).unzip();
        (Store::over(lanes), ends)
    }

    fn over(lanes: Vec<Lane<T>>) -> Store<T> {
        let lanes = Lanes { lanes, hasher: Seeded::default() };
        Store { lanes: Arc::new(RwLock::new(lanes)), health: Health::default() }
    }

    /// Queues a command; never waits for the database. The answer comes to the function given at start, with `ticket`.
    ///
    /// # Errors
    /// [`Full`] gives the ticket back when [`STORE_QUEUE_COMMANDS`] are waiting, or when the store is closed.
    pub fn try_submit(&self, command: Command, ticket: T) -> Result<(), Full<T>> {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        let lane = match lanes.lanes.as_slice() {
            [] => return Err(Full { ticket, closed: true }),
            [only] => only,
            several => {
                let hash = lanes.hasher.hash_one(command.lane_key());
                &several[(hash % several.len() as u64) as usize]
            }
        };
        lane.sender.try_send((command, ticket)).map_err(|error| match error {
            TrySendError::Full((_, ticket)) => Full { ticket, closed: false },
            TrySendError::Disconnected((_, ticket)) => Full { ticket, closed: true },
        })?;
        if let Some(wake) = &lane.wake {
            wake.notify_one();
        }
        Ok(())
    }

    /// Commands waiting in queues, not counting those being stored; 0 once closed.
    pub fn queued(&self) -> usize {
        let lanes = self.lanes.read().unwrap_or_else(PoisonError::into_inner);
        lanes.lanes.iter().map(|lane| lane.sender.len()).sum()
    }

    /// Whether the database works, for readiness: what was last heard of it, without asking.
    ///
    /// # Errors
    /// What is wrong with it, in words for an operator.
    pub fn health(&self) -> Result<(), String> {
        self.health.get()
    }

    /// The disk that an embedded database is on.
    pub fn disk(&self) -> Option<health::Disk> {
        self.health.disk()
    }

    /// The name of the database, which ids of its posts end with; none where it was never reached.
    pub fn database(&self) -> Option<Box<str>> {
        self.health.database()
    }

    /// Where the store's thread says whether the database works.
    pub(crate) fn reports(&self) -> Health {
        self.health.clone()
    }

    /// Takes no more commands through any handle. What was taken is stored and answered, then the thread ends.
    pub fn close(&self) {
        self.lanes.write().unwrap_or_else(PoisonError::into_inner).lanes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts() -> Command {
        Command::Counts { video: "42".into() }
    }

    #[test]
    fn a_full_queue_gives_the_ticket_back_and_has_room_again_after_a_take() {
        let (store, receiver) = Store::channel();
        for ticket in 0..STORE_QUEUE_COMMANDS {
            store.try_submit(counts(), ticket).expect("there is room");
        }
        assert_eq!(store.queued(), STORE_QUEUE_COMMANDS);
        assert_eq!(store.try_submit(counts(), 7_000_000), Err(Full { ticket: 7_000_000, closed: false }));
        assert_eq!(receiver.try_recv(), Ok((counts(), 0)));
        assert_eq!(store.try_submit(counts(), 7_000_001), Ok(()));
    }

    #[test]
    fn closing_through_one_handle_keeps_what_was_taken_and_refuses_the_rest() {
        let (store, receiver) = Store::channel();
        let other = store.clone();
        store.try_submit(counts(), 1).expect("there is room");
        other.close();
        assert_eq!(store.try_submit(counts(), 2), Err(Full { ticket: 2, closed: true }));
        assert_eq!(store.queued(), 0);
        assert_eq!(receiver.iter().map(|(_, ticket)| ticket).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_thread_that_ended_refuses_commands() {
        let (store, receiver) = Store::channel();
        drop(receiver);
        assert_eq!(store.try_submit(counts(), 3), Err(Full { ticket: 3, closed: true }));
    }
}
