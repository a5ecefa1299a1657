//! What a store keeps for hooks: deliveries until their receivers took them, and the states that receivers were told of.

use std::sync::Arc;

use serde_json::json;

use crate::db::post_id::PostIds;
use crate::wire::hooks::HookEvent;
use crate::wire::topic::Topic;

/// A hook is known by a key that its URL gives; see [`Note::hook`].
pub type HookKey = Arc<str>;

/// What a note changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A state begins, such as a member's being online. Nothing is delivered if it was told before.
    Begins,
    /// A state ends. Nothing is delivered if it was not told, or by something newer.
    Ends,
    /// No state: delivered unless the same subject was less than so many milliseconds before.
    Repeats(u64),
}

/// Something that a hook is to be told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which hook.
    pub hook: HookKey,
    /// Whom or what it is about. Deliveries of a subject are in order.
    pub subject: String,
    /// What changes.
    pub step: Step,
    /// By which newer is told from older: grows with every change of the subject, as far as clocks agree.
    pub version: u64,
    /// What is delivered, with its data as JSON; none where the hook is not told of this, and only its state is kept.
    pub delivery: Option<(HookEvent, String)>,
    /// When it was, in Unix milliseconds.
    pub at: u64,
}

/// Something on its way to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its number in the database, in the order of storing.
    pub number: i64,
    /// The same as a text that no other database gives.
    pub id: String,
    /// Its number among those of its hook, without holes.
    pub sequence: u64,
    /// What of.
    pub event: HookEvent,
    /// Whom or what it is about.
    pub subject: String,
    /// JSON.
    pub data: String,
    /// When it was, in Unix milliseconds.
    pub at: u64,
    /// So many tries failed.
    pub tries: u32,
}

/// What became of a delivery that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settling {
    /// The receiver has it, or it is given up: it goes.
    Done,
    /// It failed: it, and what was taken with it of its subject, is due again after so many milliseconds, and what is behind
    /// those once they are done.
    Later(u64),
    /// It was not tried: it is due again at once.
    Untried,
}

/// A question for what is due to a hook's receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookAsk {
    /// Which hook.
    pub hook: HookKey,
    /// How long nobody else is given the same, in milliseconds.
    pub claim_ms: u64,
    /// At most so many.
    pub limit: u32,
    /// Also gives up what is too old, and says what waits.
    pub look: bool,
}

/// What a look finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookLook {
    /// Deliveries that wait, those on their way among them.
    pub waiting: u64,
    /// Since when the oldest of them does, in Unix milliseconds.
    pub oldest: Option<u64>,
    /// So many were given up as too old.
    pub expired: u64,
    /// So many were left out for want of room since the last look of any backend.
    pub left_out: u64,
}

/// What is done for hooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookCommand {
    /// Makes hooks known: only for those that are something is stored. One that its receiver had ended begins anew.
    /// [`HookOutcome::Done`]
    Open(Arc<[HookKey]>),
    /// Notes what hooks are to be told of, and what follows from that is to be delivered; not for hooks that have ended or have
    /// no room. Noting again changes nothing. [`HookOutcome::Done`]
    Note(Arc<[Note]>),
    /// Takes what is due to a hook's receiver: of each subject what is oldest first, and nothing behind what is not due. What is
    /// taken is due to nobody until its claim ends. [`HookOutcome::Taken`]
    Take(HookAsk),
    /// Stores what became of deliveries, by their numbers. [`HookOutcome::Done`]
    Settle {
        /// Whose they are.
        hook: HookKey,
        /// By number.
        settled: Vec<(i64, Settling)>,
        /// The receiver wants no more of the hook: all that waits for it goes, and nothing is stored for it any more.
        ends: bool,
    },
    /// Lists states that a hook's receiver was told of, in the byte order of their subjects. [`HookOutcome::States`]
    States {
        /// Whose.
        hook: HookKey,
        /// Only subjects that follow this one.
        after: String,
        /// At most so many.
        limit: u32,
    },
}

impl HookCommand {
    /// Whether it may change the database.
    pub(crate) fn writes(&self) -> bool {
        !matches!(self, HookCommand::States { .. })
    }

    /// The hook that it is about; none where it may be about several, whose order is to be kept, too.
    pub(crate) fn hook(&self) -> &str {
        match self {
            HookCommand::Open(_) | HookCommand::Note(_) => "",
            HookCommand::Take(HookAsk { hook, .. })
            | HookCommand::Settle { hook, .. }
            | HookCommand::States { hook, .. } => hook,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookOutcome {
    /// It is stored.
    Done,
    /// What was due.
    Taken {
        /// In the order of their numbers.
        deliveries: Vec<Delivery>,
        /// If that was asked for.
        look: Option<HookLook>,
        /// The hook has ended, or is not known.
        ended: bool,
    },
    /// Subjects, each with its version.
    States(Vec<(String, u64)>),
}

/// A delivery's id, which looks like no post's.
pub(crate) fn delivery_id(ids: &PostIds, number: i64) -> String {
    format!("msg_{}", ids.text(number))
}

/// The data of a comment's delivery. One that was deleted meanwhile has no text any more.
pub(crate) fn comment_data(video: &str, id: &str, member: &str, text: Option<&str>) -> String {
    json!({"video": video, "id": id, "member": member, "text": text, "deleted": text.is_none()}).to_string()
}

/// The subject of a video's comments: the topic of its viewers.
pub(crate) fn comment_subject(video: &str) -> String {
    Topic::encode("live", video).map_or_else(|_| format!("live:{video}"), |topic| topic.to_string())
}
