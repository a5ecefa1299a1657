//! The link between two data centers is cut, and healed.

use std::time::Duration;

use serde_json::json;

use super::mesh::{Center, Mesh};
use crate::support::eventually;
use crate::support::load::{Load, What};
use crate::support::site::for_the_length_of;
use crate::support::sse::Stream;
use crate::support::viewers::Viewers;

/// How long the link is cut, in seconds. Longer than anything waits for an answer; `FANFARE_TEST_CUT=30` is the half
/// minute that is promised.
const CUT_SECONDS: u64 = 8;
/// Between two posts of one publisher: both sides together write some two hundred events a second.
const PAUSE: Duration = Duration::from_millis(30);
/// How often the numbers of viewers may have been told anew: they are events, too, and change while a side is alone.
const COUNTS_TOLD: f64 = 40.0;

fn cut_for() -> Duration {
    let given = std::env::var("FANFARE_TEST_CUT").ok();
    Duration::from_secs(given.map_or(CUT_SECONDS, |seconds| seconds.parse().expect("FANFARE_TEST_CUT is seconds")))
}

/// All that is published in one data center.
pub struct Publishers {
    pub comments: Load,
    pub likes: Load,
    pub messages: Load,
}

impl Publishers {
    /// Comments on and likes of these videos, and messages beside them, so that each topic has events of both.
    pub fn start(center: &Center, videos: &[String]) -> Publishers {
        let topics: Vec<String> = videos.iter().map(|video| format!("live:{video}")).collect();
        let (desks, intakes) = (center.site.desks(), center.site.intakes());
        let load = |what, nodes, topics: &[String]| Load::by(&center.name, what, nodes, topics, PAUSE);
        center.network.inside(|| Publishers {
            comments: load(What::Comments, desks.clone(), videos),
            likes: load(What::Likes, desks, videos),
            messages: load(What::Events("message"), intakes, &topics),
        })
    }

    fn all(&self) -> [&Load; 3] {
        [&self.comments, &self.likes, &self.messages]
    }

    /// Waits until so many more of each were acknowledged.
    pub fn more(&self, count: usize) {
        self.all().iter().for_each(|load| load.more(count));
    }

    /// Ends them. Gives what was acknowledged of class `every`, and likes.
    pub fn stop(self) -> (Vec<String>, Vec<String>) {
        let mut every = self.comments.stop();
        every.extend(self.messages.stop());
        (every, self.likes.stop())
    }
}

/// Waits until each viewer has seen exactly these likes of each video, and knows the total.
pub fn wait_likes(viewers: &Viewers, videos: &[String], likes: &[String]) {
    let wanted = |video: &String| likes.iter().filter(|like| like.starts_with(&format!("{video}/"))).count() as u64;
    for what in ["to have all likes", "to be told their totals"] {
        viewers.until(what, |viewer| {
            let shown = if what == "to have all likes" { &viewer.sums } else { &viewer.likes };
            let shown = |video| shown.get(&format!("live:{video}")).copied().unwrap_or_default();
            videos.iter().all(|video| shown(video) == wanted(video))
        });
    }
}

/// Some videos, and their topics.
pub fn videos() -> (Vec<String>, Vec<String>) {
    (1..=4).map(|video| (video.to_string(), format!("live:{video}"))).unzip()
}

