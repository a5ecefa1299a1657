//! Likes and comments stored and acknowledged a second, with 64 submitters that each have one in flight.
//!
//! `cargo bench --bench store [-- SECONDS [DIRECTORY]]`: seconds a scenario (default 5, at most 60), and where the SQLite
//! database is made (default: the build directory, so that it is a real disk and not a tmpfs). With
//! `FANFARE_BENCH_POSTGRES=postgres://…` the same runs on that database too, and leaves its rows there.
use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::db::rules::Standing;
use fanfare::db::{Command, Outcome, PostKind, Store, StoreError};
use fanfare::db::{postgres, sqlite};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SUBMITTERS: usize = 64;

/// A submitter's number with the time of its submission.
type Ticket = (usize, Instant);
type Answer = (Ticket, Result<Outcome, StoreError>);

/// What submitters submit.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Likes,
    Comments,
}

/// Where it is stored.
enum Place<'a> {
    Sqlite(&'a Path),
    Postgres(&'a str),
}

struct Scenario {
    name: &'static str,
    what: What,
    /// Threads among which the submitters are divided: 2 is how shards use the store, 64 is a thread each.
    threads: usize,
    videos: u64,
    /// Members to draw from, or None for a new one each time.
    members: Option<u64>,
}

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: "one hot video, new members, 2 shards", what: What::Likes, threads: 2, videos: 1, members: None },
    Scenario {
        name: "10,000 videos, new members, 2 shards",
        what: What::Likes,
        threads: 2,
        videos: 10_000,
        members: None,
    },
    Scenario {
        name: "10,000 videos, a thread a submitter",
        what: What::Likes,
        threads: SUBMITTERS,
        videos: 10_000,
        members: None,
    },
    Scenario {
        name: "one hot video, 1,000 members (repeats)",
        what: What::Likes,
        threads: 2,
        videos: 1,
        members: Some(1_000),
    },
    Scenario { name: "comments on one video, 2 shards", what: What::Comments, threads: 2, videos: 1, members: None },
    Scenario {
        name: "comments on 10,000 videos, 2 shards",
        what: What::Comments,
        threads: 2,
        videos: 10_000,
        members: None,
    },
];

fn main() {
    // Cargo passes `--bench` along; only plain words are ours.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with('-'));
    let seconds: u64 = words.next().map_or(5, |word| word.parse().expect("SECONDS is a whole number"));
    let length = Duration::from_secs(seconds.clamp(1, 60));
    let base = words.next().unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").to_owned());
    let directory = tempfile::tempdir_in(&base).expect("the directory is writable");

    let flush = flush_us(directory.path());
    println!("disk: appending 64 KiB and flushing it takes {flush} µs (median), {base}");
    println!("{:42} {:>10} {:>9} {:>9} {:>9} {:>9}", "SQLite", "stored/s", "p50 µs", "p90 µs", "p99 µs", "max µs");
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        run(scenario, length, &Place::Sqlite(&directory.path().join(format!("{index}.db"))));
    }
    if let Ok(url) = std::env::var("FANFARE_BENCH_POSTGRES") {
        println!("PostgreSQL");
        for scenario in &SCENARIOS {
            run(scenario, length, &Place::Postgres(&url));
        }
    }
}

/// The median time of an append that is flushed, as a commit does: what the disk allows.
fn flush_us(directory: &Path) -> u128 {
    let mut file = File::create(directory.join("flush")).expect("file");
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let start = Instant::now();
            file.write_all(&[7; 65_536]).expect("write");
            file.sync_data().expect("flush");
            start.elapsed().as_micros()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}

