//! What shards, and threads that may block, tell a shard.

use std::sync::Arc;
use std::time::Instant;

use crate::db::hooks::Settling;
use crate::db::{Outcome, PostKind, StoreError};
use crate::ground::Reply;
use crate::ground::access::Access;
use crate::ground::authorize::{Grant, Verdict};
use crate::ground::cluster::Life;
use crate::ground::control::News as ControlNews;
use crate::ground::cores::CoreSet;
use crate::ground::frame_page::FramePage;
use crate::ground::hooks::{Failure, Ran};
use crate::ground::listing::ListingAsk;
use crate::ground::live::Live;
use crate::ground::mail::Told;
use crate::ground::posts::{Marking, News};
use crate::ground::prefixes::PrefixNews;
use crate::ground::present::Whereabouts;
use crate::ground::slots::{Conn, TopicIndex};
use crate::kv::Heard;
use crate::kv::memory::pending::Batch;
use crate::queue::crossing::Missed;
use crate::runtime::account::Share;
use crate::runtime::resolver::Found;
use crate::wire::authorize::{Answer, Who};
use crate::wire::frame::Frame;
use crate::wire::hops::Begun;
use crate::wire::position::{Position, Shown};
use crate::wire::snapshot::HotTopic;
use crate::wire::topic::Topic;

/// What was tapped: the topic of a video, and the reaction.
pub type Tapped = (Topic, String);

/// A stream that names a member came to a topic, or left it: the member's hash, and which of the two.
pub type Move = (u64, bool);

/// Which of its wishes for a topic a home means: each that it makes has a higher number than those before it, so that an
/// answer to an old one is not taken for one to the newest.
pub type Wish = u64;

