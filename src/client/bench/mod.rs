//! `fanfare bench`: loads any Server-Sent Events server, checks every delivery, and reports latency, memory and CPU.
//!
//! The process that is started publishes and reports; a fleet of client processes receives, where viewers (`viewers`) read
//! what they were sent (`message`) and check it (`sink`). Posts are due by a `schedule` and made from a `load`.
pub mod args;
mod chart;
mod load;
#[cfg(test)]
mod load_tests;
mod message;
mod page;
mod reconnect;
mod recorder;
pub(super) mod report;
mod scenarios;
mod schedule;
mod server;
mod setup;
mod sink;
mod viewers;
#[cfg(test)]
mod viewers_tests;

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
            let is_good = report.is_good();
            if let Some(path) = &common.report
                && let Err(error) = report.add_to(path, common.label.as_deref())
            {
                eprintln!("fanfare bench: --report {}: {error}", path.display());
                return ExitCode::FAILURE;
            }
            if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
