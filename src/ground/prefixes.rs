//! What shards tell each other of prefixes of topics: the home of a prefix, the homes of its topics, and the cores with streams
//! that have it.

use crate::ground::frame_page::FramePage;
use crate::ground::slots::Conn;
use crate::kv::Found;
use crate::wire::position::{Position, Shown};
use crate::wire::topic::Topic;

/// What is told.
#[derive(Debug)]
pub enum PrefixNews {
    /// From a prefix's home to every core: these of its topics, which are at home there, have events up to these places. They
    /// are to be open for the prefix's streams.
    Found {
        /// The prefix.
        prefix: Topic,
        /// Its home, which wants an answer.
        home: usize,
        /// Under this number.
        number: u64,
        /// Of what is not open nothing is missing up to here.
        known: Position,
        /// Topics, and their ends.
        topics: Vec<(Topic, Position)>,
        /// That was told before, and is to be looked at only.
        again: bool,
    },
    /// Back to it: they are open.
    Opened {
        /// Under this number.
        number: u64,
        /// What they had is with the cores.
        whole: bool,
        /// Some topic of the prefix had events lately.
        active: bool,
        /// Some topic found no room.
        full: bool,
    },
    /// From a prefix's home to every core: of topics that are not open nothing is missing up to here.
    Known {
        /// The prefix.
        prefix: Topic,
        /// The place.
        known: Position,
    },
    /// The same: the node lets go of it.
    Gone(Topic),
    /// From a topic's home to a core: streams that have a prefix of it are to have it.
    Open {
        /// The prefix.
        prefix: Topic,
        /// The topic.
        topic: Topic,
        /// What follows this place comes.
        begin: Position,
    },
    /// Back to it.
    Joined {
        /// The topic.
        topic: Topic,
        /// The core.
        core: usize,
        /// It has viewers there.
        wanted: bool,
    },
    /// From a topic's home to a core: nothing came for long, so streams that have the topic by a prefix are to leave it.
    Quiet(Topic),
    /// From a prefix's home to the core of a stream that comes back: the topics that it is to be given.
    Listed {
        /// The prefix.
        prefix: Topic,
        /// The stream.
        conn: Conn,
        /// The topics, those with the newest events first.
        topics: Vec<Topic>,
        /// There are more.
        more: bool,
        /// What it is given of the prefix itself, which has no events.
        page: FramePage,
    },
}

/// Why topics of a prefix are asked for.
#[derive(Debug)]
pub enum Listing {
    /// For streams that come back.
    Streams,
    /// To find what was lost on its way.
    Comparing {
        /// The number of the newest reason for doubt.
        reason: u64,
        /// What viewers had been given when it was asked.
        known: Shown,
    },
}

/// What was found, and for what.
pub type Listed = (Listing, Found);
