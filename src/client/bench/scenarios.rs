//! The scenarios: what is opened, what is published, what is reported.
use std::time::Duration;

use std::sync::Arc;
use std::thread;

use super::args::{Broadcast, Common, Slow, Topics};
use super::load::{Likes, Posted};
use super::report::Report;
use super::schedule::{Published, Schedule};
use super::setup::{Error, Readers, Setup, Step};
use super::viewers::Order;
use crate::client::fleet::measured::{Status, latencies};
use crate::client::fleet::poster;
use crate::client::fleet::sys::now_us;

/// Deliveries a second at which a search for the highest rate begins, and beyond which it does not go.
const SEARCH_FROM: f64 = 100_000.0;
const SEARCH_TO: f64 = 100_000_000.0;
/// Steps that narrow the highest rate down, each by half.
const SEARCH_HALVINGS: u32 = 4;
/// How long after the last like viewers may be told the total at last.
const TOTAL_WITHIN: Duration = Duration::from_secs(1);
/// A rate holds if at least this share of it was delivered by the time that the last event came.
const SUSTAINED: f64 = 0.9;
/// Grace after the last answer of a flood.
const FLOOD_GRACE_US: u64 = 5_000_000;

/// All connections, opened as fast as the server takes them, several times.
pub fn connect(common: &Common) -> Result<Report, Error> {
    let count = common.connections.unwrap_or(15_000);
    let mut setup = Setup::new(common, count, 1, Readers::Events)?;
    let nothing = Published::nothing(&Schedule::new(1, 1, 1.0));
    let (mut took, mut best_us, mut all_us) = (latencies(), u64::MAX, 0);
    let mut report = Report::new("connect");
    let before = setup.server.usage();
    let mut opened = 0;
    for _ in 0..common.rounds {
        let begin_us = setup.open(count, false, &nothing)?;
        let status = setup.fleet.status()?;
        let round_us = status.last_ready_us.saturating_sub(begin_us).max(1);
        let total = setup.fleet.ask(Order::CloseAll)?;
        took += &total.connect;
        if status.ready < u64::from(count) {
            report.connections(u64::from(count), &status, &total);
            break;
        }
        opened += u64::from(count);
        best_us = best_us.min(round_us);
        all_us += round_us;
    }
    let after = setup.server.usage();
    let mut report = setup.finish(report);
    report.count("connections a round", u64::from(count));
    report.count("client processes", setup.fleet.processes() as u64);
    report.count("rounds", u64::from(common.rounds));
    if opened > 0 {
        report.number("connects/s", "", opened as f64 * 1e6 / all_us as f64);
        report.number("connects/s best round", "", f64::from(count) * 1e6 / best_us as f64);
    }
    report.latency("connect", &took);
    report.cpu("connect", opened, &before, &after);
    Ok(report)
}

/// Connections that get nothing.
pub fn idle(common: &Common) -> Result<Report, Error> {
    let count = common.connections.unwrap_or(15_000);
    let mut setup = Setup::new(common, count, 1, Readers::Events)?;
    let before = setup.server.usage();
    let nothing = Published::nothing(&Schedule::new(1, 1, 1.0));
    setup.open(count, false, &nothing)?;
    setup.hold(common.duration.unwrap_or(5));
    let status = setup.fleet.status()?;
    let after = setup.server.usage();
    let total = setup.fleet.ask(Order::CloseAll)?;
    let mut report = setup.finish(Report::new("idle"));
    report.connections(u64::from(count), &status, &total);
    report.count("client processes", setup.fleet.processes() as u64);
    let each = |after: u64, before: u64| (after as f64 - before as f64) / f64::from(count.max(1));
    if after.rss_bytes > 0 {
        report.number("server RSS a connection", "B", each(after.rss_bytes, before.rss_bytes).max(0.0));
        let whole = after.rss_bytes as f64 / f64::from(count.max(1));
        report.number("server RSS a connection with its base", "B", whole);
        report.number("server RSS before", "MB", before.rss_bytes as f64 / 1e6);
        report.number("server RSS", "MB", after.rss_bytes as f64 / 1e6);
    } else {
        report.note("the server's process cannot be seen; name it with --pid".to_owned());
    }
    report.number("kernel TCP buffers a connection, both ends", "B", each(after.tcp_bytes, before.tcp_bytes).max(0.0));
    report.number("kernel objects a connection, both ends", "B", each(after.slab_bytes, before.slab_bytes).max(0.0));
    Ok(report)
}

