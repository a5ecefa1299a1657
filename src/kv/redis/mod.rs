//! The key-value store on Redis or Valkey: one server, a Cluster, or a master that Sentinels watch.
//!
//! A thread of its own holds the connections; shards hand it questions and hear the answers in their mailboxes. To each
//! master there are three connections, each of them pipelined: one for look-ups, whose reads the server tracks, so that it
//! says when one changes, and which hears of viewer counts; one for everything else; and one that waits for replicas, so that nothing else has to. The client
//! library speaks the protocol. Which master has what is kept track of here, since tracking, waiting for replicas and
//! knowing which server answered are matters of single connections.
//!
//! # Keys
//! All begin with `fanfare:{DC:BUCKET}:`, or with `fanfare:{DC:nodes}:` for what belongs to no bucket.
//!
//! | key | type | what it holds |
//! |---|---|---|
//! | `…nodes}:leases` | sorted set | nodes, by the end of their lease in Unix ms of Redis' clock |
//! | `…nodes}:infos` | hash | what each node says of itself, as JSON |
//! | `…nodes}:born` | string | since when leases can be believed, and the run id of who set it |
//! | `…nodes}:sweeper` | string | the lock of who sweeps; expires |
//! | `…}:s:TOPIC` | set | the nodes that want a topic, as signed numbers, which small sets keep in 8 bytes each |
//! | `…}:w:NODE` | set | the topics of the bucket that a node wants |
//! | `…}:digests` | hash | for each node its last batch number and the digest of what it wants, in two halves |
//! | `…}:h:TOPIC` | stream | history: `e` the event, `p` the place of the one before; expires with its newest event |
//! | `…}:l:TOPIC`, `…}:v:TOPIC` | hash, sorted set | newest values, and their versions; expire |
//! | `…}:values`, `…}:values:bytes` | sorted set, hash | topics with newest values by when they are looked at next; the bytes that each takes, and all do |
//! | `…}:since` | string | since when the bucket lost nothing, and the run id of who set it |
//! | `…nodes}:counted` | hash | the number of each Frontend's last change of its viewer counts |
//! | `…nodes}:c:NODE` | hash | a Frontend's viewers, by topic, as [`Crowd`](crate::kv::crowd::Crowd) writes them |
//! | `…nodes}:c:NODE:NUMBER` | hash | where a change that lists very many is gathered; expires |
//! | `…}:members` | hash | what is known of members: online or not, since when or last seen, version |
//! | `…}:online`, `…}:offline` | sorted set | members who are online, by when that ends; who are not, by when they were last seen |
//! | `…}:unsettled` | sorted set | members whose last turn was not settled, by when it was given |
//! | `…}:elsewhere`, `…}:elsewhere:offline` | hash, sorted set | the same of peers' members: for each peer its name and what it says; who is online at none, by when they were last seen |
//! | `…}:q:PEER` | stream | what waits for a peer: `e` the event, `b` the bytes that were queued before it; expires |
//! | `…}:q:PEER:state` | hash | `epoch`; `total` bytes ever queued, and a `floor` of those that do not wait any more; events `lost` since that was asked; when it `ends`, with the queue |
//! | `…}:t:PEER` | string | how far a peer's queue of the bucket was taken: its epoch, and a number; expires |
//! | `…nodes}:peers` | hash | what is known of peers: heard when, clock, since when, what they lack |
//! | `…nodes}:p:PEER` | hash | a peer's viewers, by topic; expires |
//! | `…}:barrier` | string | written before waiting for a replica; expires |
//!
//! # Viewer counts
//! Every change is published on a channel by the script that makes it, so that all dispatchers hear it in order. The channel
//! is heard on the connection for look-ups to the master of `…nodes}`; where that connection breaks, or that master changes,
//! all is invalid once the next one hears, and is read again. A change of very many topics goes in parts, and who hears of it
//! reads it. What is read may be newer than the number that was read before it: changes say how many there are, not how many
//! more, so the later ones, which are heard too, mend it.
//!
//! All counts of a data center are in one slot, since one channel then orders them and one connection hears them. Each
//! Frontend changes its own at most once a second, and only topics whose viewers changed, with up to 14 KB of members each; this becomes too much for one server
//! at some hundred thousand changed topics a second over all Frontends.
//!
//! # Presence
//! A bucket has one hash for all its members rather than a hash or a string for each: a key of its own with an expiry costs
//! some 100 bytes more than a field, and a batch of signs would touch one key a member. Members who are offline stand in a
//! sorted set by when they were last seen, from which the looks at what is due forget the oldest.
//!
//! # Other data centers
//! An event waits for peers in streams of its topic's bucket, so that it is queued by the script that puts it into history:
//! a queue is on the master that has these histories, and there are as many as a data center has buckets and peers. Whoever
//! asks reads the oldest and says how far the peer has them; there is no consumer group, since the peer tells repeats by
//! their numbers, and so it does not matter who asks, or how many do. That the first event waits is said on the channel of
//! viewer counts, where every dispatcher hears it, from whichever master; a look now and then finds what was not heard.
//!
//! A queue's numbers are the server's time, or just above the last one. After another server took over, they do not grow if
//! its clock is behind by more than that took; the same holds of positions in history.
//!
//! # What was lost
//! A server's run id is new at every start and differs between servers. Each script that touches history compares it with
//! that in the bucket's `since`, and sets that anew where it differs: when the store was empty, when the server restarted
//! (what it had not yet written to disk is gone), and when another one took over (what had not reached it is gone). The
//! check is part of the script, so nothing can be appended or read in between.
//!
//! Where a master has replicas that are online, an append is answered only after one of them confirmed it. If none does in
//! time, the answer is an error, though the event may be in history: so for a second or two after its last replica went.

