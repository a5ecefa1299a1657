//! The posts, receipts and published marks of a batch, worked out in memory like its likes.
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::db;
use crate::db::hooks::comment_subject;
use crate::db::post_id::PostIds;
use crate::db::rules::Standing;
use crate::db::{Change, Command, Deletion, Outcome, PostKind, StoreError, checks};

/// As it is stored.
pub(crate) fn kind_number(kind: PostKind) -> i16 {
    match kind {
        PostKind::Comment => 0,
        PostKind::Message => 1,
    }
}

pub(crate) fn kind_of(number: i16) -> PostKind {
    if number == 0 { PostKind::Comment } else { PostKind::Message }
}

/// As it is stored.
pub(crate) fn change_number(change: Change) -> i16 {
    match change {
        Change::Posted => 0,
        Change::Deleted => 1,
    }
}

/// A post that was there before the batch.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) kind: i16,
    pub(crate) place: String,
    pub(crate) member: String,
    pub(crate) deleted: bool,
}

/// A record of the outbox: the post, and the change as it is stored.
pub(crate) type Record = (i64, i16);

#[derive(Debug)]
pub(crate) struct Posts<'a> {
    ids: &'a PostIds,
    /// For new posts, ascending.
    numbers: std::vec::IntoIter<i64>,
    known: HashMap<i64, Known>,
    receipts: BTreeMap<(&'a str, &'a str), Receipt>,
    /// New posts, by number.
    pub(crate) inserted: Inserted<'a>,
    /// Deleted posts with the times.
    pub(crate) deleted: BTreeMap<i64, i64>,
    /// Records that go.
    pub(crate) unrecorded: BTreeSet<Record>,
    /// Records that become due.
    pub(crate) left: BTreeSet<Record>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Receipt {
    /// 0 is none.
    message: i64,
    /// When this batch moved it, if it did.
    moved: Option<i64>,
}

/// New posts as the columns that a statement takes.
#[derive(Debug, Default)]
pub(crate) struct Inserted<'a> {
    pub(crate) numbers: Vec<i64>,
    pub(crate) kinds: Vec<i16>,
    pub(crate) places: Vec<&'a str>,
    pub(crate) members: Vec<&'a str>,
    pub(crate) texts: Vec<&'a str>,
    /// Not of the post, but of its record.
    pub(crate) always: Vec<i16>,
    pub(crate) at: Vec<i64>,
    /// Hooks that are told of them, with the subject, post and time of each.
    pub(crate) hooked: (Vec<&'a str>, Vec<String>, Vec<i64>, Vec<i64>),
}

