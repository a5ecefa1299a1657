//! What must hold of what a receiver of hooks was told.

use std::collections::{BTreeMap, BTreeSet};

use fanfare::db::hooks::Delivery;
use fanfare::wire::hooks::HookEvent;

use crate::clients::SECOND;
use crate::world::{Client, World, dc_name};

/// Whom each receiver does not know of, of those who watch since long before.
pub fn lacking(world: &World) -> Vec<String> {
    each(world, |case| case.newest())
}

/// All that is wrong with what each data center's receiver has.
pub fn judge(world: &World) -> Vec<String> {
    each(world, |case| {
        case.comments();
        case.states();
        case.newest();
    })
}

fn each(world: &World, look: impl Fn(&mut Case<'_>)) -> Vec<String> {
    let mut wrong = Vec::new();
    if !world.plan.hooks {
        return wrong;
    }
    for dc in 0..world.disks.len() {
        let receiver = world.receivers[dc].lock();
        let mut case = Case { world, dc, once: Vec::new(), wrong: Vec::new() };
        case.once(&receiver.taken);
        look(&mut case);
        wrong.extend(case.wrong.into_iter().map(|text| format!("receiver of {}: {text}", dc_name(dc))));
    }
    wrong
}

/// In so long a node that knows somebody tells of them.
const LONG: u64 = 15 * SECOND;

struct Case<'a> {
    world: &'a World,
    dc: usize,
    /// Each once, as it came first.
    once: Vec<Delivery>,
    wrong: Vec<String>,
}

impl Case<'_> {
    /// Repeats are the same, and each subject's come in the order of their numbers, whatever comes again.
    fn once(&mut self, taken: &[Delivery]) {
        let mut known: BTreeMap<&str, &Delivery> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        let mut numbers = BTreeSet::new();
        for delivery in taken {
            if let Some(before) = known.get(&*delivery.id) {
                if (before.sequence, &before.subject, before.at) != (delivery.sequence, &delivery.subject, delivery.at)
                {
                    self.wrong.push(format!("a repeat is another: {before:?}, {delivery:?}"));
                }
                continue;
            }
            known.insert(&delivery.id, delivery);
            let before = last.insert(&delivery.subject, delivery.sequence);
            if before.is_some_and(|before| before >= delivery.sequence) {
                self.wrong.push(format!("{delivery:?} comes after number {before:?}"));
            }
            if !numbers.insert(delivery.sequence) {
                self.wrong.push(format!("two have the number {}", delivery.sequence));
            }
            self.once.push(delivery.clone());
        }
    }

    fn rows(&self, sql: &str) -> Vec<String> {
        let connection = self.world.disks[self.dc].memory.connection();
        let mut statement = connection.prepare(sql).expect("the tables are there");
        let rows = statement.query_map([], |row| row.get::<_, String>(0)).expect("they can be read");
        rows.map(|row| row.expect("it can be read")).collect()
    }

    /// Each comment that is stored was told of, or waits.
    fn comments(&mut self) {
        let told: BTreeSet<String> = self
            .once
            .iter()
            .filter(|delivery| delivery.event == HookEvent::CommentPosted)
            .filter_map(|delivery| serde_json::from_str::<serde_json::Value>(&delivery.data).ok())
            .filter_map(|data| data["id"].as_str().map(str::to_owned))
            .collect();
        let stored = self.rows(
            "SELECT id || '-' || name FROM posts, database WHERE kind = 0
                 AND NOT EXISTS (SELECT 1 FROM hook_deliveries WHERE post = posts.id)",
        );
        let missing: Vec<String> = stored.into_iter().filter(|id| !told.contains(id)).collect();
        if !missing.is_empty() {
            self.wrong.push(format!("it was not told of comments, and will not be: {missing:?}"));
        }
    }

    /// Of a member and of a topic what begins and what ends takes turns.
    fn states(&mut self) {
        let mut has_begun: BTreeMap<&str, bool> = BTreeMap::new();
        for delivery in &self.once {
            let begins = match delivery.event {
                HookEvent::MemberOnline | HookEvent::TopicOccupied => true,
                HookEvent::MemberOffline | HookEvent::TopicVacated => false,
                _ => continue,
            };
            let before = has_begun.insert(&delivery.subject, begins).unwrap_or(false);
            if before == begins {
                self.wrong.push(format!("it is told twice: {delivery:?}"));
            }
        }
    }

    /// Whoever watches when all is quiet was told of, or is about to be; and so was the topic.
    fn newest(&mut self) {
        let told: BTreeSet<String> = self.rows("SELECT subject FROM hook_states").into_iter().collect();
        let waiting: BTreeSet<String> = self.rows("SELECT subject FROM hook_deliveries").into_iter().collect();
        let viewers = self.world.present().filter_map(Client::viewer);
        let here = viewers.filter(|viewer| {
            viewer.is_connected && !viewer.is_retired && !viewer.roams && self.world.homes[viewer.number] == self.dc
        });
        let mut expected: BTreeSet<String> = BTreeSet::new();
        for viewer in here {
            let long = |since: &u64| since + LONG <= self.world.now;
            let topics = viewer
                .since
                .iter()
                .filter(|(topic, since)| topic.starts_with("live:") && !topic.ends_with('*') && long(since));
            expected.extend(topics.map(|(topic, _)| topic.clone()));
            let member = viewer.member.iter().filter(|_| viewer.since.values().any(long));
            expected.extend(member.map(|member| format!("presence:{member}")));
        }
        for subject in expected {
            let newest = self
                .once
                .iter()
                .rev()
                .find(|delivery| delivery.subject == subject && delivery.event != HookEvent::CommentPosted);
            let is_told = newest
                .is_some_and(|delivery| matches!(delivery.event, HookEvent::MemberOnline | HookEvent::TopicOccupied));
            if !told.contains(&subject) || !(is_told || waiting.contains(&subject)) {
                self.wrong.push(format!("it does not know that {subject} is there, but {newest:?}"));
            }
        }
    }
}
