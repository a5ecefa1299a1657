//! The flight recorder: the newest notable happenings of each shard, in memory, for when somebody asks what went wrong. What is
//! counted by reason is recorded by the same call; what the node logs is recorded, too. Deliveries are not.

pub mod ring;
pub mod subject;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::Serialize;

use crate::limits::{HAPPENINGS_EACH, HAPPENINGS_KEPT, HAPPENINGS_WINDOW_MS, HAPPENINGS_WRITTEN};
use crate::observe::happenings::ring::{Head, Line, Ring};
use crate::observe::happenings::subject::Subject;
use crate::observe::metrics::{Counter, Counters, MEASURES};
use crate::observe::track;

/// Whether somebody has to look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is as it should be, or heals by itself.
    Info,
    /// Somebody got less than promised, or was refused, or will be if it lasts.
    Warn,
}

impl Level {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warn => "warn",
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident $word:literal $level:ident $(counted by $counter:ident)?;)*) => {
        /// What happened. The word of each stands in `docs/reasons.md`: of what is counted by a reason it is the metric's and
        /// the reason.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum What {
            $($(#[doc = $doc])* $kind,)*
        }

        impl What {
            /// Each of them, by its number.
            pub const ALL: &[What] = &[$(What::$kind,)*];

            /// As it is written.
            pub const fn word(self) -> &'static str {
                match self { $(What::$kind => $word,)* }
            }

            /// Whether somebody has to look at it. What is logged has the level of its line.
            pub const fn level(self) -> Level {
                match self { $(What::$kind => Level::$level,)* }
            }

            /// What counts it, if anything does by itself.
            #[inline]
            fn counter(self, counters: &Counters) -> Option<&Counter> {
                match self { $(What::$kind => kinds!(@ counters $($counter)?),)* }
            }
        }
    };
    (@ $counters:ident) => { { let _ = $counters; None } };
    (@ $counters:ident $counter:ident) => { Some(&$counters.$counter) };
}

kinds! {
    /// Viewers were told that events may be missing.
    Gap "gap" Warn counted by gaps;
    /// A stream came back.
    Resumed "resumed" Info counted by resumed;
    /// An event merged with a newer one.
    Merged "merged" Info counted by merged;
    /// See `docs/reasons.md`, as of all that follow.
    DroppedOverrun "dropped_overrun" Warn counted by dropped_overrun;
    DroppedDisplaced "dropped_displaced" Info counted by dropped_displaced;
    DroppedBacklog "dropped_backlog" Warn counted by dropped_backlog;
    DroppedExpired "dropped_expired" Info counted by dropped_expired;
    DroppedClosed "dropped_closed" Info counted by dropped_closed;
    DroppedBudget "dropped_budget" Warn counted by dropped_budget;
    DroppedUnrouted "dropped_unrouted" Warn counted by dropped_unrouted;
    DroppedForeign "dropped_foreign" Warn counted by dropped_foreign;
    DroppedLink "dropped_link" Warn counted by dropped_link;
    DroppedAbsent "dropped_absent" Info counted by dropped_absent;
    DroppedUnsure "dropped_unsure" Warn counted by dropped_unsure;
    DroppedHandover "dropped_handover" Warn counted by dropped_handover;
    HooksFailedConnect "hooks_failed_connect" Warn counted by hooks_failed_connect;
    HooksFailedTimeout "hooks_failed_timeout" Warn counted by hooks_failed_timeout;
    HooksFailedStatus "hooks_failed_status" Warn counted by hooks_failed_status;
    HooksFailedRedirect "hooks_failed_redirect" Warn counted by hooks_failed_redirect;
    HooksFailedAnswer "hooks_failed_answer" Warn counted by hooks_failed_answer;
    HooksDroppedExpired "hooks_dropped_expired" Warn counted by hooks_dropped_expired;
    HooksDroppedFull "hooks_dropped_full" Warn counted by hooks_dropped_full;
    HooksDroppedEnded "hooks_dropped_ended" Warn counted by hooks_dropped_ended;
    AuthorizeFailedConnect "authorize_failed_connect" Warn counted by authorize_failed_connect;
    AuthorizeFailedTimeout "authorize_failed_timeout" Warn counted by authorize_failed_timeout;
    AuthorizeFailedStatus "authorize_failed_status" Warn counted by authorize_failed_status;
    AuthorizeFailedRedirect "authorize_failed_redirect" Warn counted by authorize_failed_redirect;
    AuthorizeFailedAnswer "authorize_failed_answer" Warn counted by authorize_failed_answer;
    AuthorizeFailedFull "authorize_failed_full" Warn counted by authorize_failed_full;
    AuthorizeFailedPaused "authorize_failed_paused" Warn counted by authorize_failed_paused;
    DisconnectStalled "disconnect_stalled" Info counted by closed_stalled;
    DisconnectBacklog "disconnect_backlog" Info counted by closed_backlog;
    DisconnectDrain "disconnect_drain" Info counted by closed_drain;
    DisconnectToken "disconnect_token" Info counted by closed_token;
    DisconnectDisconnect "disconnect_disconnect" Info counted by closed_disconnected;
    DisconnectBudget "disconnect_budget" Warn counted by closed_budget;
    RefusedAddressConnections "refused_address_connections" Info;
    RefusedAddressConnects "refused_address_connects" Info;
    RefusedConnections "refused_connections" Warn;
    RefusedMemory "refused_memory" Warn;
    RefusedTurns "refused_turns" Warn;
    RefusedPublishes "refused_publishes" Info;
    RefusedDraining "refused_draining" Info;
    /// Something was refused since what it is for holds all the memory that it may.
    MemoryRefused "memory_refused" Warn;
    /// A connection without a request was closed for another.
    Evicted "evicted" Info counted by closed_http_evicted;
    /// A connection was not accepted.
    AcceptError "accept_error" Warn counted by accept_errors;
    /// A handshake of TLS failed, or was none.
    TlsFailed "tls_failed" Info counted by tls_failed;
    TlsPlain "tls_plain" Info counted by tls_plain;
    TlsLate "tls_late" Info counted by tls_late;
    TlsDisplaced "tls_displaced" Warn counted by tls_displaced;
    /// A connection to another node failed.
    LinkFailed "link_failed" Warn counted by link_failures;
    /// Another node answers again.
    LinkBack "link_back" Info;
    /// A question to the key-value store has no answer.
    KvUnanswered "kv_unanswered" Warn;
    /// The database answered with an error, or was not asked since too much waits for it.
    StoreError "store_error" Warn counted by store_errors;
    /// Posts that are stored and were not published at once.
    OutboxLeft "outbox_left" Warn counted by outbox_left;
    /// They were published later.
    OutboxResent "outbox_resent" Info counted by outbox_resent;
    /// A value was given to viewers late.
    LatestHealed "latest_healed" Info counted by latest_healed;
    /// Members were shown late.
    PresenceHealed "presence_healed" Info counted by presence_healed;
    /// The node is not ready any more.
    NotReady "not_ready" Warn;
    /// It is ready.
    Ready "ready" Info;
    /// This machine's clock went another way than time.
    ClockJump "clock_jump" Warn;
    /// This shard ends what it has.
    Drain "drain" Info;
    /// A line of the log: of spans for OpenTelemetry.
    Spans "spans" Info;
    /// Of the database.
    Database "database" Info;
    /// Of the key-value store.
    Kv "kv" Info;
    /// Of keys, certificates and secrets.
    Keys "keys" Info;
    /// Of other nodes and data centers.
    Cluster "cluster" Info;
    /// Of connections and limits, and of the server that is asked who may do what.
    Listener "listener" Info;
    /// Of a shard that is slow.
    Shard "shard" Info;
    /// Of the process: settings, signals, its start and end.
    Process "process" Info;
}

