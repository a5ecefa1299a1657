//! A client goes from one data center to another with what it saw last; also where their clocks disagree.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::mesh::{Center, Mesh, Wanted};
use crate::support::http::request;
use crate::support::sse::Stream;
use crate::support::{eventually, with_another_date};

const TOPICS: [&str; 2] = ["chat:1", "chat:2"];
/// How far the second data center's clock is ahead.
const AHEAD_SECONDS: f64 = 600.0;

/// A client that follows two topics, wherever it is.
#[derive(Default)]
struct Client {
    last_id: Option<String>,
    seen: BTreeSet<String>,
}

impl Client {
    /// Comes to a data center. It stays as long as the stream is held.
    fn come(&self, center: &Center) -> Stream {
        let target = format!("/v1/events?topic={}&topic={}", TOPICS[0], TOPICS[1]);
        let id = self.last_id.clone();
        let headers: Vec<(&str, &str)> = id.iter().map(|id| ("Last-Event-ID", id.as_str())).collect();
        let address = center.site.frontends[0].public;
        let mut stream =
            center.network.inside(|| Stream::with_request(address, &request("GET", &target, &headers, b"")));
        stream.wait_connected();
        stream
    }

    /// Reads until it has seen all of these.
    fn read(&mut self, stream: &mut Stream, wanted: &BTreeSet<String>) {
        while !wanted.is_subset(&self.seen) {
            let missing = wanted.difference(&self.seen).count();
            let message = stream.next().unwrap_or_else(|| panic!("the stream ended with {missing} to come"));
            // A store as young as the test's may say that it does not reach back far enough: `gap`.
            if message.name == "message" {
                self.seen.insert(message.json()["id"].as_str().expect("an id").to_owned());
                self.last_id = message.id.or(self.last_id.take());
            }
        }
    }
}

/// Publishes some messages in every data center, by each dispatcher.
fn publish(mesh: &Mesh, all: &mut BTreeSet<String>) {
    for (at, center) in mesh.centers.iter().enumerate() {
        for number in 0..10 {
            let topic = TOPICS[(number + at) % 2];
            all.insert(center.publish(number / 2 % 2, topic, &json!({"type": "message", "data": number})));
        }
    }
}

fn to_and_fro(mesh: &Mesh) {
    let mut client = Client::default();
    let mut all = BTreeSet::new();
    let mut stream = client.come(&mesh.centers[0]);
    publish(mesh, &mut all);
    client.read(&mut stream, &all);
    for visit in 1..=4 {
        // Of some it has seen nothing yet, not even where it was; others are published while it is nowhere.
        publish(mesh, &mut all);
        drop(stream);
        publish(mesh, &mut all);
        stream = client.come(&mesh.centers[visit % mesh.centers.len()]);
        client.read(&mut stream, &all);
    }
}

#[test]
fn client_that_moves_to_another_data_center_loses_events() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    to_and_fro(&mesh);
}

/// Two data centers, of which the clock of the second, its store's, too, is ahead.
fn clocks_apart() -> Mesh {
    let ahead = |_: &Path, at: usize, wanted: &mut Wanted| {
        if at == 1 {
            wanted.behind.extend(with_another_date(&format!("+{AHEAD_SECONDS}s")));
        }
    };
    Mesh::with(&["a", "b"], ahead)
}

#[test]
fn clock_that_is_wrong_stops_events_or_loses_those_of_a_client_that_moves() {
    let mesh = clocks_apart();
    // Is it?
    let now = |center: &Center| -> Value { center.network.inside(|| center.site.frontends[0].get("/v1/time")).json() };
    let [here, there] = [0, 1].map(|at| now(&mesh.centers[at])["now"].as_f64().expect("a time"));
    assert!((there - here) / 1_000.0 > AHEAD_SECONDS - 10.0, "libfaketime does nothing: {here}, {there}");
    mesh.wait_joined();
    let topic = "chat:7".to_owned();
    let viewers = mesh.viewers(std::slice::from_ref(&topic), 2);
    // Of each class: none is taken for too old, or for older than what is there.
    for round in 0..3 {
        for center in &mesh.centers {
            for kind in ["message", "like", "score", "typing"] {
                let event = json!({"type": kind, "key": "k", "data": {"member": "ana", "round": round}});
                let id = center.publish(round % 2, &topic, &event);
                viewers.iter().for_each(|viewers| viewers.have(std::slice::from_ref(&id)));
            }
        }
    }
    for (center, ahead) in mesh.centers.iter().zip([AHEAD_SECONDS, -AHEAD_SECONDS]) {
        let other = if center.name == "a" { "b" } else { "a" };
        eventually("the difference of the clocks to be known", || {
            let seen = center.measures("fanfare_peer_clock_ahead_seconds", other);
            if seen.iter().all(|seconds| (seconds - ahead).abs() < 30.0) { Ok(()) } else { Err(seen) }
        });
    }
    to_and_fro(&mesh);
}
