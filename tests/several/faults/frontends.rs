//! A Frontend dies, or hangs.

use std::time::Duration;

use fanfare::limits::{KV_TIMEOUT, NODE_LEASE, NODE_SWEEP};
use redis::Commands as _;
use rustix::process::Signal;

use super::beneath::{LEASES, Store};
use super::load::{Load, What};
use super::setup::*;
use super::viewers::Viewers;
use crate::support::{becomes, eventually};

const VIDEOS: [&str; 3] = ["1", "2", "3"];

/// Topics, and videos.
pub fn videos() -> (Vec<String>, Vec<String>) {
    let topics = VIDEOS.iter().map(|video| format!("live:{video}")).collect();
    (topics, VIDEOS.iter().map(|video| (*video).to_owned()).collect())
}

#[test]
fn comments_or_ghosts_after_a_frontend_was_killed_while_a_master_failed_over() {
    frontend_killed(Store::failing_over());
}

fn frontend_killed(mut store: Store) {
    let mut site = Site::start(&store.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 120);
    site.wait_wanted(&store, &topics);
    let load = Load::start(What::Comments, site.desks(), &videos);
    // Comments are published after they were acknowledged, and may pass each other on the way; these may not.
    let messages = Load::start(What::Events("message"), site.intakes(), &topics);
    load.more(40);
    messages.more(40);
    // Whoever comes back says what it saw last.
    viewers.have(&load.taken());

    let killed = site.frontends.remove(0);
    let ghost = name(&killed);
    killed.kill();
    let died = unix_ms();
    store.lose_master_of(LEASES);
    load.more(60);
    let longest = died + (NODE_LEASE + KV_TIMEOUT).as_millis() as u64;
    let lease = eventually("the leases", || {
        store.read(LEASES, |kv, key| Ok(kv.zscore::<_, _, Option<f64>>(key, &ghost)?.into_iter().collect()))
    });
    // A heartbeat may have been on its way when it died.
    assert!(lease.iter().all(|until| *until as u64 <= longest), "it died at {died}, and its lease ends at {lease:?}");
    becomes("the nodes that are taken for alive", vec![6, 6], || site.dispatchers.iter().map(living).collect());
    load.more(20);
    messages.more(20);
    let sent = messages.stop();
    viewers.have(&load.stop());
    viewers.have(&sent);
    viewers.in_order(&sent, |id| id.split('/').nth(1).expect("an id of the test").to_owned());
    assert!(viewers.lock().iter().enumerate().all(|(at, viewer)| viewer.connected == 1 + usize::from(at % 3 == 0)));
    if store.remembers() {
        viewers.without_gaps();
    }
    drop(viewers);
    // What the dead one wanted is not only ignored. What it said of itself is, and forgotten later.
    within(NODE_SWEEP, "no ghost in the store", || {
        let id = member(&ghost);
        let mut left = store.read("fanfare:*", |_, key| Ok(vec![key.to_owned()]))?;
        left.retain(|key| key.contains(&ghost));
        left.extend(store.read("fanfare:*}:s:*", |kv, key| {
            let is_held: bool = kv.sismember(key, &id)?;
            Ok(is_held.then(|| key.to_owned()).into_iter().collect())
        })?);
        let fields = store.read("fanfare:*}:digests", |kv, key| kv.hkeys::<_, Vec<String>>(key))?;
        left.extend(fields.into_iter().filter(|field| field.contains(&ghost) || field.contains(&id)));
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn comments_or_viewers_of_others_after_a_frontend_hung_while_a_master_failed_over() {
    frontend_hung(Store::failing_over());
}

fn frontend_hung(mut store: Store) {
    // Two backends would wait for each other's commits to one file, on a slow disk longer than they may.
    let site = Site::of(Plan { backends: 1, ..Plan::new(&store.url()) });
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 90);
    site.wait_wanted(&store, &topics);
    let load = Load::start(What::Comments, site.desks(), &videos);
    load.more(30);
    viewers.have(&load.taken());
    site.frontends[0].signal(Signal::STOP);
    store.lose_master_of(&wanted_key(&topics[0]));
    // Beyond its lease, and beyond the time for which anybody keeps what is for it.
    for_the_length_of(Duration::from_secs(12), || {
        load.more(5);
        let taken = load.taken();
        eventually("the viewers of the others to have all", || {
            let viewers = viewers.lock();
            let others = viewers.iter().enumerate().filter(|(at, _)| at % 3 != 0);
            match others.map(|(_, viewer)| taken.iter().filter(|id| !viewer.has(id)).count()).max() {
                Some(0) => Ok(()),
                other => Err(format!("{other:?} missing of {}", taken.len())),
            }
        });
    });
    assert_eq!(load.refused() + load.failed(), 0, "nor do who publish");
    becomes("the nodes that are taken for alive", vec![5, 5], || site.dispatchers.iter().map(living).collect());
    let behind = viewers.lock()[0].seen.len();
    assert!(behind < load.count(), "it did hang");
    site.frontends[0].signal(Signal::CONT);
    load.more(30);
    let taken = load.stop();
    viewers.have(&taken);
    if store.remembers() {
        viewers.without_gaps();
    }
    assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "nobody was cut");
    site.wait_wanted(&store, &topics);
}