fn run(scenario: &Scenario, length: Duration, place: &Place<'_>) {
    let threads = scenario.threads;
    let (inboxes, outboxes): (Vec<Sender<Answer>>, Vec<Receiver<Answer>>) = (0..threads).map(|_| unbounded()).unzip();
    let answer = move |ticket: Ticket, result| {
        // A submitter that is done no longer listens.
        let _ = inboxes[ticket.0 % threads].send((ticket, result));
    };
    let (store, thread) = match place {
        Place::Sqlite(path) => sqlite::start(path, answer).expect("the database opens"),
        Place::Postgres(url) => postgres::start(url, answer).expect("the database is there"),
    };
    // Rows of this run among those that a database had before.
    let run = format!("bench-{:x}", SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos());

    let start = Instant::now();
    let deadline = start + length;
    let (mut acknowledged, mut created) = (0_u64, 0_u64);
    let mut latency = hdrhistogram::Histogram::<u64>::new(3).expect("three digits are allowed");
    std::thread::scope(|scope| {
        let workers: Vec<_> = outboxes
            .into_iter()
            .enumerate()
            .map(|(shard, answers)| {
                let store = store.clone();
                let run = &run;
                scope.spawn(move || serve(scenario, run, shard, &store, &answers, deadline))
            })
            .collect();
        for worker in workers {
            let (a, c, histogram) = worker.join().expect("a submitter's thread");
            acknowledged += a;
            created += c;
            latency.add(&histogram).expect("same range");
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    drop(store);
    thread.join().expect("the storage thread ends");

    if scenario.what == What::Likes {
        assert_eq!(rows(place, "likes", &run), created, "every like acknowledged as new is a row");
        assert_eq!(rows(place, "like_counts", &run), created, "and is counted once");
    } else {
        assert_eq!(rows(place, "posts", &run), created, "every comment acknowledged is a row");
        assert_eq!(rows(place, "outbox", &run), created, "and waits to be published");
    }
    let at = |quantile| latency.value_at_quantile(quantile);
    let rate = acknowledged as f64 / seconds;
    let (name, max) = (scenario.name, latency.max());
    println!("{name:42} {rate:>10.0} {:>9} {:>9} {:>9} {max:>9}", at(0.5), at(0.9), at(0.99));
}

/// What a table has of a run: rows, or what they count.
fn rows(place: &Place<'_>, table: &str, run: &str) -> u64 {
    let (schema, of_run) = match place {
        Place::Sqlite(_) => ("", format!("GLOB '{run}*'")),
        Place::Postgres(_) => ("fanfare.", format!("LIKE '{run}%'")),
    };
    let sql = match table {
        "likes" => format!("SELECT count(*) FROM {schema}likes WHERE video {of_run}"),
        "like_counts" => format!("SELECT sum(likes) FROM {schema}like_counts WHERE video {of_run}"),
        "posts" => format!("SELECT count(*) FROM {schema}posts WHERE place {of_run}"),
        _ => format!("SELECT count(*) FROM {schema}outbox JOIN {schema}posts ON id = post WHERE place {of_run}"),
    };
    match place {
        Place::Sqlite(path) => {
            let connection = rusqlite::Connection::open(path).expect("reopens");
            connection.query_row(&sql, [], |row| row.get(0)).expect("a number")
        }
        Place::Postgres(url) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (client, connection) =
                    tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("it is there");
                tokio::spawn(connection);
                let rows = client.simple_query(&sql).await.expect("a number");
                let number = |message: &tokio_postgres::SimpleQueryMessage| match message {
                    tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).and_then(|text| text.parse().ok()),
                    _ => None,
                };
                rows.iter().find_map(number).expect("a number")
            })
        }
    }
}

/// Keeps this shard's share of the submitters busy until the deadline; returns what was acknowledged, what of it was new, and latency in µs.
fn serve(
    scenario: &Scenario,
    run: &str,
    shard: usize,
    store: &Store<Ticket>,
    answers: &Receiver<Answer>,
    deadline: Instant,
) -> (u64, u64, hdrhistogram::Histogram<u64>) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(shard as u64 + 1);
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let mut submit = |submitter: usize| {
        let number = next();
        let member = scenario.members.map_or(number, |members| number % members);
        let (video, member) = (format!("{run}-video-{}", next() % scenario.videos), format!("member-{member:016x}"));
        let command = match scenario.what {
            What::Likes => Command::Like { video, member, reaction: "like".into(), at },
            What::Comments => {
                let (kind, text, standing) = (PostKind::Comment, "What a goal! ".repeat(4), Standing::Guest);
                Command::Post { kind, place: video, member, text, standing, at, hooks: [].into() }
            }
        };
        store.try_submit(command, (submitter, Instant::now())).expect("64 fit into the queue");
    };
    let mut latency = hdrhistogram::Histogram::new(3).expect("three digits are allowed");
    let (mut acknowledged, mut created) = (0, 0);
    let mut in_flight = 0;
    for submitter in (shard..SUBMITTERS).step_by(scenario.threads) {
        submit(submitter);
        in_flight += 1;
    }
    while in_flight > 0 {
        let ((submitter, submitted), result) = answers.recv().expect("the store answers all it took");
        let new = match result {
            Ok(Outcome::Liked { created, .. }) => created,
            Ok(Outcome::Posted { .. }) => true,
            other => panic!("{other:?}"),
        };
        acknowledged += 1;
        created += u64::from(new);
        let now = Instant::now();
        latency.record((now - submitted).as_micros() as u64).expect("it grows to what is recorded");
        if now < deadline {
            submit(submitter);
        } else {
            in_flight -= 1;
        }
    }
    (acknowledged, created, latency)
}
