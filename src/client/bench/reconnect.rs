//! Everybody is cut at once and comes back, while comments go on: how long that takes, and whether anything is lost.
use std::thread;
use std::time::{Duration, Instant};

use super::args::Common;
use super::report::Report;
use super::schedule::Schedule;
use super::setup::{Error, Readers, Setup};
use super::viewers::Order;
use crate::client::fleet::poster;
use crate::client::fleet::sys::now_us;

/// Before the cut, for a share of the time that is measured: so that there is something to come back to.
const BEFORE_CUT: f64 = 0.3;
/// How long connections that were cut may make no progress.
const PATIENCE: Duration = Duration::from_secs(20);
/// Grace for publishes after the schedule's end.
const PUBLISH_GRACE_US: u64 = 10_000_000;

/// All connections, cut at once, come back with the id that they saw last. Events are of class `every`, such as comments.
pub fn reconnect(common: &Common) -> Result<Report, Error> {
    let kind = if common.kind == "like" { "comment".to_owned() } else { common.kind.clone() };
    let common = Common { kind, ..common.clone() };
    let connections = common.connections.unwrap_or(10_000).max(1);
    let rate = common.rate.unwrap_or(10.0);
    let mut setup = Setup::new(&common, connections, 1, Readers::Resume)?;
    let mut events = setup.events(Schedule::new(1, 1, rate))?;
    setup.open(connections, false, &events.published())?;
    let duration_us = u64::from(common.duration.unwrap_or(10)) * 1_000_000;
    let start_us = now_us() + 50_000;
    events.begin(start_us, duration_us, rate);
    let targets = setup.lane_targets(1);
    let depth = common.pipeline.unwrap_or(64) as usize;
    let before = setup.server.usage();
    let (cut_us, mut back) = thread::scope(|scope| {
        let publisher =
            scope.spawn(|| poster::run(&mut events, &targets, depth, start_us + duration_us + PUBLISH_GRACE_US));
        let lead_us = (duration_us as f64 * BEFORE_CUT) as u64;
        thread::sleep(Duration::from_micros((start_us + lead_us).saturating_sub(now_us())));
        let cut_us = now_us();
        setup.fleet.tell(Order::Reconnect { window: common.window })?;
        // A status is from before the cut until all processes told a newer one.
        let (mut seen, mut since) = (0, Instant::now());
        let back = loop {
            thread::sleep(Duration::from_millis(20));
            let status = setup.fleet.status()?;
            let now = if status.last_ready_us > cut_us { status.ready } else { 0 };
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            if now >= u64::from(connections) || since.elapsed() > PATIENCE {
                break status;
            }
        };
        publisher.join().expect("a poster does not panic");
        Ok::<_, Error>((cut_us, back))
    })?;
    let published = events.published();
    // Who came back has had events again, so their number does not tell when all is there: silence does.
    let drained = setup.drain(0, u64::MAX)?;
    back.ready = drained.ready;
    let after = setup.server.usage();
    let total = setup.fleet.ask(Order::Collect { published })?;
    let mut report = setup.finish(Report::new("reconnect"));
    report.number("rate", "events/s", rate);
    report.connections(u64::from(connections), &back, &total);
    report.number("all back after", "ms", back.last_ready_us.saturating_sub(cut_us) as f64 / 1e3);
    report.latency("coming back", &total.connect);
    report.count("received", total.tally.received);
    report.count("repeated", total.tally.duplicated);
    report.count("lost", total.tally.lost);
    report.count("out of order", total.tally.out_of_order);
    report.cpu("delivery", total.tally.received, &before, &after);
    report.posted(&events.posted);
    let gaps = total.errors.keys().filter(|error| error.starts_with("event: gap")).count();
    if total.tally.lost + total.tally.out_of_order + total.tally.misrouted > 0 || gaps > 0 {
        let tally = &total.tally;
        report.problem(format!("{} lost, {} out of order, {gaps} gaps", tally.lost, tally.out_of_order));
    }
    Ok(report)
}
