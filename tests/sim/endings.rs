//! What a server ends, ends everywhere within a second, and nobody gets in again by it: whoever was away, or died.

use std::net::SocketAddr;

use serde_json::json;

use crate::clients::{MILLISECOND, SECOND};
use crate::fabric::Owner;
use crate::small;
use crate::tokens;
use crate::world::{Event, Plan, UNIX, World, address};

/// The machines of the first data center; those of the second follow in the same order.
const DISPATCHERS: [usize; 2] = [0, 1];
const FRONTENDS: [usize; 2] = [2, 3];
const ELSEWHERE: usize = 4 + FRONTENDS[0];

fn world(tokens: bool) -> World {
    let plan = Plan {
        data_centers: 2,
        dispatchers: 2,
        frontends: 2,
        shards: 2,
        viewers: 1,
        tokens,
        ..small(if tokens { 21 } else { 22 })
    };
    let mut world = World::new(plan, false);
    world.run(5 * SECOND);
    world
}

fn public(machine: usize) -> SocketAddr {
    address(machine, 8080)
}

fn seconds(world: &World) -> u64 {
    UNIX.as_secs() + world.now / SECOND
}

/// A member's token that is issued now.
fn issued(world: &World, member: &str, jti: &str) -> String {
    let (iat, all) = (seconds(world), ["*"]);
    tokens::signed(&json!({
        "sub": member, "jti": jti, "iat": iat, "exp": iat + 3600, "fanfare": {"subscribe": all, "publish": all},
    }))
}

fn send(world: &mut World, to: SocketAddr, text: &str) -> i32 {
    let end = world.fabric.lock().connect(Owner::Client(0), to);
    world.run(world.now + 50 * MILLISECOND);
    assert_eq!(world.fabric.lock().send(end, text.as_bytes()).expect("it is open"), text.len());
    end
}

