//! Receivers of hooks are told all, signed, in order, whatever they answer and whoever dies.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::support::hooks::{Answers, Delivery, KEY, Receiver};
use crate::support::node::{Node, program};
use crate::support::{becomes, eventually};

const ALL: [&str; 6] =
    ["member.online", "member.offline", "topic.occupied", "topic.vacated", "comment.posted", "limit.exceeded"];

fn node(folder: &std::path::Path, receiver: &Receiver, events: &[&str]) -> Node {
    let settings = receiver.settings(folder, events);
    let file = settings.to_str().expect("a path of ours");
    Node::launch(program(), folder, &["--cores", "2", "--config", file])
}

fn comment(node: &Node, video: &str, text: &str) -> String {
    let body = json!({"member": "ana", "text": text}).to_string();
    let answer = node.post(&format!("/v1/videos/{video}/comments"), body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Waits until a delivery of this type and subject is taken.
#[track_caller]
fn wait_for(receiver: &Receiver, kind: &str, subject: &str) -> Delivery {
    eventually(&format!("{kind} of {subject}"), || {
        let taken = receiver.taken_once();
        let found = taken.iter().find(|delivery| delivery.kind() == kind && delivery.subject() == subject);
        found.cloned().ok_or(taken.iter().map(|delivery| delivery.text.clone()).collect::<Vec<_>>())
    })
}

/// The texts of comments that were taken, each once, in their order.
fn texts(receiver: &Receiver, subject: &str) -> Vec<String> {
    let taken = receiver.taken_once().into_iter().filter(|delivery| delivery.subject() == subject);
    let comments = taken.filter(|delivery| delivery.kind() == "comment.posted");
    comments.map(|delivery| delivery.body["data"]["text"].as_str().expect("a text").to_owned()).collect()
}

/// The block of code of this language in the page on hooks.
fn example(language: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/hooks.md")).expect("the page");
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("an example");
    rest.split_once("\n```").expect("its end").0.to_owned()
}

/// Has a program that the page shows verify a delivery; gives what it prints.
fn verify(language: &str, delivery: &Delivery, secret: &str) -> String {
    let headers = json!({
        "webhook-id": delivery.id, "webhook-timestamp": delivery.timestamp, "webhook-signature": delivery.signature,
    });
    let (command, flag, call) = match language {
        "python" => (
            "python3",
            "-c",
            "import sys\nprint(verify(sys.argv[1], json.loads(sys.argv[2]), sys.stdin.buffer.read())['sequence'])",
        ),
        _ => (
            "node",
            "--input-type=module",
            "import { readFileSync } from 'node:fs';\nconsole.log(verify(process.argv[1], JSON.parse(process.argv[2]), readFileSync(0)).sequence);",
        ),
    };
    let code = format!("{}\n{call}", example(language));
    let mut command = Command::new(command);
    command.arg(flag);
    if flag != "-c" {
        command.arg("-e");
    }
    command
        .args([&code, secret, &headers.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it is piped").write_all(delivery.text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).trim().to_owned()
}

#[test]
fn delivery_of_some_type_missing_or_not_as_the_page_says() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let node = node(folder.path(), &receiver, &ALL);
    let stream = node.stream("topic=live:42&topic=chat:7&member=ana");
    let online = wait_for(&receiver, "member.online", "presence:ana");
    assert_eq!(online.body["data"], json!({"member": "ana"}));
    let occupied = wait_for(&receiver, "topic.occupied", "live:42");
    assert_eq!(occupied.body["data"], json!({"topic": "live:42"}));
    // Who comes second is no news.
    let second = node.stream("topic=live:42&member=ana");
    let id = comment(&node, "42", "hi 💙");
    let posted = wait_for(&receiver, "comment.posted", "live:42");
    let data = json!({"video": "42", "id": id, "member": "ana", "text": "hi 💙", "deleted": false});
    assert_eq!(posted.body["data"], data);
    assert!(
        posted.body["timestamp"].as_str().is_some_and(|at| at.ends_with('Z') && at.starts_with("20")),
        "{posted:?}"
    );
    let mut keys: Vec<&String> = posted.body.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["data", "sequence", "subject", "timestamp", "type"]);
    // What the page tells receivers to do does tell this one from another.
    use base64::Engine as _;
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(KEY));
    for language in ["python", "js"] {
        assert_eq!(verify(language, &posted, &secret), posted.sequence().to_string(), "{language}");
        let other = Delivery { text: posted.text.replace("hi", "ho"), ..posted.clone() };
        let said = verify(language, &other, &secret);
        assert!(said.contains("signature"), "{language}: {said}");
        let late = Delivery { timestamp: "1614265330".to_owned(), ..posted.clone() };
        assert!(verify(language, &late, &secret).contains("time"), "{language}");
    }
    drop((stream, second));
    wait_for(&receiver, "topic.vacated", "live:42");
    let of_topic = receiver.taken_once();
    let of_topic: Vec<&str> =
        of_topic.iter().filter(|delivery| delivery.subject() == "live:42").map(Delivery::kind).collect();
    assert_eq!(of_topic, ["topic.occupied", "comment.posted", "topic.vacated"]);
    assert!(!receiver.taken_once().iter().any(|delivery| delivery.subject() == "chat:7"), "no counted topic");
    becomes("what waits", 0, || node.metric("fanfare_hooks_waiting", ""));
}

#[test]
fn somebody_over_a_limit_not_told_of_or_too_often() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let settings = receiver.settings(folder.path(), &["limit.exceeded"]);
    let file = settings.to_str().expect("a path of ours");
    let node = Node::launch(program(), folder.path(), &["--cores", "2", "--config", file, "--max-publishes", "5"]);
    let event = json!({"type": "wave", "data": {}}).to_string();
    eventually("a refusal", || match node.post("/v1/topics/live:1/events", &event).status {
        429 => Ok(()),
        status => Err(status),
    });
    let told = wait_for(&receiver, "limit.exceeded", "limit:publishes:address:127.0.0.1");
    assert_eq!(told.body["data"], json!({"limit": "publishes", "address": "127.0.0.1"}));
    for _ in 0..30 {
        node.post("/v1/topics/live:1/events", &event);
    }
    // Whatever is told later is told behind that.
    let slow = |body: &str| {
        eventually("an answer", || {
            let mut client = crate::support::http::Client::connect(node.public);
            let answer = client.request("PUT", "/v1/videos/1/rules", &[], body.as_bytes());
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        });
    };
    slow("{\"slow_seconds\":60}");
    eventually("slow mode to bar one", || {
        let body = json!({"member": "bob", "text": "x"}).to_string();
        match node.post("/v1/videos/1/comments", body).text() {
            text if text.contains("slow mode") => Ok(()),
            text => Err(text),
        }
    });
    let told = wait_for(&receiver, "limit.exceeded", "limit:slow_mode:member:bob");
    assert_eq!(told.body["data"], json!({"limit": "slow_mode", "member": "bob", "topic": "live:1"}));
    assert_eq!(receiver.taken_once().len(), 2, "once a minute each");
}

