//! The real code of a whole cluster in one thread, under virtual time and one seed. What is simulated, and what must hold,
//! is in the modules; `scripts/simulate --story 7` tells the story of one seed.

#![deny(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types)]

mod agenda;
mod answers;
mod authorizing;
mod batch;
mod canaries;
mod clients;
mod crowds;
mod database;
mod endings;
mod fabric;
mod faults;
mod hooks;
mod lone;
mod losses;
mod mistakes;
mod oracle;
mod poster;
mod prefixes;
mod publisher;
mod run;
mod shrink;
mod store;
mod streams;
mod tokens;
mod turns;
mod viewer;
mod watching;
mod world;

use batch::Batch;
use clients::SECOND;
use fanfare::runtime::planted::{self, Mistake};
use faults::Fault;
use publisher::Kinds;
use run::{Told, plan, run, whole};
use shrink::shrink;
use world::{Plan, Without, World};

/// One of each machine that it takes, and nobody who does anything.
pub fn small(seed: u64) -> Plan {
    Plan {
        seed,
        data_centers: 1,
        dispatchers: 1,
        frontends: 1,
        backends: 0,
        hooks: false,
        prefixes: false,
        nested: false,
        restless: false,
        shards: 1,
        viewers: 0,
        publishers: 0,
        posters: 0,
        topics: 1,
        kinds: Kinds::default(),
        members: 0,
        tokens: false,
        seconds: 0,
        faults: Default::default(),
        hurries: false,
        slow: 0,
        kept: false,
        canary: false,
        ends_soon: false,
        without: Default::default(),
    }
}

#[test]
fn same_seed_other_story() {
    let [first, again, other] = [1, 1, 2].map(|seed| run(&whole(seed), false));
    assert_eq!((first.trace, &first.counts), (again.trace, &again.counts));
    assert_ne!(first.trace, other.trace);
}

#[test]
fn seeds_that_depend_on_how_many_run_beside_them() {
    let [one, two] =
        [1, 2].map(|threads| Batch { from: 0, seeds: 3, threads, plan: &plan, mistake: None }.run(|_| true));
    assert_eq!(one, two);
}

/// What is not left out happens as it did, at the same times.
#[test]
fn chance_that_is_used_up_by_what_is_left_out() {
    let told = run(&whole(3), true);
    let (left_out, ..) = told.befell[0];
    let mut less = whole(3);
    less.without.befalls.insert(left_out);
    less.without.clients.insert(0);
    let less = run(&less, true);
    assert_eq!(less.befell, told.befell[1..]);
    // What a client does later may depend on others; what it sends does not.
    let sent = |told: &Told, client: usize| -> Vec<String> {
        let who = format!("publisher {client} sends ");
        let lines = told.log.iter().filter_map(|line| line.split_once(&who).filter(|(_, what)| what.ends_with(" 1")));
        lines.map(|(_, what)| what.to_owned()).take(20).collect()
    };
    for client in &less.clients {
        assert_eq!(sent(&less, *client), sent(&told, *client));
    }
    assert_eq!(less.clients, told.clients[1..]);
    assert_ne!(less.trace, told.trace);
}

/// The tool finds what a failure needs, and tells it in lines.
#[test]
fn story_longer_than_it_needs_to_be() {
    planted::plant(Some(Mistake::FrameTorn));
    let failed = (2000..).map(|seed| (whole(seed), run(&whole(seed), false)));
    let (long, told) = failed.into_iter().find(|(_, told)| !told.wrong.is_empty()).expect("it shows");
    let shortest = shrink(long.clone(), told);
    let story = run(&shortest.plan, true);
    planted::plant(None);
    println!("{:#?}\n{}", shortest.plan, story.log.join("\n"));
    assert!(!story.wrong.is_empty() && story.wrong == shortest.told.wrong, "{:?}", story.wrong);
    assert!(shortest.plan.faults.len() < long.faults.len() && shortest.plan.seconds < long.seconds);
    // One who publishes, one who watches, and one thing that goes wrong.
    assert!(story.clients.len() <= 2 && story.befell.len() <= 1, "{:?} {:?}", story.clients, story.befell);
    assert!(story.log.iter().any(|line| line.contains("is shown")), "it tells what was seen");
}

/// Runs seeds from `from` on; a batch that never saw something that it is to see fails as well.
fn batch(from: u64) {
    let sum = Batch { from, seeds: SEEDS, threads: 1, plan: &plan, mistake: None }.run(|_| true);
    println!("{:?}", sum.counts);
    assert!(sum.failed.is_empty(), "{:#?}", sum.failed);
    let unseen = sum.unseen();
    assert!(unseen.is_empty(), "never happened: {unseen:?} of {:?}", sum.counts);
}