/// What came on a connection since it was last read.
fn read(world: &World, end: i32) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(Some(count @ 1..)) = world.fabric.lock().recv(end, &mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Sends a request until it is answered, as by a node that just began, and gives the answer.
fn ask(world: &mut World, to: SocketAddr, method: &str, target: &str, token: &str, body: &str) -> String {
    for _ in 0..100 {
        let length = body.len();
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n");
        let end = send(world, to, &format!("{head}Content-Length: {length}\r\n\r\n{body}"));
        world.run(world.now + 100 * MILLISECOND);
        let answer = read(world, end);
        world.fabric.lock().close(end);
        if !answer.is_empty() && !answer.starts_with("HTTP/1.1 503") {
            return answer;
        }
    }
    panic!("{target} is not answered");
}

/// Opens a stream.
fn watch(world: &mut World, machine: usize, query: &str, token: &str) -> i32 {
    let head = format!("GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n");
    let pass = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let end = send(world, public(machine), &format!("{head}{pass}\r\n"));
    world.run(world.now + SECOND);
    let answer = read(world, end);
    assert!(answer.contains("event: connected"), "{answer}");
    end
}

fn order(world: &mut World, machine: usize, target: &str, body: &str) {
    let token = issued(world, "server", "s");
    let answer = ask(world, public(machine), "POST", target, &token, body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

/// Nobody gets in by it, wherever and for whatever.
fn is_refused(world: &mut World, token: &str) {
    let event = r#"{"type":"wave","data":1}"#;
    for machine in 0..world.machines.len() {
        let answer = match world.machines[machine].role {
            fanfare::settings::Role::Frontend => {
                ask(world, public(machine), "GET", "/v1/events?topic=chat:0", token, "")
            }
            _ => ask(world, public(machine), "POST", "/v1/topics/chat:0/events", token, event),
        };
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("revoked"), "machine {machine}: {answer}");
    }
}

/// Of these, the streams that were told to go; the others get on.
fn ended(world: &mut World, ends: &[i32]) -> Vec<bool> {
    ends.iter().map(|end| read(world, *end).contains("event: bye\ndata: {\"reason\":\"token\"")).collect()
}

#[test]
fn revoked_member_who_watches_elsewhere() {
    let mut world = world(true);
    let [old, bob] = ["ana", "bob"].map(|member| issued(&world, member, member));
    let before = seconds(&world);
    let ends = [FRONTENDS[0], FRONTENDS[1], ELSEWHERE].map(|machine| watch(&mut world, machine, "topic=chat:0", &old));
    let other = watch(&mut world, FRONTENDS[0], "topic=chat:0", &bob);
    // One begins anew, and one is away meanwhile.
    let (away, again) = (ELSEWHERE + 1, FRONTENDS[1]);
    world.crash(away);
    order(&mut world, DISPATCHERS[0], "/v1/members/ana/revoke", &json!({"before": before}).to_string());
    world.run(world.now + SECOND);
    assert_eq!(ended(&mut world, &ends), [true; 3]);
    assert_eq!(ended(&mut world, &[other]), [false]);
    world.crash(again);
    for machine in [away, again] {
        world.at(world.now, Event::Start(machine));
    }
    is_refused(&mut world, &old);
    // A token issued later counts, and so does nobody's who was not revoked.
    let new = issued(&world, "ana", "new");
    for machine in [again, away] {
        watch(&mut world, machine, "topic=chat:0", &new);
        watch(&mut world, machine, "topic=chat:0", &bob);
    }
}

#[test]
fn dispatcher_that_dies_with_what_it_was_told() {
    let mut world = world(true);
    let old = issued(&world, "ana", "a");
    let ends = [FRONTENDS[0], ELSEWHERE].map(|machine| watch(&mut world, machine, "topic=chat:0", &old));
    order(&mut world, DISPATCHERS[1], "/v1/tokens/a/revoke", "");
    world.crash(DISPATCHERS[1]);
    world.at(world.now + 20 * SECOND, Event::Start(DISPATCHERS[1]));
    world.run(world.now + 25 * SECOND);
    assert_eq!(ended(&mut world, &ends), [true; 2]);
    is_refused(&mut world, &old);
    let other = issued(&world, "ana", "b");
    watch(&mut world, ELSEWHERE, "topic=chat:0", &other);
}

/// A topic that came by another token goes with that, and so does the stream.
#[test]
fn stream_whose_topic_came_by_a_token_that_is_revoked() {
    let mut world = world(true);
    let [own, other] = ["own", "other"].map(|jti| issued(&world, "ana", jti));
    let end = send(
        &mut world,
        public(FRONTENDS[0]),
        &format!("GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {own}\r\n\r\n"),
    );
    world.run(world.now + SECOND);
    let answer = read(&world, end);
    let id = answer.split("\"connection\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("it is told");
    // By the other frontend, which hands it on.
    let target = format!("/v1/connections/{id}/topics");
    let answer = ask(&mut world, public(FRONTENDS[1]), "POST", &target, &other, r#"{"add":["chat:0"]}"#);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    order(&mut world, FRONTENDS[1], "/v1/tokens/unheard-of/revoke", "");
    world.run(world.now + SECOND);
    assert_eq!(ended(&mut world, &[end]), [false]);
    order(&mut world, FRONTENDS[1], "/v1/tokens/other/revoke", "");
    world.run(world.now + SECOND);
    assert_eq!(ended(&mut world, &[end]), [true]);
}

#[test]
fn stream_that_a_server_changes_and_ends() {
    let mut world = world(false);
    let ends = [FRONTENDS[0], ELSEWHERE].map(|machine| watch(&mut world, machine, "topic=chat:0&member=ana", ""));
    let other = watch(&mut world, FRONTENDS[0], "topic=chat:0&member=bob", "");
    order(&mut world, FRONTENDS[1], "/v1/members/ana/topics", r#"{"add":["chat:1"],"remove":["chat:0"]}"#);
    // Within a second it is a viewer, and two later it gets what comes.
    world.run(world.now + 3 * SECOND);
    for topic in ["chat:0", "chat:1"] {
        let event = json!({"type": "message", "data": topic}).to_string();
        ask(&mut world, address(DISPATCHERS[0], 8081), "POST", &format!("/v1/topics/{topic}/events"), "", &event);
    }
    world.run(world.now + SECOND);
    let got = [ends[0], ends[1], other].map(|end| {
        let text = read(&world, end);
        ["chat:0", "chat:1"].map(|topic| text.contains(&format!("\"topic\":\"{topic}\"")))
    });
    assert_eq!(got, [[false, true], [false, true], [true, false]]);
    order(&mut world, FRONTENDS[1], "/v1/members/ana/disconnect", "");
    world.run(world.now + SECOND);
    assert_eq!(ended(&mut world, &[ends[0], ends[1], other]), [true, true, false]);
    let answer = ask(&mut world, public(FRONTENDS[0]), "POST", "/v1/members/ana/revoke", "", "");
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("--auth none"), "{answer}");
}
