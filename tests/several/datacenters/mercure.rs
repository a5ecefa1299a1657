//! Mercure's protocol, whichever node of whichever data center takes part.

use std::net::SocketAddr;

use super::mesh::{Center, Mesh};
use crate::support::mercure::{next, open, target, update};
use crate::support::sse::Stream;

/// Where updates are published: at nodes of each role.
fn doors(center: &Center) -> Vec<SocketAddr> {
    let site = &center.site;
    site.dispatchers.iter().chain(&site.frontends).chain(&site.backends).map(|node| node.public).collect()
}

fn follow(center: &Center, frontend: usize, topics: &[&str], more: &[(&str, &str)]) -> Stream {
    center.network.inside(|| open(center.site.frontends[frontend].public, &target(topics, more), &[]))
}

#[test]
fn update_lost_or_doubled_between_nodes() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let watching = [&["/first"][..], &["/second"], &["/second", "/first"], &["/{word}"], &["*", "/second"]];
    let mut streams: Vec<(Stream, &str)> = Vec::new();
    for center in &mesh.centers {
        for frontend in 0..2 {
            streams.extend(watching.map(|topics| (follow(center, frontend, topics, &[]), topics[0])));
        }
    }
    let mut sent = Vec::new();
    for center in &mesh.centers {
        for (at, door) in doors(center).into_iter().enumerate() {
            let text = format!("{}-{at}", center.name);
            let fields = [("topic", "/first"), ("topic", "/second"), ("type", "t"), ("data", text.as_str())];
            let id = center.network.inside(|| update(door, None, &fields));
            sent.push((text, id));
        }
    }
    sent.sort();
    let mut last = String::new();
    for (stream, topic) in &mut streams {
        let mut came: Vec<(String, String)> = Vec::new();
        while came.len() < sent.len() {
            let message = stream.next().expect("it goes on");
            assert_eq!(message.name, "t", "{message:?}");
            last = message.id.expect("an id");
            came.push((message.data, last.split('#').next().expect("an id").to_owned()));
        }
        came.sort();
        assert_eq!(came, sent, "{topic}");
    }
    // In the data center of its place it goes on there, at whichever node.
    let center = mesh.centers.last().expect("two");
    let fields = [("topic", "/second"), ("data", "missed")];
    center.network.inside(|| update(center.site.frontends[0].public, None, &fields));
    let mut stream = follow(center, 0, &["/second"], &[("lastEventID", &last)]);
    let missed = |stream: &mut Stream| while stream.next().expect("it goes on").data != "missed" {};
    missed(&mut stream);
    // And of another one it gets what it missed, too.
    let other = &mesh.centers[0];
    let mut stream = follow(other, 1, &["/second"], &[("lastEventID", &last)]);
    missed(&mut stream);
    let fields = [("topic", "/second"), ("data", "new")];
    center.network.inside(|| update(center.site.backends[0].public, None, &fields));
    assert_eq!(next(&mut stream).data, "new");
}
