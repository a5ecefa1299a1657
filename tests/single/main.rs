//! Tests that start the built program, one node or a few of all roles, or drive one part of the library from outside. One program, so
//! that what they share is compiled once. Each test is named after what it prevents.

#[path = "../support/mod.rs"]
mod support;

mod accounting;
mod alarms;
mod authorize;
mod bench;
mod canaries;
mod check;
mod cores;
mod corpora;
mod crowd;
mod database;
mod descriptions;
mod finding;
mod generate;
mod hooks;
mod hostile;
mod io;
mod like_path;
mod limits;
mod logs;
mod memory;
mod mercure;
mod notify;
mod observability;
mod once;
mod past;
mod polls;
mod present;
mod publishing;
mod reload;
mod requests;
mod resume;
mod rights;
mod rolling;
mod rooms;
mod rules;
mod settings;
mod shutdown;
mod slow_clients;
mod soak;
mod stores;
mod streams;
mod taps;
mod timeouts;
mod tls;
mod token;
mod token_life;
mod top;
mod totals;
mod tuning;
mod units;
mod watching;
mod windows;
