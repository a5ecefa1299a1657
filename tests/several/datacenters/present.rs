//! Who watches a topic, in two data centers.

use serde_json::json;

use super::mesh::Mesh;
use crate::support::becomes;

#[test]
fn member_in_two_data_centers_counts_twice_or_is_here_in_one_only() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let [a, b] = &mesh.centers[..] else { unreachable!() };
    let _streams = [
        a.stream(0, "topic=live:1&member=ana"),
        b.stream(1, "topic=live:1&member=ana"),
        b.stream(0, "topic=live:1&member=bob"),
    ];
    let all = json!({"viewers": 3, "members": 2, "sample": ["ana", "bob"], "here": {"bob": true, "cy": false}});
    for center in [a, b] {
        becomes("who is here", all.clone(), || {
            center.request(center.site.doors()[0], "GET", "/v1/topics/live:1/members?of=bob,cy", &[]).json()
        });
    }
    mesh.cut(0, 1);
    let rest = json!({"viewers": 1, "members": 1, "sample": ["ana"], "here": {"bob": false}});
    becomes("who is here of one", rest, || {
        a.request(a.site.doors()[1], "GET", "/v1/topics/live:1/members?of=bob", &[]).json()
    });
    mesh.heal(0, 1);
    becomes("who is here", json!(2), || {
        a.request(a.site.doors()[1], "GET", "/v1/topics/live:1/members", &[]).json()["members"].clone()
    });
}
