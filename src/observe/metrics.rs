//! Counters: one set a shard, on cache lines of its own, written by that shard only.

use std::sync::atomic::{AtomicU64, Ordering};

use super::happenings::subject::Subject;
use super::happenings::{Happenings, What};
use super::histogram::Histogram;
use crate::admission::Refusal;
use crate::kv::KEPT;
use crate::queue::Pushed;
use crate::runtime::account::ByUse;
use crate::wire::event::{ByClass, Class};
use crate::wire::hops::Checkpoint;

/// Whether anything is counted and timed. Only a build for `scripts/bench-measuring` does without, to see what it costs.
pub const MEASURES: bool = !cfg!(feature = "unmeasured");

/// A number that one shard writes and anyone reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. A plain load and store, since only one thread writes.
    #[inline]
    pub fn add(&self, amount: u64) {
        if MEASURES {
            self.set(self.get().wrapping_add(amount));
        }
    }

    /// Sets it, for what goes up and down.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One number of the exposition.
pub(super) struct Metric {
    /// The family's name, with `_total` for a counter.
    pub name: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Labels beside `shard`, as `name="value"`; or empty.
    pub labels: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Reads it.
    pub value: fn(&Counters) -> u64,
}

macro_rules! metrics {
    ($($kind:ident $field:ident $name:literal $labels:literal $help:literal;)*) => {
        /// The numbers of one shard.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counters {
            $(#[doc = $help] pub $field: Counter,)*
            /// Events taken from publishers, by class.
            pub events_in: [Counter; Class::ALL.len()],
            /// Its number on this node.
            pub shard: Counter,
            /// Its time, in Unix ms, as of its present turn.
            pub now_ms: Counter,
            /// When the last sampled event passed a checkpoint here, in Unix microseconds.
            pub noted_us: Counter,
            /// What happened at it.
            pub happenings: Happenings,
            /// Ticks of its clock: it stands still while the shard does not turn.
            pub ticks: Counter,
            /// The longest time in the last minute that it went without turning, in microseconds.
            pub turn_max_us: Counter,
            /// How long the oldest question to the key-value store has waited, in microseconds.
            pub kv_wait_us: Counter,
            /// How long commands have waited for the database without any answer, in microseconds, on the first shard.
            pub store_wait_us: Counter,
            /// How far this node's clock is at least from the middle of those that it hears, in microseconds, on the first shard.
            pub clock_off_us: Counter,
            /// Events handed to the kernel for viewers, by class.
            pub deliveries: [Counter; Class::ALL.len()],
            /// Bytes held on behalf of others, by use.
            pub held: ByUse<Counter>,
            /// Bytes that an embedded key-value store keeps, on the first shard for the whole node.
            pub kept: [Counter; KEPT.len()],
            /// What found no room there.
            pub held_refused: ByUse<Counter>,
            /// Connections, streams and events that were not let in, by reason.
            pub refused: [Counter; Refusal::ALL.len()],
            /// From an event's `at` to its write to a viewer's socket, by class: a sample.
            pub delivery: [Histogram; Class::ALL.len()],
            /// From the checkpoint before to each, by class, of sampled events.
            pub hops: [[Histogram<true>; Class::ALL.len()]; Checkpoint::ALL.len()],
            /// How wrong each of those may be, where the two are of two clocks.
            pub hop_errors: [Histogram<true>; Checkpoint::ALL.len()],
            /// Those that may be as wrong as they are long.
            pub hops_unsure: Counter,
            /// From an event's `at` to its receipt, as clients report it.
            pub received: Histogram,
            /// From a question to the key-value store to its answer, where that is not at hand at once.
            pub kv_answer: Histogram,
            /// From a command to the database to its answer.
            pub store_answer: Histogram,
        }

        /// Every metric's name, kind, labels and help, in the order of the exposition.
        pub(super) const METRICS: &[Metric] = &[
            $(Metric {
                name: $name,
                kind: stringify!($kind),
                labels: $labels,
                help: $help,
                value: |counters| counters.$field.get(),
            },)*
        ];
    };
}

