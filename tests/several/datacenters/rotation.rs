//! Secrets that are replaced while everything runs.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::mesh::{Center, Mesh, Wanted, cluster_secret, peer_secret, secret_file};
use crate::support::eventually;
use crate::support::node::Node;
use crate::support::viewers::Viewers;

/// Each data center has a file of its own.
fn own_files(folder: &Path, at: usize, wanted: &mut Wanted) {
    let secret = peer_secret("a", "b");
    wanted.peers[0].secret = secret_file(folder, &format!("peer-{at}"), &secret);
}

/// Writes a file anew, as tools do, and waits until these nodes have taken it up.
fn write(file: &PathBuf, lines: &[&str], nodes: &[&Node]) {
    let name = file.to_str().expect("a path of the tests");
    let taken = |node: &Node| {
        let says = |line: &&String| line.contains("secrets between nodes") && line.contains(name);
        node.log().iter().filter(says).count()
    };
    let before: Vec<usize> = nodes.iter().map(|node| taken(node)).collect();
    let next = file.with_extension("next");
    std::fs::write(&next, lines.join("\n")).expect("the folder is ours");
    std::fs::rename(&next, file).expect("the folder is ours");
    for (node, before) in nodes.iter().zip(before) {
        eventually("the secret to be taken up", || if taken(node) > before { Ok(()) } else { Err(node.log()) });
    }
}

/// What is published in each data center is seen in both.
fn passes(mesh: &Mesh, viewers: &[Viewers]) {
    let message = |center: &Center| {
        let answer = center.post("/v1/conversations/7/messages", &json!({"member": "ana", "text": "x"}));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["id"].as_str().expect("an id").to_owned()
    };
    let score = |center: &Center| center.publish(1, "chat:7", &json!({"type": "typing", "data": {}}));
    let ids: Vec<String> = mesh.centers.iter().flat_map(|center| [message(center), score(center)]).collect();
    viewers.iter().for_each(|viewers| viewers.have(&ids));
}

fn refused(nodes: &[&Node]) -> Vec<String> {
    let lines = nodes.iter().flat_map(|node| node.log());
    lines.filter(|line| line.contains("refuse") && line.contains("secret")).collect()
}

#[test]
fn rotated_secret_cuts_data_centers_off() {
    let mesh = Mesh::with(&["a", "b"], own_files);
    mesh.wait_joined();
    let viewers = mesh.viewers(&["chat:7".to_owned()], 2);
    let dispatchers = |at: usize| mesh.centers[at].site.dispatchers.iter().collect::<Vec<_>>();
    let all: Vec<&Node> = (0..2).flat_map(dispatchers).collect();
    let (old, new) = (peer_secret("a", "b"), "the-new-secret-between-a-and-b");
    let file = |at: usize| mesh.folder.path().join(format!("peer-{at}"));
    passes(&mesh, &viewers);
    // One side after the other, and in between each has what the other lacks.
    for (at, lines) in [(0, vec![new, &old]), (1, vec![new, &old]), (1, vec![new]), (0, vec![new])] {
        write(&file(at), &lines, &dispatchers(at));
        passes(&mesh, &viewers);
    }
    assert_eq!(refused(&all), [""; 0]);
    // Who refuses says so, and so does who is refused.
    write(&file(0), &["the-secret-of-nobody"], &dispatchers(0));
    eventually("both sides to say so", || match refused(&dispatchers(1)).len() {
        0 => Err(refused(&all)),
        _ => Ok(()),
    });
    let shown = [&*old, new, "the-secret-of-nobody"]
        .iter()
        .any(|secret| all.iter().any(|node| node.log().iter().any(|line| line.contains(secret))));
    assert!(!shown, "a secret in a log");
    write(&file(0), &[new], &dispatchers(0));
    mesh.wait_joined();
    passes(&mesh, &viewers);
}

#[test]
fn rotated_secret_cuts_nodes_off() {
    let mesh = Mesh::start(&["a", "b"]);
    mesh.wait_joined();
    let viewers = mesh.viewers(&["chat:7".to_owned()], 2);
    let site = &mesh.centers[0].site;
    let nodes: Vec<&Node> = site.dispatchers.iter().chain(&site.frontends).chain(&site.backends).collect();
    let file = mesh.folder.path().join("cluster-0");
    let (old, new) = (cluster_secret("a"), "the-new-secret-of-the-cluster-a");
    for lines in [vec![new, &*old], vec![new]] {
        // Each looks at the file when it does.
        write(&file, &lines, &[]);
        for _ in 0..20 {
            passes(&mesh, &viewers);
        }
        let told = |node: &&Node| node.log().iter().any(|line| line.contains("secrets between nodes"));
        eventually("all nodes to have it", || if nodes.iter().all(told) { Ok(()) } else { Err(nodes.len()) });
        passes(&mesh, &viewers);
    }
    assert_eq!(refused(&nodes), [""; 0]);
}
