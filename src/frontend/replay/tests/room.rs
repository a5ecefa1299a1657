//! What the pages that a stream asks for may hold.

use super::*;
use crate::limits::{BACKLOG_BYTES, PAGE_BUFFER_BYTES, PAGES_PART, STREAMS_BYTES_MIN, TOPICS_PER_CONNECTION_MAX};

/// As many topics as a stream may have, by names and by prefixes: what it asks for fits what streams may hold at least.
#[test]
fn pages_that_never_find_room() {
    let topics = (0..=TOPICS_PER_CONNECTION_MAX).map(|number| Topic::parse(&format!("live:{number}")).unwrap());
    let mut replay = replay(topics, 1, Some(1));
    for number in 0..=PREFIX_REPLAYED_MAX {
        let topic = Topic::parse(&format!("chat:{number}")).unwrap();
        let all = All::default().by_prefix(topic.as_str(), None).unwrap();
        assert_eq!(replay.add(&topic, all, replay.begin), number < PREFIX_REPLAYED_MAX);
    }
    let needs = BACKLOG_BYTES + PAGE_BUFFER_BYTES + replay.asks();
    // As a page's maker reckons it.
    let most = STREAMS_BYTES_MIN / PAGES_PART.1 * PAGES_PART.0;
    assert!(needs <= most, "{needs} of {most}");
}

/// What a page on its way may hold is held for it until it comes, though its share would be less by now.
#[test]
fn bytes_of_a_page_that_change_while_it_is_on_its_way() {
    let mut replay = replay([Topic::parse(TOPICS[0]).unwrap()], 1, Some(1));
    assert!(matches!(replay.step(), Step::Ask(..)));
    let asked = replay.asked_bytes();
    let [had, to] = [1, 2].map(|ms| Shown::to(Position::at(ms)));
    replay.go_on_with(&Topic::parse(TOPICS[1]).unwrap(), All::default(), had, to);
    assert_eq!((asked, replay.asked_bytes()), (REPLAY_BYTES, REPLAY_BYTES));
    assert!(replay.page_bytes() < asked);
}
