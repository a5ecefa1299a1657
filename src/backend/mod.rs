//! The backend role: takes interactions, stores them, hands them to a dispatcher.
mod checks;
#[allow(clippy::disallowed_methods, reason = "called on the threads of the databases")]
mod health;
pub mod once;
mod open_error;
mod outbox;
mod part;
pub mod passes;
mod post;
mod post_id;
#[expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod postgres;
pub mod rules;
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a thread of its own")]
pub mod sqlite;
pub mod store;
pub mod taps;
pub mod telling;
pub mod totals;
