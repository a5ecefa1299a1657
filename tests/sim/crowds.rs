//! However much there is of one thing, one turn of a shard does a slice of it, and the others have theirs.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use fanfare::ground::message::Message;
use fanfare::limits::SIMULATED_LOOKS;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::Owner;
use crate::small;
use crate::world::{Busiest, Plan, World, address};

/// What one turn may do: some slices, each of so many steps, of which one may be two writes.
const MOST: u64 = 4 * SIMULATED_LOOKS as u64;
/// The machines of the Dispatcher and of the Frontend.
const DISPATCHER: usize = 0;
const FRONTEND: usize = 1;

fn world() -> World {
    let mut world = World::new(Plan { viewers: 1, ..small(11) }, false);
    world.run(5 * SECOND);
    world
}

/// Connections to the Frontend, which have sent this.
fn crowd(world: &mut World, count: usize, sent: &[u8]) -> Vec<i32> {
    send(world, address(FRONTEND, 8080), count, sent)
}

fn send(world: &mut World, to: SocketAddr, count: usize, sent: &[u8]) -> Vec<i32> {
    send_each(world, to, count, |_| sent.to_vec())
}

fn send_each(world: &mut World, to: SocketAddr, count: usize, sent: impl Fn(usize) -> Vec<u8>) -> Vec<i32> {
    let ends: Vec<i32> = (0..count).map(|_| world.fabric.lock().connect(Owner::Client(0), to)).collect();
    world.run(world.now + 100 * MILLISECOND);
    world.busiest = Busiest::default();
    for (number, end) in ends.iter().enumerate() {
        let sent = sent(number);
        assert_eq!(world.fabric.lock().send(*end, &sent).expect("it is open"), sent.len());
    }
    ends
}

/// Runs until so many times this came, over all connections; gives what came.
fn until(world: &mut World, ends: &[i32], text: &[u8], count: usize) -> Vec<Vec<u8>> {
    let mut read: Vec<Vec<u8>> = vec![Vec::new(); ends.len()];
    let mut buffer = [0; 4096];
    let deadline = world.now + 60 * SECOND;
    let seen = |read: &[Vec<u8>]| -> usize {
        read.iter().map(|bytes| bytes.windows(text.len()).filter(|window| *window == text).count()).sum()
    };
    while world.now < deadline {
        world.run(world.now + 20 * MILLISECOND);
        for (end, read) in ends.iter().zip(&mut read) {
            while let Ok(Some(count @ 1..)) = world.fabric.lock().recv(*end, &mut buffer) {
                read.extend_from_slice(&buffer[..count]);
            }
        }
        if seen(&read) >= count {
            return read;
        }
    }
    panic!("{} of {count}; the first has {:?}", seen(&read), String::from_utf8_lossy(&read[0]));
}

#[test]
fn clients_with_very_many_requests_have_a_turn_for_themselves() {
    let mut world = world();
    let requests = 500;
    let sent = b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(requests);
    let ends = crowd(&mut world, 10, &sent);
    until(&mut world, &ends, b"HTTP/1.1 200 OK", 10 * requests);
    assert!(world.busiest.requests <= MOST, "{:?}", world.busiest);
}

#[test]
fn crowd_that_waits_for_a_topic_has_a_turn_for_itself() {
    let mut world = world();
    let until_then = world.now + 10 * SECOND;
    world.stores[0].lock().outage(until_then);
    let ends = crowd(&mut world, 300, b"GET /v1/events?topic=chat:new HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(&mut world, &ends, b"event: connected", 300);
    assert!(world.busiest.sends <= MOST, "{:?}", world.busiest);
}

#[test]
fn crowd_that_is_told_to_go_has_a_turn_for_itself() {
    let mut world = world();
    let ends = crowd(&mut world, 300, b"GET /v1/events?topic=chat:0 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    until(&mut world, &ends, b"event: connected", 300);
    world.busiest = Busiest::default();
    let node = world.machines[FRONTEND].node.clone().expect("it runs");
    node.draining.store(true, Ordering::Relaxed);
    node.mail[0].try_send(Message::Drain).map_err(|_| ()).expect("there is room");
    until(&mut world, &ends, b"event: bye", 300);
    assert!(world.busiest.sends <= MOST, "{:?}", world.busiest);
}

#[test]
fn crowd_of_topics_with_one_viewer_each_has_a_turn_for_itself() {
    let mut world = world();
    let topics = 100;
    let ends = send_each(&mut world, address(FRONTEND, 8080), topics, |number| {
        format!("GET /v1/events?topic=chat:{number} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
    });
    until(&mut world, &ends, b"event: connected", topics);
    let line = |number| format!("{{\"topic\":\"chat:{number}\",\"type\":\"score\",\"data\":1}}\n");
    let lines: String = (0..topics).map(line).collect();
    let head = format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", lines.len());
    send(&mut world, address(DISPATCHER, 8081), 1, format!("{head}{lines}").as_bytes());
    until(&mut world, &ends, b"\"type\":\"score\"", topics);
    assert!(world.busiest.sends <= MOST / 2, "{:?}", world.busiest);
}

/// Those who are connected while all viewers of a topic are shown its newest values had them with `connected`.
#[test]
fn newest_values_shown_twice_to_who_comes_at_once() {
    let mut world = world();
    let values = 30;
    let value = |key: usize| {
        format!("{{\"topic\":\"chat:new\",\"type\":\"score\",\"key\":\"{key}\",\"data\":\"{}\"}}\n", "x".repeat(900))
    };
    let lines: String = (0..values).map(value).collect();
    let head = format!("POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", lines.len());
    let publisher = send(&mut world, address(DISPATCHER, 8081), 1, format!("{head}{lines}").as_bytes());
    until(&mut world, &publisher, b"\"accepted\":30", 1);
    let streams = 100;
    let ends = crowd(&mut world, streams, b"GET /v1/events?topic=chat:new HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut read = until(&mut world, &ends, b"\"type\":\"score\"", streams * values);
    // What else comes, comes soon.
    world.run(world.now + 5 * SECOND);
    let mut buffer = [0; 4096];
    for (end, read) in ends.iter().zip(&mut read) {
        while let Ok(Some(count @ 1..)) = world.fabric.lock().recv(*end, &mut buffer) {
            read.extend_from_slice(&buffer[..count]);
        }
        let text = String::from_utf8_lossy(read);
        assert_eq!(text.matches("\"type\":\"score\"").count(), values);
    }
}
