//! What is published anywhere is seen everywhere, once.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::mesh::{Center, Mesh};
use crate::support::http::Client;
use crate::support::load::{Load, What};
use crate::support::site::post;
use crate::support::{becomes, eventually, reaction};

/// Events of each type, at each dispatcher.
const EACH: usize = 5;
/// A type of each class, and one that nobody configured. Viewers that keep up get every one of them, likes by windows.
const TYPES: [&str; 5] = ["message", "like", "score", "typing", "note"];

#[test]
fn events_missing_or_doubled_between_two_data_centers() {
    everything_everywhere(&["a", "b"]);
}

fn everything_everywhere(names: &[&str]) {
    let mesh = Mesh::start(names);
    mesh.wait_joined();
    in_a_conversation(&mesh);
    of_a_video(&mesh);
}

/// Every class, at each dispatcher and by backends, in a topic whose viewers are not counted, so that there are no other
/// events.
fn in_a_conversation(mesh: &Mesh) {
    let viewers = mesh.viewers(&["chat:7".to_owned()], 4);
    let each_published = 2 * EACH * TYPES.len() + 3;
    let likes = 2 * EACH * mesh.centers.len();
    let others = each_published * mesh.centers.len() - likes;
    let mut ids = Vec::new();
    for center in &mesh.centers {
        for dispatcher in 0..2 {
            for (kind, number) in TYPES.iter().flat_map(|kind| (0..EACH).map(move |number| (kind, number))) {
                // Of one key they might merge on the way.
                let key = format!("{}-{dispatcher}-{number}", center.name);
                let event = json!({"type": kind, "key": key, "data": {"member": key, "number": number}});
                let id = center.publish(dispatcher, "chat:7", &event);
                ids.extend((*kind != "like").then_some(id));
            }
        }
        let member = &center.name;
        let answer = center.post("/v1/conversations/7/messages", &json!({"member": member, "text": "goal"}));
        assert_eq!(answer.status, 201, "{answer:?}");
        let message = answer.json()["id"].as_str().expect("an id").to_owned();
        let answer = center.post("/v1/conversations/7/typing", &json!({"member": member}));
        assert_eq!(answer.status, 202, "{answer:?}");
        let answer = center.post("/v1/conversations/7/receipts", &json!({"member": member, "message": message}));
        assert_eq!(answer.status, 202, "{answer:?}");
        ids.push(message);
    }
    for viewers in &viewers {
        viewers.have(&ids);
        viewers.until("to have all likes", |viewer| viewer.sums.get("chat:7") == Some(&(likes as u64)));
        viewers.until("to have those without a known id", |viewer| viewer.seen.len() > others);
    }
    for (center, other) in pairs(mesh) {
        becomes(&format!("frames from {} to {}", center.name, other.name), each_published as f64, || {
            center.peer("fanfare_peer_frames_sent_total", &other.name)
        });
        becomes(&format!("frames of {} that came to {}", center.name, other.name), each_published as f64, || {
            other.peer("fanfare_peer_frames_received_total", &center.name)
        });
    }
    for viewers in &viewers {
        viewers.without_gaps();
        for (number, viewer) in viewers.lock().iter().enumerate() {
            assert_eq!(viewer.received, viewer.seen.len(), "viewer {number} got something twice");
            assert_eq!(viewer.sums["chat:7"], likes as u64, "viewer {number}");
            assert!((others + 1..=others + likes).contains(&viewer.received), "viewer {number}: {}", viewer.received);
        }
    }
}

