//! A node's page shows those beside it: how they are, and who is late or gone.

use fanfare::wire::snapshot::{NodeView, Snapshot, Standing};
use rustix::process::Signal;
use serde_json::json;

use super::setup::*;
use crate::support::delay::Delay;
use crate::support::node::{Node, program};
use crate::support::sse::Stream;

fn id(node: &Node) -> String {
    node.info()["node"].as_str().expect("an id").to_owned()
}

fn view(snapshot: &Snapshot, id: &str) -> Option<NodeView> {
    snapshot.nodes.iter().find(|node| node.id == id).cloned()
}

/// Waits until a node is seen to be like this.
#[track_caller]
fn stands(watch: &mut Stream, id: &str, standing: Standing) -> NodeView {
    watch.snapshot_with(&format!("{id} to be {standing:?}"), |snapshot| {
        view(snapshot, id)
            .filter(|view| view.standing == standing && (view.glance.is_some() || standing == Standing::Gone))
    })
}

#[test]
fn stopped_peer_is_shown_as_well() {
    let dispatcher = Node::start();
    let [well, stopped] = [(); 2].map(|()| start("frontend", &[&dispatcher], &[]));
    let (of_well, of_stopped) = (id(&well), id(&stopped));
    let _streams = [well.stream("topic=live:42"), stopped.stream("topic=live:42"), stopped.stream("topic=chat:7")];
    // Whoever is watched, a dispatcher or a frontend, shows the others.
    for watched in [&dispatcher, &well] {
        let mut watch = watched.watch();
        let seen = stands(&mut watch, &of_stopped, Standing::Well);
        assert_eq!((seen.roles, seen.url), (vec!["frontend".to_owned()], url(&stopped)));
        watch.snapshot_with("its viewers", |snapshot| {
            let glance = view(snapshot, &of_stopped)?.glance?;
            (glance.connections.now == 2).then_some(())
        });
        stopped.signal(Signal::STOP);
        let late = stands(&mut watch, &of_stopped, Standing::Late);
        assert!(late.heard_ms > 2_000 && late.why.is_some_and(|why| why.contains("has not answered for")));
        let gone = stands(&mut watch, &of_stopped, Standing::Gone);
        assert!(gone.why.is_some_and(|why| why.contains("lost its lease")));
        stands(&mut watch, &of_well, Standing::Well);
        stopped.signal(Signal::CONT);
        stands(&mut watch, &of_stopped, Standing::Well);
    }
    // One that began anew where another was is that one, and no second one.
    let place = stopped.internal.to_string();
    stopped.kill();
    let mut watch = dispatcher.watch();
    stands(&mut watch, &of_stopped, Standing::Gone);
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("none.db").display());
    let flags = ["--cores", "2", "--dispatchers", &url(&dispatcher), "--kv", "redis://127.0.0.1:1"];
    let again = Node::run_on(program(), "frontend", &place, &database, &flags);
    stands(&mut watch, &id(&again), Standing::Well);
    assert_eq!(view(&watch.snapshot(), &of_stopped), None);
}

#[test]
fn deliveries_of_others_are_not_seen() {
    let dispatcher = Node::start();
    let frontend = start("frontend", &[&dispatcher], &[]);
    let _stream = frontend.stream("topic=chat:1");
    let mut watch = dispatcher.watch();
    stands(&mut watch, &id(&frontend), Standing::Well);
    dispatcher.publish("chat:1", &json!({"type": "note", "data": 1}));
    watch.snapshot_with("the delivery", |snapshot| {
        let view = view(snapshot, &id(&frontend))?;
        (view.glance?.deliveries > 0).then_some(())
    });
}

#[test]
fn data_center_that_is_away_is_shown_as_well() {
    let ways = [Delay::new(), Delay::new()];
    let [a, b] = [0, 1].map(|at| {
        let peer = format!("{}={}", ["b", "a"][at], ways[1 - at].url());
        let node = Node::with(&["--cores", "1", "--dc", ["a", "b"][at], "--peer", &peer]);
        ways[at].leads_to(node.internal);
        node
    });
    // A frontend has it from a dispatcher.
    let frontend = start("frontend", &[&a], &["--dc", "a"]);
    let mut watch = frontend.watch();
    let stands = |watch: &mut Stream, standing| {
        watch.snapshot_with(&format!("b to be {standing:?}"), |snapshot| {
            let seen = snapshot.data_centers.first().filter(|seen| seen.standing == standing)?;
            Some((seen.name.clone(), seen.dispatchers, seen.connected))
        })
    };
    assert_eq!(stands(&mut watch, Standing::Well), ("b".to_owned(), 1, 1));
    b.kill();
    stands(&mut watch, Standing::Late);
}
