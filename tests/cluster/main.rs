//! Roles in processes of their own. Each test is named after what it prevents.

#[path = "../support/mod.rs"]
mod support;

mod delivery;
mod refusals;
mod setup;
mod trouble;