/// A message into a shard's mailbox. Mailboxes have room for the most of them from the beginning, so what is large is in a box.
#[derive(Debug)]
pub enum Message {
    /// To the core that orders a topic's events: pass it on to every core with viewers.
    Sequence(Arc<Frame>),
    /// To a core with viewers: serve them.
    Deliver(Arc<Frame>),
    /// To a topic's home: the first viewer on `core` came, or the last one left.
    Want {
        /// The topic.
        topic: Topic,
        /// The core.
        core: usize,
        /// Whether it wants the topic.
        wanted: bool,
    },
    /// To every core: where a topic's viewers are.
    Announce {
        /// The topic.
        topic: Topic,
        /// The cores that have viewers.
        cores: CoreSet,
    },
    /// From a topic's home to the shard that tells the key-value store of its bucket: whether the node wants it.
    Register {
        /// The topic.
        topic: Topic,
        /// Whether it is wanted.
        wanted: bool,
        /// Which of the home's wishes that is.
        wish: Wish,
    },
    /// Back to the home: the key-value store holds it.
    Registered {
        /// The topic.
        topic: Topic,
        /// Which wish is fulfilled.
        wish: Wish,
    },
    /// To a core that waits for it: the topic is registered.
    Ready {
        /// The topic.
        topic: Topic,
        /// What viewers were given of its history; what follows is delivered.
        end: Option<Shown>,
        /// The newest value of each type and key.
        newest: Vec<Arc<Frame>>,
    },
    /// To a topic's home: what followed a position?
    Replay(Box<ReplayAsk>),
    /// Back to who asked.
    Replayed(Box<Replayed>),
    /// To a topic's home: whoever asked has no use for the answer any more.
    ReplayEnds {
        /// The topic.
        topic: Topic,
        /// Who asked.
        asker: Asker,
    },
    /// To a core with viewers: its full mailbox did not take some of a topic's events.
    Missed {
        /// The topic.
        topic: Topic,
        /// Of what.
        missed: Missed,
        /// The newest values, if some were among that.
        newest: Vec<Arc<Frame>>,
    },
    /// The same to a topic's home.
    Unordered {
        /// The topic.
        topic: Topic,
        /// Of what.
        missed: Missed,
    },
    /// To a core with viewers: what they should have.
    Compare(Vec<Told>),
    /// From the key-value store.
    Kv(Box<Heard>),
    /// To all cores: one compared all its topics since a reason for doubt.
    Settled {
        /// Which.
        core: usize,
        /// The number of that reason.
        reason: u64,
    },
    /// From the shard that sends the heartbeat: what its answer says.
    Alive {
        /// The same to all shards.
        life: Arc<Life>,
        /// Buckets of this shard that the store holds wrong, to be sent in full.
        differing: Vec<u8>,
        /// Somebody came or went.
        changed: bool,
    },
    /// To the shard that sends heartbeats: who lives?
    AskAlive,
    /// Names of hosts became addresses.
    Found(Box<Found>),
    /// To the core that knows what was seen of their sender: frames of another node.
    Frames {
        /// The batch.
        bytes: Box<[u8]>,
        /// The peer that sends it, if it is not a node of this data center.
        peer: Option<usize>,
        /// Where it came in.
        asker: (usize, Conn),
    },
    /// To a topic's home: an event of another data center.
    PeerFrame(Arc<Frame>),
    /// To a video's home: taps for the database.
    Tapped {
        /// Of what.
        tapped: Tapped,
        /// How many.
        taps: u32,
    },
    /// From the database.
    Stored(Box<(Ticket, Result<Outcome, StoreError>)>),
    /// Back to the core where a request came in, for its connection: its answer.
    Reply(Conn, Reply),
    /// To the core that holds a connection: change its topics.
    ChangeTopics(Box<ChangeTopics>),
    /// To the core that holds a connection: renew its rights.
    Renew(Box<Renewal>),
    /// To the node's first shard: how many viewers a core has now.
    Counts {
        /// The core.
        core: usize,
        /// Topics whose viewers changed, with what their members did.
        counts: Vec<(u32, Topic, Vec<Move>)>,
    },
    /// To a conversation's home: somebody types there.
    Typing {
        /// Where the viewers are.
        topic: Topic,
        /// Who.
        member: String,
    },
    /// To a topic's home: who has its viewers?
    Whereabouts {
        /// The topic.
        topic: Topic,
        /// Other data centers' count, too.
        anywhere: bool,
        /// The shard that asks, and the connection whose request it is.
        asker: (usize, Conn),
    },
    /// Back to it.
    WhereaboutsKnown(Conn, Box<Whereabouts>),
    /// To the first shard: what does the operator's server say?
    Ask {
        /// The question.
        text: Arc<str>,
        /// Which shard waits.
        shard: usize,
        /// It is about a stream that is open.
        again: bool,
    },
    /// To the first shard, from who asks: what it said.
    Answered {
        /// The question.
        text: Arc<str>,
        /// The answer.
        answer: Result<Answer, Failure>,
    },
    /// Back to a shard that waits.
    Verdict {
        /// The question.
        text: Arc<str>,
        /// What came of it.
        verdict: Verdict,
    },
    /// An operator asks all shards.
    List(Box<ListingAsk>),
    /// Back to the shard that was asked, for the connection whose request it was: this shard's part.
    Listed(Conn, Vec<(u64, serde_json::Value)>),
    /// From the first shard, while the node is watched: what is this shard's part of the next snapshot?
    AskPart,
    /// Back to it, from this shard.
    Part(usize, Box<Part>),
    /// From it: a snapshot for those who watch by this shard, as an event of a stream.
    Snapshot(Arc<Vec<u8>>),
    /// From the first shard: what is to end or to change on all nodes.
    Control {
        /// What it read.
        news: Arc<Vec<ControlNews>>,
        /// That is all there is.
        known: bool,
    },
    /// Of prefixes of topics.
    Prefix(Box<PrefixNews>),
    /// Settings changed: from now on these hold.
    Live(Arc<Live>),
    /// Between the shard that looks into the outbox and the homes of the topics that it has posts of.
    Outbox(News),
    /// To the first shard: something was stored for hooks.
    HooksDue,
    /// To the first shard, from who sends deliveries of hooks: what became of some.
    HooksSent(Ran),
    /// Stop taking work, end the streams.
    Drain,
}

const _: () = assert!(size_of::<Message>() <= 96);

/// What one shard says for a snapshot of the node, beside its counters.
#[derive(Debug, Default)]
pub struct Part {
    /// Its hottest topics, the hottest first.
    pub topics: Vec<HotTopic>,
    /// Its clients with the most waiting: bytes, and the row of the listing.
    pub clients: Vec<(u64, serde_json::Value)>,
}

/// Who asks for a part of history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Asker {
    /// A stream that came back.
    Stream {
        /// Its shard.
        shard: usize,
        /// The stream.
        conn: Conn,
    },
    /// A core whose viewers of the topic lack events that were too many for a queue.
    Core {
        /// The core.
        shard: usize,
        /// The topic's place there.
        view: TopicIndex,
    },
}

impl Asker {
    /// Where the answer goes.
    pub fn shard(self) -> usize {
        match self {
            Asker::Stream { shard, .. } | Asker::Core { shard, .. } => shard,
        }
    }
}

/// A question for what followed a position.
#[derive(Debug)]
pub struct ReplayAsk {
    /// The topic.
    pub topic: Topic,
    /// The position.
    pub after: Position,
    /// Bytes that the answer may have; one event always may.
    pub bytes: usize,
    /// Who asks.
    pub asker: Asker,
}

/// Its answer: nothing that live viewers were not given. What comes live after it follows it.
#[derive(Debug)]
pub struct Replayed {
    /// The topic.
    pub topic: Topic,
    /// Events.
    pub page: FramePage,
    /// The first of them that was asked for.
    pub from: usize,
    /// Who asked.
    pub asker: Asker,
}

