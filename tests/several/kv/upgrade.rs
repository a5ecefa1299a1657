//! What the version before left in a Redis is still good.

use fanfare::kv::{Answer, Request, bucket};
use fanfare::wire::position::Position;

use super::driver::{Store, deletion, topic, with_id};
use crate::support::redis::Redis;

#[test]
fn history_of_the_version_before_is_read_and_taken_back() {
    let server = Redis::start();
    let store = Store::redis(&server.url(), "dc1");
    let one = topic("live:1");
    let from = store.read(&one, Position::START, 9).reaches.place();
    // It noted nothing beside the stream, and trimmed the first one.
    let key = format!("fanfare:{{dc1:{}}}:h:live:1", bucket("live:1"));
    let place = |number: u64| Position { ms: from.ms + 1, seq: number };
    for number in 2..=4 {
        let (id, event, prev) =
            (place(number).to_string(), with_id(&number.to_string()), place(number - 1).to_string());
        server.command(&["XADD", &key, &id, "e", &event, "p", &prev]);
    }
    let ids = |after| {
        let page = store.read(&one, after, 9);
        let texts: Vec<String> = page.events.iter().map(|event| event.event.to_string()).collect();
        (texts, page.reaches.place())
    };
    assert_eq!(ids(from), (["2", "3", "4"].map(with_id).to_vec(), place(1)));
    assert_eq!(store.ends(std::slice::from_ref(&one))[0].position, Some(place(4)));
    let Answer::Appended { prev, .. } = store.ask(Request::Append(deletion(&one, "2", 9, &[]))) else {
        panic!("appended")
    };
    assert_eq!(prev, place(4));
    // Only the first one is missing.
    assert_eq!(ids(from), (["3", "4", "2.deleted"].map(with_id).to_vec(), place(1)));
    // A node of that version may still trim, while others are replaced.
    server.command(&["XTRIM", &key, "MINID", &place(4).to_string()]);
    assert_eq!(ids(from), (["4", "2.deleted"].map(with_id).to_vec(), place(3)));
}
