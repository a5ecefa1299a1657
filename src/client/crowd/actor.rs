//! Plays the script: makes its acts into requests, and keeps what came of them.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use hdrhistogram::Histogram;
use serde_json::json;

use super::script::{Act, Script};
use super::texts::{self, Run};
use super::viewer::Acknowledged;
use crate::client::REACTIONS;
use crate::client::fleet::measured::latencies;
use crate::client::fleet::poster::{Load, Next, Tag};

/// How long a reader takes for a message, and how long a refused comment waits before it is posted again, in µs.
const READING_US: u64 = 700_000;
const AGAIN_US: u64 = 1_000_000;
/// How often a comment is posted again at most.
const AGAIN_MAX: u32 = 20;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Of the video, and of the conversation, without a trailing slash.
    pub video: String,
    pub conversation: String,
    /// The `Host` header's value, and further headers as whole lines.
    pub authority: String,
    pub headers: String,
}

/// What others may read while the actor plays.
#[derive(Debug, Default)]
pub struct Live {
    pub likes: AtomicU64,
    pub comments: AtomicU64,
    pub messages: AtomicU64,
    pub errors: AtomicU64,
}

/// What is to be posted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Post {
    Act(Act),
    /// A comment that was refused, with the number that it has had before.
    Again {
        act: Act,
        number: u64,
        tries: u32,
    },
    /// Somebody in the chat has read up to here.
    Receipt {
        chatter: u32,
        message: String,
    },
}

/// A request under way.
#[derive(Debug)]
struct Sent {
    post: Post,
    number: u64,
    made_us: u64,
}

/// What came of the script.
#[derive(Debug)]
pub struct Played {
    pub likes: u64,
    pub messages: u64,
    /// Comments that were acknowledged.
    pub comments: Vec<Acknowledged>,
    /// Comments that were given up, or whose answer got lost: nobody knows whether they are stored.
    pub comments_unknown: u64,
    /// Likes whose answer got lost.
    pub likes_unknown: u64,
    /// From a request to its answer, in µs.
    pub answers: Histogram<u64>,
    /// How late the latest act was, in µs.
    pub behind_us_max: u64,
    /// What went wrong, such as `POST likes: 503`, and how often.
    pub errors: BTreeMap<String, u64>,
}

/// Plays a script.
#[derive(Debug)]
pub struct Actor {
    script: Script,
    run: Run,
    paths: Paths,
    chatters: u32,
    /// What waits for its time beside the script.
    later: BinaryHeap<Reverse<(u64, Post)>>,
    under_way: HashMap<u32, Sent>,
    next_tag: u32,
    /// Numbers of the next like, comment and message.
    numbers: [u64; 3],
    live: Arc<Live>,
    pub played: Played,
}

impl Actor {
    /// An actor who begins when the run does.
    pub fn new(script: Script, run: Run, paths: Paths, chatters: u32, live: Arc<Live>) -> Self {
        let played = Played {
            likes: 0,
            messages: 0,
            comments: Vec::new(),
            comments_unknown: 0,
            likes_unknown: 0,
            answers: latencies(),
            behind_us_max: 0,
            errors: BTreeMap::new(),
        };
        Self {
            script,
            run,
            paths,
            chatters,
            later: BinaryHeap::new(),
            under_way: HashMap::new(),
            next_tag: 0,
            numbers: [0; 3],
            live,
            played,
        }
    }

    /// When the next post is due, and whether it is the script's; in µs since the epoch.
    fn due(&self) -> Option<(u64, bool)> {
        let script = self.script.due_us().map(|at_us| (self.run.start_us + at_us, true));
        let later = self.later.peek().map(|Reverse((at_us, _))| (*at_us, false));
        script.into_iter().chain(later).min()
    }

    /// Whether nothing will be posted any more.
    pub fn is_done(&self) -> bool {
        self.due().is_none() && self.under_way.is_empty()
    }

    fn number(&mut self, kind: usize) -> u64 {
        self.numbers[kind] += 1;
        self.numbers[kind] - 1
    }

    /// The path and body of a post, and its number among its kind.
    fn request(&mut self, post: &Post, now_us: u64) -> (String, String, u64) {
        let (video, conversation) = (self.paths.video.clone(), self.paths.conversation.clone());
        match post {
            Post::Act(Act::Like { dice }) => {
                let number = self.number(0);
                let reaction = REACTIONS[*dice as usize % REACTIONS.len()];
                let body = json!({"member": self.run.liker(number, now_us), "reaction": reaction});
                (format!("{video}/likes"), body.to_string(), number)
            }
            Post::Act(act @ Act::Comment { member, dice, .. })
            | Post::Again { act: act @ Act::Comment { member, dice, .. }, .. } => {
                let number = if let Post::Again { number, .. } = post { *number } else { self.number(1) };
                let text = self.run.text(act.mood(), *dice, number, now_us);
                let body = json!({"member": texts::member(*member), "text": text});
                (format!("{video}/comments"), body.to_string(), number)
            }
            Post::Act(act @ Act::Message { chatter, dice }) => {
                let number = self.number(2);
                let text = self.run.text(act.mood(), *dice, number, now_us);
                let body = json!({"member": texts::member(*chatter), "text": text});
                (format!("{conversation}/messages"), body.to_string(), number)
            }
            Post::Act(Act::Typing { chatter }) => {
                (format!("{conversation}/typing"), json!({"member": texts::member(*chatter)}).to_string(), 0)
            }
            Post::Receipt { chatter, message } => {
                let body = json!({"member": texts::member(*chatter), "message": message});
                (format!("{conversation}/receipts"), body.to_string(), 0)
            }
            Post::Again { .. } => unreachable!("only comments are posted again"),
        }
    }