pub mod address;
pub mod channel;
pub mod counts;
pub mod eviction;
pub mod gates;
pub mod history;
pub mod keys;
pub mod link;
pub mod lookups;
pub mod master;
pub mod peers;
pub mod presence;
pub mod replies;
pub mod scripts;
pub mod store;
pub mod subscriptions;
pub mod sweep;
pub mod topics;
pub mod topology;
pub mod values;
pub mod withdrawal;
pub mod worker;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

pub use crate::kv::redis::address::{Address, BadAddress, REMEDY};
use crate::kv::redis::keys::Keys;
use crate::kv::redis::link::Dialer;
use crate::kv::redis::store::Store;
use crate::kv::redis::topology::Topology;
use crate::kv::redis::worker::{Question, Worker};
use crate::kv::{Answer, KeyValue, Notice, Request, Tell, Unavailable};
use crate::limits::{PRESENCE_AGE, PRESENCE_GUARD, PRESENCE_RESEND, REDIS_QUESTIONS, REDIS_START};
use crate::runtime::trouble::Reason;

/// What a store is to do.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data center, whose keys these are.
    pub dc: String,
    /// The longest time for which any event type is kept in history, in ms.
    pub history_age_ms: u64,
    /// Whether to take part in sweeping what dead nodes wanted, as dispatchers do.
    pub sweeps: bool,
    /// How many shards hear notices.
    pub shards: usize,
    /// What presence goes by.
    pub presence: PresenceTimes,
}

/// The times that presence goes by, in ms. All dispatchers of a data center must have the same.
#[derive(Debug, Clone, Copy)]
pub struct PresenceTimes {
    /// [`PRESENCE_GUARD`]
    pub guard_ms: u64,
    /// [`PRESENCE_RESEND`]
    pub resend_ms: u64,
    /// [`PRESENCE_AGE`]
    pub age_ms: u64,
}

impl Default for PresenceTimes {
    fn default() -> PresenceTimes {
        PresenceTimes {
            guard_ms: PRESENCE_GUARD.as_millis() as u64,
            resend_ms: PRESENCE_RESEND.as_millis() as u64,
            age_ms: PRESENCE_AGE.as_millis() as u64,
        }
    }
}

