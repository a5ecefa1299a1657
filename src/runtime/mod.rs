//! What every role runs on: pinned executors, readiness, mailboxes between threads, listeners, time.

pub mod account;
pub mod clock;
pub mod cores;
pub mod listener;
pub mod mailbox;
pub mod net;
pub mod notify;
pub mod open_files;
pub mod planted;
pub mod random;
pub mod readiness;
pub mod resolver;
pub mod shrink;
pub mod tls;
pub mod trim;
pub mod turn_time;
pub mod turning;
