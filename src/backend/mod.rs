//! The backend role: takes interactions, stores them, hands them to a dispatcher.
mod checks;
mod health;
pub mod once;
mod open_error;
mod part;
mod post_id;
pub mod postgres;
pub mod sqlite;
pub mod store;