/// Likes and comments by each backend.
fn of_a_video(mesh: &Mesh) {
    let viewers = mesh.viewers(&["live:7".to_owned()], 4);
    let mut comments = Vec::new();
    for center in &mesh.centers {
        for number in 0..EACH {
            let like = reaction(&format!("{}{number}", center.name), "like");
            let answer = center.post("/v1/videos/7/likes", &serde_json::from_str(&like).expect("JSON"));
            assert_eq!(answer.status, 201, "{answer:?}");
            let comment = json!({"member": center.name, "text": number.to_string()});
            let answer = center.post("/v1/videos/7/comments", &comment);
            assert_eq!(answer.status, 201, "{answer:?}");
            comments.push(answer.json()["id"].as_str().expect("an id").to_owned());
        }
    }
    let likes = (EACH * mesh.centers.len()) as u64;
    for viewers in &viewers {
        viewers.have(&comments);
        viewers.until("to have all likes", |viewer| viewer.sums.get("live:7") == Some(&likes));
        viewers.without_repeats(&comments);
        viewers.until("to be told the total of all data centers", |viewer| viewer.likes.get("live:7") == Some(&likes));
    }
    for center in &mesh.centers {
        let body = reaction(&format!("{}0", center.name), "like");
        let backend = center.site.backends[0].public;
        let request = || Client::connect(backend).request("DELETE", "/v1/videos/7/likes", &[], body.as_bytes());
        let answer = center.network.inside(request);
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let left = likes - mesh.centers.len() as u64;
    for viewers in &viewers {
        viewers.until("to be told that likes were taken back", |viewer| viewer.likes.get("live:7") == Some(&left));
    }
}

/// Each data center with each other one.
fn pairs(mesh: &Mesh) -> impl Iterator<Item = (&Center, &Center)> {
    let others = |center| mesh.centers.iter().map(move |other| (center, other));
    mesh.centers.iter().flat_map(others).filter(|(center, other)| center.name != other.name)
}

#[test]
fn newest_values_that_stay_different() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let topic = "chat:7".to_owned();
    let viewers = mesh.viewers(std::slice::from_ref(&topic), 4);
    // Both write the same key at once.
    let load = |center: &Center| {
        let (intakes, topics) = (center.site.intakes(), std::slice::from_ref(&topic));
        center
            .network
            .inside(|| Load::by(&center.name, What::Events("score"), intakes, topics, Duration::from_millis(10)))
    };
    let loads: Vec<Load> = mesh.centers.iter().map(load).collect();
    loads.iter().for_each(|load| load.more(50));
    // One of the last: those of one publisher pass each other, too, as they go by two dispatchers.
    let last: Vec<String> = loads.into_iter().flat_map(|load| load.stop().into_iter().rev().take(20)).collect();
    let key = (topic.clone(), "score".to_owned(), "k".to_owned());
    eventually("all viewers, and those who come now, to have one value", || {
        let shown = viewers.iter().flat_map(|viewers| {
            viewers.lock().iter().map(|viewer| viewer.newest.get(&key).cloned()).collect::<Vec<_>>()
        });
        let kept = mesh.centers.iter().map(|center| {
            let newest = center.stream(0, &format!("topic={topic}")).event();
            newest["id"].as_str().map(str::to_owned)
        });
        let mut values: Vec<Option<String>> = shown.chain(kept).collect();
        values.sort();
        values.dedup();
        match &values[..] {
            [Some(one)] if last.contains(one) => Ok(()),
            _ => Err(format!("{values:?}, of {last:?}")),
        }
    });
    // What comes now is newer than all of it, wherever it comes from.
    for center in mesh.centers.iter().chain(mesh.centers.iter().rev()) {
        let id = center.publish(0, &topic, &json!({"type": "score", "key": "k", "data": center.name}));
        for viewers in &viewers {
            viewers.until("to show it", |viewer| viewer.newest.get(&key) == Some(&id));
        }
    }
}

