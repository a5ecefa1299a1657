//! What must not pass between data centers, and what it looks like.

use std::path::Path;

use serde_json::json;

use fanfare::wire::batch::Writer;
use fanfare::wire::connection_id::NodeId;

use super::mesh::{Center, Mesh, Wanted, cluster_secret, internal, peer_secret, secret_file, urls};
use crate::support::eventually;
use crate::support::http::Client;
use crate::support::node::Node;
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::viewers::Viewers;

const TOPIC: &str = "chat:7";

fn viewers(mesh: &Mesh) -> Vec<Viewers> {
    mesh.viewers(&[TOPIC.to_owned()], 2)
}

/// Publishes a message in a data center, and waits until these viewers have it. Gives its id.
fn message(center: &Center, viewers: &[&Viewers]) -> String {
    let id = center.publish(0, TOPIC, &json!({"type": "message"}));
    viewers.iter().for_each(|viewers| viewers.have(std::slice::from_ref(&id)));
    id
}

#[track_caller]
fn nobody_has(viewers: &Viewers, id: &str) {
    assert!(viewers.lock().iter().all(|viewer| !viewer.has(id)), "{id} passed");
}

/// Waits until a dispatcher's link had its chance: it was refused, and said so.
fn refused(center: &Center, texts: &[&str]) {
    center.wait_logged(texts);
    center.wait_whole();
}

#[test]
fn events_delivered_by_a_wrong_secret_or_lost_until_it_is_right() {
    const WRONG: &str = "not-the-secret-of-these-two";
    let wrong = |folder: &Path, at: usize, wanted: &mut Wanted| {
        if at == 0 {
            wanted.peers[0].secret = secret_file(folder, "changed", WRONG);
        }
    };
    let mut mesh = Mesh::with(&["a", "b"], wrong);
    let viewers = viewers(&mesh);
    let mut ids = Vec::new();
    for (center, own) in mesh.centers.iter().zip(&viewers) {
        refused(center, &["401"]);
        ids.push(message(center, &[own]));
    }
    let secrets = [WRONG.to_owned(), peer_secret("a", "b"), cluster_secret("a"), cluster_secret("b")];
    for (at, center) in mesh.centers.iter().enumerate() {
        nobody_has(&viewers[1 - at], &ids[at]);
        let other = &mesh.centers[1 - at].name;
        assert_eq!(center.peer("fanfare_peer_frames_received_total", other), 0.0, "{other} to {}", center.name);
        assert_eq!(center.peer("fanfare_peer_connected", other), 0.0, "{} to {other}", center.name);
        let log: Vec<String> = center.site.dispatchers.iter().flat_map(|node| node.log()).collect();
        let shown = secrets.iter().any(|secret| log.iter().any(|line| line.contains(secret)));
        assert!(!shown, "a secret in {log:#?}");
    }
    // Somebody sees it, and mends it, a dispatcher at a time.
    secret_file(mesh.folder.path(), "changed", &peer_secret("a", "b"));
    for dispatcher in 0..2 {
        mesh.centers[0].kill_dispatcher(dispatcher);
        mesh.centers[0].start_dispatcher(dispatcher);
    }
    mesh.wait_joined();
    for center in &mesh.centers {
        ids.push(message(center, &[&viewers[0], &viewers[1]]));
    }
    for viewers in &viewers {
        viewers.have(&ids);
        viewers.without_repeats(&ids);
    }
}

#[test]
fn events_taken_from_a_data_center_that_calls_itself_as_we_do() {
    // The second is misconfigured: it calls itself a, as the first does.
    let twice = |_: &Path, at: usize, wanted: &mut Wanted| {
        if at == 1 {
            wanted.name = "a".to_owned();
            wanted.peers[0].name = "b".to_owned();
        }
    };
    let mesh = Mesh::with(&["a", "b"], twice);
    let viewers = viewers(&mesh);
    for (at, center) in mesh.centers.iter().enumerate() {
        refused(center, &["421", "403"]);
        let id = message(center, &[&viewers[at]]);
        // Not until later either: what came after it is there.
        message(&mesh.centers[1 - at], &[&viewers[1 - at]]);
        nobody_has(&viewers[1 - at], &id);
        viewers[at].without_repeats(&[id]);
    }
}

