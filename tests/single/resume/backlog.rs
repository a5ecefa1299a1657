//! Readers and cores that cannot keep up.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::followers::{Dice, Plan, Published, Seen, follow};
use super::support::crowd::Crowd;
use super::support::http::{Client, request};
use super::support::sse::Stream;
use super::{configured, line, name, publish_lines, resume};

const LIKES: usize = 100_000;
const SCORES: usize = 1_000;
const COMMENTS: usize = 500;
/// Viewers of another topic.
const OTHERS: usize = 5_000;
/// Comments that they get.
const TO_OTHERS: usize = 20;

/// What one viewer has of all that.
#[derive(Debug, Default, PartialEq, Eq)]
struct Had {
    likes: usize,
    scores: usize,
    comments: usize,
    last_id: Option<String>,
}

impl Had {
    fn is_all(&self) -> bool {
        (self.likes, self.scores, self.comments) == (LIKES, SCORES - 1, COMMENTS)
    }

    fn take(&mut self, message: super::Message) {
        // Most are likes, and to read all their JSON takes long.
        if let Some((_, rest)) = message.data.split_once("\"count\":") {
            self.likes += rest.split(',').next().and_then(|count| count.parse::<usize>().ok()).expect("a count");
            assert!(self.likes <= LIKES, "{self:?}");
        } else if message.data.contains("\"type\":\"comment\"") {
            let number: usize = name(&message)[2..].parse().expect("a number");
            assert!(number <= self.comments, "{number} after {self:?}");
            self.comments = self.comments.max(number + 1);
            self.last_id = message.id;
        } else {
            self.scores = message.json()["data"].as_u64().expect("a number") as usize;
        }
    }
}

/// The lines of one of [`COMMENTS`] parts of all that is published.
fn part(part: usize) -> String {
    let mut lines = String::new();
    for like in 0..LIKES / COMMENTS {
        let likes = part * LIKES / COMMENTS + like + 1;
        lines +=
            &format!("{{\"topic\":\"room:1\",\"type\":\"like\",\"key\":\"like\",\"data\":{{\"likes\":{likes}}}}}\n");
    }
    for count in 0..SCORES / COMMENTS {
        let count = part * SCORES / COMMENTS + count;
        lines += &format!("{{\"topic\":\"room:1\",\"type\":\"score\",\"data\":{count}}}\n");
    }
    lines += &line("room:1", &format!("c/{part}"), 400);
    if part.is_multiple_of(COMMENTS / TO_OTHERS) {
        lines += &line("room:2", &format!("c/{}", part * TO_OTHERS / COMMENTS), 100);
    }
    lines
}

