//! A Cluster whose masters die, and whose slots move.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare::kv::{Answer, Notice, Request, bucket};
use fanfare::wire::position::Position;
use fanfare::wire::topic::Topic;

use super::driver::{Store, append, batch, topic};
use super::queues::{done, taking};
use crate::support::eventually;
use crate::support::redis::Cluster;

/// A topic of each bucket.
fn topics() -> Vec<Topic> {
    let mut found = HashMap::new();
    for number in 0.. {
        let name = format!("live:{number}");
        found.entry(bucket(&name)).or_insert_with(|| topic(&name));
        if found.len() == fanfare::kv::BUCKETS {
            break;
        }
    }
    found.into_values().collect()
}

/// All events of a topic, over pages.
fn all(store: &Store, topic: &Topic) -> HashMap<Position, String> {
    let (mut after, mut found) = (Position::START, HashMap::new());
    loop {
        let page = store.read(topic, after, 100);
        found.extend(page.events.iter().map(|event| (event.position, event.event.to_string())));
        match page.events.last() {
            Some(last) if !page.complete => after = last.position,
            _ => return found,
        }
    }
}

/// Ends what runs beside a test, also when that fails: a scope waits for its threads before it says why.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_master_is_killed_while_events_are_appended() {
    let mut cluster = Cluster::start();
    let store = Store::redis(&cluster.url(), "dc1");
    let topics = topics();
    for topic in &topics {
        store.ask(batch(7, 1, false, &[(topic, true)]));
        assert_eq!(store.subscribers(topic), [7]);
    }
    let before: Vec<Position> = topics.iter().map(|topic| store.append(topic, "first", 1_000_000).0).collect();
    store.notices();
    let stop = AtomicBool::new(false);
    let (acknowledged, failed) = std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let (mut acknowledged, mut failed): (Vec<HashMap<Position, String>>, usize) =
                (vec![HashMap::new(); topics.len()], 0);
            for round in 0.. {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let tickets: Vec<(usize, String, u64)> = (0..topics.len() * 4)
                    .map(|number| {
                        let (at, text) = (number % topics.len(), format!("{round}-{number}"));
                        let ticket = store.submit(number % 2, append(&topics[at], &text, 1_000_000));
                        (at, text, ticket)
                    })
                    .collect();
                for (at, text, ticket) in tickets {
                    match store.wait(ticket) {
                        Ok(Answer::Appended { position, .. }) => {
                            assert_eq!(acknowledged[at].insert(position, text), None);
                        }
                        Ok(other) => panic!("{other:?}"),
                        Err(_) => failed += 1,
                    }
                }
            }
            (acknowledged, failed)
        });
        let stopping = Stopping(&stop);
        let victim = cluster.masters()[0];
        cluster.nodes[victim].kill();
        cluster.settled();
        eventually("the store to find it", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
        drop(stopping);
        appending.join().expect("it appends")
    });
    assert!(failed > 0, "somebody noticed");
    store.hears(&Notice::InvalidatedAll);
    let mut taken_over = 0;
    for (at, topic) in topics.iter().enumerate() {
        let found = all(&store, topic);
        for (position, text) in &acknowledged[at] {
            assert_eq!(found.get(position), Some(text), "{topic}: what was acknowledged is there");
        }
        // Who had the first event only may lack some, for all that the new master can know.
        taken_over += usize::from(store.read(topic, before[at], 1).reaches.place() > before[at]);
        assert_eq!(store.subscribers(topic), [7]);
    }
    assert!(taken_over > 0 && taken_over < topics.len(), "{taken_over} of {} buckets", topics.len());
}

/// Events wait for a peer, and arrive, while the master that has both dies: each arrives once, in order.
#[test]
fn a_master_is_killed_while_events_are_taken() {
    let mut cluster = Cluster::start();
    let stores = ["a", "b"].map(|dc| Store::redis(&cluster.url(), dc));
    let [here, there] = &stores;
    let live = topic("live:1");
    here.append_for(&live, "0", &["b"]);
    // Both data centers' masters of the bucket are to die, one after the other.
    let number = bucket("live:1");
    let mut appended = vec!["0".to_owned()];
    let mut page = here.waiting("b", None, 9);
    there.take(taking(&page, |_| live.clone()));
    for dc in ["a", "b"] {
        let key = format!("fanfare:{{{dc}:{number}}}:since");
        let masters = cluster.masters();
        let victim =
            *masters.iter().find(|at| cluster.nodes[**at].command(&["EXISTS", &key]) == ":1").expect("one has it");
        for _ in 0..20 {
            let text = appended.len().to_string();
            here.append_for(&live, &text, &["b"]);
            appended.push(text);
        }
        // It is there, and the answer is lost.
        page = here.waiting("b", done(&page), 15);
        there.take(taking(&page, |_| live.clone()));
        cluster.nodes[victim].kill();
        cluster.settled();
        for store in &stores {
            eventually("the store to find it", || {
                store.try_ask(Request::Ends(vec![live.clone()])).map_err(|error| error.to_string())?;
                store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err)
            });
        }
        cluster.nodes[victim].restart();
        cluster.settled();
    }
    page = here.waiting("b", None, 9);
    while !page.events.is_empty() {
        assert_eq!(page.lost, 0);
        there.take(taking(&page, |_| live.clone()));
        page = here.waiting("b", done(&page), 9);
    }
    let found = there.read(&live, Position::START, 1000).events;
    assert_eq!(found.iter().map(|event| event.event.to_string()).collect::<Vec<_>>(), appended);
}

