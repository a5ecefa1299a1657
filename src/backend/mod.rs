//! The backend role: takes interactions, stores them, hands them to a dispatcher.
mod checks;
mod health;
pub mod once;
mod open_error;
mod outbox;
mod part;
pub mod passes;
mod post_id;
pub mod postgres;
pub mod sqlite;
pub mod store;
pub mod telling;
