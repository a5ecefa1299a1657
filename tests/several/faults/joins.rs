//! Thousands join and leave in random order while a Frontend, a backend and the store die: what viewers are told of counts
//! and presence is exact afterwards. The oracle is the list of seats that the test holds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use fanfare::limits::PRESENCE_GUARD;

use super::setup::*;
use crate::support::http::{Client, request};
use crate::support::redis::Redis;
use crate::support::sse::Stream;

const VIDEOS: usize = 5;
const MEMBERS: usize = 240;
const JOINS_AND_LEAVES: usize = 5_000;
/// About so many seats are taken at a time.
const SEATS: usize = 600;
/// Topics of presence that one stream follows.
const FOLLOWED: usize = 80;
const _: () = assert!(MEMBERS.is_multiple_of(FOLLOWED));
/// Who was connected for so long gave a sign of life, also if the store was away meanwhile, that is not too old yet.
const SURELY_HEARD_MS: u64 = 30_000;
/// Until everybody is told the truth: after the guard, after a look at what an empty store forgot.
const TRUE_AGAIN: Duration = Duration::from_secs(2 * PRESENCE_GUARD.as_secs());

/// Random numbers that follow from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }
}

/// A viewer of one video, mostly a member's. Some members have several.
struct Seat {
    member: Option<usize>,
    video: usize,
    door: SocketAddr,
    /// Its request was sent, and not answered yet.
    asked: Option<Client>,
    /// Since when it is open, in Unix ms.
    open: Option<(Stream, u64)>,
}

impl Seat {
    fn take(random: &mut Random, doors: &[SocketAddr]) -> Seat {
        let member = (random.below(4) > 0).then(|| random.below(MEMBERS));
        let (video, door) = (random.below(VIDEOS), doors[random.below(doors.len())]);
        let named = member.map_or_else(String::new, |member| format!("&member={}", name_of(member)));
        let mut client = Client::connect(door);
        client.send(request("GET", &format!("/v1/events?topic={}{named}", topic_of(video)), &[], b""));
        Seat { member, video, door, asked: Some(client), open: None }
    }

    /// Waits until it is answered; makes sure that it was not cut.
    fn settle(&mut self) {
        if let Some(client) = self.asked.take() {
            self.open = Some((Stream::from_client(client), unix_ms()));
        }
        let (stream, _) = self.open.as_mut().expect("it was asked for");
        assert!(stream.come().iter().all(|message| message.name != "bye"), "a seat was cut");
    }
}

fn name_of(member: usize) -> String {
    format!("m{member:03}")
}

fn topic_of(video: usize) -> String {
    format!("live:{video}")
}

/// Somebody who is told of counts, or of presence, and what they were told last.
struct Watcher {
    door: SocketAddr,
    /// Members whose presence they follow; nobody's where they follow counts.
    members: Range<usize>,
    stream: Stream,
    counts: BTreeMap<String, u64>,
    online: BTreeMap<String, bool>,
}

impl Watcher {
    fn start(door: SocketAddr, members: Range<usize>) -> Watcher {
        let presence = |member| format!("topic=presence:{}", name_of(member));
        let query: Vec<String> = match members.len() {
            0 => (0..VIDEOS).map(|video| format!("topic={}", topic_of(video))).collect(),
            _ => members.clone().map(presence).collect(),
        };
        let mut stream = Stream::open(door, &query.join("&"));
        stream.messages.viewers = true;
        stream.wait_connected();
        Watcher { door, members, stream, counts: BTreeMap::new(), online: BTreeMap::new() }
    }

    fn listen(&mut self, seats: &[Seat]) {
        for message in self.stream.come() {
            let event = message.json();
            let data = &event["data"];
            match event["type"].as_str().unwrap_or(&message.name) {
                "viewers" => {
                    let topic = event["topic"].as_str().expect("a topic").to_owned();
                    self.counts.insert(topic, data["viewers"].as_u64().expect("a number"));
                }
                "presence" => {
                    let member = data["member"].as_str().expect("a name").to_owned();
                    let online = data["online"].as_bool().expect("whether they are there");
                    if !online {
                        let told = event["at"].as_u64().expect("a time");
                        if let Some(seen) = data["last_seen"].as_u64() {
                            assert!(seen + PRESENCE_GUARD.as_millis() as u64 <= told, "too early: {event}");
                        }
                        let held = |seat: &&Seat| seat.member.map(name_of).as_ref() == Some(&member);
                        let long = |seat: &Seat| seat.open.as_ref().is_some_and(|open| open.1 + SURELY_HEARD_MS < told);
                        assert!(!seats.iter().filter(held).any(long), "they are there: {event}");
                    }
                    self.online.insert(member, online);
                }
                // The store restarts empty.
                "gap" => {}
                other => panic!("{other}: {}", message.data),
            }
        }
    }
}

