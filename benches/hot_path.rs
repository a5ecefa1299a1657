//! What an event costs in user mode, piece by piece, without the kernel: `cargo bench --bench hot_path`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::dispatch::core::{Dispatcher, Routed};
use fanfare::frontend::backlog::{Backlog, Bounds};
use fanfare::frontend::topics::Topics;
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::event::{Class, Draft};
use fanfare::wire::frame::{Event, Frame};
use fanfare::wire::request;
use fanfare::wire::topic::Topic;

const HEAD: &[u8] = b"POST /v1/topics/live:42/events HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench\r\n\
    Accept: */*\r\nContent-Type: application/json\r\nContent-Length: 70\r\n\r\n";
const BODY: &[u8] = br#"{"type":"like","data":{"member":"ana","reaction":"like","likes":7},"key":"like"}"#;

fn frame(number: usize) -> Arc<Frame> {
    let (id, data) = (format!("0123456789abc-0-{number}"), br#"{"member":"ana","reaction":"like","likes":7}"#);
    Arc::new(Frame::encode(&Event {
        id: &id,
        topic: "live:42",
        kind: "like",
        key: Some("like"),
        at: 1_732_313_131_123,
        data,
        class: Class::Sum,
        ttl_ms: 5000,
        place: None,
        version: 0,
    }))
}

fn parse(bench: &mut Criterion) {
    bench.bench_function("head: find its end and parse it", |bench| {
        bench.iter(|| {
            let end = request::head_end(black_box(HEAD), 0).expect("it is whole");
            request::parse(&HEAD[..end]).expect("it is valid").path.len()
        })
    });
    bench.bench_function("event: parse and check", |bench| {
        bench.iter(|| Draft::parse(black_box(BODY), Some("live:42")).expect("it is valid").data.len())
    });
}

fn encode(bench: &mut Criterion) {
    bench.bench_function("frame: encode", |bench| bench.iter(|| frame(black_box(7))));
    let like = frame(7);
    bench.bench_function("frame: encode again with a count", |bench| bench.iter(|| like.recounted(black_box(1234))));
}

fn look_up(bench: &mut Criterion) {
    let now = Instant::now();
    let mut dispatcher = Dispatcher::default();
    let topics: Vec<Topic> = (0..10_000).map(|n| Topic::parse(&format!("live:{n}")).expect("it is valid")).collect();
    for topic in &topics {
        dispatcher.learn(topic, Arc::new([NodeId(1)]), now);
    }
    let mut next = 0;
    bench.bench_function("dispatcher: route one of 10,000 topics", |bench| {
        bench.iter(|| {
            next = (next + 7919) % topics.len();
            matches!(dispatcher.route(topics[next].as_str(), now), Routed::To { .. })
        })
    });
    let mut table = Topics::default();
    for (slot, topic) in topics.iter().enumerate() {
        table.join(topic, slot as u32);
    }
    bench.bench_function("frontend: find one of 10,000 topics", |bench| {
        bench.iter(|| {
            next = (next + 7919) % topics.len();
            table.find(topics[next].as_str())
        })
    });
}

fn fan_out(bench: &mut Criterion) {
    let topic = Topic::parse("live:42").expect("it is valid");
    let mut table = Topics::default();
    for slot in 0..10_000 {
        table.join(&topic, slot);
    }
    let index = table.find("live:42").expect("it has viewers");
    let like = frame(7);
    let mut group = bench.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("one frame to 10,000 viewers", |bench| {
        bench.iter(|| {
            let entry = table.get_mut(index);
            entry.append(&like, 0);
            let mut bytes = 0;
            while let Some(place) = entry.next_viewer(0) {
                let end = entry.log.end();
                let viewer = &mut entry.viewers[place as usize];
                bytes += entry.log.since(viewer.cursor).len();
                viewer.cursor = end;
            }
            bytes
        })
    });
    group.finish();
}

fn merge(bench: &mut Criterion) {
    let likes: Vec<_> = (0..1000).map(frame).collect();
    let mut group = bench.benchmark_group("backlog");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("merge 1,000 likes of one video", |bench| {
        bench.iter_batched_ref(
            || Backlog::new(Bounds::CONNECTION),
            |backlog| likes.iter().for_each(|like| _ = black_box(backlog.push(like, 1, 0))),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

criterion_group! {
    name = hot_path;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = parse, encode, look_up, fan_out, merge
}
criterion_main!(hot_path);
