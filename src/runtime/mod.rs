//! What every role runs on: pinned executors, readiness, mailboxes between threads, listeners, time.

pub mod account;
#[expect(clippy::disallowed_types, reason = "sockets")]
pub mod calls;
#[expect(clippy::disallowed_methods, reason = "the time")]
pub mod clock;
#[expect(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types, reason = "threads")]
pub mod cores;
#[expect(clippy::disallowed_types, reason = "sockets")]
pub mod listener;
#[expect(clippy::disallowed_methods, reason = "threads that may wait send, too")]
pub mod mailbox;
#[cfg(test)]
mod mailbox_tests;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "sockets")]
pub mod net;
pub mod once;
#[expect(clippy::disallowed_methods, reason = "a limit of the process")]
pub mod open_files;
pub mod planted;
#[expect(clippy::disallowed_methods, reason = "it tells what the process is")]
pub mod process;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "chance, and the tables that follow from it")]
pub mod random;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "descriptors")]
pub mod readiness;
#[expect(clippy::disallowed_methods, reason = "a thread of its own")]
pub mod resolver;
#[expect(unsafe_code, clippy::disallowed_types, reason = "sockets, and memory that the kernel reads")]
pub mod ring;
pub mod secure;
#[expect(clippy::disallowed_types, reason = "it is for tables of any order")]
pub mod shrink;
#[expect(unsafe_code, clippy::disallowed_types, reason = "a descriptor")]
pub mod socket;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a descriptor")]
pub mod sync;
pub mod tls;
#[expect(unsafe_code, clippy::disallowed_methods, reason = "a thread of its own")]
pub mod trim;
pub mod trouble;
pub mod turn_time;
pub mod turning;
