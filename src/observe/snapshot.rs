//! The numbers of a snapshot: each since the start, and how fast it grew since the last look.

use super::histogram::{BOUNDS_US, FINE_BOUNDS_US, Histogram};
use super::metrics::{Counter, Counters, METRICS};
use crate::admission::Refusal;
use crate::runtime::account::Use;
use crate::runtime::process;
use crate::wire::event::Class;
use crate::wire::hops::Checkpoint;
use crate::wire::snapshot::{Figure, ShardView, Snapshot, Spread};

/// Finds how fast numbers grow. They are read in the same order at each look, or rates are those of others.
#[derive(Debug, Default)]
pub struct Meter {
    before: Vec<f64>,
    at: usize,
    seconds: f64,
}

impl Meter {
    /// A look, so many seconds after the one before.
    pub fn look(&mut self, seconds: f64) {
        (self.at, self.seconds) = (0, seconds);
    }

    /// How much the next number grew a second; 0 at the first look.
    pub fn rate(&mut self, total: f64) -> f64 {
        if self.at == self.before.len() {
            self.before.push(total);
        }
        let grown = total - std::mem::replace(&mut self.before[self.at], total);
        self.at += 1;
        if self.seconds > 0.0 { grown.max(0.0) / self.seconds } else { 0.0 }
    }

    fn figure(&mut self, name: &str, total: u64) -> Figure {
        Figure { name: name.to_owned(), total, per_second: self.rate(total as f64) }
    }
}

/// What else should not be: families of one counter, and what a person calls them.
const TROUBLES: [(&str, &str); 8] = [
    ("fanfare_gaps_total", "gaps"),
    ("fanfare_link_failures_total", "link_failures"),
    ("fanfare_store_errors_total", "store_errors"),
    ("fanfare_accept_errors_total", "accept_errors"),
    ("fanfare_outbox_left_total", "left_in_outbox"),
    ("fanfare_timeouts_total", "timeouts"),
    ("fanfare_rejected_total", "rejected_requests"),
    ("fanfare_merged_total", "merged"),
];

