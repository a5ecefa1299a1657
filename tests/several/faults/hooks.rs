//! Whoever dies, receivers of hooks are told all, in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::beneath::Store;
use super::load::{Load, What};
use crate::support::becomes;
use crate::support::hooks::{Delivery, Receiver};
use crate::support::postgres::Postgres;
use crate::support::site::{Plan, Site, living};

const EVENTS: [&str; 5] = ["member.online", "member.offline", "topic.occupied", "topic.vacated", "comment.posted"];

/// Longer than it takes until a dead node's members are known to have gone, and that is compared with what was told.
const LONG: Duration = Duration::from_secs(180);

/// The types of deliveries of a subject, but for comments.
fn states(taken: &[Delivery], subject: &str) -> Vec<String> {
    let own = taken.iter().filter(|delivery| delivery.subject() == subject && delivery.kind() != "comment.posted");
    own.map(|delivery| delivery.kind().to_owned()).collect()
}

/// Waits until what was taken is as `look` asks.
#[track_caller]
fn until(receiver: &Receiver, what: &str, look: impl Fn(&[Delivery]) -> bool) -> Vec<Delivery> {
    let begun = Instant::now();
    loop {
        let taken = receiver.taken_once();
        if look(&taken) {
            return taken;
        }
        let kinds = || {
            taken.iter().filter(|one| one.kind() != "comment.posted").map(|one| one.text.clone()).collect::<Vec<_>>()
        };
        assert!(begun.elapsed() < LONG, "{what}: {:?}", kinds());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn delivery_of_a_hook_lost_or_out_of_order_after_one_of_each_role_was_killed() {
    let (store, postgres, receiver) = (Store::redis(), Postgres::start(), Receiver::start());
    let folder = tempfile::tempdir().expect("a folder");
    receiver.settings(folder.path(), &EVENTS);
    let hooks = receiver.table(&folder.path().join("hook.secret"), &EVENTS);
    let mut site = Site::of(Plan {
        frontends: 2,
        database: Some(postgres.url()),
        more_settings: hooks,
        ..Plan::new(&store.url())
    });
    let all = || ["ana", "bob", "cy", "dee"];
    // Those of the first frontend die with it; ana comes back at the other one.
    let at = |node: usize, member: &str, video: &str, site: &Site| {
        site.frontends[node].stream(&format!("topic=live:{video}&member={member}"))
    };
    let dying = [at(0, "ana", "1", &site), at(0, "bob", "2", &site)];
    let staying = [at(1, "cy", "3", &site)];
    let videos: Vec<String> = ["1", "2", "3"].map(str::to_owned).into();
    let load = Load::start(What::Comments, site.desks(), &videos);
    until(&receiver, "who came", |taken| {
        ["ana", "bob", "cy"].iter().all(|member| states(taken, &format!("presence:{member}")) == ["member.online"])
            && ["1", "2", "3"].iter().all(|video| states(taken, &format!("live:{video}")) == ["topic.occupied"])
    });
    load.more(30);
    site.backends.remove(0).kill();
    load.more(30);
    let mut dead = site.dispatchers.remove(0);
    dead.signal(rustix::process::Signal::KILL);
    dead.ended();
    let late = at(1, "dee", "4", &site);
    load.more(30);
    site.frontends.remove(0).kill();
    drop(dying);
    let back = site.frontends[0].stream("topic=live:1&member=ana");
    load.more(30);
    becomes("the nodes that live", 3, || living(&site.dispatchers[0]));
    let ids = load.stop();
    // Every comment that was acknowledged is there, in the order of its video.
    let has_all = |taken: &[Delivery]| {
        let got: Vec<&str> = taken.iter().filter_map(|delivery| delivery.body["data"]["id"].as_str()).collect();
        ids.iter().all(|id| got.contains(&id.as_str()))
    };
    let taken = until(&receiver, "all comments, and who went", |taken| {
        has_all(taken)
            && states(taken, "presence:bob") == ["member.online", "member.offline"]
            && states(taken, "live:2") == ["topic.occupied", "topic.vacated"]
            && states(taken, "presence:dee") == ["member.online"]
            && states(taken, "live:4") == ["topic.occupied"]
    });
    let mut by_video: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for delivery in taken.iter().filter(|delivery| delivery.kind() == "comment.posted") {
        let id = delivery.body["data"]["id"].as_str().expect("an id");
        let number = id.split('-').next().and_then(|number| number.parse().ok()).expect("a number");
        by_video.entry(delivery.body["data"]["video"].as_str().expect("a video")).or_default().push(number);
    }
    assert!(by_video.values().all(|numbers| numbers.is_sorted()) && by_video.len() == 3, "{by_video:?}");
    // What one says of each member and topic takes turns, and ends as it is.
    for (subject, ends) in all().map(|member| format!("presence:{member}")).into_iter().zip([
        "member.online",
        "member.offline",
        "member.online",
        "member.online",
    ]) {
        let states = states(&taken, &subject);
        assert!(
            states.windows(2).all(|two| two[0] != two[1]) && states.last().is_some_and(|last| last == ends),
            "{subject}: {states:?}"
        );
    }
    assert_eq!(states(&taken, "live:3"), ["topic.occupied"]);
    drop((staying, late, back));
    until(&receiver, "the last ones to go", |taken| {
        all().iter().all(|member| {
            states(taken, &format!("presence:{member}")).last().is_some_and(|last| last == "member.offline")
        }) && ["1", "2", "3", "4"]
            .iter()
            .all(|video| states(taken, &format!("live:{video}")).last().is_some_and(|last| last == "topic.vacated"))
    });
}
