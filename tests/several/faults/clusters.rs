//! A Redis Cluster beneath: a master fails over, and many viewers of many topics.

use super::load::{Load, What};
use super::setup::*;
use super::viewers::Viewers;
use crate::support::becomes;
use crate::support::http::Client;
use crate::support::redis::Cluster;

#[test]
fn comments_lost_when_a_master_dies() {
    let mut cluster = Cluster::start();
    master_fails_over(&mut cluster, |cluster, master| cluster.nodes[master].kill(), |_, _| {});
}

#[test]
fn comments_lost_when_a_master_hangs_and_comes_back() {
    let mut cluster = Cluster::start();
    let resume = |cluster: &mut Cluster, master: usize| {
        let failed_over = |cluster: &Cluster| {
            let others = cluster.nodes.iter().enumerate().filter(|(at, _)| *at != master);
            others.filter(|(_, node)| node.info("replication", "role").as_deref() == Some("master")).count()
        };
        becomes("masters beside the one that hangs", 3, || failed_over(cluster));
        // It takes itself for a master until it hears of the others.
        cluster.nodes[master].resume();
    };
    master_fails_over(&mut cluster, |cluster, master| cluster.nodes[master].pause(), resume);
}

fn master_fails_over(
    cluster: &mut Cluster,
    fail: impl Fn(&mut Cluster, usize),
    come_back: impl Fn(&mut Cluster, usize),
) {
    let site = Site::start(&cluster.url());
    // Enough of them for each master to have some.
    let videos: Vec<String> = (0..24).map(|number| number.to_string()).collect();
    let topics: Vec<String> = videos.iter().map(|video| format!("live:{video}")).collect();
    let viewers = Viewers::of(site.doors(), &topics, 60);
    let messages = Load::start(What::Events("message"), site.intakes(), &topics);
    let comments = Load::start(What::Comments, site.desks(), &videos);
    messages.more(48);
    comments.more(48);
    let master = cluster.masters()[0];
    fail(cluster, master);
    // While nobody has the master's topics: those that fall on it wait.
    comments.more(24);
    come_back(cluster, master);
    // Each topic twice.
    messages.more(48);
    comments.more(48);
    cluster.settled();
    messages.more(24);
    comments.more(24);
    // What was acknowledged a replica had.
    viewers.have(&messages.stop());
    viewers.have(&comments.stop());
    assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "nobody was cut");
    site.dispatchers.iter().chain(&site.frontends).chain(&site.backends).for_each(wait_ready);
}

#[test]
fn events_lost_or_sent_in_vain_in_a_crowd() {
    const VIEWERS: usize = 3_000;
    const TOPICS: usize = 500;
    /// Topics whose viewers are all at the first Frontend.
    const ALONE: usize = 100;
    const ROUNDS: usize = 2;
    let cluster = Cluster::start();
    let site = Site::start(&cluster.url());
    // No topics of videos: their viewers are counted, which makes events of its own.
    let topic = |number: usize| format!("chat:{number}");
    let choose = |viewer: usize| match viewer % 3 {
        0 => viewer / 3 % TOPICS,
        _ => ALONE + viewer / 3 % (TOPICS - ALONE),
    };
    let viewers = Viewers::start(site.doors(), (0..VIEWERS).map(|viewer| vec![topic(choose(viewer))]).collect());
    let id = |number: usize, round: usize, intake: usize| format!("{number}/{round}/{intake}");
    for round in 0..ROUNDS {
        for (intake, node) in site.dispatchers.iter().enumerate() {
            let line = |number| {
                let event =
                    serde_json::json!({"topic": topic(number), "type": "message", "id": id(number, round, intake)});
                event.to_string() + "\n"
            };
            let lines: String = (0..TOPICS).map(line).collect();
            let answer = Client::connect(node.public).request("POST", "/v1/events", &[], lines.as_bytes());
            assert_eq!((answer.status, &answer.json()["accepted"]), (202, &TOPICS.into()), "{answer:?}");
        }
    }
    let each = ROUNDS * site.dispatchers.len();
    viewers.until("to have every event", |viewer| viewer.seen.len() == each);
    viewers.without_gaps();
    for (at, viewer) in viewers.lock().iter().enumerate() {
        let wanted = (0..ROUNDS).flat_map(|round| (0..2).map(move |intake| id(choose(at), round, intake)));
        assert!(wanted.into_iter().all(|id| viewer.has(&id)) && viewer.received == each, "viewer {at}");
    }
    for (at, frontend) in site.frontends.iter().enumerate() {
        let topics = if at == 0 { TOPICS } else { TOPICS - ALONE };
        becomes("events that the Frontend got", (topics * each) as u64, || {
            frontend.metric("fanfare_frames_received_total", "")
        });
    }
}
