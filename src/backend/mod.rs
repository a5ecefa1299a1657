//! The backend role: takes interactions, stores them, hands them to a dispatcher.
pub mod sqlite;
pub mod store;