/// Why a store cannot be used at all. One that is merely away is no reason: [`KeyValue::trouble`] says so.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The URL, or a file that it names.
    #[error("{0}")]
    Address(String),
    /// The thread or its reactor.
    #[error("the thread of the key-value store: {0}")]
    Thread(#[from] std::io::Error),
}

/// A store on Redis. When it is dropped, its thread ends.
#[derive(Debug)]
pub struct RedisKv {
    questions: mpsc::UnboundedSender<Question>,
    /// Questions that are not answered yet: the bound of what is under way.
    open: Arc<AtomicUsize>,
    trouble: Arc<Mutex<Option<Reason>>>,
}

/// Starts the thread of a store. Waits a moment for the first connection, so that a node's first questions find one.
///
/// # Errors
/// An address that cannot be meant, a file of certificates that cannot be read, or no thread to be had.
pub fn start(url: &str, config: Config, tell: Tell) -> Result<RedisKv, StartError> {
    let address = Address::parse(url).map_err(|error| StartError::Address(error.to_string()))?;
    let dialer = Dialer::new(&address).map_err(StartError::Address)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (questions, asked) = mpsc::unbounded_channel();
    let open = Arc::new(AtomicUsize::new(0));
    let trouble = Arc::new(Mutex::new(Some(Reason::new(topology::AWAY, "connecting".to_owned()))));
    let (settled, settling) = blocking::sync_channel(1);
    let parts = (Arc::clone(&open), Arc::clone(&trouble));
    std::thread::Builder::new().name("redis".to_owned()).spawn(move || {
        let (open, trouble) = parts;
        LocalSet::new().block_on(&runtime, async move {
            let (pushes, pushed) = link::pushes();
            let keys = Rc::new(Keys::new(&config.dc, address.database));
            // The topology is made before who hears of losses.
            let hears: Rc<RefCell<Option<Rc<Worker>>>> = Rc::default();
            let heard = Rc::clone(&hears);
            let lost = move || {
                if let Some(worker) = &*heard.borrow() {
                    worker.notify(Notice::InvalidatedAll);
                }
            };
            // Full once who waits was told, or does not wait any more.
            let settled = move || {
                let _ = settled.try_send(());
            };
            let topology =
                Topology::new(address, dialer, Rc::clone(&keys), pushes, trouble, Box::new(settled), Box::new(lost));
            let shards = config.shards;
            let sweeps = config.sweeps;
            let store = Rc::new(Store {
                keys,
                topology: Rc::clone(&topology),
                config,
                lookups: RefCell::default(),
                known: RefCell::default(),
                born: Cell::new(None),
                losses: RefCell::default(),
            });
            let worker = Worker::new(Rc::clone(&store), tell, shards, open);
            *hears.borrow_mut() = Some(Rc::clone(&worker));
            tokio::task::spawn_local(topology.run());
            tokio::task::spawn_local(Rc::clone(&worker).pass_on(pushed));
            if sweeps {
                tokio::task::spawn_local(sweep::run(store));
            }
            worker.run(asked).await;
        });
    })?;
    // If it takes longer, the node starts all the same.
    let _ = settling.recv_timeout(REDIS_START);
    Ok(RedisKv { questions, open, trouble })
}

impl KeyValue for RedisKv {
    fn submit(
        &self,
        shard: usize,
        ticket: u64,
        request: Request,
        _notices: &mut Vec<Notice>,
    ) -> Option<Result<Answer, Unavailable>> {
        if self.open.fetch_add(1, Ordering::AcqRel) >= REDIS_QUESTIONS {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Some(Err(Unavailable(format!("{REDIS_QUESTIONS} questions are under way"))));
        }
        let question = Question { shard, ticket, request, asked: Instant::now() };
        if self.questions.send(question).is_err() {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Some(Err(Unavailable("its thread has ended".to_owned())));
        }
        None
    }

    fn trouble(&self) -> Option<Reason> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