#[test]
fn values_of_one_millisecond_that_stay_different() {
    const ROUNDS: usize = 10;
    const KEYS: usize = 50;
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let topic = "chat:7".to_owned();
    let viewers = mesh.viewers(std::slice::from_ref(&topic), 2);
    for round in 0..ROUNDS {
        // All keys at both at once: some get the same version there.
        let posted: Vec<_> = mesh
            .centers
            .iter()
            .map(|center| {
                let line = |key| {
                    json!({"topic": "chat:7", "type": "score", "key": format!("{round}-{key}"), "data": center.name})
                };
                let body: String = (0..KEYS).map(|key| format!("{}\n", line(key))).collect();
                let to = center.site.intakes()[0];
                center.network.inside(|| std::thread::spawn(move || post(to, "/v1/events", &body)))
            })
            .collect();
        for posted in posted {
            let reply = posted.join().expect("it was posted").expect("an answer");
            assert_eq!(reply.status, 202, "{}", reply.body);
            assert_eq!(reply.body["accepted"], KEYS, "{}", reply.body);
        }
    }
    eventually("all viewers, and those who come now, to have the same values", || {
        let mut shown: Vec<BTreeMap<String, String>> = Vec::new();
        for viewer in viewers
            .iter()
            .flat_map(|viewers| viewers.lock().iter().map(|viewer| viewer.newest.clone()).collect::<Vec<_>>())
        {
            shown.push(viewer.into_iter().map(|((_, _, key), id)| (key, id)).collect());
        }
        for center in &mesh.centers {
            let mut stream = center.stream(0, &format!("topic={topic}"));
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            shown.push(
                (0..ROUNDS * KEYS)
                    .map(|_| stream.event())
                    .map(|event| (text(&event["key"]), text(&event["id"])))
                    .collect(),
            );
        }
        let differs = |key: &&String| shown.iter().any(|other| other.get(*key) != shown[0].get(*key));
        match shown[0].keys().filter(differs).count() {
            0 if shown[0].len() == ROUNDS * KEYS => Ok(()),
            differ => Err(format!("{differ} of {} keys differ", shown[0].len())),
        }
    });
}

#[test]
fn member_online_elsewhere_shown_as_offline() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let mut watching: Vec<_> = mesh.centers.iter().map(|center| center.stream(0, "topic=presence:ana")).collect();
    let _ana = mesh.centers[0].stream(1, "topic=chat:1&member=ana");
    for (center, stream) in mesh.centers.iter().zip(&mut watching) {
        let event = stream.event();
        assert_eq!((&event["type"], &event["data"]["online"]), (&"presence".into(), &true.into()), "{}", center.name);
        eventually("a backend to know that ana is online", || {
            let backend = &center.site.backends[0];
            let answer = center.network.inside(|| backend.get("/v1/presence?member=ana")).json();
            if answer["members"]["ana"]["online"] == true { Ok(()) } else { Err(answer) }
        });
    }
}

/// Many at once, of which few are shown: those that the data center shows where they came in.
#[test]
fn events_shown_in_one_data_center_and_left_out_in_another() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let mut viewers: Vec<_> = mesh.centers.iter().map(|center| center.stream(0, "topic=chat:7")).collect();
    let mut all = mesh.centers[1].stream(0, "topic=chat:7&all=cheer");
    for number in 0..20 {
        mesh.centers[0].publish(number % 2, "chat:7", &json!({"type": "cheer", "data": number}));
    }
    // Behind them in a queue of the same topic.
    mesh.centers[0].publish(0, "chat:7", &json!({"type": "message", "id": "end"}));
    let mut until_end = |stream: &mut crate::support::sse::Stream| -> Vec<Value> {
        std::iter::from_fn(|| Some(stream.event())).take_while(|event| event["id"] != "end").collect()
    };
    let shown: Vec<Vec<Value>> = viewers.iter_mut().map(&mut until_end).collect();
    let given = until_end(&mut all);
    assert_eq!(given.len(), 20);
    assert!(!shown[0].is_empty() && shown[0].len() < 20, "{shown:?}");
    assert_eq!(shown[0], shown[1]);
    let for_all: Vec<Value> = given.into_iter().filter(|event| event["shown"] != false).collect();
    assert_eq!(for_all, shown[1]);
}