impl What {
    /// What a line of the log is about, by the module that logs it.
    pub fn of_module(module: &str) -> What {
        const PARTS: [(&str, What); 16] = [
            ("observe::otlp", What::Spans),
            ("db", What::Database),
            ("backend", What::Database),
            ("kv", What::Kv),
            ("ground::asking", What::Kv),
            ("auth", What::Keys),
            ("roles::certificates", What::Keys),
            ("ground::admitting", What::Listener),
            ("ground::authorize", What::Listener),
            ("admission", What::Listener),
            ("http", What::Listener),
            ("ground", What::Cluster),
            ("dispatcher", What::Cluster),
            ("runtime::resolver", What::Cluster),
            ("shard", What::Shard),
            ("roles::notify", What::Shard),
        ];
        let path = module.strip_prefix("fanfare::").unwrap_or_default();
        let is_in = |part: &str| path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        PARTS.iter().find(|(part, _)| is_in(part)).map_or(What::Process, |(_, what)| *what)
    }
}

/// How often one kind happened in the window of time in which it happened last, and what was not recorded of that.
#[derive(Debug, Default)]
struct Pace {
    window: AtomicU64,
    recorded: AtomicU64,
    more: AtomicU64,
}

/// What was recorded of one shard. Written by that shard, or by one thread at a time.
#[derive(Debug)]
pub struct Happenings {
    /// By level, so that what is as it should be leaves room for what is not.
    rings: [Ring; 2],
    paces: Box<[Pace]>,
}

impl Default for Happenings {
    fn default() -> Happenings {
        Happenings {
            rings: [Level::Info, Level::Warn].map(|_| Ring::new(HAPPENINGS_KEPT)),
            paces: What::ALL.iter().map(|_| Pace::default()).collect(),
        }
    }
}

