//! A Dispatcher dies, or hangs, while it publishes.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use fanfare::kv::redis::Config;
use fanfare::kv::{Answer, Append, Heard, KeyValue as _, Request};
use fanfare::wire::topic::Topic;
use rustix::process::Signal;
use serde_json::json;

use super::beneath::Store;
use super::frontends::videos;
use super::load::{Load, What};
use super::setup::*;
use super::viewers::Viewers;
use crate::support::eventually;
use crate::support::ports::free_port;

#[test]
fn acknowledged_events_after_a_dispatcher_was_killed_while_a_master_failed_over() {
    dispatcher_killed(Store::failing_over());
}

fn dispatcher_killed(mut store: Store) {
    // Who publishes goes on to where the dead one was: nobody else may be there.
    let ports = || [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let mut site = Site::of(Plan { dispatchers: vec![ports(), ports()], ..Plan::new(&store.url()) });
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 90);
    // Several at once, so that some are half done when it dies.
    let loads: Vec<Load> = topics
        .iter()
        .map(|topic| Load::start(What::Events("message"), site.intakes(), std::slice::from_ref(topic)))
        .collect();
    let comments = Load::start(What::Comments, site.desks(), &videos);
    loads.iter().chain([&comments]).for_each(|load| load.more(30));
    site.dispatchers.remove(0).kill();
    store.lose_master_of(&wanted_key(&topics[0]));
    loads.iter().chain([&comments]).for_each(|load| load.more(30));
    assert!(loads.iter().any(|load| load.failed() > 0), "somebody met the dead one");
    assert_eq!(comments.failed(), 0, "backends go to another by themselves");
    for load in loads {
        let taken = load.stop();
        viewers.have(&taken);
        viewers.in_order(&taken, |_| String::new());
    }
    viewers.have(&comments.stop());
    if store.remembers() {
        viewers.without_gaps();
    }
    assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "nobody was cut");
    wait_ready(&site.frontends[0]);
}

#[test]
fn acknowledged_events_after_a_dispatcher_hung() {
    dispatcher_hung(&Store::redis());
}

fn dispatcher_hung(store: &Store) {
    // Two backends would wait for each other's commits to one file, on a slow disk longer than they may.
    let site = Site::of(Plan { backends: 1, ..Plan::new(&store.url()) });
    let (topics, videos) = videos();
    let viewers = Viewers::of(site.doors(), &topics, 60);
    let messages = Load::start(What::Events("message"), site.intakes(), &topics);
    let comments = Load::start(What::Comments, site.desks(), &videos);
    let likes = Load::start(What::Likes, site.desks(), &videos);
    messages.more(30);
    comments.more(30);
    likes.more(30);
    viewers.have(&messages.taken());
    site.dispatchers[0].signal(Signal::STOP);
    // Beyond its lease. Backends do not wait for it, and what it holds of theirs arrives all the same.
    for_the_length_of(Duration::from_secs(10), || {
        comments.more(5);
        likes.more(5);
    });
    assert_eq!((comments.failed(), comments.refused(), likes.failed(), likes.refused()), (0, 0, 0, 0));
    site.dispatchers[0].signal(Signal::CONT);
    messages.more(30);
    let (comments, likes) = (comments.stop(), likes.stop());
    viewers.have(&messages.stop());
    viewers.have(&comments);
    viewers.without_gaps();
    assert!(viewers.lock().iter().all(|viewer| viewer.connected == 1), "nobody was cut");
    // Never more likes than there were.
    for (topic, video) in topics.iter().zip(&videos) {
        let total = likes.iter().filter(|like| like.starts_with(&format!("{video}/"))).count() as u64;
        assert!(viewers.lock().iter().all(|viewer| viewer.sums[topic] <= total), "{topic}: more than {total}");
    }
}

#[test]
fn event_in_history_that_its_dispatcher_did_not_live_to_send() {
    event_not_sent(&Store::redis());
}

fn event_not_sent(beneath: &Store) {
    let site = Site::start(&beneath.url());
    let topic = "live:1".to_owned();
    let viewers = Viewers::of(site.doors(), std::slice::from_ref(&topic), 30);
    // Active, and what it has is known to the viewers.
    let before = site.dispatchers[0].publish(&topic, &json!({"type": "message"}));
    viewers.have(&[before]);
    // A dispatcher's whole work but for its end, done by the test.
    let (tell, told) = channel();
    let config = Config {
        dc: "local".to_owned(),
        history_age_ms: 3_600_000,
        sweeps: false,
        shards: 1,
        presence: Default::default(),
    };
    let tell = Arc::new(move |_, heard| tell.send(heard).unwrap_or_default());
    let store = fanfare::kv::redis::start(&beneath.url(), config, tell).expect("a store");
    eventually("the store to be there", || store.trouble().map(|reason| reason.whole()).map_or(Ok(()), Err));
    let event = json!({"id": "unsent", "topic": topic, "type": "message", "at": unix_ms(), "data": 1});
    let append = Append {
        topic: Topic::parse(&topic).expect("a topic"),
        event: event.to_string().into(),
        kind: "message".to_owned(),
        count_max: 1_000,
        age_max_ms: 3_600_000,
        withdraws: None,
        peers: Vec::new(),
        pace: None,
    };
    assert!(store.submit(0, 1, Request::Append(append), &mut Vec::new()).is_none(), "it answers later");
    let appended = |heard: &Heard| matches!(heard, Heard::Answer { ticket: 1, result: Ok(Answer::Appended { .. }) });
    assert!(told.iter().find(|heard| matches!(heard, Heard::Answer { .. })).as_ref().is_some_and(appended));
    viewers.have(&["unsent".to_owned()]);
    viewers.without_gaps();
}