/// Seeds of one test.
const SEEDS: u64 = 50;

/// `scripts/test` runs many more.
#[test]
fn promises_broken_by_the_first_seeds() {
    batch(0);
}

/// A plan that showed a fault, and what it was.
type Story = (fn() -> Plan, &'static str);

/// Viewers who have topics by their names and by prefixes, of which events are lost on their way.
fn many_names(seed: u64) -> Plan {
    let (faults, kinds) = ([Fault::Cut, Fault::Dispatcher, Fault::Pause].into(), Kinds::default());
    let small = Plan {
        prefixes: true,
        nested: false,
        restless: false,
        kept: false,
        hooks: false,
        data_centers: 1,
        backends: 0,
        members: 0,
        ..whole(seed)
    };
    Plan { publishers: 1, topics: 6, viewers: 12, hurries: true, faults, kinds, ..small }
}

const ONCE_FAILED: [Story; 26] = [
    (
        || Plan { restless: false, kept: false, ..whole(1030) },
        "a store that lost all twice took an event for the first one of its topic: what it lost in between went untold",
    ),
    (
        || Plan { restless: false, kept: false, ..whole(2045) },
        "the one viewer of a video was told of none: one in another data center had gone as this one came, and a total of one was \
         taken for told, though nobody had been here to be told",
    ),
    (
        || Plan { restless: false, kept: false, viewers: 100, ..whole(106) },
        "a stream whose socket broke as it was shown the newest values of a topic that it had just asked for ended its shard",
    ),
    (
        || {
            let without = Without {
                clients: (0..102).filter(|client| ![56, 100].contains(client)).collect(),
                ..Without::default()
            };
            let (faults, kinds) = ([Fault::Cut].into(), Kinds::default());
            Plan {
                faults,
                kinds,
                seconds: 29,
                shards: 1,
                viewers: 100,
                members: 0,
                restless: false,
                kept: false,
                without,
                ..whole(106)
            }
        },
        "a Frontend that had been cut off gave events of one topic before it knew what it lacked of another, and a stream that was \
         cut then came back by the newer one's id",
    ),
    (
        || Plan { restless: false, kept: false, viewers: 100, ..whole(426) },
        "a topic that was compared before it was known where its history ends was told of a gap, and of another every five seconds",
    ),
    (
        || Plan { restless: false, kept: false, viewers: 60, ..whole(710) },
        "a stream that was told of gaps as it came back waited 20 s for its first pages; what the store lost meanwhile went untold",
    ),
    (
        || Plan { restless: false, kept: false, ..plan(220) },
        "a like whose commit had no answer was stored; who gave it again was told so, and viewers were never told of its total",
    ),
    (
        || Plan { restless: false, kept: false, nested: false, ..plan(960_861_929) },
        "who came back after a loss that the others had been told of, and before those had what history kept, was not told",
    ),
    (
        || Plan { restless: false, kept: false, prefixes: true, nested: false, ..plan(3191) },
        "the rules of a video came to a Frontend never, whose version a database counts from 1: it is older than whatever else was \
         heard of the topic, and was not compared with what the store has",
    ),
    (
        || Plan {
            restless: false,
            kept: false,
            prefixes: true,
            nested: false,
            hooks: false,
            data_centers: 1,
            backends: 0,
            ..whole(2126)
        },
        "who had a prefix was not given what viewers who named one of its topics later were not to have, from before they came",
    ),
    (
        || Plan { restless: false, kept: false, prefixes: true, ..plan(40882) },
        "who named a topic of its prefix while that lacked events of it was given none of them, and not told",
    ),
    (
        || many_names(2006),
        "a dispatcher forgot who wants prefixes while an event waited to know who wants its topic: then it waited for an answer \
         that nobody had asked for, until the next event of the topic",
    ),
    (
        || many_names(2279),
        "who named a topic of its prefix, of which an event had been lost on its way, was not given that: what it had by the prefix \
         ended where the topic's viewers began",
    ),
    (
        || many_names(2416),
        "a stream that came back was given an event twice: it went live, and again in its place once another topic's past was found \
         to be longer",
    ),
    (
        || {
            let (faults, kinds) = (Default::default(), Kinds::default());
            let many = Plan { publishers: 12, topics: 20, viewers: 12, seconds: 4, faults, kinds, ..many_names(2169) };
            Plan { nested: true, ..many }
        },
        "a stream that had two prefixes' topics was to be given one from history, since another prefix had it first: its socket, which \
         could be written to all along, never said so, and it was given nothing any more",
    ),
    (
        || Plan { restless: true, publishers: 2, topics: 2, ..many_names(2090) },
        "a stream that came back was never given what came while a page of the past was on its way: what a core's home gives its \
         viewers there overtakes the page, which was made before, and was taken to have it",
    ),
    (
        || Plan { restless: true, publishers: 2, topics: 2, ..many_names(2105) },
        "a video's one viewer of a node left and another came within a second: the node said nothing, since it had as many as before, \
         and who came was told no number",
    ),
    (
        || {
            let kinds = Kinds { notes: true, ..Kinds::default() };
            let many = Plan { restless: true, publishers: 2, topics: 1, viewers: 20, kinds, ..many_names(20098) };
            Plan { data_centers: 2, backends: 1, members: 2, ..many }
        },
        "a stream that had left a video and took it again while it was late was told its newest total, and then the one that had waited \
         since it left",
    ),
    (
        || {
            let kinds = Kinds { sums: true, latest: true, ..Kinds::default() };
            let many = Plan { restless: true, publishers: 2, topics: 2, viewers: 20, kinds, ..many_names(31482) };
            Plan { backends: 1, members: 2, ..many }
        },
        "a look through the outbox had gone past posts of a video as they became due, and came to its end without them: the next post \
         was told before they were",
    ),
    (
        || {
            let kinds = Kinds { sums: true, latest: true, ..Kinds::default() };
            let many = Plan { restless: true, publishers: 1, topics: 4, viewers: 20, kinds, ..many_names(31055) };
            Plan { data_centers: 2, members: 2, ..many }
        },
        "a node that had stood still let a prefix go and had it again; the answer to a question of before that was taken for the store's \
         fall back in time: viewers were told of a gap, and given an hour's history",
    ),
    (
        || {
            let kinds = Kinds { notes: true, sums: true, latest: true };
            let many = Plan { restless: true, hooks: true, publishers: 2, topics: 1, kinds, ..many_names(43745) };
            Plan { backends: 1, ..many }
        },
        "a dispatcher stood still for less than its lease, and then told a total of likes that it had taken before: it stood until the \
         next like, since the newest one was told again before that",
    ),
    (
        || Plan { kept: true, ..plan(1245) },
        "who was the first on a core to name a topic of its prefix, which others on the node watched and lacked an event of, had what the \
         prefix was known to have: when the node read that event it was not given it",
    ),
    (
        || {
            let kinds = Kinds { notes: true, ..Kinds::default() };
            Plan { restless: true, hooks: true, members: 2, publishers: 4, topics: 2, kinds, ..many_names(41355) }
        },
        "a core read what its viewers lacked of its topic's home, which had less than history: what history had lost of the rest was \
         taken for the end of what the core was given, and all that it has of that was passed over",
    ),
    (
        || {
            let small = Plan { data_centers: 2, backends: 1, nested: false, kept: false, ..whole(45718) };
            Plan { restless: true, prefixes: true, publishers: 2, topics: 1, viewers: 12, hurries: true, ..small }
        },
        "while the store was away a video got viewers; before its end was asked for again a prefix of it said where it begins, and nobody \
         looked whether it was ready: who named it was told that it is pending, and nothing that was newest, for as long as the node had it",
    ),
    (
        || Plan { topics: 40, viewers: 4, ..many_names(2090) },
        "a topic's home told its own core by mail that the topic is ready, which an event overtook: the core took its viewers back to \
         where the topic began, and gave them the event once more",
    ),
    (
        || Plan { viewers: 30, ..plan(304_872) },
        "a slow viewer of two topics gave one up, whose event was its newest, and came back for the other with that one's place, which it was \
         taken to have all of before: the store had come back empty meanwhile, and nobody told it of a gap",
    ),
];

#[test]
fn promises_broken_by_seeds_that_once_failed() {
    for (plan, story) in ONCE_FAILED {
        let plan = plan();
        let wrong = run(&plan, false).wrong;
        assert!(wrong.is_empty(), "seed {}, where {story}: {wrong:#?}", plan.seed);
    }
}

/// A Frontend that hung for longer than its lease gives its viewers all that history kept meanwhile, though a type of which
/// little is kept left holes in it.
#[test]
fn comments_skipped_where_events_of_another_type_expired() {
    for shards in 1..=2 {
        let (kinds, seconds) = (Kinds { notes: true, ..Kinds::default() }, 16);
        let plan = Plan { shards, viewers: 4, publishers: 2, kinds, seconds, ..small(7) };
        let mut world = World::new(plan, false);
        world.run(5 * SECOND);
        world.machines[1].paused_until = 14 * SECOND;
        world.run(seconds * SECOND);
        world.heal();
        world.run(100 * SECOND);
        let wrong = oracle::judge(&mut world);
        assert!(wrong.is_empty(), "{shards} shards: {} wrong, such as {}; {:?}", wrong.len(), wrong[0], world.counts);
    }
}