#[test]
fn delivery_lost_or_out_of_order_while_the_receiver_is_not_itself() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let node = node(folder.path(), &receiver, &["comment.posted"]);
    let failed = |reason: &str| node.metric("fanfare_hooks_failed_total", &format!("reason=\"{reason}\""));
    let mut sent = Vec::new();
    for (number, (answers, reason)) in [
        (Answers::Status(500), "status"),
        (Answers::Garbage, "answer"),
        (Answers::Redirect, "redirect"),
        (Answers::Nothing, "timeout"),
    ]
    .into_iter()
    .enumerate()
    {
        receiver.answer(answers);
        for comments in 0..3 {
            let text = format!("{number} {comments}");
            comment(&node, &number.to_string(), &text);
            sent.push((format!("live:{number}"), text));
        }
        eventually(&format!("a try that fails: {reason}"), || match failed(reason) {
            0 => Err(receiver.tried().len()),
            _ => Ok(()),
        });
    }
    assert_eq!(receiver.taken(), [], "nothing was taken");
    receiver.answer(Answers::Slowly);
    for number in 0..4 {
        let subject = format!("live:{number}");
        let expected: Vec<&String> = sent.iter().filter(|(of, _)| *of == subject).map(|(_, text)| text).collect();
        eventually(&format!("all of {subject}"), || match texts(&receiver, &subject) {
            texts if texts.iter().collect::<Vec<_>>() == expected => Ok(()),
            texts => Err(texts),
        });
    }
    // Of each the first was tried in vain, and what is behind it was not.
    let tried = receiver.tried();
    let first: Vec<&str> =
        tried.iter().take(4).map(|delivery| delivery.body["data"]["text"].as_str().expect("a text")).collect();
    assert!(first.iter().all(|text| text.ends_with(" 0")), "{first:?}");
    let log = node.log().join("\n");
    assert!(!log.contains("whsec_") && log.contains("did not take a delivery"), "{log}");
}

#[test]
fn hook_that_its_receiver_ended_goes_on() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let node = node(folder.path(), &receiver, &["comment.posted"]);
    receiver.answer(Answers::Status(410));
    comment(&node, "1", "one");
    becomes("hooks that ended", 1, || node.metric("fanfare_hooks_dropped_total", "reason=\"ended\""));
    node.until_logged(&["answered 410"]);
    receiver.answer(Answers::Taken);
    eventually("the hook to be known as ended", || {
        comment(&node, "1", "two");
        let waiting = folder.path().join("fanfare.db");
        let database = rusqlite::Connection::open(waiting).map_err(|error| error.to_string())?;
        let rows: i64 = database
            .query_row("SELECT count(*) FROM hook_deliveries", [], |row| row.get(0))
            .map_err(|error| error.to_string())?;
        if rows == 0 { Ok(()) } else { Err(format!("{rows} wait")) }
    });
    assert_eq!(receiver.taken(), []);
}

