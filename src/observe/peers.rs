//! What a dispatcher counts of other data centers.

use std::fmt::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue};
use prometheus_client::metrics::MetricType;

use super::metrics::Counter;
use crate::runtime::clock::Times;
use crate::wire::event::Class;

/// What one shard counts of one peer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PeerCounters {
    /// Events sent to it, merged ones once.
    pub sent: Counter,
    /// Events that came from it, repeats left out.
    pub received: Counter,
    /// Events given up, by class.
    pub dropped: [Counter; Class::ALL.len()],
    /// How long what is oldest has waited in memory, in ms.
    pub lag_ms: Counter,
    /// When what is oldest in the key-value store began to wait, in Unix ms; 0 if nothing does.
    pub queued_since: Counter,
    /// 1 while it answers.
    pub connected: Counter,
    /// How far its clock is ahead, in ms.
    clock_ahead_ms: AtomicI64,
}

impl PeerCounters {
    /// Its clock is so far ahead, in ms.
    pub fn set_clock_ahead(&self, ms: i64) {
        self.clock_ahead_ms.store(ms, Ordering::Relaxed);
    }
}

/// What all shards count of one peer.
#[derive(Debug)]
pub struct PeerMetrics {
    /// Its name.
    pub dc: String,
    /// Shard by shard.
    pub shards: Box<[PeerCounters]>,
}

impl PeerMetrics {
    /// How long what is oldest has waited for it, in ms.
    pub fn lag_ms(&self, unix_ms: u64) -> u64 {
        let queued = self.queued_since().map_or(0, |since| unix_ms.saturating_sub(since));
        self.shards.iter().map(|shard| shard.lag_ms.get()).max().unwrap_or(0).max(queued)
    }

    /// Since when what is oldest has waited in the key-value store, as far as this node looks after it.
    pub fn queued_since(&self) -> Option<u64> {
        self.shards.iter().map(|shard| shard.queued_since.get()).filter(|since| *since > 0).min()
    }

    /// How far its clock is ahead, in ms.
    pub fn clock_ahead_ms(&self) -> i64 {
        self.shards[0].clock_ahead_ms.load(Ordering::Relaxed)
    }

    /// Whether it answers.
    pub fn is_connected(&self) -> bool {
        self.shards[0].connected.get() == 1
    }

    fn sum(&self, of: impl Fn(&PeerCounters) -> &Counter) -> u64 {
        self.shards.iter().map(|shard| of(shard).get()).sum()
    }
}

/// Their exposition, at a time.
#[derive(Debug)]
pub struct Peers(pub Vec<Arc<PeerMetrics>>, pub Times);

impl Peers {
    fn counter(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        read: impl Fn(&PeerMetrics) -> u64,
    ) -> Result<(), Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for peer in &self.0 {
            let labels = [("dc", peer.dc.as_str())];
            metric.encode_family(&labels)?.encode_counter::<[(&str, &str); 1], u64, u64>(&read(peer), None)?;
        }
        Ok(())
    }

    fn gauge<T: EncodeGaugeValue>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        read: impl Fn(&PeerMetrics) -> T,
    ) -> Result<(), Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for peer in &self.0 {
            metric.encode_family(&[("dc", peer.dc.as_str())])?.encode_gauge(&read(peer))?;
        }
        Ok(())
    }
}

impl Collector for Peers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        if self.0.is_empty() {
            return Ok(());
        }
        let encoder = &mut encoder;
        let now_ms = self.1.unix_ms();
        let help = ("fanfare_peer_lag_seconds", "How long what is oldest has waited for a data center.");
        self.gauge(encoder, help, |peer| peer.lag_ms(now_ms) as f64 / 1e3)?;
        let help = ("fanfare_peer_connected", "1 while a data center answers.");
        self.gauge(encoder, help, |peer| u64::from(peer.is_connected()))?;
        let help = ("fanfare_peer_clock_ahead_seconds", "How far a data center's clock is ahead of this one's.");
        self.gauge(encoder, help, |peer| peer.clock_ahead_ms() as f64 / 1e3)?;
        let help = ("fanfare_peer_frames_sent", "Events sent to a data center, merged ones once.");
        self.counter(encoder, help, |peer| peer.sum(|shard| &shard.sent))?;
        let help = ("fanfare_peer_frames_received", "Events that came from a data center, repeats left out.");
        self.counter(encoder, help, |peer| peer.sum(|shard| &shard.received))?;
        let help = ("fanfare_peer_events_dropped", "Events given up on their way to a data center.");
        let mut metric = encoder.encode_descriptor(help.0, help.1, None, MetricType::Counter)?;
        for peer in &self.0 {
            for class in Class::ALL {
                let labels = [("dc", peer.dc.as_str()), ("class", class.name())];
                let dropped = peer.sum(|shard| &shard.dropped[class as usize]);
                metric.encode_family(&labels)?.encode_counter::<[(&str, &str); 2], u64, u64>(&dropped, None)?;
            }
        }
        Ok(())
    }
}