/// A change to the topics of an open stream.
#[derive(Debug)]
pub struct ChangeTopics {
    /// The stream.
    pub conn: Conn,
    /// The unguessable part of its id.
    pub secret: u64,
    /// What the request may do.
    pub access: Access,
    /// Topics to add.
    pub add: Vec<Topic>,
    /// Topics to remove.
    pub remove: Vec<Topic>,
    /// By what it may add them, where a server is asked; none where another Frontend asked it.
    pub grant: Option<Grant>,
    /// Where the request came in.
    pub asker: (usize, Conn),
}

/// New rights for an open stream.
#[derive(Debug)]
pub struct Renewal {
    /// The stream.
    pub conn: Conn,
    /// The unguessable part of its id.
    pub secret: u64,
    /// The new rights.
    pub access: Access,
    /// As whom the operator's server is asked about it, where there is one and this node was asked.
    pub who: Option<Arc<Who>>,
    /// Where the request came in.
    pub asker: (usize, Conn),
}

/// What a command to the database belongs to.
#[derive(Debug)]
pub struct Ticket {
    /// The shard that hears of it: for what viewers are told totals of, the topic's home, so that on this node they are told
    /// in the order of storing.
    pub shard: usize,
    /// The shard that asked.
    pub asker: usize,
    /// The connection whose request it was.
    pub conn: Conn,
    /// When.
    pub asked_at: Instant,
    /// What follows once it is stored.
    pub then: Then,
    /// What is known of the way of an event that follows.
    pub begun: Begun,
    /// What it takes until then; none where the question to the key-value store that waits for it holds that.
    pub held: Option<Share>,
}

/// What follows once a command is stored.
#[derive(Debug)]
pub enum Then {
    /// Tell the viewers of a like.
    Liked {
        /// Where they are.
        topic: Topic,
        /// Who liked.
        member: String,
        /// How.
        reaction: String,
    },
    /// Tell those who wait for changes of history to be kept.
    Kept(Batch),
    /// Tell the viewers that a like was taken back.
    Unliked {
        /// Where they are.
        topic: Topic,
    },
    /// Have them counted with the next where they are not.
    Tapped {
        /// What was tapped.
        tapped: Tapped,
        /// How often.
        taps: u64,
    },
    /// Tell the viewers of this topic the totals of likes.
    Totals(Topic),
    /// Answer only.
    Counts,
    /// Tell the viewers of a comment or message.
    Posted {
        /// Which of the two.
        kind: PostKind,
        /// Where they are.
        topic: Topic,
        /// Who wrote it.
        member: String,
        /// What.
        text: String,
        /// Its author may moderate the topic.
        always: bool,
    },
    /// Tell the viewers that one was deleted.
    Deleted {
        /// What it was.
        kind: PostKind,
        /// Where they are.
        topic: Topic,
        /// Which.
        id: String,
    },
    /// Answer with a list of posts.
    Listed(PostKind),
    /// Tell the viewers how far a member has read.
    Read {
        /// Where they are.
        topic: Topic,
        /// Who read.
        member: String,
    },
    /// Answer with a list of receipts.
    Receipts,
    /// Answer with a video's rules.
    Rules,
    /// Tell the viewers that a video has other rules.
    RulesSet {
        /// Where they are.
        topic: Topic,
    },
    /// Tell the viewers of this topic its rules, which some of them may not know.
    RulesAsked(Topic),
    /// Answer when a time-out ends.
    TimedOut {
        /// Whose it is.
        member: String,
    },
    /// The outbox knows what became of posts.
    Marked(Marking),
    /// Publish what the outbox has.
    Outbox,
    /// Nothing: there is more time for that.
    OutboxHeld,
    /// Hooks are known.
    HooksOpen,
    /// Answer who told of news, or this shard.
    HookNoted(Option<Conn>),
    /// Send deliveries of a hook, by its place.
    HookTaken {
        /// Which.
        hook: usize,
        /// How many were asked for.
        limit: u32,
        /// When: the claim began then or later.
        asked_at: Instant,
    },
    /// The database knows what became of deliveries.
    HookSettled {
        /// Of which hook.
        hook: usize,
        /// What it was told.
        settled: Vec<(i64, Settling)>,
        /// And that the hook ended.
        ends: bool,
    },
    /// Compare states of a hook with what holds.
    HookStates(usize),
}

impl Then {
    /// Whether it is of hooks.
    pub(crate) fn is_of_hooks(&self) -> bool {
        matches!(
            self,
            Then::HooksOpen
                | Then::HookNoted(_)
                | Then::HookTaken { .. }
                | Then::HookSettled { .. }
                | Then::HookStates(_)
        )
    }
}