#[test]
fn what_a_killed_node_owed_is_lost() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let events = &["member.online", "member.offline", "topic.occupied", "topic.vacated", "comment.posted"];
    let first = node(folder.path(), &receiver, events);
    let stream = first.stream("topic=live:9&member=ana");
    wait_for(&receiver, "member.online", "presence:ana");
    wait_for(&receiver, "topic.occupied", "live:9");
    receiver.answer(Answers::Status(503));
    let sent: Vec<String> = (0..20).map(|number| format!("comment {number}")).collect();
    sent.iter().for_each(|text| drop(comment(&first, "9", text)));
    first.signal(Signal::KILL);
    drop((first, stream));
    receiver.answer(Answers::Taken);
    let second = node(folder.path(), &receiver, events);
    comment(&second, "9", "after all");
    let expected: Vec<String> = sent.into_iter().chain(["after all".to_owned()]).collect();
    // What was under way is another's for as long as its claim.
    for _ in 0..3 {
        let missing = || texts(&receiver, "live:9").len() < expected.len();
        let waited = std::time::Instant::now();
        while missing() && waited.elapsed() < crate::support::DEADLINE {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    assert_eq!(texts(&receiver, "live:9"), expected);
    // Nobody came back: that is told, though the store knows nothing of who was there.
    let gone = |kind: &str, subject: &str| {
        receiver.taken_once().iter().any(|delivery| delivery.kind() == kind && delivery.subject() == subject)
    };
    let begun = std::time::Instant::now();
    while !(gone("member.offline", "presence:ana") && gone("topic.vacated", "live:9")) {
        assert!(begun.elapsed() < 4 * crate::support::DEADLINE, "{:?}", receiver.taken_once());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let of_ana = receiver.taken_once();
    let of_ana: Vec<&str> =
        of_ana.iter().filter(|delivery| delivery.subject() == "presence:ana").map(Delivery::kind).collect();
    assert_eq!(of_ana, ["member.online", "member.offline"]);
}

#[test]
fn settings_of_hooks_shown_with_their_secret_or_taken_with_a_slip() {
    let (folder, receiver) = (tempfile::tempdir().expect("a folder"), Receiver::start());
    let settings = receiver.settings(folder.path(), &["member.online"]);
    let run = |more: &[&str]| {
        let output = program().args(["all", "--config"]).arg(&settings).args(more).output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (code, printed) = run(&["--print-config"]);
    assert!(code == Some(0) && printed.contains("[[hooks]]\n") && printed.contains("secret_file = "), "{printed}");
    assert!(!printed.contains("whsec_"), "{printed}");
    let parsed: toml::Value = toml::from_str(&printed).expect("what is printed is read");
    assert_eq!(parsed["hooks"][0]["events"][0].as_str(), Some("member.online"));
    let good = std::fs::read_to_string(&settings).expect("it is there");
    for (text, parts) in [
        (good.replace("url", "ulr"), &["hooks.ulr", "line 2", "known are url"][..]),
        (good.replace("http://127.0.0.1", "http://10.0.0.9"), &["hooks.url", "in the clear", "hook_insecure"]),
        (good.replace("member.online", "member.onlin"), &["hooks.events \"member.onlin\"", "member.online"]),
        (good.replace("[\"member.online\"]", "[]"), &["hooks.events", "no event"]),
        (good.replace("[\"member.online\"]", "\"member.online\""), &["hooks.events", "give an array"]),
        (good.replace("hook.secret", "none.secret"), &["hooks.secret_file", "No such file"]),
        (good.replace("secret_file", "#"), &["hooks.secret_file is not set"]),
        (format!("{good}\n{good}"), &["hooks.url", "given twice"]),
        ("hooks = 7\n".to_owned(), &["hooks", "[[hooks]]"]),
    ] {
        std::fs::write(&settings, &text).expect("the folder is ours");
        let (code, said) = run(&["--print-config"]);
        assert!(code == Some(2) && parts.iter().all(|part| said.contains(part)), "{text}: {said}");
    }
    std::fs::write(&settings, &good).expect("the folder is ours");
    std::fs::write(folder.path().join("hook.secret"), "whsec_dG9vIHNob3J0\n").expect("the folder is ours");
    let (code, said) = run(&["--print-config"]);
    assert!(code == Some(2) && said.contains("9 bytes") && !said.contains("dG9v"), "{said}");
}
