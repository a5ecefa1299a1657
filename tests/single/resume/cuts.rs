//! Done when nothing is lost however often clients are cut: counted by who published.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::followers::{Dice, Plan, Published, Seen, follow};
use super::support::http::Client;
use super::support::node::Node;
use super::{configured, line, publish_lines};

/// Publishes `total` comments over three topics, as fast as clients are cut, and has `clients` of them cut `cuts` times each.
fn cut(node: &Node, history: usize, clients: usize, cuts: usize, away: usize, total: usize) -> Seen {
    let topics: Vec<(String, Published)> =
        ["live:1", "live:2", "chat:3"].map(|name| (name.to_owned(), Published::default())).into();
    let plan = Plan {
        address: node.public,
        topics: &topics,
        history,
        cuts,
        away,
        total,
        cut: AtomicUsize::new(0),
        wanted: AtomicUsize::new(0),
    };
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish(&plan, clients * cuts));
        // Should the clients fail, the publisher is not to wait for their cuts.
        let over = Over(&plan.cut);
        let seen = follow(&plan, clients, &mut Dice(7));
        drop(over);
        publishing.join().unwrap();
        let taken: Vec<usize> = topics.iter().map(|(_, published)| published.taken.load(Ordering::Acquire)).collect();
        assert_eq!(taken.iter().sum::<usize>(), total);
        seen
    })
}

struct Over<'a>(&'a AtomicUsize);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }
}

/// So that it lasts until the last cut: never further than the cuts are.
fn publish(plan: &Plan<'_>, cuts: usize) {
    let (mut dice, mut client) = (Dice(8), Client::connect(plan.address));
    let mut published = 0;
    while published < plan.total {
        let cut = plan.cut.load(Ordering::Relaxed).min(cuts);
        if published > plan.total * cut / cuts && published >= plan.wanted.load(Ordering::Relaxed) {
            std::thread::yield_now();
            continue;
        }
        let count = (1 + dice.roll(30) as usize).min(plan.total - published);
        let mut lines = String::new();
        let mut chosen = vec![0; plan.topics.len()];
        for _ in 0..count {
            let topic = dice.roll(plan.topics.len() as u64) as usize;
            let (name, topic_published) = &plan.topics[topic];
            let number = topic_published.sent.fetch_add(1, Ordering::AcqRel);
            lines += &line(name, &format!("{name}/{number}"), dice.roll(200) as usize);
            chosen[topic] += 1;
        }
        publish_lines(&mut client, &lines);
        for ((_, topic_published), count) in plan.topics.iter().zip(chosen) {
            topic_published.taken.fetch_add(count, Ordering::AcqRel);
        }
        published += count;
    }
}

#[test]
fn comment_lost_by_one_of_1000_clients_that_are_cut() {
    let (node, _folder) = configured("[events.comment]\nhistory = 20000\n");
    let seen = cut(&node, 20_000, 1_000, 3, 0, 1_000);
    assert_eq!(seen.missing, 0, "{seen:?}");
    assert!(seen.received > 1_000 * 1_000, "{seen:?}");
}

#[test]
fn comment_that_history_forgot_is_missing_in_silence() {
    let (node, _folder) = configured("[events.comment]\nhistory = 40\n");
    let seen = cut(&node, 40, 1, 200, 300, 10_000);
    assert!(seen.missing > 100 && seen.gaps > 10, "this is to happen here: {seen:?}");
    let (node, _folder) = configured("[events.comment]\nhistory = 40\n");
    let seen = cut(&node, 40, 200, 4, 300, 3_000);
    assert!(seen.missing > 1_000 && seen.gaps > 400, "this is to happen here: {seen:?}");
}
