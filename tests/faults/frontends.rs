//! A Frontend dies, or hangs.

use std::time::Duration;

use fanfare::limits::NODE_SWEEP;
use redis::Commands as _;
use rustix::process::Signal;

use super::load::{Load, What};
use super::setup::*;
use super::viewers::Viewers;
use crate::support::eventually;
use crate::support::redis::Redis;

const VIDEOS: [&str; 3] = ["1", "2", "3"];

/// Topics, and videos.
pub fn videos() -> (Vec<String>, Vec<String>) {
    let topics = VIDEOS.iter().map(|video| format!("live:{video}")).collect();
    (topics, VIDEOS.iter().map(|video| (*video).to_owned()).collect())
}

#[test]
fn comments_or_ghosts_after_a_frontend_was_killed() {
    let redis = Redis::start();
    let mut site = Site::start(&redis.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 120);
    let mut kv = plain(redis.port);
    site.wait_wanted(&mut kv, &topics, &[0, 1, 2]);
    let load = Load::start(What::Comments, site.desks(), &videos);
    load.more(40);
    aged(&redis);
    // Whoever comes back says what it saw last.
    viewers.have(&load.taken());

    let killed = site.frontends.remove(0);
    let ghost = name(&killed);
    killed.kill();
    let died = unix_ms();
    load.more(60);
    let lease: Option<f64> = kv.zscore("fanfare:{local:nodes}:leases", member(&ghost)).expect("an answer");
    if let Some(until) = lease {
        assert!(until as u64 <= died + 6_000, "its lease ends {} ms after it died", until as u64 - died);
    }
    let dead = |site: &Site| site.dispatchers.iter().map(living).collect::<Vec<_>>();
    eventually("the dispatchers to take it for dead", || match dead(&site) {
        seen if seen == [6, 6] => Ok(()),
        seen => Err(format!("{seen:?}")),
    });
    load.more(20);
    let taken = load.stop();
    viewers.have(&taken);
    viewers.without_gaps();
    assert!(viewers.lock().iter().enumerate().all(|(at, viewer)| viewer.connected == 1 + usize::from(at % 3 == 0)));
    // One after the other published them, if by two backends, and so everybody saw them.
    for (number, topic) in topics.iter().enumerate() {
        let ids: Vec<String> = taken.iter().skip(number).step_by(topics.len()).cloned().collect();
        viewers.in_order(&ids, |_| topic.clone());
    }
    drop(viewers);
    // What the dead one wanted is not only ignored. What it said of itself is, and forgotten later.
    within(NODE_SWEEP, "no ghost in the store", || {
        let all: Vec<String> = kv.keys("fanfare:*").map_err(|error| error.to_string())?;
        let id = member(&ghost);
        let mut left: Vec<String> = all.iter().filter(|key| key.contains(&ghost)).cloned().collect();
        for key in all.iter().filter(|key| key.contains("}:s:")) {
            let members: Vec<String> = kv.smembers(key).map_err(|error| error.to_string())?;
            left.extend(members.contains(&id).then(|| key.clone()));
        }
        for key in all.iter().filter(|key| key.contains("}:digests")) {
            let fields: Vec<String> = kv.hkeys(key).map_err(|error| error.to_string())?;
            left.extend(fields.iter().any(|field| field.contains(&ghost) || field.contains(&id)).then(|| key.clone()));
        }
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn comments_or_viewers_of_others_after_a_frontend_hung() {
    let redis = Redis::start();
    let site = Site::start(&redis.url());
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 90);
    let mut kv = plain(redis.port);
    site.wait_wanted(&mut kv, &topics, &[0, 1, 2]);
    let load = Load::start(What::Comments, site.desks(), &videos);
    load.more(30);
    viewers.have(&load.taken());
    site.frontends[0].signal(Signal::STOP);
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
    assert_eq!(site.dispatchers.iter().map(living).collect::<Vec<_>>(), [6, 6], "it was taken for dead");
    let behind = viewers.lock()[0].seen.len();
    assert!(behind < load.count(), "it did hang");
    site.frontends[0].signal(Signal::CONT);
    load.more(30);
    let taken = load.stop();
    viewers.have(&taken);
    viewers.without_gaps();
    assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "nobody was cut");
    site.wait_wanted(&mut kv, &topics, &[0, 1, 2]);
}