fn step_rows(report: &mut Report, setup: &Setup, step: &Step) {
    report.connections(u64::from(setup.connections), &step.status, &step.total);
    report.number("deliveries/s", "", step.deliveries_per_second);
    let tally = &step.total.tally;
    report.count("received", tally.received);
    report.count("lost", tally.lost);
    report.count("duplicated", tally.duplicated);
    report.count("out of order", tally.out_of_order);
    report.count("misrouted", tally.misrouted);
    report.number("merged", "%", share(tally.merged, tally.received));
    if tally.late > 0 {
        report.count("late", tally.late);
    }
    report.number("bytes/s a viewer", "", step.bytes_per_second / f64::from(setup.connections.max(1)));
    report.latency("latency", &step.total.latency);
    report.cpu("delivery", tally.received, &step.before, &step.after);
    report.number("kernel TCP buffers", "MB", step.after.tcp_bytes as f64 / 1e6);
    report.posted(&step.posted);
    if !tally.is_clean() {
        report.problem(format!(
            "{} lost, {} duplicated, {} out of order, {} misrouted of {} received",
            tally.lost, tally.duplicated, tally.out_of_order, tally.misrouted, tally.received
        ));
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// One topic that everybody watches.
pub fn broadcast(common: &Common) -> Result<Report, Error> {
    viewers("broadcast", common, common.connections.unwrap_or(10_000), 1, common.rate.unwrap_or(100.0))
}

/// Many topics with few viewers each.
pub fn topics(topics: &Topics) -> Result<Report, Error> {
    let viewers_of_all = u64::from(topics.topics) * u64::from(topics.viewers);
    let connections = u32::try_from(viewers_of_all)
        .map_err(|_| Error::Usage("--topics times --viewers is more than 4 billion connections".to_owned()))?;
    let common = &topics.common;
    if common.connections.is_some_and(|asked| asked != connections) {
        return Err(Error::Usage(format!(
            "--connections is --topics times --viewers here, {connections}: leave it out"
        )));
    }
    viewers("topics", common, connections, topics.topics, common.rate.unwrap_or(20_000.0))
}

fn viewers(name: &'static str, common: &Common, connections: u32, topics: u32, rate: f64) -> Result<Report, Error> {
    let mut setup = Setup::new(common, connections, topics, Readers::Events)?;
    let schedule = Schedule::new(topics, common.publishers.unwrap_or(1), rate);
    let mut events = setup.events(schedule)?;
    setup.open(connections, false, &events.published())?;
    let step = setup.step(&mut events, rate, common.warmup.unwrap_or(2), common.duration.unwrap_or(10))?;
    let mut report = setup.finish(Report::new(name));
    report.number("rate", "events/s", rate);
    step_rows(&mut report, &setup, &step);
    Ok(report)
}

/// The highest rate at which nothing is lost, deliveries are not merged, and p99 is bearable: doubling, then halving.
pub fn find_max(args: &Broadcast) -> Result<Report, Error> {
    let common = &args.common;
    let connections = common.connections.unwrap_or(10_000).max(1);
    let mut setup = Setup::new(common, connections, 1, Readers::Events)?;
    let first = common.rate.map_or(SEARCH_FROM, |rate| rate * f64::from(connections));
    let schedule = Schedule::new(1, 1, first / f64::from(connections));
    let mut events = setup.events(schedule)?;
    let mut report = Report::new("broadcast, highest lossless rate");
    let mut good: Option<(f64, Step)> = None;
    let (mut bad, mut asked, mut halvings) = (None, first, 0);
    let (mut open, mut second_try) = (false, false);
    loop {
        if !open {
            setup.open(connections, false, &events.published())?;
            open = true;
        }
        let rate = asked / f64::from(connections);
        let step = setup.step(&mut events, rate, common.warmup.unwrap_or(1), common.duration.unwrap_or(4))?;
        let p99_ms = step.total.latency.value_at_quantile(0.99) as f64 / 1000.0;
        let tally = &step.total.tally;
        let merged = share(tally.merged, tally.received);
        let holds = tally.is_clean()
            && step.posted.failed == 0
            && step.status.ready >= u64::from(connections)
            && merged <= args.merged_max
            && step.deliveries_per_second >= asked * SUSTAINED
            && p99_ms <= args.p99_max as f64;
        report.note(format!(
            "asked for {:.0} deliveries/s: {}, got {:.0}, lost {}, merged {merged:.1} %, p99 {p99_ms:.1} ms",
            asked,
            if holds { "holds" } else { "too much" },
            step.deliveries_per_second,
            tally.lost,
        ));
        let again = !holds && !second_try;
        second_try = again;
        if holds {
            good = Some((asked, step));
        } else {
            // What is still queued must not be charged to the next step.
            setup.fleet.ask(Order::CloseAll)?;
            open = false;
            if again {
                // A neighbour's burst on a shared machine is not the server's limit.
                continue;
            }
            bad = Some(asked);
        }
        let low = good.as_ref().map_or(0.0, |(rate, _)| *rate);
        asked = match bad {
            None if asked * 2.0 > SEARCH_TO => break,
            None => asked * 2.0,
            // Nothing held yet: look below, so that a slow server gets a figure too.
            Some(high) if good.is_none() && high > 2_000.0 => high / 4.0,
            Some(_) if good.is_none() || halvings == SEARCH_HALVINGS => break,
            Some(high) => {
                halvings += 1;
                (low + high) / 2.0
            }
        };
    }
    let mut report = setup.finish(report);
    match good {
        Some((rate, step)) => {
            report.number("highest rate", "deliveries/s", rate);
            let found = Step {
                status: Status {
                    // Other steps' broken connections are what the search was for.
                    failed: 0,
                    closed: 0,
                    ..step.status
                },
                ..step
            };
            step_rows(&mut report, &setup, &found);
        }
        None => report.problem("no rate held".to_owned()),
    }
    Ok(report)
}

/// Publishing as fast as it is taken, with nobody subscribed.
pub fn publish(common: &Common) -> Result<Report, Error> {
    let connections = common.publishers.or(common.connections).unwrap_or(64).max(1);
    let threads = common.threads.unwrap_or(1).min(connections);
    let mut setup = Setup::new(common, 0, connections, Readers::Events)?;
    let duration_us = u64::from(common.duration.unwrap_or(10)) * 1_000_000;
    let rate = common.rate.unwrap_or(f64::INFINITY);
    let before = setup.server.usage();
    let start_us = now_us() + 50_000;
    let depth = common.pipeline.unwrap_or(1) as usize;
    let mut works = Vec::new();
    for thread in 0..threads {
        let lanes = connections / threads + u32::from(thread < connections % threads);
        let schedule = Schedule::new(lanes, lanes, rate / f64::from(threads));
        // Without a word on how, a flood is of single POSTs, as wrk's is.
        let mode = common.publish_mode.unwrap_or(super::args::PublishMode::Single);
        let mut events = setup.events_in(schedule, mode)?;
        events.begin(start_us, duration_us, schedule.rate);
        works.push((events, setup.lane_targets(lanes as usize)));
    }
    let deadline_us = start_us + duration_us + FLOOD_GRACE_US;
    let posted = thread::scope(|scope| {
        let threads: Vec<_> = works
            .into_iter()
            .map(|(mut events, targets)| {
                scope.spawn(move || {
                    poster::run(&mut events, &targets, depth, deadline_us);
                    events.posted
                })
            })
            .collect();
        sum(threads.into_iter().map(|thread| thread.join().expect("a poster does not panic")))
    });
    let after = setup.server.usage();
    let seconds = duration_us as f64 / 1e6;
    let mut report = setup.finish(Report::new("publish"));
    report.number("requests/s", "", posted.requests as f64 / seconds);
    report.number("events/s", "", posted.accepted as f64 / seconds);
    report.posted(&posted);
    report.cpu("event", posted.accepted, &before, &after);
    Ok(report)
}

fn sum(all: impl Iterator<Item = Posted>) -> Posted {
    all.fold(Posted::default(), |mut sum, posted| {
        sum.add(posted);
        sum
    })
}

/// Likes through the database, with viewers if asked for.
pub fn likes(common: &Common) -> Result<Report, Error> {
    likes_of_one("likes", common)
}

/// More likes than viewers can be given one by one.
pub fn burst(common: &Common) -> Result<Report, Error> {
    let common = Common {
        connections: common.connections.or(Some(10_000)),
        rate: common.rate.or(Some(10_000.0)),
        publishers: common.publishers.or(Some(256)),
        ..common.clone()
    };
    likes_of_one("burst", &common)
}

fn likes_of_one(name: &'static str, common: &Common) -> Result<Report, Error> {
    let clients = common.publishers.unwrap_or(64).max(1);
    let threads = common.threads.unwrap_or(1).min(clients);
    let viewers = common.connections.unwrap_or(0);
    let topic = common.topic.clone().unwrap_or_else(|| format!("live:bench-{:x}", now_us()));
    let Some(video) = topic.strip_prefix("live:").map(str::to_owned) else {
        return Err(Error::Usage(format!("--topic {topic:?} must be live:VIDEO, where a video's likes go")));
    };
    let common = Common { topic: Some(topic), ..common.clone() };
    let mut setup = Setup::new(&common, viewers, 1, Readers::Likes)?;
    let nothing = Published::nothing(&Schedule::new(1, 1, 1.0));
    setup.open(viewers, false, &nothing)?;
    let warmup_us = u64::from(common.warmup.unwrap_or(0)) * 1_000_000;
    let duration_us = u64::from(common.duration.unwrap_or(10)) * 1_000_000 + warmup_us;
    let start_us = now_us() + 50_000;
    let stop_us = start_us + duration_us;
    let received_before = setup.fleet.status()?.received;
    // The order of likes from many clients is not known, so the older ones of a merged frame have no times of their own. At a
    // given rate they are taken to be as far apart as likes are; without one, to be as new as the newest.
    let apart_us = common.rate.map_or(0.0, |rate| 1e6 / rate);
    setup.fleet.tell(Order::Begin { from_us: start_us + warmup_us, interval_us: apart_us })?;
    let mut request = setup.requests("/v1/videos/{topic}/likes").swap_remove(0);
    request.before_topic.extend_from_slice(video.as_bytes());
    let request = Arc::new(request);
    let interval_us = common.rate.map_or(0.0, |rate| f64::from(clients) * 1e6 / rate);
    let before = setup.server.usage();
    let depth = common.pipeline.unwrap_or(1) as usize;
    let posted = thread::scope(|scope| {
        let posters: Vec<_> = (0..threads)
            .map(|thread| {
                let lanes = (clients / threads + u32::from(thread < clients % threads)) as usize;
                let targets: Vec<_> = setup.lane_targets(lanes).into_iter().take(lanes).collect();
                let turns = (u64::from(thread), u64::from(threads));
                let mut likes = Likes::new((*request).clone(), lanes, turns, (start_us, stop_us), interval_us);
                likes.posted = setup.posted();
                scope.spawn(move || {
                    poster::run(&mut likes, &targets, depth, stop_us + FLOOD_GRACE_US);
                    likes.posted
                })
            })
            .collect();
        sum(posters.into_iter().map(|poster| poster.join().expect("a poster does not panic")))
    });
    let published = Published { topics: 1, lanes: vec![posted.accepted] };
    let status = setup.drain(received_before, published.deliveries(viewers))?;
    let after = setup.server.usage();
    if viewers > 0 {
        // The last total follows the last like.
        std::thread::sleep(TOTAL_WITHIN);
    }
    let total = setup.fleet.ask(Order::Collect { published })?;
    let stored = setup.likes_of(&video)?;
    let mut report = setup.finish(Report::new(name));
    report.number("likes/s stored", "", posted.accepted as f64 * 1e6 / duration_us as f64);
    report.posted(&posted);
    report.cpu("like", posted.accepted, &before, &after);
    if viewers > 0 {
        report.connections(u64::from(viewers), &status, &total);
        report.count("received", total.tally.received);
        report.count("lost", total.tally.lost);
        report.count("duplicated", total.tally.duplicated);
        report.number("merged", "%", share(total.tally.merged, total.tally.received));
        let bytes_per_second = total.tally.bytes as f64 * 1e6 / duration_us as f64;
        report.number("bytes/s a viewer", "", bytes_per_second / f64::from(viewers));
        report.latency("latency", &total.latency);
        if !total.tally.is_clean() {
            report.problem(format!("{} likes lost, {} duplicated", total.tally.lost, total.tally.duplicated));
        }
        let (least, greatest) = total.tally.totals.unwrap_or_default();
        report.count("total shown, least", least);
        report.count("total shown, greatest", greatest);
        if (least, greatest) != (stored, stored) {
            report.problem(format!("viewers show totals of {least} to {greatest}, and {stored} are stored"));
        }
    }
    report.count("total stored", stored);
    if stored < posted.accepted {
        report.problem(format!("{} likes were acknowledged, and {stored} are stored", posted.accepted));
    }
    Ok(report)
}

/// A load on readers alone, then the same with clients beside them that never read.
pub fn slow(args: &Slow) -> Result<Report, Error> {
    let common = &args.common;
    let connections = common.connections.unwrap_or(2_000);
    let common = Common { payload: Some(common.payload.unwrap_or(1_000)), ..common.clone() };
    let rate = common.rate.unwrap_or(50.0);
    let (warmup, duration) = (common.warmup.unwrap_or(2), common.duration.unwrap_or(10));
    let mut setup = Setup::new(&common, connections + args.stalled, 1, Readers::Events)?;
    setup.connections = connections;
    let mut events = setup.events(Schedule::new(1, 1, rate))?;
    setup.open(connections, false, &events.published())?;
    let without = setup.step(&mut events, rate, warmup, duration)?;
    setup.open(args.stalled, true, &events.published())?;
    let with = setup.step(&mut events, rate, warmup, duration)?;
    let mut report = setup.finish(Report::new("slow"));
    report.number("rate", "events/s", rate);
    report.count("clients that do not read", u64::from(args.stalled));
    report.latency("latency without them", &without.total.latency);
    report.count("lost without them", without.total.tally.lost);
    let p99 = |step: &Step| step.total.latency.value_at_quantile(0.99).max(1) as f64;
    report.number("p99 with them over p99 without", "", p99(&with) / p99(&without));
    let rss = |step: &Step| step.after.rss_bytes as f64 / 1e6;
    report.number("server RSS without them", "MB", rss(&without));
    step_rows(&mut report, &setup, &with);
    if !without.total.tally.is_clean() {
        report.problem("deliveries were wrong already without clients that do not read".to_owned());
    }
    Ok(report)
}
