//! The metrics of a node in OpenMetrics, read from the shards' own counters when somebody asks.

use std::fmt::Error;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::canary::CanaryMetrics;
use super::histogram::Histogram;
use super::log;
use super::metrics::{Counter, Counters, METRICS};
use super::peers::{PeerMetrics, Peers};
use crate::admission::{Admission, Refusal};
use crate::kv::KEPT;
use crate::observe::otlp::{Counts, Lost};
use crate::runtime::account::Use;
use crate::runtime::clock::Times;
use crate::runtime::process;
use crate::wire::event::Class;
use crate::wire::http::trim;

/// How metrics are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4, which every scraper reads.
    Text,
}

impl Format {
    /// The one that an `Accept` asks for (RFC 9110 section 12.5.1): OpenMetrics where it is named and nothing better is.
    pub fn asked(accept: Option<&str>) -> Format {
        let quality = |wanted: &str, version: &str| {
            let ranges = accept.unwrap_or("").split(',').filter_map(|range| {
                let mut parts = range.split(';').map(trim);
                let fits = parts.next().is_some_and(|range| range.eq_ignore_ascii_case(wanted));
                let (mut quality, mut right) = (1.0, true);
                for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                    match name {
                        "q" | "Q" => quality = value.parse().unwrap_or(0.0),
                        "version" => right = value.trim_matches('"') == version,
                        _ => {}
                    }
                }
                (fits && right).then_some(quality)
            });
            ranges.fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text", "1.0.0");
        if open > 0.0 && open >= quality("text/plain", "0.0.4") { Format::OpenMetrics } else { Format::Text }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// All of a node's metrics.
pub fn registry(
    shards: Arc<[Counters]>,
    admission: Arc<Admission>,
    peers: Vec<Arc<PeerMetrics>>,
    canaries: CanaryMetrics,
    times: Times,
) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Shards(shards)));
    registry.register_collector(Box::new(canaries));
    registry.register_collector(Box::new(Peers(peers, times)));
    registry.register_collector(Box::new(Process(admission)));
    registry
}

/// As text, with its content type.
pub fn exposition(registry: &Registry, format: Format) -> (&'static str, String) {
    let mut out = String::with_capacity(64 * 1024);
    text::encode(&mut out, registry).expect("a String takes all");
    let out = if format == Format::Text { in_text_format(&out) } else { out };
    (format.content_type(), out)
}

/// What differs in Prometheus' text format: a counter's family has its samples' name, and there are neither units, nor
/// exemplars, nor an end.
fn in_text_format(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    let mut help = None;
    for line in open.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|family| family.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                out += &format!("# HELP {name}{suffix} {text}\n");
            }
            out += &format!("# TYPE {name}{suffix} {kind}\n");
        } else if !line.starts_with("# ") {
            out += line.split(" # ").next().unwrap_or(line);
            out.push('\n');
        }
    }
    out
}

/// Labels, as pairs.
pub(super) type Labels<'a> = Vec<(&'a str, String)>;

#[derive(Debug)]
struct Shards(Arc<[Counters]>);

