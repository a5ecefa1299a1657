//! Roles in processes of their own. Each test is named after what it prevents.

mod delivery;
mod present;
mod refusals;
pub mod setup;
mod trouble;
mod watching;