#[test]
fn events_doubled_by_a_peers_url_that_leads_to_ourselves() {
    let own_too = |_: &Path, at: usize, wanted: &mut Wanted| {
        wanted.peers[0].urls = match at {
            // A list that holds our own beside the right ones.
            0 => [urls(0), urls(1)].concat(),
            // One of ours alone.
            _ => urls(1),
        };
    };
    let mesh = Mesh::with(&["a", "b"], own_too);
    let viewers = viewers(&mesh);
    // A dispatcher begins with any of its list, and asks ours only if it comes by it before one that answers.
    mesh.centers[0].wait_connected("b", true);
    refused(&mesh.centers[1], &["421"]);
    let mut ids = Vec::new();
    for number in 0..20 {
        let event = json!({"type": (["message", "note"][number % 2]), "data": number});
        ids.push(mesh.centers[0].publish(number / 2 % 2, TOPIC, &event));
    }
    let there = mesh.centers[1].publish(0, TOPIC, &json!({"type": "message"}));
    viewers[0].have(&ids);
    viewers[1].have(&ids);
    viewers[1].have(std::slice::from_ref(&there));
    nobody_has(&viewers[0], &there);
    ids.push(there);
    viewers.iter().for_each(|viewers| viewers.without_repeats(&ids));
}

#[test]
fn sender_of_a_peer_passes_for_a_node() {
    let redis = Redis::start();
    let kv = redis.url();
    let peer = format!("b=http://127.0.0.1:{}", free_port());
    let flags = ["--cores", "2", "--kv", &kv, "--dc", "a", "--peer", &peer];
    let nodes = [Node::with(&flags), Node::with(&flags)];
    eventually("the nodes to know each other", || {
        let known = nodes.each_ref().map(|node| node.info()["nodes"].as_array().expect("a list").len());
        if known == [2, 2] { Ok(()) } else { Err(known) }
    });
    let mut stream = nodes[1].stream("topic=room:7");
    let publish = |data: u64| nodes[0].publish("room:7", &json!({"type": "note", "data": data}));
    // Once one arrives, the store and the caches know who wants the topic.
    eventually("an event of the other node", || {
        publish(0);
        match stream.come().into_iter().any(|message| message.name == "message") {
            true => Ok(()),
            false => Err("none"),
        }
    });
    // The peer says that it is the first node, and that all which that will ever number was answered long ago.
    let name: NodeId = nodes[0].info()["node"].as_str().expect("a name").parse().expect("a name");
    for shard in 0..2 {
        let batch = Writer::default().finish(name, shard, 1 << 60, 1 << 60);
        let headers = [("Fanfare-From", "b"), ("Fanfare-To", "a")];
        let mut client = Client::connect(nodes[1].internal);
        let answer = client.request("POST", "/v1/internal/peer/frames", &headers, &batch);
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    publish(1);
    while stream.event()["data"] != 1 {}
}

#[test]
fn a_secret_that_opens_more_than_its_own_doors() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let viewers = viewers(&mesh);
    let (ours, peers) = (cluster_secret("a"), peer_secret("a", "b"));
    let center = &mesh.centers[0];
    let ask = |method: &str, target: &str, secret: &str, from: &str, to: &str| {
        let bearer = format!("Bearer {secret}");
        let headers = [("Authorization", bearer.as_str()), ("Fanfare-From", from), ("Fanfare-To", to)];
        center.request(internal(0, 0), method, target, &headers)
    };
    for path in ["frames", "history", "hello"].map(|name| format!("/v1/internal/peer/{name}")) {
        for (secret, from, to, status) in [
            ("guessed", "b", "a", 401),
            (ours.as_str(), "b", "a", 401),
            (&cluster_secret("b"), "b", "a", 401),
            (&peers, "b", "c", 421),
            (&peers, "b", "b", 421),
            (&peers, "c", "a", 403),
            (&peers, "a", "a", 403),
        ] {
            let answer = ask("POST", &path, secret, from, to);
            assert_eq!(answer.status, status, "{path} from {from} to {to}: {answer:?}");
        }
        let bare = center.request(internal(0, 0), "POST", &path, &[("Fanfare-From", "b"), ("Fanfare-To", "a")]);
        assert_eq!(bare.status, 401, "{bare:?}");
        let bearer = format!("Bearer {peers}");
        let anonymous = center.request(internal(0, 0), "POST", &path, &[("Authorization", &bearer)]);
        assert!([400, 401, 403].contains(&anonymous.status), "{anonymous:?}");
        // For nodes only: the public listener does not have it.
        let public = center.site.dispatchers[0].public;
        let answer = center.request(public, "POST", &path, &[("Authorization", &bearer)]);
        assert_eq!(answer.status, 404, "{answer:?}");
    }
    for (method, target) in [
        ("GET", "/v1/node"),
        ("GET", "/v1/connections"),
        ("GET", "/v1/topics/chat:7"),
        ("POST", "/v1/topics/chat:7/events"),
        ("POST", "/v1/events"),
        ("POST", "/v1/internal/frames"),
        ("POST", "/v1/internal/kv"),
        ("POST", "/v1/internal/connections"),
    ] {
        let answer = ask(method, target, &peers, "b", "a");
        assert_eq!(answer.status, 401, "{method} {target}: {answer:?}");
    }
    // Nothing of this broke the link.
    message(center, &[&viewers[0], &viewers[1]]);
}