metrics! {
    gauge connections "fanfare_connections" r#"kind="stream""# "Open connections.";
    gauge http_connections "fanfare_connections" r#"kind="http""# "Open connections.";
    gauge lagging "fanfare_connections" r#"kind="lagging""# "Open connections.";
    gauge topics "fanfare_topics" "" "Topics with viewers, a shard each.";
    gauge subscriptions "fanfare_subscriptions" "" "Subscriptions of open streams.";
    counter accepted "fanfare_accepted_total" "" "Connections accepted.";
    counter accept_errors "fanfare_accept_errors_total" "" "Accepts that failed, such as for want of open files.";
    counter requests "fanfare_requests_total" "" "Requests answered, streams included.";
    counter rejected "fanfare_rejected_total" "" "Requests answered with a 4xx or 5xx status.";
    counter unwanted "fanfare_events_unwanted_total" "" "Events of topics that no node has viewers of.";
    counter delivered_bytes "fanfare_delivered_bytes_total" "" "Bytes handed to the kernel for viewers.";
    counter writes "fanfare_writes_total" "" "System calls that wrote to viewers.";
    counter replayed "fanfare_replayed_total" "" "Events written to streams from history.";
    counter resumed "fanfare_resumed_total" "" "Streams that came back with a Last-Event-ID.";
    counter replays_from_memory "fanfare_replays_from_memory_total" "" "Questions for what a stream missed that the ring of recent events answered.";
    counter history_reads "fanfare_history_reads_total" "" "Look-ups in history.";
    counter gaps "fanfare_gaps_total" "" "Gaps that viewers were told of: one for a stream that came back, or for all who watch a topic.";
    counter merged "fanfare_merged_total" "" "Events that merged with a newer one for a reader that lags.";
    counter left_out "fanfare_left_out_total" "" "Events of class every that their type's pace left out: only streams get them that ask for all.";
    counter windowed "fanfare_windowed_total" "" "Events of class sum that waited for their window's end and went with others.";
    counter dropped_overrun "fanfare_dropped_total" r#"reason="overrun""# "Events dropped.";
    counter dropped_displaced "fanfare_dropped_total" r#"reason="displaced""# "Events dropped.";
    counter dropped_backlog "fanfare_dropped_total" r#"reason="backlog""# "Events dropped.";
    counter dropped_expired "fanfare_dropped_total" r#"reason="expired""# "Events dropped.";
    counter dropped_closed "fanfare_dropped_total" r#"reason="closed""# "Events dropped.";
    counter dropped_budget "fanfare_dropped_total" r#"reason="budget""# "Events dropped.";
    counter dropped_unrouted "fanfare_dropped_total" r#"reason="unrouted""# "Events dropped.";
    counter dropped_foreign "fanfare_dropped_total" r#"reason="foreign""# "Events dropped.";
    counter dropped_link "fanfare_dropped_total" r#"reason="link""# "Events dropped.";
    counter dropped_absent "fanfare_dropped_total" r#"reason="absent""# "Events dropped.";
    counter dropped_unsure "fanfare_dropped_total" r#"reason="unsure""# "Events dropped.";
    counter dropped_handover "fanfare_dropped_total" r#"reason="handover""# "Events dropped.";
    counter closed_client "fanfare_disconnects_total" r#"reason="client""# "Streams ended.";
    counter closed_stalled "fanfare_disconnects_total" r#"reason="stalled""# "Streams ended.";
    counter closed_backlog "fanfare_disconnects_total" r#"reason="backlog""# "Streams ended.";
    counter closed_drain "fanfare_disconnects_total" r#"reason="drain""# "Streams ended.";
    counter closed_token "fanfare_disconnects_total" r#"reason="token""# "Streams ended.";
    counter closed_disconnected "fanfare_disconnects_total" r#"reason="disconnect""# "Streams ended.";
    counter closed_polled "fanfare_disconnects_total" r#"reason="polled""# "Streams ended.";
    counter closed_budget "fanfare_disconnects_total" r#"reason="budget""# "Streams ended.";
    counter closed_http_evicted "fanfare_evicted_total" "" "Connections without a request that were closed for others, since the node was full.";
    gauge tls_handshaking "fanfare_tls_handshaking" "" "Connections by TLS whose handshake is not done.";
    counter tls_full "fanfare_tls_handshakes_total" r#"result="full""# "Handshakes of TLS, by what came of them.";
    counter tls_resumed "fanfare_tls_handshakes_total" r#"result="resumed""# "Handshakes of TLS, by what came of them.";
    counter tls_failed "fanfare_tls_handshakes_total" r#"result="failed""# "Handshakes of TLS, by what came of them.";
    counter tls_plain "fanfare_tls_handshakes_total" r#"result="plain""# "Handshakes of TLS, by what came of them.";
    counter tls_late "fanfare_tls_handshakes_total" r#"result="late""# "Handshakes of TLS, by what came of them.";
    counter tls_displaced "fanfare_tls_handshakes_total" r#"result="displaced""# "Handshakes of TLS, by what came of them.";
    counter timeouts "fanfare_timeouts_total" "" "Requests that took too long to arrive, and idle connections closed.";
    counter lookups "fanfare_kv_lookups_total" "" "Look-ups in the key-value store.";
    counter crossings "fanfare_mesh_messages_total" "" "Messages sent to another core.";
    gauge backlog_bytes "fanfare_backlog_bytes" "" "Bytes that wait for streams that lag.";
    counter samples_ignored "fanfare_received_ignored_total" "" "Receive times reported by clients that cannot be right.";
    counter tokens_verified "fanfare_tokens_verified_total" "" "Tokens whose signature was checked, and not remembered from before.";
    gauge revocations "fanfare_revocations" "" "Revocations that are kept, on the first shard.";
    gauge mesh_waiting "fanfare_mesh_waiting" "" "Messages and events that wait for a full mailbox of another core.";
    counter frames_sent "fanfare_frames_sent_total" "" "Frames sent to other nodes, however often.";
    counter frames_received "fanfare_frames_received_total" "" "Frames taken from other nodes.";
    counter frames_repeated "fanfare_frames_repeated_total" "" "Frames of other nodes that were here already.";
    gauge outbox_frames "fanfare_frames_waiting" "" "Frames that other nodes have not acknowledged.";
    counter link_failures "fanfare_link_failures_total" "" "Connections to other nodes that failed.";
    counter likes_stored "fanfare_likes_stored_total" "" "Likes stored and taken back.";
    counter taps "fanfare_taps_total" "" "Taps taken.";
    counter presence_beats "fanfare_presence_beats_total" "" "Signs of life of members given to the key-value store.";
    counter presence_turns "fanfare_presence_turns_total" "" "Members that came online or went offline, as told by this node.";
    counter latest_healed "fanfare_latest_healed_total" "" "Values of class `latest` that viewers on this node got from the key-value store, since they were lost or late on their way.";
    counter presence_healed "fanfare_presence_healed_total" "" "Members of whom viewers on this node were told what had been lost on its way.";
    counter outbox_left "fanfare_outbox_left_total" "" "Comments, messages and deletions that this node stored and could not publish at once.";
    counter outbox_resent "fanfare_outbox_resent_total" "" "Those published later, those of nodes that died among them.";
    counter hooks_sent "fanfare_hooks_sent_total" "" "Deliveries that receivers of hooks took.";
    counter hooks_failed_connect "fanfare_hooks_failed_total" r#"reason="connect""# "Tries to deliver to receivers of hooks that failed.";
    counter hooks_failed_timeout "fanfare_hooks_failed_total" r#"reason="timeout""# "Tries to deliver to receivers of hooks that failed.";
    counter hooks_failed_status "fanfare_hooks_failed_total" r#"reason="status""# "Tries to deliver to receivers of hooks that failed.";
    counter hooks_failed_redirect "fanfare_hooks_failed_total" r#"reason="redirect""# "Tries to deliver to receivers of hooks that failed.";
    counter hooks_failed_answer "fanfare_hooks_failed_total" r#"reason="answer""# "Tries to deliver to receivers of hooks that failed.";
    counter hooks_dropped_expired "fanfare_hooks_dropped_total" r#"reason="expired""# "Deliveries of hooks given up.";
    counter hooks_dropped_full "fanfare_hooks_dropped_total" r#"reason="full""# "Deliveries of hooks given up.";
    counter hooks_dropped_ended "fanfare_hooks_dropped_total" r#"reason="ended""# "Deliveries of hooks given up.";
    gauge hooks_waiting "fanfare_hooks_waiting" "" "Deliveries that wait for receivers of hooks, as each backend counts them on its first shard.";
    gauge hooks_oldest "fanfare_hooks_oldest_seconds" "" "How long the oldest of them has waited.";
    counter authorize_allowed "fanfare_authorize_answers_total" r#"result="allowed""# "Answers of the server that is asked who may do what.";
    counter authorize_refused "fanfare_authorize_answers_total" r#"result="refused""# "Answers of the server that is asked who may do what.";
    counter authorize_kept "fanfare_authorize_kept_total" "" "Times that an answer of it that was kept was good for another request.";
    counter authorize_failed_connect "fanfare_authorize_failed_total" r#"reason="connect""# "Questions to it that got no answer.";
    counter authorize_failed_timeout "fanfare_authorize_failed_total" r#"reason="timeout""# "Questions to it that got no answer.";
    counter authorize_failed_status "fanfare_authorize_failed_total" r#"reason="status""# "Questions to it that got no answer.";
    counter authorize_failed_redirect "fanfare_authorize_failed_total" r#"reason="redirect""# "Questions to it that got no answer.";
    counter authorize_failed_answer "fanfare_authorize_failed_total" r#"reason="answer""# "Questions to it that got no answer.";
    counter authorize_failed_full "fanfare_authorize_failed_total" r#"reason="full""# "Questions to it that got no answer.";
    counter authorize_failed_paused "fanfare_authorize_failed_total" r#"reason="paused""# "Questions to it that got no answer.";
    gauge authorize_waiting "fanfare_authorize_waiting" "" "Questions that wait for its answer, on the first shard.";
    gauge authorize_away "fanfare_authorize_away" "" "1 while it is taken to be away, on the first shard.";
    gauge ready "fanfare_ready" "" "1 while the node is ready, as /health/ready says; 0 in a drain.";
    gauge kv_available "fanfare_kv_available" "" "1 while the key-value store, or a dispatcher in its place, answers.";
    gauge store_available "fanfare_store_available" "" "1 while the database works, and where there is none.";
    gauge disk_free "fanfare_store_disk_free_bytes" "" "Bytes that may still be written to the disk of an embedded database, on the first shard.";
    gauge disk_bytes "fanfare_store_disk_bytes" "" "Bytes of that disk.";
    counter store_errors "fanfare_store_errors_total" "" "Answers of the database that were errors, or a full queue.";
}

impl Counters {
    /// Counts events handed to the kernel.
    #[inline]
    pub fn count_delivered(&self, classes: ByClass) {
        for (counter, count) in self.deliveries.iter().zip(classes) {
            if count > 0 {
                counter.add(u64::from(count));
            }
        }
    }

    /// Counts what became of a frame in a queue that merges.
    #[inline]
    pub fn count_pushed(&self, pushed: Pushed, about: Subject<'_>) {
        match pushed {
            Pushed::Queued => {}
            Pushed::Merged => self.happened(What::Merged, 1, about),
            Pushed::Overrun => self.happened(What::DroppedOverrun, 1, about),
            Pushed::Dropped => self.happened(What::DroppedBacklog, 1, about),
            Pushed::Displaced(events) => self.happened(What::DroppedDisplaced, events, about),
        }
    }
}
