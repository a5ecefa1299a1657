//! `fanfare bench` against a node. Each test is named after what it prevents.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support;
use support::node::{Node, program};

fn bench(node: &Node, arguments: &[&str]) -> Output {
    let pid = node.pid().to_string();
    let output = program()
        .arg("bench")
        .args(arguments)
        .args(["--url", &format!("http://{}", node.public), "--pid", &pid, "--json"])
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {told}");
    output
}

/// Its report, of a run in which all was right.
#[track_caller]
fn report(node: &Node, arguments: &[&str]) -> Value {
    let output = bench(node, arguments);
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert_eq!((output.status.code(), report["ok"].as_bool()), (Some(0), Some(true)), "{report}");
    report
}

#[track_caller]
fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[test]
fn deliveries_are_lost_or_invented_between_processes_and_threads() {
    let node = Node::start();
    let many = ["-d", "1", "--warmup", "0", "--processes", "2", "--threads", "4"];
    let broadcast = report(&node, &[&["broadcast", "-c", "30", "-r", "200"], &many[..]].concat());
    let published = number(&broadcast, "published_events");
    assert_eq!(published, 200, "{broadcast}");
    assert_eq!(
        (number(&broadcast, "connections"), number(&broadcast, "received")),
        (30, 30 * published),
        "{broadcast}"
    );
    let topics = report(&node, &[&["topics", "--topics", "20", "--viewers", "3", "-r", "500"], &many[..]].concat());
    assert_eq!((number(&topics, "connections"), number(&topics, "received")), (60, 3 * 500), "{topics}");
    let likes = report(&node, &[&["likes", "-c", "10", "--publishers", "4", "-r", "300"], &many[..]].concat());
    let stored = number(&likes, "total_stored");
    assert!(stored > 100, "{likes}");
    assert_eq!((number(&likes, "received"), number(&likes, "total_shown_least")), (10 * stored, stored));
    let reconnect = report(&node, &[&["reconnect", "-c", "20", "-r", "50"], &many[..]].concat());
    assert_eq!((number(&reconnect, "connections"), number(&reconnect, "lost")), (20, 0), "{reconnect}");
    let connect = report(&node, &["connect", "-c", "40", "--rounds", "2", "--processes", "2"]);
    assert_eq!((number(&connect, "connections_a_round"), number(&connect, "client_processes")), (40, 2), "{connect}");
}

#[test]
fn a_page_of_two_runs_shows_one_or_other_figures_than_were_told() {
    let node = Node::start();
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html");
    let path = page.to_str().expect("it is UTF-8");
    let run = |label: &str, rate: &str| {
        report(
            &node,
            &["broadcast", "-c", "20", "-r", rate, "-d", "2", "--warmup", "0", "--report", path, "--label", label],
        )
    };
    let (before, after) = (run("before <1>", "50"), run("after", "100"));
    let text = std::fs::read_to_string(&page).expect("the page");
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let parsed = roxmltree::Document::parse_with_options(&text, options).expect("it is well-formed");
    let row = |name: &str| {
        let is_it = |row: &roxmltree::Node<'_, '_>| {
            row.has_tag_name("tr") && row.first_element_child().and_then(|cell| cell.text()) == Some(name)
        };
        let row = parsed.descendants().find(is_it).unwrap_or_else(|| panic!("no {name} in {text}"));
        let cells = row.children().filter(|cell| cell.has_tag_name("td"));
        cells.map(|cell| cell.text().unwrap_or_default().replace(',', "")).collect::<Vec<_>>()
    };
    let told = |name: &str| [&before, &after].map(|report| report[name].to_string());
    assert_eq!(row("received"), told("received"));
    assert_eq!(row("latency p99 ms"), told("latency_p99_ms").map(|ms| ms.trim_end_matches(".0").to_owned()));
    let drawn = |title: &str| {
        let caption = |figure: &roxmltree::Node<'_, '_>| {
            let text = figure.first_element_child().and_then(|caption| caption.text());
            figure.has_tag_name("figure") && text.is_some_and(|text| text.starts_with(title))
        };
        let figure = parsed.descendants().find(caption).unwrap_or_else(|| panic!("no picture of {title}"));
        figure.descendants().filter(|node| node.has_tag_name("polyline")).count()
    };
    for title in ["latency", "publish", "Deliveries", "Events taken", "The server's memory", "The server's CPU"] {
        assert_eq!(drawn(title), 2, "both runs, in the picture of {title}");
    }
    assert!(text.contains("before &lt;1&gt;") && text.contains("bench broadcast -c 20 -r 50"), "{text}");

    std::fs::write(&page, "a letter").expect("the file");
    let output = bench(&node, &["idle", "-c", "1", "-d", "1", "--report", path]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(Path::new(path)).expect("the file"), "a letter");
}