#[test]
fn client_that_stops_reading_misses_something_or_costs_others() {
    // With windows there would be too few likes for a client to miss any.
    let (node, _folder) = configured(
        "[events.like]\nwindow = \"0s\"\n[events.comment]\nhistory = 1000\n[events.score]\nclass = \"latest\"\n",
    );
    let (mut crowd, mut reader) = (Crowd::new(), node.stream("topic=room:1"));
    crowd.join(node.public, |_| "topic=room:2".to_owned(), OTHERS);
    let mut client = Client::connect(node.public);
    socket2::SockRef::from(&client.socket).set_recv_buffer_size(16 * 1024).expect("a socket option");
    client.send(request("GET", "/v1/events?topic=room:1", &[], b""));
    let mut stream = Stream::from_client(client);
    stream.wait_connected();
    let (before, mut highest) = (node.rss_kib(), 0);
    let began = Instant::now();
    let (read, read_by_others) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut had = Had::default();
            while !had.is_all() {
                had.take(reader.next().expect("one that reads is not ended"));
                read.store(had.comments, Ordering::Release);
            }
        });
        scope.spawn(|| {
            let mut next = vec![0; OTHERS];
            crowd.until("all comments", |who, message| {
                assert_eq!(name(&message), format!("c/{}", next[who]));
                next[who] += 1;
                read_by_others.fetch_add(1, Ordering::AcqRel) + 1 == OTHERS * TO_OTHERS
            });
        });
        let mut client = Client::connect(node.public);
        for number in 0..COMMENTS {
            publish_lines(&mut client, &part(number));
            highest = highest.max(node.rss_kib());
            // Those who read are not to lag, however slow this machine is.
            super::support::eventually("readers to keep up", || {
                let here = (read.load(Ordering::Acquire), read_by_others.load(Ordering::Acquire));
                let wanted = (number.saturating_sub(1), OTHERS * (number * TO_OTHERS / COMMENTS).saturating_sub(5));
                if here.0 >= wanted.0 && here.1 >= wanted.1 { Ok(()) } else { Err(format!("{here:?}")) }
            });
        }
    });
    // 100,000 likes are about 15 MB on the wire, and the others' streams cost their slots.
    let grown = highest.saturating_sub(before);
    assert!(grown < 16 * 1024, "{grown} KiB more");
    // What a client does that stops for 10 s, which is less than would end it; nothing below depends on how long it was.
    std::thread::sleep(Duration::from_secs(10).saturating_sub(began.elapsed()));
    let (mut had, mut resumed) = (Had::default(), 0);
    while had.comments < COMMENTS {
        let message = stream.next().expect("bye comes before the end");
        if message.name != "bye" {
            had.take(message);
            continue;
        }
        assert_eq!(message.json()["reason"], "backlog");
        assert_eq!(stream.next(), None, "nothing after bye");
        stream = resume(&node, "topic=room:1", had.last_id.as_deref().expect("it had comments"));
        resumed += 1;
    }
    assert!(had.is_all(), "{had:?}");
    assert_eq!((resumed, node.metric("fanfare_disconnects_total", "reason=\"backlog\"")), (1, 1));
    assert_eq!(node.metric("fanfare_dropped_total", "reason=\"displaced\""), 0);
}

/// Publishes more at once than a topic's log on a core takes, to many viewers, most of whom do not read.
fn overrun(history: usize) -> Seen {
    const STALLED: usize = 1_500;
    const EVENTS: usize = 800;
    let (node, _folder) = configured(&format!("cores = \"1\"\n[events.comment]\nhistory = {history}\n"));
    let stalled: Vec<TcpStream> = (0..STALLED)
        .map(|_| {
            let mut client = Client::connect(node.public);
            socket2::SockRef::from(&client.socket).set_recv_buffer_size(4096).expect("a socket option");
            client.send(request("GET", "/v1/events?topic=room:1", &[], b""));
            client.into_parts().0
        })
        .collect();
    super::support::becomes("open streams", STALLED as u64, || node.counts()[0]);
    let topics = [("room:1".to_owned(), Published::default())];
    let (cut, wanted) = Default::default();
    let plan = Plan { address: node.public, topics: &topics, history, cuts: 0, away: 0, total: EVENTS, cut, wanted };
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::connect(node.public);
            topics[0].1.sent.store(EVENTS, Ordering::Release);
            let lines: String = (0..EVENTS).map(|number| line("room:1", &format!("room:1/{number}"), 15_000)).collect();
            super::support::becomes("open streams", STALLED as u64 + 4, || node.counts()[0]);
            publish_lines(&mut client, &lines);
            topics[0].1.taken.store(EVENTS, Ordering::Release);
        });
        follow(&plan, 4, &mut Dice(1))
    });
    drop(stalled);
    seen
}

#[test]
fn core_that_falls_behind_leaves_events_out() {
    let seen = overrun(1_000);
    assert_eq!(
        (seen.missing, seen.gaps),
        (0, 4),
        "history had all; the first visit is from before this node: {seen:?}"
    );
}

#[test]
fn core_that_falls_behind_history_says_nothing() {
    // With so little kept, what the log did not take is gone by the time that there is room.
    let seen = overrun(3);
    assert!(seen.missing > 0 && seen.gaps > 4, "{seen:?}");
}