impl Happenings {
    /// Records it, unless the same happened too often just now.
    fn record(&self, head: Head, level: Level, line: impl FnOnce() -> Line) {
        let (pace, window) = (&self.paces[usize::from(head.kind)], head.at / HAPPENINGS_WINDOW_MS);
        if pace.window.load(Ordering::Relaxed) != window {
            self.settle(head, level);
            pace.window.store(window, Ordering::Relaxed);
            pace.recorded.store(0, Ordering::Relaxed);
        }
        let recorded = pace.recorded.load(Ordering::Relaxed);
        if recorded >= HAPPENINGS_EACH {
            pace.more.store(pace.more.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            return;
        }
        pace.recorded.store(recorded + 1, Ordering::Relaxed);
        self.rings[level as usize].write(head, &line());
    }

    /// Says how often one kind happened that was not recorded each time.
    fn settle(&self, head: Head, level: Level) {
        let more = self.paces[usize::from(head.kind)].more.swap(0, Ordering::Relaxed);
        if more > 0 {
            self.rings[level as usize].write(
                head,
                &Line::of(format_args!("{more} times more in the {} s before", HAPPENINGS_WINDOW_MS / 1_000)),
            );
        }
    }
}

impl Counters {
    /// Counts what happened and records it, at this shard and by its clock. `times` is what its counter goes up by; where that is
    /// 0 nothing happened.
    #[inline]
    pub fn happened(&self, what: What, times: u64, about: Subject<'_>) {
        if MEASURES && times > 0 {
            if let Some(counter) = what.counter(self) {
                counter.add(times);
            }
            self.record(what, times, &about);
        }
    }

    fn record(&self, what: What, times: u64, about: &Subject<'_>) {
        if track::is_on() {
            track::tell(what.word(), about);
        }
        let head = self.head(what);
        self.happenings.record(head, what.level(), || about.line(times));
    }

    fn head(&self, what: What) -> Head {
        Head { at: self.now_ms.get(), kind: what as u8, shard: self.shard.get() as u16 }
    }

    /// Once a second: says how often what happened too often to be recorded each time did.
    pub fn settle_happenings(&self) {
        let window = self.now_ms.get() / HAPPENINGS_WINDOW_MS;
        for (what, pace) in What::ALL.iter().zip(&self.happenings.paces) {
            if pace.more.load(Ordering::Relaxed) > 0 && pace.window.load(Ordering::Relaxed) != window {
                self.happenings.settle(self.head(*what), what.level());
            }
        }
    }
}

/// What was logged, by whichever thread, and at which shard if it was one's.
static LOGGED: LazyLock<Happenings> = LazyLock::new(Happenings::default);
static LOGGING: Mutex<()> = Mutex::new(());

/// Records a line of the log.
pub(super) fn logged(head: Head, level: Level, line: &Line) {
    let _one = LOGGING.lock().unwrap_or_else(PoisonError::into_inner);
    LOGGED.rings[level as usize].write(head, line);
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Happening {
    /// When, in Unix ms.
    pub at: u64,
    /// At which shard; what no shard in particular logged counts to the first.
    pub shard: u16,
    /// Whether somebody has to look at it.
    pub level: Level,
    /// What.
    pub what: &'static str,
    /// The rest.
    pub detail: String,
}

/// A ring, and the next of its records to be looked at, from the newest back.
struct Back<'a> {
    ring: &'a Ring,
    level: Level,
    next: u64,
    found: Option<(Head, Line)>,
}

impl<'a> Back<'a> {
    fn of(ring: &'a Ring, level: Level) -> Back<'a> {
        let mut back = Back { ring, level, next: ring.written(), found: None };
        back.step();
        back
    }

    fn step(&mut self) {
        self.found = None;
        // What is gone, or being written, is passed over; behind it all the older ones are gone, too.
        let oldest = self.ring.written().saturating_sub(HAPPENINGS_KEPT as u64);
        while self.found.is_none() && self.next > oldest {
            self.next -= 1;
            self.found = self.ring.read(self.next);
        }
    }
}

/// The newest of all shards and of the log, of this level or above, the newest first.
pub fn newest(shards: &[Counters], from: Level, limit: usize) -> Vec<Happening> {
    let all = shards.iter().map(|counters| &counters.happenings).chain([&*LOGGED]);
    let rings = all.flat_map(|happenings| [Level::Info, Level::Warn].into_iter().zip(&happenings.rings));
    let mut backs: Vec<Back<'_>> =
        rings.filter(|(level, _)| *level >= from).map(|(level, ring)| Back::of(ring, level)).collect();
    let mut found = Vec::new();
    while found.len() < limit {
        let newest = backs.iter_mut().max_by_key(|back| back.found.as_ref().map(|(head, _)| head.at));
        let Some(back) = newest else { break };
        let Some((Head { at, kind, shard }, line)) = back.found.take() else { break };
        let what = What::ALL.get(usize::from(kind)).map_or("", |what| what.word());
        found.push(Happening { at, shard, level: back.level, what, detail: line.text().to_owned() });
        back.step();
    }
    found
}

/// The newest ones, for the log: the oldest of them first.
pub fn for_log(shards: &[Counters]) -> Vec<Happening> {
    let mut all = newest(shards, Level::Info, HAPPENINGS_WRITTEN);
    all.reverse();
    all
}

#[cfg(test)]
mod tests;
