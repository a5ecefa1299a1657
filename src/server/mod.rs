//! A shard: one pinned executor with its own listeners, connections and tables. The shell around the cores: it reads and
//! writes sockets and mailboxes, and lets the cores decide.
//!
//! In the order of a connection's life: [`slots`] (what a connection is), [`accept`], [`admitting`] (who is let in),
//! [`receive`] (bytes to requests), [`routes`] (requests to resources), [`access`] (who asks), [`streams`] (a request becomes a
//! stream), [`resume`] (one that comes back), [`renewal`] (its rights), [`publish`] and [`appending`] (events), [`likes`] and
//! [`posts`] (what is stored), `rules` (what binds who comments), [`answering`] (what comes later), [`asking`] (the key-value store), [`mesh`] (between cores), [`history`] (a topic's home),
//! [`fanout`] and [`pages`] (to viewers), [`audience`] and [`presence`] (who is here), [`control`] (who is to go), [`past`] (what history has), `turn` and `crowds` (what comes when, and how
//! much of it at once), [`sweep`] (time), [`admin`] (what a node tells).
//!
//! Other nodes: [`cluster`] (what is known of them), [`links`] and [`link`] (calls to them), [`internal`] (their requests),
//! [`outboxes`] (frames), [`questions`] (to the key-value store), [`handover`] (a backend's events), [`elsewhere`] (streams that
//! another node holds). Other data centers: [`peers`], and [`tls`] on the way to them.

pub mod accept;
pub mod access;
pub mod admin;
pub mod admitting;
pub mod answering;
pub mod appending;
pub mod asking;
pub mod audience;
pub mod backend;
pub mod budget;
pub mod clocks;
pub mod cluster;
pub mod comparing;
pub mod control;
mod crowds;
pub mod dispatcher;
mod draining;
pub mod elsewhere;
mod ending;
pub mod fanout;
pub mod frontend;
pub mod ground;
pub mod handover;
pub mod history;
pub mod http_connection;
pub mod internal;
mod journeys;
pub mod keeping;
mod lag;
pub mod likes;
pub mod lines;
pub mod link;
pub mod links;
pub mod listing;
pub mod live;
pub mod mesh;
pub mod message;
pub mod node;
mod once;
pub mod outboxes;
mod own;
mod pacing;
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "memory files for the sockets that are the kernel's"
)]
pub mod pages;
pub mod pages_of_others;
mod paging;
pub mod past;
mod patience;
pub mod peers;
mod polls;
pub mod posts;
pub mod presence;
pub mod present;
pub mod publish;
pub mod questions;
pub mod receive;
pub mod received;
pub mod renewal;
pub mod resources;
pub mod resume;
pub mod routes;
mod rules;
mod services;
pub mod serving;
mod shaking;
pub mod shard;
pub mod slots;
pub mod streams;
pub mod sweep;
mod taps;
pub mod telling;
pub mod tls;
pub mod token_cache;
pub mod topic_changes;
mod totals;