impl Shards {
    /// Writes a family whose samples differ in one label beside `shard`.
    fn family<T>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help, kind): (&str, &str, MetricType),
        label: &str,
        values: &[(String, T)],
        write: impl Fn(&Counters, &T, &mut MetricEncoder<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
        for (value, which) in values {
            for (shard, counters) in self.0.iter().enumerate() {
                let mut labels: Labels<'_> = Vec::with_capacity(2);
                if !label.is_empty() {
                    labels.push((label, value.clone()));
                }
                labels.push(("shard", shard.to_string()));
                write(counters, which, &mut metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    /// A counter for each value of a label.
    fn counters(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        label: &str,
        values: impl Iterator<Item = String>,
        read: impl Fn(&Counters, usize) -> u64,
    ) -> Result<(), Error> {
        let values: Vec<(String, usize)> = values.enumerate().map(|(at, value)| (value, at)).collect();
        self.family(encoder, (name, help, MetricType::Counter), label, &values, |counters, &at, metric| {
            count(metric, read(counters, at))
        })
    }

    /// A histogram for each value of a label.
    fn histograms(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        (name, help): (&str, &str),
        label: &str,
        values: impl Iterator<Item = String>,
        read: impl Fn(&Counters, usize) -> &Histogram,
    ) -> Result<(), Error> {
        let values: Vec<(String, usize)> = values.enumerate().map(|(at, value)| (value, at)).collect();
        self.family(encoder, (name, help, MetricType::Histogram), label, &values, |counters, &at, metric| {
            let (sum, count, buckets) = read(counters, at).read();
            metric.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)
        })
    }
}

fn count(metric: &mut MetricEncoder<'_>, value: u64) -> Result<(), Error> {
    metric.encode_counter::<Labels<'_>, u64, u64>(&value, None)
}

impl Collector for Shards {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let encoder = &mut encoder;
        for family in METRICS.chunk_by(|one, other| one.name == other.name) {
            // The encoder adds the suffix to counters.
            let name = family[0].name.strip_suffix("_total").unwrap_or(family[0].name);
            let label = family[0].labels.split_once('=').map_or("", |(label, _)| label);
            let value = |labels: &str| labels.split('"').nth(1).unwrap_or("").to_owned();
            if family[0].kind == "counter" {
                let values = family.iter().map(|metric| value(metric.labels));
                self.counters(encoder, (name, family[0].help), label, values, |counters, at| {
                    (family[at].value)(counters)
                })?;
            } else {
                let values: Vec<_> = family.iter().map(|metric| (value(metric.labels), metric.value)).collect();
                let descriptor = (name, family[0].help, MetricType::Gauge);
                self.family(encoder, descriptor, label, &values, |counters, value, metric| {
                    metric.encode_gauge(&value(counters))
                })?;
            }
        }
        type Of = fn(&Counters) -> &Counter;
        let times: [(&str, &str, Of); 4] = [
            (
                "fanfare_shard_turn_max_seconds",
                "Longest time in the last minute without turning to sockets.",
                |counters| &counters.turn_max_us,
            ),
            (
                "fanfare_kv_wait_seconds",
                "How long the oldest question to the key-value store has waited.",
                |counters| &counters.kv_wait_us,
            ),
            (
                "fanfare_store_wait_seconds",
                "How long commands have waited for the database without any answer, on the first shard.",
                |counters| &counters.store_wait_us,
            ),
            (
                "fanfare_clock_off_seconds",
                "How far the clock is at least from the middle of those of the nodes that it hears, on the first shard.",
                |counters| &counters.clock_off_us,
            ),
        ];
        for (name, help, read) in times {
            self.family(
                encoder,
                (name, help, MetricType::Gauge),
                "",
                &[(String::new(), ())],
                |counters, (), metric| metric.encode_gauge(&(read(counters).get() as f64 / 1e6)),
            )?;
        }
        type Read = Box<dyn Fn(&Counters) -> u64>;
        let held = Use::ALL.iter().map(|what| {
            (what.name().to_owned(), Box::new(move |counters: &Counters| counters.held[*what as usize].get()) as Read)
        });
        let kept = KEPT.iter().enumerate().map(|(at, name)| {
            ((*name).to_owned(), Box::new(move |counters: &Counters| counters.kept[at].get()) as Read)
        });
        let uses: Vec<(String, Read)> = held.chain(kept).collect();
        let held = ("fanfare_memory_bytes", "Bytes held on behalf of others, by what they are for.", MetricType::Gauge);
        self.family(encoder, held, "use", &uses, |counters, read, metric| metric.encode_gauge(&read(counters)))?;
        let uses = || Use::ALL.iter().map(|what| what.name().to_owned());
        let help = ("fanfare_memory_refused", "What found no room in memory, by what it was for.");
        self.counters(encoder, help, "use", uses(), |counters, what| counters.held_refused[what].get())?;
        let classes = || Class::ALL.iter().map(Class::to_string);
        let get = Counter::get;
        let help = ("fanfare_events", "Events taken from publishers.");
        self.counters(encoder, help, "class", classes(), |counters, class| get(&counters.events_in[class]))?;
        let help = ("fanfare_deliveries", "Events handed to the kernel for a viewer, merged ones once.");
        self.counters(encoder, help, "class", classes(), |counters, class| get(&counters.deliveries[class]))?;
        let reasons = Refusal::ALL.iter().map(|refusal| refusal.reason().to_owned());
        let help = ("fanfare_refused", "Connections, streams and events that a limit refused.");
        self.counters(encoder, help, "reason", reasons, |counters, reason| get(&counters.refused[reason]))?;
        let help = ("fanfare_delivery_seconds", "From an event's at to the write to a viewer's socket, a sample.");
        self.histograms(encoder, help, "class", classes(), |counters, class| &counters.delivery[class])?;
        super::hops::encode(&self.0, encoder)?;
        let once = || std::iter::once(String::new());
        let help = ("fanfare_received_seconds", "From an event's at to its receipt, as clients report it.");
        self.histograms(encoder, help, "", once(), |counters, _| &counters.received)?;
        let help = ("fanfare_kv_answer_seconds", "From a question to the key-value store to its answer.");
        self.histograms(encoder, help, "", once(), |counters, _| &counters.kv_answer)?;
        let help = ("fanfare_store_answer_seconds", "From a command to the database to its answer.");
        self.histograms(encoder, help, "", once(), |counters, _| &counters.store_answer)
    }
}

/// What the process is, by the names that Prometheus gives to it everywhere.
#[derive(Debug)]
struct Process(Arc<Admission>);

#[expect(clippy::disallowed_methods, reason = "it tells what the process is")]
impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let (_, connections_max) = self.0.connections();
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory.", Some(process::resident())),
            ("process_open_fds", "Open files.", process::open_files()),
            ("process_max_fds", "Open files that there may be.", process::open_files_max()),
            ("fanfare_connections_max", "Connections that there may be.", Some(connections_max as u64)),
            (
                "fanfare_memory_max_bytes",
                "Resident memory past which no stream is opened, no topic added to one, and nothing published.",
                Some(self.0.memory().1),
            ),
        ];
        for (name, help, value) in gauges {
            let Some(value) = value else { continue };
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let mut cpu = encoder.encode_descriptor("process_cpu_seconds", "Processor time.", None, MetricType::Counter)?;
        cpu.encode_counter::<Labels<'_>, f64, f64>(&process::cpu_seconds(), None)?;
        let help = "Lines of the log that found no room, since those before them were not read.";
        let mut lost = encoder.encode_descriptor("fanfare_log_lines_lost", help, None, MetricType::Counter)?;
        lost.encode_counter::<Labels<'_>, u64, u64>(&log::lost(), None)?;
        let spans = Counts::of_process();
        let help = "Spans of sampled events that a collector of OpenTelemetry took.";
        let mut sent = encoder.encode_descriptor("fanfare_spans", help, None, MetricType::Counter)?;
        sent.encode_counter::<Labels<'_>, u64, u64>(&spans.sent(), None)?;
        let help = "Spans that were to be sent to one and are lost.";
        let mut lost = encoder.encode_descriptor("fanfare_spans_lost", help, None, MetricType::Counter)?;
        for why in Lost::ALL {
            let labels: Labels<'_> = vec![("reason", why.reason().to_owned())];
            lost.encode_family(&labels)?.encode_counter::<Labels<'_>, u64, u64>(&spans.lost(why), None)?;
        }
        if let Some(start) = process::start_seconds() {
            let help = "When the process started, since 1970.";
            encoder
                .encode_descriptor("process_start_time_seconds", help, None, MetricType::Gauge)?
                .encode_gauge(&start)?;
        }
        let version: Labels<'_> = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        let mut build =
            encoder.encode_descriptor("fanfare_build_info", "Which version runs.", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Memory, Most};
    use std::collections::{BTreeMap, BTreeSet};

    fn node(format: Format) -> (&'static str, String) {
        let most = Most {
            connections: None,
            address_connections: 0,
            address_connects: 0,
            publishes: 0,
            topics: 1,
            memory: Memory::Percent(1),
            backlog: None,
            turn: std::time::Duration::ZERO,
        };
        let shards: Arc<[Counters]> = [Counters::default(), Counters::default()].into();
        shards[1].dropped_overrun.add(3);
        shards[1].delivery[0].observe(60_000);
        shards[1].hops.iter().flatten().chain(&shards[1].hop_errors).for_each(|hop| hop.observe(7));
        let peer = PeerMetrics { dc: "eu".to_owned(), shards: (0..2).map(|_| Default::default()).collect() };
        let canaries = CanaryMetrics::default();
        canaries.of("here", 2)[1].lost[3].add(2);
        exposition(
            &registry(
                shards,
                Arc::new(Admission::new(&most, &[], 2, 100, 10, std::time::Instant::now())),
                vec![Arc::new(peer)],
                canaries,
                Times::machine(),
            ),
            format,
        )
    }

    #[test]
    fn families_stand_together_and_end() {
        let text = node(Format::OpenMetrics).1;
        let mut families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count, "a family is declared once");
        assert!(text.contains("fanfare_dropped_total{reason=\"overrun\",shard=\"1\"} 3\n"), "{text}");
        let bucket = "fanfare_delivery_seconds_bucket{le=\"0.075\",class=\"sum\",shard=\"1\"} 1\n";
        assert!(text.contains(bucket) && text.contains("le=\"0.05\",class=\"sum\",shard=\"1\"} 0\n"), "{text}");
        // Without this one Prometheus computes no quantile.
        assert!(text.contains("_bucket{le=\"+Inf\",class=\"sum\",shard=\"1\"} 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn who_asks_for_prometheus_text_gets_it() {
        const PROMETHEUS: &str = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;\
                                  version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in
            [PROMETHEUS, "application/openmetrics-text", "text/plain, application/openmetrics-text; version=\"1.0.0\""]
        {
            assert_eq!(Format::asked(Some(accept)), Format::OpenMetrics, "{accept}");
        }
        for accept in [
            "text/plain",
            "*/*",
            "",
            "text/plain;version=0.0.4",
            "application/openmetrics-text;version=0.0.1",
            "application/openmetrics-text;q=0",
            "text/plain;q=0.9,application/openmetrics-text;q=0.8",
        ] {
            assert_eq!(Format::asked(Some(accept)), Format::Text, "{accept}");
        }
        assert_eq!(Format::asked(None), Format::Text);
        let (kind, text) = node(Format::Text);
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
        assert!(text.contains("# TYPE fanfare_dropped_total counter\nfanfare_dropped_total{"), "{text}");
        assert!(
            text.contains("# HELP fanfare_dropped_total ")
                && text.contains("# TYPE fanfare_delivery_seconds histogram\n")
        );
        let samples = |text: &str| {
            text.lines().filter(|line| line.starts_with("fanfare_")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(samples(&text) == samples(&node(Format::OpenMetrics).1), "{text}");
        assert!(text.ends_with('\n') && !text.contains("EOF"));
    }

    /// A row of the table in docs/metrics.md: a metric's name and kind, and its labels with their values where they are few.
    type Row = (String, String);

    fn documented() -> BTreeMap<Row, Vec<String>> {
        include_str!("../../docs/metrics.md")
            .lines()
            .filter(|line| line.starts_with("| `fanfare_") || line.starts_with("| `process_"))
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                let mut labels: Vec<String> =
                    cells[2].split(',').map(|label| label.trim().trim_matches('`').to_owned()).collect();
                labels.retain(|label| !label.is_empty());
                labels.sort_unstable();
                ((cells[0].trim_matches('`').to_owned(), cells[1].to_owned()), labels)
            })
            .collect()
    }

    #[test]
    fn the_page_on_metrics_lists_what_is_exported() {
        let text = node(Format::OpenMetrics).1;
        let mut exported: BTreeMap<Row, Vec<String>> = BTreeMap::new();
        let mut row = (String::new(), String::new());
        for line in text.lines() {
            if let Some(family) = line.strip_prefix("# TYPE ") {
                let (name, kind) = family.split_once(' ').expect("a name and a kind");
                let suffix = if kind == "counter" { "_total" } else { "" };
                row = (format!("{name}{suffix}"), kind.to_owned());
                exported.insert(row.clone(), Vec::new());
            } else if let Some((_, labels)) = line.split_once('{') {
                let labels = labels.split('}').next().expect("labels end").split(',');
                for label in labels.filter(|label| !label.starts_with("shard=") && !label.starts_with("le=")) {
                    // Classes are in a table of their own, data centers have whatever names they are given,
                    // and versions go on.
                    let named =
                        ["class", "dc", "version"].into_iter().find(|name| label.starts_with(&format!("{name}=")));
                    let label = named.map_or_else(|| label.replace('"', ""), str::to_owned);
                    let known = exported.get_mut(&row).expect("samples follow their family");
                    if !known.contains(&label) {
                        known.push(label);
                    }
                    known.sort_unstable();
                }
            }
        }
        // Kernels before 6.2 do not say.
        exported.entry(("process_open_fds".to_owned(), "gauge".to_owned())).or_default();
        exported.entry(("process_max_fds".to_owned(), "gauge".to_owned())).or_default();
        // Where there is a listener for TLS.
        exported.entry(("fanfare_tls_certificate_days_left".to_owned(), "gauge".to_owned())).or_default();
        assert_eq!(documented(), exported);
    }

    #[test]
    fn every_reason_is_explained() {
        let text = node(Format::OpenMetrics).1;
        let exported: BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| {
                let (name, labels) = line.split_once('{')?;
                let reason = labels.split_once("reason=\"")?.1;
                Some((name, reason.split('"').next()?))
            })
            .collect();
        assert!(exported.len() > 20, "{exported:?}");
        let rows = include_str!("../../docs/reasons.md").lines().filter(|line| line.starts_with("| `fanfare_"));
        let explained: Vec<(&str, &str)> = rows
            .map(|line| {
                let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
                assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
                (cells[0].trim_matches('`'), cells[1].trim_matches('`'))
            })
            .collect();
        assert_eq!(explained.len(), exported.len(), "each once");
        assert_eq!(explained.into_iter().collect::<BTreeSet<_>>(), exported);
    }
}
