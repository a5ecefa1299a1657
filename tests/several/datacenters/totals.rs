//! Totals of likes over three data centers.

use crate::support::http::Client;
use crate::support::viewers::Viewers;
use crate::support::{eventually, reaction};

use super::mesh::{Center, Mesh};

/// Likes of members `from..to`, or what takes them back.
fn likes(center: &Center, method: &str, members: std::ops::Range<usize>) {
    let backend = center.site.backends[0].public;
    center.network.inside(|| {
        let mut client = Client::connect(backend);
        for member in members {
            let body = reaction(&format!("{}{member}", center.name), ["like", "love"][member % 2]);
            let answer = client.request(method, "/v1/videos/7/likes", &[], body.as_bytes());
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        }
    });
}

/// The sum over the databases of some data centers.
fn stored(centers: &[&Center]) -> u64 {
    let of = |center: &&Center| {
        let answer = center.request(center.site.backends[0].public, "GET", "/v1/videos/7/likes", &[]);
        answer.json()["likes"].as_u64().expect("a number")
    };
    centers.iter().map(of).sum()
}

fn told(viewers: &Viewers, likes: u64) {
    viewers.until(&format!("to be told {likes}"), |viewer| viewer.likes.get("live:7") == Some(&likes));
}

#[test]
fn totals_that_do_not_agree_after_links_were_cut() {
    let mesh = Mesh::start(&["a", "b", "c"]);
    mesh.wait_joined();
    let [a, b, c] = &*mesh.centers else { panic!("three data centers") };
    let viewers = mesh.viewers(&["live:7".to_owned()], 3);
    mesh.centers.iter().for_each(|center| likes(center, "POST", 0..10));
    viewers.iter().for_each(|viewers| told(viewers, 30));
    // `b` is alone, and the other two go on together.
    mesh.cut(0, 1);
    mesh.cut(1, 2);
    for (center, back, more) in [(a, 3, 25), (b, 5, 32), (c, 0, 18)] {
        likes(center, "DELETE", 0..back);
        likes(center, "POST", 10..more);
    }
    for one in [a, c] {
        one.wait_connected("b", false);
    }
    let (alone, together) = (stored(&[b]), stored(&[a, c]));
    assert_eq!((alone, together), (27, 40));
    // What was told last by a data center that is away counts on.
    for (viewers, likes) in viewers.iter().zip([together + 10, alone + 20, together + 10]) {
        told(viewers, likes);
    }
    mesh.heal(0, 1);
    mesh.heal(1, 2);
    // Also what is taken back while links come up.
    likes(b, "DELETE", 10..14);
    let all = stored(&[a, b, c]);
    assert_eq!(all, 63);
    viewers.iter().for_each(|viewers| told(viewers, all));
    for (center, dispatchers) in mesh.centers.iter().zip([["b", "c"], ["a", "c"], ["a", "b"]]) {
        dispatchers.iter().for_each(|peer| center.wait_connected(peer, true));
    }
    let late = mesh.viewers(&["live:7".to_owned()], 1);
    late.iter().for_each(|viewers| told(viewers, all));
    eventually("displays to have stayed", || {
        let seen = |viewers: &Viewers| viewers.lock().iter().all(|viewer| viewer.likes["live:7"] == all);
        if viewers.iter().all(seen) { Ok(()) } else { Err("another total") }
    });
}
