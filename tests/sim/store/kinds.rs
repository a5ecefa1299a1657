//! What is asked of stores. A batch of seeds asks each: a question that nobody asks any more is one that somebody forgot.

use fanfare::kv::Request;

macro_rules! kinds {
    ($($variant:ident = $name:literal,)*) => {
        /// All kinds of questions, as a batch counts them.
        pub const ALL: &[&str] = &[$($name),*];

        pub fn of(request: &Request) -> &'static str {
            match request {
                $(Request::$variant { .. } => $name,)*
            }
        }
    };
}

kinds! {
    Subscribers = "asked subscribers",
    Apply = "asked apply",
    Heartbeat = "asked heartbeat",
    Leave = "asked leave",
    Append = "asked append",
    AppendOnce = "asked append_once",
    Claim = "asked claim",
    Release = "asked release",
    Read = "asked read",
    Ends = "asked ends",
    Topics = "asked topics",
    SetLatest = "asked set_latest",
    Latest = "asked latest",
    Newer = "asked newer",
    SetCounts = "asked set_counts",
    Counts = "asked counts",
    Beat = "asked beat",
    Due = "asked due",
    Settled = "asked settled",
    Presence = "asked presence",
    Queue = "asked queue",
    Take = "asked take",
    NotePeer = "asked note_peer",
    PeerViewers = "asked peer_viewers",
    PeerTurns = "asked peer_turns",
}
