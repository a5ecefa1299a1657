//! A client's place that is of a topic which it has no more.

use super::*;

#[test]
fn place_of_a_topic_that_was_given_up_taken_for_this_ones() {
    let had = Position { ms: 50, seq: 1 };
    let replay = || {
        let replay = Replay::new(shown(topic()), Position::at(0), had, Some(Shown::to(had)), LATER, &held());
        replay.if_it_has_the_place()
    };
    // Its own: it has all up to there, whatever was before.
    assert_eq!(told(&mut replay(), [page(events(&[50, 60]), true, 45, 45)]), [50, 60]);
    assert_eq!(told(&mut replay(), [page(events(&[50, 60]), true, 45, 0)]), [50, 60]);
    // Another's, which was ahead: nobody knows what the store lost before that.
    assert_eq!(told(&mut replay(), [page(events(&[49, 60]), true, 45, 45)]), [0, 49, 60]);
    assert_eq!(told(&mut replay(), [page(events(&[49, 60]), true, 45, 0)]), [0, 49, 60]);
    // What is yet to come may be it.
    let pages = [page(events(&[46, 47]), false, 45, 0), page(events(&[50, 60]), true, 45, 0)];
    assert_eq!(told(&mut replay(), pages), [46, 47, 50, 60]);
    // Or it does not come.
    let pages = [page(events(&[46, 47]), false, 45, 0), page(events(&[49, 60]), true, 45, 0)];
    assert_eq!(told(&mut replay(), pages), [46, 47, 0, 49, 60]);
    let pages = [page(events(&[46, 50]), false, 45, 0), page(events(&[60]), true, 45, 0)];
    assert_eq!(told(&mut replay(), pages), [46, 50, 60]);
}
