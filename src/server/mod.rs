//! A shard: one pinned executor with its own listeners, connections and tables. The shell around the cores: it reads and
//! writes sockets and mailboxes, and lets the cores decide.
//!
//! In the order of a connection's life: [`slots`] (what a connection is), [`accept`], [`admitting`] (who is let in), [`receive`] (bytes to requests),
//! [`routes`] (requests to resources), [`access`] (who asks), [`streams`] (a request becomes a stream), [`renewal`] (its rights), [`publish`] and [`likes`] (what is
//! published), [`asking`] (the key-value store), [`mesh`] (between cores), [`fanout`] and [`pages`] (to viewers), [`sweep`] (time), [`admin`] (what a node
//! tells).

pub mod accept;
pub mod access;
pub mod admin;
pub mod admitting;
pub mod allowed;
pub mod appending;
pub mod asking;
pub mod budget;
pub mod fanout;
pub mod history;
pub mod http_connection;
pub mod likes;
pub mod lines;
pub mod listing;
pub mod mesh;
pub mod message;
pub mod node;
pub mod pages;
pub mod posts;
pub mod publish;
pub mod receive;
pub mod received;
pub mod renewal;
pub mod resume;
pub mod routes;
pub mod shard;
pub mod slots;
pub mod streams;
pub mod sweep;
pub mod token_cache;
pub mod topic_changes;