/// Fills in what the shards count, and how busy the process was.
#[expect(clippy::disallowed_methods, reason = "it tells what the process is")]
pub fn read(shards: &[Counters], meter: &mut Meter, snapshot: &mut Snapshot) {
    let sum = |of: &dyn Fn(&Counters) -> u64| shards.iter().map(of).sum::<u64>();
    let classes = |of: &dyn Fn(&Counters, usize) -> u64, meter: &mut Meter| {
        let class = |class: Class| meter.figure(class.name(), sum(&|counters| of(counters, class as usize)));
        Class::ALL.map(class).to_vec()
    };
    snapshot.processors = meter.rate(process::cpu_seconds());
    snapshot.shards = shards.iter().enumerate().map(|(shard, counters)| view(shard, counters, meter)).collect();
    snapshot.events = classes(&|counters, class| counters.events_in[class].get(), meter);
    snapshot.deliveries = classes(&|counters, class| counters.deliveries[class].get(), meter);
    snapshot.written_bytes = meter.figure("bytes", sum(&|counters| counters.delivered_bytes.get()));
    let limits = Refusal::ALL.iter().enumerate();
    let limits = limits.map(|(at, refusal)| (refusal.reason().to_owned(), sum(&|counters| counters.refused[at].get())));
    let memory = Use::ALL.iter().enumerate();
    let memory = memory
        .map(|(at, what)| (format!("memory for {}", what.name()), sum(&|counters| counters.held_refused[at].get())));
    snapshot.refused = known(limits.chain(memory).map(|(name, total)| meter.figure(&name, total)));
    snapshot.dropped = known(family("fanfare_dropped_total", shards).map(|(name, total)| meter.figure(&name, total)));
    snapshot.disconnects =
        known(family("fanfare_disconnects_total", shards).map(|(name, total)| meter.figure(&name, total)));
    let troubles =
        TROUBLES.iter().map(|(of, name)| meter.figure(name, family(of, shards).map(|(_, total)| total).sum()));
    snapshot.troubles = known(troubles);
    snapshot.delivery_bounds_us = BOUNDS_US.to_vec();
    snapshot.delivery = spreads(Class::ALL.map(|class| {
        let counts = total(shards, |counters| &counters.delivery[class as usize]);
        Spread { name: "delivery".to_owned(), class: class.to_string(), counts, error_us: None }
    }));
    snapshot.hop_bounds_us = FINE_BOUNDS_US.to_vec();
    snapshot.hops = spreads(Checkpoint::ALL.into_iter().flat_map(|hop| {
        let errors = shards.iter().map(|counters| counters.hop_errors[hop as usize].read());
        let (error_seconds, errors) = errors.fold((0.0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        let error_us = (errors > 0).then(|| (error_seconds * 1e6 / errors as f64) as u64);
        Class::ALL.map(|class| {
            let counts = total(shards, |counters| &counters.hops[hop as usize][class as usize]);
            Spread { name: hop.name().to_owned(), class: class.to_string(), counts, error_us }
        })
    }));
}

/// Events written to viewers, taken from publishers, and dropped, since the start.
pub fn totals(shards: &[Counters]) -> (u64, u64, u64) {
    let sum = |of: fn(&Counters) -> &[Counter]| shards.iter().flat_map(of).map(Counter::get).sum::<u64>();
    let dropped = family("fanfare_dropped_total", shards).map(|(_, total)| total).sum();
    (sum(|counters| &counters.deliveries), sum(|counters| &counters.events_in), dropped)
}

fn view(shard: usize, counters: &Counters, meter: &mut Meter) -> ShardView {
    let all = |of: &[Counter]| of.iter().map(Counter::get).sum::<u64>() as f64;
    ShardView {
        shard,
        streams: counters.connections.get(),
        lagging: counters.lagging.get(),
        requests: counters.http_connections.get(),
        topics: counters.topics.get(),
        deliveries_per_second: meter.rate(all(&counters.deliveries)),
        events_per_second: meter.rate(all(&counters.events_in)),
        turn_max_us: counters.turn_max_us.get(),
        mesh_waiting: counters.mesh_waiting.get(),
        backlog_bytes: counters.backlog_bytes.get(),
        ..ShardView::default()
    }
}

/// A family's values over all shards, by its label.
fn family<'a>(name: &'a str, shards: &'a [Counters]) -> impl Iterator<Item = (String, u64)> + 'a {
    METRICS.iter().filter(move |metric| metric.name == name).map(|metric| {
        let label = metric.labels.split('"').nth(1).unwrap_or_default().to_owned();
        (label, shards.iter().map(metric.value).sum())
    })
}

/// Those that ever came up, the quickest first.
fn known(figures: impl Iterator<Item = Figure>) -> Vec<Figure> {
    // All are read before any is left out, since rates go by their order.
    let mut figures: Vec<Figure> = figures.collect();
    figures.retain(|figure| figure.total > 0);
    figures.sort_by(|one, other| other.per_second.total_cmp(&one.per_second).then(other.total.cmp(&one.total)));
    figures
}

fn spreads(all: impl IntoIterator<Item = Spread>) -> Vec<Spread> {
    all.into_iter().filter(|spread| spread.count() > 0).collect()
}

fn total<const FINE: bool>(shards: &[Counters], of: impl Fn(&Counters) -> &Histogram<FINE>) -> Vec<u64> {
    let mut counts = vec![0; BOUNDS_US.len() + 1];
    for counters in shards {
        counts.iter_mut().zip(of(counters).counts()).for_each(|(all, one)| *all += one);
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn rates_are_those_of_each_number() {
        let shards = [Counters::default(), Counters::default()];
        let (mut meter, mut snapshot) = (Meter::default(), Snapshot::default());
        shards[0].dropped_budget.add(5);
        read(&shards, &mut meter, &mut snapshot);
        let figure =
            |of: &[Figure]| of.iter().map(|one| (one.name.clone(), one.total, one.per_second)).collect::<Vec<_>>();
        assert_eq!(figure(&snapshot.dropped), [("budget".to_owned(), 5, 0.0)]);
        // A reason that comes up later is no other's rate.
        shards[1].dropped_overrun.add(20);
        shards[1].deliveries[Class::Every as usize].add(8);
        shards[1].hops[Checkpoint::Taken as usize][0].observe(30);
        shards[0].hop_errors[Checkpoint::Taken as usize].observe(400);
        meter.look(2.0);
        read(&shards, &mut meter, &mut snapshot);
        assert_eq!(figure(&snapshot.dropped), [("overrun".to_owned(), 20, 10.0), ("budget".to_owned(), 5, 0.0)]);
        assert_eq!(snapshot.shards.iter().map(|shard| shard.deliveries_per_second).collect::<Vec<_>>(), [0.0, 4.0]);
        let [hop] = snapshot.hops.as_slice() else { panic!("{:?}", snapshot.hops) };
        assert_eq!((&*hop.name, &*hop.class, hop.error_us, hop.count()), ("taken", "sum", Some(400), 1));
        assert_eq!(totals(&shards), (8, 0, 25));
    }

    #[test]
    fn each_trouble_is_a_counter() {
        let names: BTreeMap<&str, &str> = METRICS.iter().map(|metric| (metric.name, metric.kind)).collect();
        for (name, _) in TROUBLES {
            assert_eq!(names.get(name), Some(&"counter"), "{name}");
        }
    }
}