#[test]
fn events_lost_or_doubled_or_going_round_after_a_cut() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let (videos, topics) = videos();
    let viewers = mesh.viewers(&topics, 6);
    let sides: Vec<Publishers> = mesh.centers.iter().map(|center| Publishers::start(center, &videos)).collect();
    sides.iter().for_each(|side| side.more(20));
    mesh.cut(0, 1);
    for_the_length_of(cut_for(), || sides.iter().for_each(|side| side.more(1)));
    // Each side serves its own, and knows that it is alone.
    for ((side, viewers), center) in sides.iter().zip(&viewers).zip(&mesh.centers) {
        viewers.have(&side.comments.taken());
        viewers.have(&side.messages.taken());
        let other = if center.name == "a" { "b" } else { "a" };
        center.wait_connected(other, false);
        eventually("what waits for the other side to be measured", || {
            let lags = center.measures("fanfare_peer_lag_seconds", other);
            if lags.iter().any(|seconds| *seconds > 1.0) { Ok(()) } else { Err(lags) }
        });
        center.wait_whole();
    }
    let alone: Vec<String> = sides.iter().map(|side| side.messages.taken().pop().expect("there were some")).collect();
    assert!(!viewers[0].lock().iter().any(|viewer| viewer.has(&alone[1])), "the link was not cut");
    mesh.heal(0, 1);
    sides.iter().for_each(|side| side.more(20));
    let (mut every, mut likes, mut published) = (Vec::new(), Vec::new(), Vec::new());
    for side in sides {
        let (of_side, likes_of_side) = side.stop();
        // A like is told by itself, and perhaps once more in a total.
        published.push((of_side.len() + 2 * likes_of_side.len()) as f64);
        every.extend(of_side);
        likes.extend(likes_of_side);
    }
    for viewers in &viewers {
        viewers.have(&every);
        wait_likes(viewers, &videos, &likes);
        viewers.without_gaps();
        viewers.without_repeats(&every);
        assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "somebody was cut");
    }
    for (at, center) in mesh.centers.iter().enumerate() {
        let other = &mesh.centers[1 - at];
        eventually("nothing to wait any more", || {
            let lags = center.measures("fanfare_peer_lag_seconds", &other.name);
            if lags.iter().all(|seconds| *seconds == 0.0) { Ok(()) } else { Err(lags) }
        });
        center.wait_connected(&other.name, true);
        // What came from the other side would double it.
        let most = published[at] + COUNTS_TOLD;
        let sent = center.peer("fanfare_peer_frames_sent_total", &other.name);
        let received = other.peer("fanfare_peer_frames_received_total", &center.name);
        assert!(sent <= most && received <= most, "{sent} sent, {received} received, {} published", published[at]);
    }
}

#[test]
fn viewers_of_a_data_center_that_is_cut_off_counted_on() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let topics = ["live:9".to_owned()];
    let here = mesh.centers[0].viewers(&topics, 3);
    let there = mesh.centers[1].viewers(&topics, 2);
    let told = |viewers: &Viewers, count: u64| {
        viewers
            .until(&format!("to be told that they are {count}"), |viewer| viewer.counts.get("live:9") == Some(&count));
    };
    told(&here, 5);
    told(&there, 5);
    mesh.cut(0, 1);
    told(&here, 3);
    told(&there, 2);
    // While nobody knows of the other side, somebody comes.
    let more = mesh.centers[1].viewers(&topics, 4);
    told(&there, 6);
    mesh.heal(0, 1);
    for viewers in [&here, &there, &more] {
        told(viewers, 9);
    }
    drop(there);
    told(&here, 7);
    told(&more, 7);
}

/// A message that is deleted while a peer is away never comes there, and one that came there before is gone from there.
#[test]
fn deleted_text_sent_to_a_peer_or_kept_there() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let [here, there] = &*mesh.centers else { panic!("two data centers") };
    let mut streams = mesh.centers.iter().map(|center| center.stream(0, "topic=chat:7")).collect::<Vec<_>>();
    let post = |text: &str| {
        let answer = here.post("/v1/conversations/7/messages", &json!({"member": "ana", "text": text}));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let delete = |id: &str| {
        let backend = here.site.backends[0].public;
        let answer = here.request(backend, "DELETE", &format!("/v1/conversations/7/messages/{id}"), &[]);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let next =
        |stream: &mut Stream| stream.next().expect("the stream goes on").json()["id"].as_str().map(str::to_owned);
    let deleted = |id: &str| Some(format!("{id}.deleted"));
    let shown = post("shown");
    streams.iter_mut().for_each(|stream| assert_eq!(next(stream), Some(shown.clone())));
    delete(&shown);
    streams.iter_mut().for_each(|stream| assert_eq!(next(stream), deleted(&shown)));
    mesh.cut(0, 1);
    // What is on its way cannot be called back, and nothing is sent behind it.
    let sent = post("sent");
    assert_eq!(next(&mut streams[0]), Some(sent.clone()));
    eventually("it to be sent", || {
        let lags = here.measures("fanfare_peer_lag_seconds", "b");
        if lags.iter().any(|seconds| *seconds > 0.0) { Ok(()) } else { Err(lags) }
    });
    let hidden = post("hidden");
    delete(&hidden);
    assert_eq!([next(&mut streams[0]), next(&mut streams[0])], [Some(hidden.clone()), deleted(&hidden)]);
    mesh.heal(0, 1);
    assert_eq!([next(&mut streams[1]), next(&mut streams[1])], [Some(sent.clone()), deleted(&hidden)]);
    for center in [here, there] {
        let mut late = center.stream(1, &format!("topic=chat:7&last_event_id={}:1-1", center.name));
        let given: Vec<_> = (0..4).map(|_| next(&mut late)).collect();
        assert_eq!(given, [None, deleted(&shown), Some(sent.clone()), deleted(&hidden)]);
    }
}
