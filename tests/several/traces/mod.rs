//! `fanfare trace` against one process, a cluster and two data centers. Each test is named after what it prevents.

mod journeys;
mod otlp;
mod setup;
