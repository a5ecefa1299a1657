//! Likes stored and acknowledged a second, with 64 submitters that each have one like in flight.
//!
//! `cargo bench --bench store [-- SECONDS [DIRECTORY]]`: seconds a scenario (default 5, at most 60), and where the database is made
//! (default: the build directory, so that it is a real disk and not a tmpfs).
use crossbeam_channel::{Receiver, Sender, unbounded};
use fanfare::backend::sqlite;
use fanfare::backend::store::{Command, Outcome, Store, StoreError};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SUBMITTERS: usize = 64;

/// A submitter's number with the time of its submission.
type Ticket = (usize, Instant);
type Answer = (Ticket, Result<Outcome, StoreError>);

struct Scenario {
    name: &'static str,
    /// Threads among which the submitters are divided: 2 is how shards use the store, 64 is a thread each.
    threads: usize,
    videos: u64,
    /// Members to draw from, or None for a new one each time.
    members: Option<u64>,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "one hot video, new members, 2 shards", threads: 2, videos: 1, members: None },
    Scenario { name: "10,000 videos, new members, 2 shards", threads: 2, videos: 10_000, members: None },
    Scenario { name: "10,000 videos, a thread a submitter", threads: SUBMITTERS, videos: 10_000, members: None },
    Scenario { name: "one hot video, 1,000 members (repeats)", threads: 2, videos: 1, members: Some(1_000) },
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
    println!("{:42} {:>10} {:>9} {:>9} {:>9} {:>9}", "scenario", "likes/s", "p50 µs", "p90 µs", "p99 µs", "max µs");
    for (index, scenario) in SCENARIOS.iter().enumerate() {
        run(scenario, length, &directory.path().join(format!("{index}.db")));
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

fn run(scenario: &Scenario, length: Duration, path: &Path) {
    let threads = scenario.threads;
    let (inboxes, outboxes): (Vec<Sender<Answer>>, Vec<Receiver<Answer>>) = (0..threads).map(|_| unbounded()).unzip();
    let (store, thread) = sqlite::start(path, move |ticket: Ticket, result| {
        // A submitter that is done no longer listens.
        let _ = inboxes[ticket.0 % threads].send((ticket, result));
    })
    .expect("the database opens");

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
                scope.spawn(move || serve(scenario, shard, &store, &answers, deadline))
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

    let connection = rusqlite::Connection::open(path).expect("reopens");
    let ask = |sql| connection.query_row(sql, [], |row| row.get::<_, u64>(0)).expect("a number");
    assert_eq!(ask("SELECT count(*) FROM likes"), created, "every like acknowledged as new is a row");
    assert_eq!(ask("SELECT sum(likes) FROM like_counts"), created, "and is counted once");
    let at = |quantile| latency.value_at_quantile(quantile);
    let rate = acknowledged as f64 / seconds;
    let (name, max) = (scenario.name, latency.max());
    println!("{name:42} {rate:>10.0} {:>9} {:>9} {:>9} {max:>9}", at(0.5), at(0.9), at(0.99));
}

/// Keeps this shard's share of the submitters busy until the deadline; returns likes acknowledged, likes that were new, and latency in µs.
fn serve(
    scenario: &Scenario,
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
        let command = Command::Like {
            video: format!("video-{}", next() % scenario.videos),
            member: format!("member-{member:016x}"),
            reaction: "like".into(),
            at,
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
        let Ok(Outcome::Liked { created: new, .. }) = result else { panic!("{result:?}") };
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
