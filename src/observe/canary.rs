//! What viewers of canaries count, by data center that the canaries are of.

use std::fmt::Error;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::Labels;
use super::histogram::Histogram;
use super::metrics::Counter;
use crate::wire::event::Class;

/// What one shard counts of one data center's canaries.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct CanaryCounters {
    /// Came as they should, by class.
    pub heard: [Counter; Class::ALL.len()],
    /// Did not come in time, by class.
    pub lost: [Counter; Class::ALL.len()],
    /// Of those, came after all.
    pub late: [Counter; Class::ALL.len()],
    /// Came again.
    pub repeated: [Counter; Class::ALL.len()],
    /// Of class `every`, came behind one that follows it.
    pub disordered: Counter,
    /// Of class `every`, are missing where viewers were told of a gap.
    pub gaps: Counter,
    /// Backends that live and of which nothing is heard any more.
    pub silent: Counter,
    /// Pairs of a backend and a dispatcher of which something is heard.
    pub pairs: Counter,
    /// From a backend to a viewer, by class.
    pub latency: [Histogram; Class::ALL.len()],
}

/// A data center, and what each shard counts of its canaries.
pub type OfDc = (String, Arc<[CanaryCounters]>);

/// Those of all data centers that this node knows. One is added when it is heard of, and none is taken away.
#[derive(Debug, Default, Clone)]
pub struct CanaryMetrics(Arc<Mutex<Vec<OfDc>>>);

impl CanaryMetrics {
    /// What is counted of a data center, on a node of so many shards.
    pub fn of(&self, dc: &str, shards: usize) -> Arc<[CanaryCounters]> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) = all.iter().find(|(name, _)| name == dc) {
            return Arc::clone(counters);
        }
        let counters: Arc<[CanaryCounters]> = (0..shards).map(|_| CanaryCounters::default()).collect();
        all.push((dc.to_owned(), Arc::clone(&counters)));
        counters
    }

    /// All of them.
    pub fn all(&self) -> Vec<OfDc> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn sum(shards: &[CanaryCounters], of: impl Fn(&CanaryCounters) -> &Counter) -> u64 {
    shards.iter().map(|shard| of(shard).get()).sum()
}

fn labels(dc: &str, class: Option<Class>) -> Labels<'static> {
    let mut labels = vec![("dc", dc.to_owned())];
    labels.extend(class.map(|class| ("class", class.to_string())));
    labels
}

type Read<'a> = &'a dyn Fn(&CanaryCounters, Class) -> &Counter;

impl Collector for CanaryMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let all = self.all();
        if all.is_empty() {
            return Ok(());
        }
        let by_class: [(&str, &str, Read<'_>); 4] = [
            ("fanfare_canary_heard", "Canaries that came as they should.", &|shard, class| {
                &shard.heard[class as usize]
            }),
            ("fanfare_canary_lost", "Canaries that did not come in time.", &|shard, class| &shard.lost[class as usize]),
            ("fanfare_canary_late", "Canaries that were counted as lost, and came after all.", &|shard, class| {
                &shard.late[class as usize]
            }),
            ("fanfare_canary_repeated", "Canaries that came again.", &|shard, class| &shard.repeated[class as usize]),
        ];
        for (name, help, read) in by_class {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (dc, shards) in &all {
                for class in Class::ALL {
                    let value = sum(shards, |shard| read(shard, class));
                    metric
                        .encode_family(&labels(dc, Some(class)))?
                        .encode_counter::<Labels<'_>, u64, u64>(&value, None)?;
                }
            }
        }
        let whole: [(&str, &str, Read<'_>); 2] = [
            (
                "fanfare_canary_disordered",
                "Canaries of class every that came behind one that follows them.",
                &|shard, _| &shard.disordered,
            ),
            (
                "fanfare_canary_gaps",
                "Canaries of class every that are missing where viewers were told of a gap.",
                &|shard, _| &shard.gaps,
            ),
        ];
        for (name, help, read) in whole {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (dc, shards) in &all {
                let value = sum(shards, |shard| read(shard, Class::Every));
                metric.encode_family(&labels(dc, None))?.encode_counter::<Labels<'_>, u64, u64>(&value, None)?;
            }
        }
        let help = "Backends that live and of which a core hears no canary any more, where most are.";
        let mut metric = encoder.encode_descriptor("fanfare_canary_silent", help, None, MetricType::Gauge)?;
        for (dc, shards) in &all {
            let most = shards.iter().map(|shard| shard.silent.get()).max().unwrap_or(0);
            metric.encode_family(&labels(dc, None))?.encode_gauge(&most)?;
        }
        let help = "Pairs of a backend and a dispatcher of which a core hears canaries, where least are.";
        let mut metric = encoder.encode_descriptor("fanfare_canary_pairs", help, None, MetricType::Gauge)?;
        for (dc, shards) in &all {
            let least = shards.iter().map(|shard| shard.pairs.get()).min().unwrap_or(0);
            metric.encode_family(&labels(dc, None))?.encode_gauge(&least)?;
        }
        let help = "From a backend to a viewer's place before its socket, by the clocks of the two.";
        let mut metric = encoder.encode_descriptor("fanfare_canary_seconds", help, None, MetricType::Histogram)?;
        for (dc, shards) in &all {
            for class in Class::ALL {
                let mut total = (0.0, 0, Vec::<(f64, u64)>::new());
                for shard in shards.iter() {
                    let (sum, count, buckets) = shard.latency[class as usize].read();
                    total = (
                        total.0 + sum,
                        total.1 + count,
                        match total.2.is_empty() {
                            true => buckets,
                            false => total.2.iter().zip(buckets).map(|(one, other)| (one.0, one.1 + other.1)).collect(),
                        },
                    );
                }
                let (sum, count, buckets) = total;
                metric
                    .encode_family(&labels(dc, Some(class)))?
                    .encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
            }
        }
        Ok(())
    }
}
