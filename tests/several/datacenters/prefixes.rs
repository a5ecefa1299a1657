//! Streams of all topics that begin so, over nodes and data centers.

use std::collections::BTreeMap;

use serde_json::json;

use super::mesh::{Center, Mesh};
use crate::support::sse::Stream;

/// Reads on until all of these came, behind a word of a gap if `gaps`. Gives how often each id came, and the last place.
fn read(stream: &mut Stream, ids: &[String], gaps: bool) -> (BTreeMap<String, u64>, String) {
    let (mut seen, mut last) = (BTreeMap::<String, u64>::new(), String::new());
    while !ids.iter().all(|id| seen.contains_key(id)) {
        let message = stream.next().expect("the stream goes on");
        if gaps && message.name == "gap" {
            continue;
        }
        assert_eq!(message.name, "message", "{message:?}");
        *seen.entry(message.json()["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        last = message.id.unwrap_or(last);
    }
    (seen, last)
}

/// Two events to each of these topics, at either dispatcher.
fn publish(center: &Center, topics: std::ops::Range<u32>) -> Vec<String> {
    let each = topics.flat_map(|topic| [(topic, 0), (topic, 1)]);
    each.map(|(topic, dispatcher)| {
        center.publish(dispatcher, &format!("chat:crew.{topic}"), &json!({"type": "message", "data": topic}))
    })
    .collect()
}

#[test]
fn topics_of_a_prefix_missed_on_another_node_or_in_another_data_center() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let [a, b] = &mesh.centers[..] else { unreachable!() };
    let open = |center: &Center, frontend| center.stream(frontend, "topic=chat:crew.*");
    let mut streams = [open(a, 0), open(a, 1), open(b, 0), open(b, 1)];
    a.publish(0, "chat:else", &json!({"type": "message", "data": 0}));
    let ids = [publish(a, 0..8), publish(b, 4..12)].concat();
    let mut last = String::new();
    for stream in &mut streams {
        let (seen, place) = read(stream, &ids, false);
        assert_eq!(seen.len(), ids.len(), "{seen:?}");
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
        last = place;
    }
    // Whoever comes back, to another node or into the other data center, has what came meanwhile.
    drop(streams);
    let missed = [publish(a, 10..14), publish(b, 14..16)].concat();
    // A data center that is younger than what the other one may have sent it cannot know that this is all.
    for (center, frontend, is_foreign) in [(b, 0, false), (b, 1, false), (a, 0, true)] {
        let mut stream = center.stream(frontend, &format!("topic=chat:crew.*&last_event_id={last}"));
        let (seen, _) = read(&mut stream, &missed, is_foreign);
        assert!(seen.keys().all(|id| ids.contains(id) || missed.contains(id)), "{seen:?}");
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
    }
}
