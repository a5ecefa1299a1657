//! A Dispatcher dies while it sends to, or takes from, another data center.

use super::cuts::{Publishers, videos};
use super::mesh::Mesh;

#[test]
fn events_lost_when_a_dispatcher_that_sends_them_dies() {
    dispatchers_die(0);
}

#[test]
fn events_lost_when_a_dispatcher_that_takes_them_dies() {
    dispatchers_die(1);
}

/// The first data center publishes, while each dispatcher of the one at `where_` is killed in turn and started again.
fn dispatchers_die(place: usize) {
    let mut mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let (videos, topics) = videos();
    let viewers = mesh.viewers(&topics, 6);
    let publishers = Publishers::start(&mesh.centers[0], &videos);
    publishers.more(20);
    for dispatcher in [0, 1] {
        mesh.centers[place].kill_dispatcher(dispatcher);
        publishers.more(20);
        mesh.centers[place].start_dispatcher(dispatcher);
        publishers.more(20);
    }
    let (every, likes) = publishers.stop();
    for viewers in &viewers {
        viewers.have(&every);
        viewers.without_gaps();
        assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "somebody was cut");
    }
    // All that still lives is sent on: a like and a comment of each video, at each dispatcher.
    mesh.wait_joined();
    for (topic, dispatcher) in topics.iter().flat_map(|topic| [(topic, 0), (topic, 1)]) {
        let ids = ["message", "like"].map(|kind| {
            let key = format!("last-{dispatcher}");
            mesh.centers[0].publish(dispatcher, topic, &serde_json::json!({"type": kind, "key": key}))
        });
        viewers.iter().for_each(|viewers| viewers.have(&ids));
    }
    // What a dead one had not sent of likes is lost, and nothing of them is shown twice.
    for viewers in &viewers {
        for viewer in viewers.lock().iter() {
            for (topic, video) in topics.iter().zip(&videos) {
                let most = likes.iter().filter(|like| like.starts_with(&format!("{video}/"))).count() as u64 + 2;
                assert!(viewer.sums[topic] <= most, "{} likes of {topic}, of {most}", viewer.sums[topic]);
            }
        }
    }
}