/// The site, who is there, and who is told of it.
struct House {
    random: Random,
    site: Site,
    redis: Redis,
    seats: Vec<Seat>,
    watchers: Vec<Watcher>,
}

impl House {
    fn open(seed: u64) -> House {
        let redis = Redis::start();
        let site = Site::start(&redis.url());
        let (random, mut watchers) = (Random(seed), Vec::new());
        for door in site.doors() {
            watchers.push(Watcher::start(door, 0..0));
            let parts = (0..MEMBERS).step_by(FOLLOWED).map(|first| first..first + FOLLOWED);
            watchers.extend(parts.map(|members| Watcher::start(door, members)));
        }
        House { random, site, redis, seats: Vec::new(), watchers }
    }

    /// Somebody joins or leaves, some of the latter before they were answered.
    fn step(&mut self) {
        if self.random.below(2 * SEATS) >= self.seats.len() {
            let seat = Seat::take(&mut self.random, &self.site.doors());
            self.seats.push(seat);
        } else {
            let at = self.random.below(self.seats.len());
            let mut seat = self.seats.swap_remove(at);
            if self.random.below(2) == 0 {
                seat.settle();
            }
        }
    }

    fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step());
    }

    fn kill_a_frontend(&mut self) {
        let at = self.random.below(self.site.frontends.len());
        let killed = self.site.frontends.remove(at);
        let door = killed.public;
        killed.kill();
        self.seats.retain(|seat| seat.door != door);
        self.watchers.retain(|watcher| watcher.door != door);
    }

    fn kill_a_backend(&mut self) {
        let at = self.random.below(self.site.backends.len());
        self.site.backends.remove(at).kill();
    }

    fn restart_the_store_empty(&mut self) {
        self.redis.kill();
        self.steps(100);
        self.redis.restart();
    }

    /// Everybody is told how many watch each video, whoever is there is known to be, and so on until all of it is true.
    fn becomes_true(&mut self, exact_presence: bool) {
        self.seats.iter_mut().for_each(Seat::settle);
        let mut counts: BTreeMap<String, u64> =
            (0..VIDEOS).map(|video| (topic_of(video), self.site.frontends.len() as u64)).collect();
        self.seats.iter().for_each(|seat| *counts.get_mut(&topic_of(seat.video)).expect("it is counted") += 1);
        let mut present = vec![false; MEMBERS];
        self.seats.iter().filter_map(|seat| seat.member).for_each(|member| present[member] = true);
        let names: Vec<String> = (0..MEMBERS).map(name_of).collect();
        let wrong = |member: usize, online: bool| {
            if exact_presence { online != present[member] } else { present[member] && !online }
        };
        let query: Vec<String> = names.iter().map(|name| format!("member={name}")).collect();
        let query = format!("/v1/presence?{}", query.join("&"));
        within(TRUE_AGAIN, "counts and presence to be exact", || {
            let mut seen = Vec::new();
            for watcher in &mut self.watchers {
                watcher.listen(&self.seats);
                if watcher.members.is_empty() && watcher.counts != counts {
                    seen.push(format!("{} was told {:?}, not {counts:?}", watcher.door, watcher.counts));
                }
                let told = |member: usize| watcher.online.get(&names[member]).copied().unwrap_or(false);
                let wrong = watcher.members.clone().filter(|member| wrong(*member, told(*member)));
                seen.extend(
                    wrong.map(|member| format!("{} was told {} {}", watcher.door, names[member], told(member))),
                );
            }
            for desk in self.site.desks() {
                let answer = Client::connect(desk).request("GET", &query, &[], b"");
                if answer.status != 200 {
                    return Err(answer.text());
                }
                let known = &answer.json()["members"];
                let online = |member: usize| known[&names[member]]["online"].as_bool().expect("known or not");
                let wrong = (0..MEMBERS).filter(|member| wrong(*member, online(*member)));
                seen.extend(wrong.map(|member| format!("{desk} says {} of {}", online(member), names[member])));
            }
            if seen.is_empty() { Ok(()) } else { Err(format!("{} wrong: {seen:?}", seen.len())) }
        });
    }
}

#[test]
fn wrong_counts_or_presence_after_joins_leaves_and_crashes() {
    let seed = std::env::var("FANFARE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| getrandom::u64().expect("randomness"));
    eprintln!("FANFARE_SEED={seed} repeats the order");
    let mut house = House::open(seed);
    let mut crashes = vec![House::kill_a_frontend, House::kill_a_backend, House::restart_the_store_empty];
    let between = JOINS_AND_LEAVES / (crashes.len() + 1);
    while !crashes.is_empty() {
        let before = house.random.below(between);
        house.steps(before);
        let at = house.random.below(crashes.len());
        crashes.swap_remove(at)(&mut house);
        house.steps(between - before);
        house.becomes_true(false);
    }
    house.steps(between);
    // Some members leave for good.
    house.seats.retain(|seat| seat.member.is_none_or(|member| member % 3 > 0));
    house.becomes_true(true);
}