    fn note(&mut self, post: &Post, what: &str) {
        let path = match post {
            Post::Act(Act::Like { .. }) => "likes",
            Post::Act(Act::Comment { .. }) | Post::Again { .. } => "comments",
            Post::Act(Act::Message { .. }) => "messages",
            Post::Act(Act::Typing { .. }) => "typing",
            Post::Receipt { .. } => "receipts",
        };
        *self.played.errors.entry(format!("POST {path}: {what}")).or_default() += 1;
        self.live.errors.fetch_add(1, Relaxed);
    }

    fn accepted(&mut self, sent: Sent, body: &[u8], now_us: u64) {
        match sent.post {
            Post::Act(Act::Like { .. }) => {
                self.played.likes += 1;
                self.live.likes.fetch_add(1, Relaxed);
            }
            Post::Act(Act::Comment { .. }) | Post::Again { .. } => {
                self.played.comments.push(Acknowledged { number: sent.number, posted_us: sent.made_us });
                self.live.comments.fetch_add(1, Relaxed);
            }
            Post::Act(Act::Message { chatter, .. }) => {
                self.played.messages += 1;
                self.live.messages.fetch_add(1, Relaxed);
                let answer: Option<serde_json::Value> = serde_json::from_slice(body).ok();
                let id = answer.as_ref().and_then(|answer| answer["id"].as_str());
                if let (Some(id), true) = (id, self.chatters > 1) {
                    let reader = (chatter + 1 + sent.number as u32 % (self.chatters - 1)) % self.chatters;
                    let receipt = Post::Receipt { chatter: reader, message: id.to_owned() };
                    self.later.push(Reverse((now_us + READING_US, receipt)));
                }
            }
            Post::Act(Act::Typing { .. }) | Post::Receipt { .. } => {}
        }
    }
}

impl Load for Actor {
    fn next(&mut self, _connection: usize, now_us: u64, out: &mut Vec<u8>) -> Next {
        let Some((due_us, scripted)) = self.due() else {
            // An answer may still bring something to do.
            return if self.under_way.is_empty() { Next::Done } else { Next::Wait(now_us + 10_000) };
        };
        if due_us > now_us {
            return Next::Wait(due_us);
        }
        let post =
            if scripted { self.script.take().map(Post::Act) } else { self.later.pop().map(|Reverse((_, post))| post) };
        let post = post.expect("one is due");
        let (path, body, number) = self.request(&post, now_us);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.paths.authority,
            self.paths.headers,
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(body.as_bytes());
        self.played.behind_us_max = self.played.behind_us_max.max(now_us - due_us);
        self.next_tag = self.next_tag.wrapping_add(1);
        self.under_way.insert(self.next_tag, Sent { post, number, made_us: now_us });
        Next::Request(Tag { due_us: now_us, events: self.next_tag })
    }

    fn answered(&mut self, tag: Tag, status: u16, body: &[u8], now_us: u64) {
        let Some(sent) = self.under_way.remove(&tag.events) else { return };
        self.played.answers.saturating_record(now_us.saturating_sub(sent.made_us));
        if (200..300).contains(&status) {
            return self.accepted(sent, body, now_us);
        }
        let said = crate::client::http::problem_detail(&String::from_utf8_lossy(body));
        self.note(&sent.post, &format!("{status}: {said}"));
        let (act, tries) = match sent.post {
            Post::Act(act @ Act::Comment { .. }) => (act, 0),
            Post::Again { act, tries, .. } => (act, tries),
            _ => return,
        };
        // A refused comment is not stored, so it may be posted again; its number must not stay out.
        if matches!(status, 429 | 503) && tries < AGAIN_MAX {
            let again = Post::Again { act, number: sent.number, tries: tries + 1 };
            self.later.push(Reverse((now_us + AGAIN_US, again)));
        } else {
            self.played.comments_unknown += 1;
        }
    }

    fn unanswered(&mut self, tag: Tag, why: &str) {
        let Some(sent) = self.under_way.remove(&tag.events) else {
            *self.played.errors.entry(format!("POST: {why}")).or_default() += 1;
            return;
        };
        match sent.post {
            Post::Act(Act::Comment { .. }) | Post::Again { .. } => self.played.comments_unknown += 1,
            Post::Act(Act::Like { .. }) => self.played.likes_unknown += 1,
            _ => {}
        }
        self.note(&sent.post, why);
    }
}
