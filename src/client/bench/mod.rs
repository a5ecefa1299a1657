//! `fanfare bench`: loads any Server-Sent Events server, checks every delivery, and reports latency, memory and CPU.
//!
//! The process that is started publishes and reports; forked client processes (`fleet`, `worker`) receive, each with a
//! thread a core (`receiver`) that takes frames apart (`frames`, `message`) and checks them (`check`). Posts are due by
//! a `schedule` and made by a `poster` from a `load`.
pub mod args;
mod check;
pub(super) mod fleet;
pub(super) mod frames;
mod known;
mod load;
#[cfg(test)]
mod load_tests;
mod message;
pub(super) mod poster;
pub(super) mod receiver;
mod reconnect;
pub(super) mod report;
mod scenarios;
mod schedule;
mod server;
pub(super) mod setup;
mod sink;
#[expect(unsafe_code, reason = "calls that only libc has")]
pub(super) mod sys;
pub(super) mod worker;
#[cfg(test)]
mod worker_tests;

use std::process::ExitCode;

use args::{BenchArgs, Scenario};

/// Runs a scenario and prints its report. Exit status 0 when all was right, 1 when anything was lost or refused, 2
/// for a mistake in the arguments.
pub fn run(args: &BenchArgs) -> ExitCode {
    let (common, outcome) = match &args.scenario {
        Scenario::Connect(common) => (common, scenarios::connect(common)),
        Scenario::Idle(common) => (common, scenarios::idle(common)),
        Scenario::Broadcast(broadcast) if broadcast.find_max => (&broadcast.common, scenarios::find_max(broadcast)),
        Scenario::Broadcast(broadcast) => (&broadcast.common, scenarios::broadcast(&broadcast.common)),
        Scenario::Topics(topics) => (&topics.common, scenarios::topics(topics)),
        Scenario::Publish(common) => (common, scenarios::publish(common)),
        Scenario::Likes(common) => (common, scenarios::likes(common)),
        Scenario::Burst(common) => (common, scenarios::burst(common)),
        Scenario::Slow(slow) => (&slow.common, scenarios::slow(slow)),
        Scenario::Reconnect(common) => (common, reconnect::reconnect(common)),
    };
    match outcome {
        Ok(report) => {
            if common.json {
                println!("{:#}", report.to_json());
            } else {
                print!("{}", report.to_text());
            }
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("fanfare bench: {error}");
            ExitCode::from(match error {
                setup::Error::Usage(_) | setup::Error::Http(crate::client::http::Error::Url(_)) => 2,
                _ => 1,
            })
        }
    }
}
