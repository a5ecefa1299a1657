//! What must happen in one step on the server: Lua scripts, loaded on every connection and called by their digest.

/// A script. Its number is its place in [`ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// Sets the mark since when a bucket lost nothing.
    Since,
    /// Renews a lease and lists live nodes.
    Heartbeat,
    /// Ends a lease.
    Leave,
    /// Takes or keeps a lock.
    Lock,
    /// Changes what a node wants of a bucket.
    Apply,
    /// Removes a slice of what a node wanted.
    Sweep,
    /// Appends to history.
    Append,
    /// Appends to history what has a key that is new.
    AppendOnce,
    /// Keeps a key, or frees it.
    Claim,
    /// Takes an event out of history, or out of a queue.
    Withdraw,
    /// Reads history.
    Read,
    /// Where histories end.
    Ends,
    /// Which topics begin so.
    Topics,
    /// Keeps a newest value.
    SetLatest,
    /// Gives up newest values whose time is over.
    GiveUp,
    /// Newest values.
    Latest,
    /// Whether there are newer ones.
    Newer,
    /// Changes a Frontend's counts.
    Counts,
    /// Puts counts that were gathered in their place.
    CountsAll,
    /// Removes a dead Frontend's counts.
    SweepCounts,
    /// Signs of life of members.
    Beat,
    /// Members that go offline, and turns to give again.
    Due,
    /// Turns that were published.
    Settled,
    /// What is known of members.
    Presence,
    /// What waits for a peer.
    Waiting,
    /// Puts a peer's events into histories.
    Take,
    /// News of a peer.
    NotePeer,
    /// Turns of a peer's members.
    PeerTurns,
    /// Whether the server takes writes.
    Probe,
}

/// How many there are.
pub const COUNT: usize = 29;

macro_rules! lua {
    ($($part:literal),+) => {
        concat!(include_str!("lua/clock.lua"), $(include_str!(concat!("lua/", $part, ".lua"))),+)
    };
}

/// Each script's text, in the order of [`Script`], behind the parts that it shares with others.
pub const ALL: [(Script, &str); COUNT] = [
    (Script::Since, lua!("since")),
    (Script::Heartbeat, lua!("heartbeat")),
    (Script::Leave, lua!("leave")),
    (Script::Lock, lua!("lock")),
    (Script::Apply, lua!("apply")),
    (Script::Sweep, lua!("sweep")),
    (Script::Append, lua!("history", "queue", "appending", "append")),
    (Script::AppendOnce, lua!("history", "queue", "appending", "once", "append_once")),
    (Script::Claim, lua!("once", "claim")),
    (Script::Withdraw, lua!("withdraw")),
    (Script::Read, lua!("history", "read")),
    (Script::Ends, lua!("history", "ends")),
    (Script::Topics, lua!("history", "topics")),
    (Script::SetLatest, lua!("values", "set_latest")),
    (Script::GiveUp, lua!("values", "give_up")),
    (Script::Latest, lua!("latest")),
    (Script::Newer, lua!("newer")),
    (Script::Counts, lua!("viewers", "counts")),
    (Script::CountsAll, lua!("counts_all")),
    (Script::SweepCounts, lua!("sweep_counts")),
    (Script::Beat, lua!("beat")),
    (Script::Due, lua!("due")),
    (Script::Settled, lua!("settled")),
    (Script::Presence, lua!("presence")),
    (Script::Waiting, lua!("queue", "waiting")),
    (Script::Take, lua!("history", "take")),
    (Script::NotePeer, lua!("viewers", "note_peer")),
    (Script::PeerTurns, lua!("peer_turns")),
    (Script::Probe, lua!("probe")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_script_is_at_its_number() {
        for (number, (script, _)) in ALL.iter().enumerate() {
            assert_eq!(*script as usize, number);
        }
    }
}
