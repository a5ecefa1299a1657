//! The rows of the design's failure table that concern one data center: real processes, under load, with an independent
//! count of what was promised. Each test is named after what it prevents.

mod beneath;
mod clusters;
mod database;
mod dispatchers;
mod frontends;
mod hooks;
mod joins;
mod outbox;
mod ready;
mod restarts;
mod setup;
mod store;
mod totals;

use crate::support;
use support::{load, viewers};