/// Its connections hold, and it answers every question, with an error.
#[test]
fn a_master_that_serves_nothing_is_trouble_until_it_serves() {
    let cluster = Cluster::start();
    let store = Store::redis(&cluster.url(), "dc1");
    let live = topic("live:1");
    store.append(&live, "1", 9);
    let slot_of = |key: &str| cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).trim_start_matches(':').to_owned();
    let key = format!("fanfare:{{dc1:{}}}:h:live:1", bucket("live:1"));
    let has = |at: &&usize| cluster.nodes[**at].command(&["EXISTS", &key]) == ":1";
    let master = &cluster.nodes[*cluster.masters().iter().find(has).expect("one has it")];
    // A slot of its own without any key: without it, it knows of no whole Cluster, and the others do not hear of that.
    let other = (0..).map(|number| slot_of(&format!("other:{number}")));
    let mut other = other.filter(|slot| master.command(&["CLUSTER", "COUNTKEYSINSLOT", slot]) == ":0");
    let slot = other.find(|slot| master.command(&["CLUSTER", "DELSLOTS", slot]) == "+OK").expect("it has some");
    eventually("the trouble to be known, though nobody asks", || {
        match store.kv.trouble().map(|reason| reason.whole()) {
            Some(trouble) if trouble.contains(&master.port.to_string()) && trouble.contains("CLUSTERDOWN") => Ok(()),
            other => Err(other),
        }
    });
    assert!(store.try_ask(append(&live, "2", 9)).is_err());
    assert_eq!(master.command(&["CLUSTER", "ADDSLOTS", &slot]), "+OK");
    eventually("the trouble to end", || store.kv.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    store.append(&live, "3", 9);
    let events = store.read(&live, Position::START, 9).events;
    assert_eq!(events.iter().map(|event| event.event.to_string()).collect::<Vec<_>>(), ["1", "3"]);
}

#[test]
fn a_slot_moves() {
    let cluster = Cluster::start();
    let store = Store::redis(&cluster.url(), "dc1");
    let (live, number) = (topic("live:1"), bucket("live:1"));
    store.ask(batch(7, 1, false, &[(&live, true)]));
    let (place, _) = store.append(&live, "1", 9);
    let key = format!("fanfare:{{dc1:{number}}}:h:live:1");
    let slot = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &key]).trim_start_matches(':').to_owned();
    let masters: Vec<_> = cluster.masters().into_iter().map(|at| &cluster.nodes[at]).collect();
    type Nodes<'a> = Vec<&'a crate::support::redis::Redis>;
    let (has, other): (Nodes<'_>, Nodes<'_>) = masters.iter().partition(|node| node.command(&["EXISTS", &key]) == ":1");
    let (from, to) = (has[0], other[0]);
    let id = |node: &crate::support::redis::Redis| node.command(&["CLUSTER", "MYID"]);
    assert_eq!(to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]), "+OK");
    assert_eq!(from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]), "+OK");
    // Its keys go; those that are asked for are where ASK says.
    assert_eq!(store.subscribers(&live), [7]);
    let port = to.port.to_string();
    for rest in [
        ":h:live:1",
        ":h:live:1 kept",
        ":h:live:1 of comment",
        ":s:live:1",
        ":since",
        ":digests",
        ":barrier",
        &format!(":w:{}", fanfare::wire::connection_id::NodeId(7)),
    ] {
        let key = format!("fanfare:{{dc1:{number}}}{rest}");
        let moved = from.command(&["MIGRATE", "127.0.0.1", &port, &key, "0", "5000"]);
        assert!(moved == "+OK" || moved == "+NOKEY", "{moved}");
    }
    assert_eq!(store.subscribers(&live), [7]);
    let (next, prev) = store.append(&live, "2", 9);
    // The server that has the slot now cannot know what the other one lost.
    assert_eq!(prev, None);
    for node in masters.iter().filter(|node| node.port != from.port).chain([&from]) {
        assert_eq!(node.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &id(to)]), "+OK");
    }
    // From now on the answer is MOVED.
    store.notices();
    let (last, prev) = store.append(&live, "3", 9);
    assert_eq!(prev, Some(next));
    store.hears(&Notice::InvalidatedAll);
    let events = store.read(&live, Position::START, 9).events;
    assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [place, next, last]);
    assert_eq!(store.subscribers(&live), [7]);
}
