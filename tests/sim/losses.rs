//! What a store lost or did not take, and what viewers are told of it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use fanfare::settings::Role;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::Owner;
use crate::small;
use crate::world::{Event, Plan, World, address};

/// The machines.
const DISPATCHER: usize = 0;
const FRONTENDS: [usize; 2] = [1, 2];

/// A connection, and what came on it.
struct Line {
    end: i32,
    text: String,
}

impl Line {
    fn send(world: &mut World, to: SocketAddr, request: &str) -> Line {
        let end = world.fabric.lock().connect(Owner::Client(0), to);
        world.run(world.now + 100 * MILLISECOND);
        world.fabric.lock().send(end, request.as_bytes()).expect("it is open");
        Line { end, text: String::new() }
    }

    /// Runs until this came.
    fn until(&mut self, world: &mut World, text: &str) {
        let deadline = world.now + 20 * SECOND;
        while !self.text.contains(text) {
            assert!(world.now < deadline, "{text:?} does not come: {}", self.text);
            world.run(world.now + 20 * MILLISECOND);
            let mut buffer = [0; 4096];
            while let Ok(Some(count @ 1..)) = world.fabric.lock().recv(self.end, &mut buffer) {
                self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }

    /// A stream of two topics.
    fn stream(world: &mut World, frontend: usize, last_id: &str) -> Line {
        let request = format!(
            "GET /v1/events?topic=chat:a&topic=chat:b HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last_id}\r\n\r\n"
        );
        let mut line = Line::send(world, address(frontend, 8080), &request);
        line.until(world, "event: connected");
        line
    }

    fn last_id(&self) -> String {
        self.text.rsplit("\nid: ").next().and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned()
    }
}

fn publish(world: &mut World, topic: &str, id: &str) {
    publish_of(world, topic, "message", id);
}

fn publish_of(world: &mut World, topic: &str, kind: &str, id: &str) {
    post(world, topic, kind, id, "").until(world, "HTTP/1.1 202");
}

/// Publishes an event, with this header.
fn post(world: &mut World, topic: &str, kind: &str, id: &str, header: &str) -> Line {
    let body = format!("{{\"type\":\"{kind}\",\"id\":\"{id}\",\"data\":1}}");
    let request = format!(
        "POST /v1/topics/{topic}/events HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Line::send(world, address(DISPATCHER, 8081), &request)
}

fn world() -> World {
    let world = World::new(Plan { frontends: 2, viewers: 1, ..small(5) }, false);
    assert_eq!(world.machines[FRONTENDS[1]].role, Role::Frontend);
    world
}

/// A stream has an event of one topic from the store that came back empty: what its quiet one lost is told before, and once more
/// on another node that it goes to, also where everybody but the node that it left began after the loss.
#[test]
fn loss_of_a_quiet_topic_untold_behind_an_event_of_another() {
    for all_new in [false, true] {
        let mut world = world();
        // Topics are quiet once nothing came for a minute.
        world.run(5 * SECOND);
        let mut stream = Line::stream(&mut world, FRONTENDS[0], "");
        world.run(80 * SECOND);
        // The dispatcher dies with what it had for the Frontend, and the store forgets it.
        world.fabric.lock().cut(DISPATCHER, FRONTENDS[0]);
        publish(&mut world, "chat:b", "lost");
        world.stores[0].lock().empty();
        world.crash(DISPATCHER);
        world.fabric.lock().heal();
        world.at(world.now + 300 * MILLISECOND, Event::Start(DISPATCHER));
        if all_new {
            world.crash(FRONTENDS[1]);
            world.at(world.now + 15 * SECOND, Event::Start(FRONTENDS[1]));
        }
        // Later than by how much topics may be apart. With the dispatcher went what the Frontend may lack, so it compares its topics.
        world.run(world.now + 2_100 * MILLISECOND);
        publish(&mut world, "chat:a", "later");
        stream.until(&mut world, "later");
        assert!(!stream.text.contains("lost") && stream.text.contains(r#""topic":"chat:b"}"#), "{}", stream.text);
        world.crash(FRONTENDS[0]);
        world.run(world.now + 15 * SECOND);
        let mut stream = Line::stream(&mut world, FRONTENDS[1], &stream.last_id());
        stream.until(&mut world, r#""topic":"chat:b"}"#);
    }
}

/// Nodes that come and go while a store is young lose nothing of it.
#[test]
fn gaps_told_of_a_store_that_only_began() {
    let mut world = world();
    world.stores[0].lock().empty();
    (0..3).for_each(|number| world.crash(number));
    for number in 0..3 {
        world.at(world.now + SECOND, Event::Start(number));
    }
    world.run(10 * SECOND);
    let mut stream = Line::stream(&mut world, FRONTENDS[0], "");
    publish(&mut world, "chat:a", "first");
    stream.until(&mut world, "first");
    for from in FRONTENDS {
        world.crash(from);
        world.at(world.now + SECOND, Event::Start(from));
        world.run(world.now + 10 * SECOND);
        let to = FRONTENDS.into_iter().find(|other| *other != from).expect("there are two");
        let last_id = stream.last_id();
        stream = Line::stream(&mut world, to, &last_id);
        world.run(world.now + 5 * SECOND);
        let next = format!("next {to}");
        publish(&mut world, "chat:a", &next);
        stream.until(&mut world, &next);
        assert!(!stream.text.contains("event: gap"), "{}", stream.text);
    }
}

/// A dispatcher whose clock is ahead shows newest values while the store is away; those that the store is given later are newer.
#[test]
fn value_told_without_a_store_hides_later_ones() {
    let mut world = world();
    world.run(5 * SECOND);
    let mut stream = Line::stream(&mut world, FRONTENDS[0], "");
    // The topic is known; no value of any was given its version by the store.
    publish(&mut world, "chat:a", "before");
    stream.until(&mut world, "before");
    world.machines[DISPATCHER].clock.store(10_000, Ordering::Relaxed);
    let back = world.now + 3 * SECOND;
    world.stores[0].lock().outage(back);
    publish_of(&mut world, "chat:a", "score", "without");
    stream.until(&mut world, "without");
    world.run(back + SECOND);
    publish_of(&mut world, "chat:a", "score", "behind");
    stream.until(&mut world, "behind");
}

/// A store keeps the key of an event, and that is never heard: who was refused and sends it again has it published.
#[test]
fn event_refused_and_taken_for_published() {
    let mut world = world();
    world.run(5 * SECOND);
    let mut stream = Line::stream(&mut world, FRONTENDS[0], "");
    let once = "Idempotency-Key: 7\r\n";
    world.stores[0].lock().unheard = Some("asked claim");
    post(&mut world, "chat:a", "like", "again", once).until(&mut world, "HTTP/1.1 503");
    world.stores[0].lock().unheard = None;
    post(&mut world, "chat:a", "like", "again", once).until(&mut world, "HTTP/1.1 202");
    stream.until(&mut world, "again");
}
