//! How long sampled events took from checkpoint to checkpoint, as metrics. Ways that no sampled event went are left out: they
//! would be most.

use std::fmt::Error;

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::exposition::Labels;
use super::histogram::Histogram;
use super::metrics::Counters;
use crate::wire::event::Class;
use crate::wire::hops::Checkpoint;

type Read = fn(&Counters, Checkpoint, Class) -> &Histogram<true>;

/// Writes the families.
pub fn encode(shards: &[Counters], encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let help =
        "From the checkpoint before to this one, of sampled events; between two nodes as far as their clocks say.";
    let read: Read = |counters, hop, class| &counters.hops[hop as usize][class as usize];
    histograms(shards, encoder, ("fanfare_hop_seconds", help), &Class::ALL.map(Some), read)?;
    let help = "How wrong what is said of a way between two nodes may be, since they have two clocks.";
    let read: Read = |counters, hop, _| &counters.hop_errors[hop as usize];
    histograms(shards, encoder, ("fanfare_hop_error_seconds", help), &[None], read)?;
    let help = "Ways between two nodes that may be as wrong as they are long, or of whose clocks nothing is known.";
    let mut family = encoder.encode_descriptor("fanfare_hops_unsure", help, None, MetricType::Counter)?;
    for (shard, counters) in shards.iter().enumerate() {
        let unsure = counters.hops_unsure.get();
        let labels: Labels<'_> = vec![("shard", shard.to_string())];
        family.encode_family(&labels)?.encode_counter::<Labels<'_>, u64, u64>(&unsure, None)?;
    }
    Ok(())
}

fn histograms(
    shards: &[Counters],
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    classes: &[Option<Class>],
    read: Read,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    let ways = Checkpoint::ALL.iter().flat_map(|hop| classes.iter().map(move |class| (*hop, *class)));
    for (hop, class) in ways {
        for (shard, counters) in shards.iter().enumerate() {
            let (sum, count, buckets) = read(counters, hop, class.unwrap_or(Class::Sum)).read();
            if count > 0 {
                let mut labels: Labels<'_> = vec![("hop", hop.name().to_owned()), ("shard", shard.to_string())];
                labels.extend(class.map(|class| ("class", class.to_string())));
                family.encode_family(&labels)?.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)?;
            }
        }
    }
    Ok(())
}
