//! What an event costs in user mode, piece by piece, without the kernel: `cargo bench --bench hot_path`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use fanfare::admission::counts::Counts;
use fanfare::admission::rates::Rates;
use fanfare::auth::Token;
use fanfare::dispatcher::subscribers::{Routed, Subscribers};
use fanfare::frontend::topics::Topics;
use fanfare::ground::all::All;
use fanfare::ground::token_cache::TokenCache;
use fanfare::queue::backlog::Backlog;
use fanfare::runtime::account::Account;
use fanfare::wire::connection_id::NodeId;
use fanfare::wire::event::{Class, Draft};
use fanfare::wire::frame::{Event, Frame};
use fanfare::wire::request;
use fanfare::wire::topic::Topic;
use fanfare::wire::version::Version;
use jsonwebtoken::EncodingKey;

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
        version: Version::NONE,
        hops: None,
    }))
}

fn parse(bench: &mut Criterion) {
    bench.bench_function("head: find its end and parse it", |bench| {
        bench.iter(|| {
            let end = request::head_end(black_box(HEAD), 0).expect("its lines end as they must").expect("it is whole");
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
    let mut subscribers = Subscribers::new(true);
    let topics: Vec<Topic> = (0..10_000).map(|n| Topic::parse(&format!("live:{n}")).expect("it is valid")).collect();
    for topic in &topics {
        subscribers.learn(topic, Arc::new([NodeId(1)]), now);
    }
    let mut next = 0;
    bench.bench_function("dispatcher: route one of 10,000 topics", |bench| {
        bench.iter(|| {
            next = (next + 7919) % topics.len();
            matches!(subscribers.route(topics[next].as_str(), now), Routed::To { .. })
        })
    });
    let mut table = Topics::new(&Account::unbounded());
    for (slot, topic) in topics.iter().enumerate() {
        table.join(topic, &All::default(), slot as u32);
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
    let mut table = Topics::new(&Account::unbounded());
    for slot in 0..10_000 {
        table.join(&topic, &All::default(), slot);
    }
    let index = table.find("live:42").expect("it has viewers");
    let like = frame(7);
    let mut group = bench.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("one frame to 10,000 viewers", |bench| {
        bench.iter(|| {
            let entry = table.get_mut(index);
            _ = entry.append(&like, 0);
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
            Backlog::default,
            |backlog| likes.iter().for_each(|like| _ = black_box(backlog.push(like, 1, 0))),
            BatchSize::SmallInput,
        )
    });
    group.finish();
}

/// What a limit and a token cost a request.
fn admit(bench: &mut Criterion) {
    let (rates, counts) = (Rates::new(100_000), Counts::new(u32::MAX, 65_536));
    let mut now = 0;
    bench.bench_function("limit: one of a rate", |bench| {
        bench.iter(|| {
            now += 20;
            rates.take(black_box(0x0123_4567_89ab_cdef), 1, now)
        })
    });
    bench.bench_function("limit: a connection comes and goes", |bench| {
        bench.iter(|| {
            let entered = counts.enter(black_box(0x0123_4567_89ab_cdef));
            counts.leave(0x0123_4567_89ab_cdef);
            entered
        })
    });
    let folder = std::env::temp_dir().join(format!("fanfare-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let claims =
        serde_json::json!({"sub": "ana", "exp": 4_000_000_000_u64, "fanfare": {"subscribe": ["live:*", "chat:7"]}});
    let secret = b"a secret of more than 32 bytes, for benchmarks";
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &EncodingKey::from_secret(secret));
    let token = token.expect("it signs");
    let file = folder.join("secret");
    std::fs::write(&file, secret).expect("the folder is ours");
    let watcher = fanfare::auth::Watcher::start(&file).expect("it is a secret");
    let terms = fanfare::auth::Terms::default();
    let keys = Arc::clone(&watcher.keys().load());
    bench.bench_function("token: check (HS256)", |bench| bench.iter(|| Token(black_box(&token)).verify(&keys, 0)));
    let mut seen = TokenCache::default();
    bench.bench_function("token: find among those checked", |bench| {
        bench.iter(|| seen.verify(Token(black_box(&token)), &keys, &terms, 0).is_ok())
    });
    let _ = std::fs::remove_dir_all(&folder);
}

criterion_group! {
    name = hot_path;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    targets = parse, encode, look_up, fan_out, merge, admit
}
criterion_main!(hot_path);