impl<'a> Posts<'a> {
    pub(crate) fn new(ids: &'a PostIds) -> Posts<'a> {
        Posts {
            ids,
            numbers: Vec::new().into_iter(),
            known: HashMap::new(),
            receipts: BTreeMap::new(),
            inserted: Inserted::default(),
            deleted: BTreeMap::new(),
            unrecorded: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    /// Takes in whose receipts the batch is about.
    pub(crate) fn add(&mut self, command: &'a Command) {
        if let Command::Receipt { conversation, member, .. } = command {
            self.receipts.entry((conversation, member)).or_default();
        }
    }

    /// The number of a post that must be known to run a command.
    pub(crate) fn needed(&self, command: &Command) -> Option<i64> {
        match command {
            Command::DeletePost { id, .. } => self.ids.number(id),
            Command::Receipt { message, .. } => self.ids.number(message),
            _ => None,
        }
    }

    /// The conversations and members whose receipts have to be looked up, in order.
    pub(crate) fn receipt_keys(&self) -> (Vec<&'a str>, Vec<&'a str>) {
        self.receipts.keys().copied().unzip()
    }

    /// Takes in what was looked up: the numbers of new posts, the posts, and receipts by their places in the keys.
    pub(crate) fn found(
        &mut self,
        mut numbers: Vec<i64>,
        known: impl Iterator<Item = (i64, Known)>,
        receipts: impl Iterator<Item = (usize, i64)>,
    ) {
        numbers.sort_unstable();
        self.numbers = numbers.into_iter();
        self.known.extend(known);
        let mut stored = vec![0; self.receipts.len()];
        receipts.for_each(|(position, message)| stored[position] = message);
        for (receipt, message) in self.receipts.values_mut().zip(stored) {
            receipt.message = message;
        }
    }

    /// Runs one command, if it changes posts or receipts.
    pub(crate) fn run(&mut self, command: &'a Command) -> Option<Result<Outcome, StoreError>> {
        Some(match command {
            Command::Post { kind, place, member, text, standing, at, hooks } => checks::time(*at).map(|stored_at| {
                let number = self.numbers.next().expect("a number was taken for every post");
                self.inserted.numbers.push(number);
                self.inserted.kinds.push(kind_number(*kind));
                self.inserted.places.push(place);
                self.inserted.members.push(member);
                self.inserted.texts.push(text);
                self.inserted.always.push(i16::from(*standing == Standing::Moderator));
                self.inserted.at.push(stored_at);
                for hook in hooks.iter() {
                    self.inserted.hooked.0.push(hook);
                    self.inserted.hooked.1.push(comment_subject(place));
                    self.inserted.hooked.2.push(number);
                    self.inserted.hooked.3.push(stored_at);
                }
                Outcome::Posted { id: self.ids.text(number), at: *at }
            }),
            Command::DeletePost { kind, place, id, by, at } => {
                checks::time(*at).map(|at| Outcome::Deletion(self.delete(*kind, place, id, by.as_deref(), at)))
            }
            Command::Receipt { conversation, member, message, at } => self.receipt(conversation, member, message, *at),
            Command::Mark(marks) => {
                let record = |record: &db::Record| Some((self.ids.number(&record.id)?, change_number(record.change)));
                self.unrecorded.extend(marks.published.iter().filter_map(record));
                self.left.extend(marks.left.iter().filter_map(record));
                // How many were there is known after the statement.
                return None;
            }
            _ => return None,
        })
    }

    fn delete(&mut self, kind: PostKind, place: &str, id: &str, by: Option<&str>, at: i64) -> Deletion {
        let Some(number) = self.ids.number(id) else { return Deletion::NotFound };
        match self.known.get_mut(&number) {
            Some(post) if post.kind == kind_number(kind) && post.place == place => {
                if by.is_some_and(|by| by != post.member) {
                    return Deletion::Forbidden;
                }
                if std::mem::replace(&mut post.deleted, true) {
                    return Deletion::Already;
                }
                self.deleted.insert(number, at);
                self.unrecorded.insert((number, change_number(Change::Posted)));
                Deletion::Deleted
            }
            _ => Deletion::NotFound,
        }
    }

    fn receipt(
        &mut self,
        conversation: &'a str,
        member: &'a str,
        message: &str,
        at: u64,
    ) -> Result<Outcome, StoreError> {
        let at = checks::time(at)?;
        let number = checks::post(self.ids, message)?;
        let is_message = |post: &&Known| post.kind == kind_number(PostKind::Message) && post.place == conversation;
        if self.known.get(&number).filter(is_message).is_none() {
            return Err(checks::no_such_message(message));
        }
        let receipt = self.receipts.get_mut(&(conversation, member)).expect("every command of the batch was added");
        let moved = number > receipt.message;
        if moved {
            *receipt = Receipt { message: number, moved: Some(at) };
        }
        Ok(Outcome::Receipt { moved, message: self.ids.text(receipt.message) })
    }

    /// The receipts to write, in order: conversations, members, messages, times.
    pub(crate) fn moved_receipts(&self) -> (Vec<&'a str>, Vec<&'a str>, Vec<i64>, Vec<i64>) {
        let mut columns = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for ((conversation, member), receipt) in &self.receipts {
            if let Some(at) = receipt.moved {
                columns.0.push(*conversation);
                columns.1.push(*member);
                columns.2.push(receipt.message);
                columns.3.push(at);
            }
        }
        columns
    }

    /// The records to make: of new posts and of deletions. Posts, changes, and which are shown whatever the pace.
    pub(crate) fn recorded(&self) -> (Vec<i64>, Vec<i16>, Vec<i16>) {
        let posted = self.inserted.numbers.iter().zip(&self.inserted.always);
        let posted = posted.map(|(number, always)| (*number, change_number(Change::Posted), *always));
        let deleted = self.deleted.keys().map(|number| (*number, change_number(Change::Deleted), 0));
        posted.chain(deleted).collect()
    }
}
