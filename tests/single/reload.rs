//! What a running node does when it is told something by a signal. Each test is named after what it prevents.

use crate::support;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::json;
use support::http::Client;
use support::node::{Node, program};
use support::{becomes, eventually, reaction};

/// A node with a configuration file, and that file.
struct Configured {
    node: Node,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Configured {
    fn start(text: &str) -> Configured {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("fanfare.toml");
        std::fs::write(&file, text).unwrap();
        let node =
            Node::in_folder(folder.path(), &["--cores", "2", "--drain", "1s", "--config", file.to_str().unwrap()]);
        Configured { node, file, _folder: folder }
    }

    /// Writes another file, and waits for what the node says of it.
    fn reload(&self, text: &str, says: &str) -> String {
        std::fs::write(&self.file, text).unwrap();
        let before = self.lines(says).len();
        self.node.signal(Signal::HUP);
        eventually(says, || {
            let mut lines = self.lines(says);
            if lines.len() > before { Ok(lines.pop().expect("there are more")) } else { Err(self.node.log()) }
        })
    }

    fn lines(&self, says: &str) -> Vec<String> {
        self.node.log().into_iter().filter(|line| line.contains(says)).collect()
    }

    fn topics(&self, topics: usize) -> u16 {
        let query: Vec<String> = (0..topics).map(|topic| format!("topic=live:{topic}")).collect();
        Client::connect(self.node.public).request("HEAD", &format!("/v1/events?{}", query.join("&")), &[], b"").status
    }
}

const READ: &str = "settings read again";

#[test]
fn hup_that_ends_the_node_and_changes_nothing() {
    let configured = Configured::start("max_topics = 2\nreactions = [\"like\"]\n");
    let node = &configured.node;
    let mut stream = node.stream("topic=live:1");
    assert_eq!(configured.topics(3), 400);
    let line = configured.reload(
        "max_topics = 3\nreactions = [\"like\", \"wow\"]\ncors_origin = [\"https://a.example\"]\nmax_connections = 500\n\
         max_publishes = 1\nidle_timeout = \"7s\"\nlog = \"debug\"\ntrace_sample = 7\ndc = \"eu\"\n[events.wave]\nclass = \"sum\"\n",
        READ,
    );
    for name in [
        "max_topics",
        "reactions",
        "cors_origin",
        "max_connections",
        "max_publishes",
        "idle_timeout",
        "log",
        "trace_sample",
        "events.wave",
    ] {
        assert!(line.contains(name), "{name}: {line}");
    }
    let waiting = configured.lines("only after a restart");
    assert!(waiting.len() == 1 && waiting[0].contains("dc") && !waiting[0].contains("drain"), "{waiting:?}");
    // Each shard takes it up by itself, and the kernel chooses whom is asked.
    for _ in 0..20 {
        becomes("three topics to be allowed", 200, || configured.topics(3));
    }
    assert_eq!(configured.topics(4), 400);
    let answer = node.get("/v1/time");
    assert_eq!((answer.status, answer.header("keep-alive")), (200, Some("timeout=7")));
    let allowed = Client::connect(node.public).request("GET", "/v1/time", &[("Origin", "https://a.example")], b"");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://a.example"));
    assert_eq!(node.info()["limits"]["connections"]["max"], 500);
    assert_eq!(
        node.get("/openapi.json").json()["components"]["schemas"]["ReactionName"]["enum"],
        json!(["like", "wow"])
    );
    let stream_says = node.get("/asyncapi.json").json();
    assert_eq!(stream_says["components"]["messages"]["event.wave"]["title"], "wave");
    let like = |member: &str| node.post("/v1/videos/1/likes", reaction(member, "wow")).status;
    becomes("a new reaction to be stored", 201, || like("ana"));
    becomes("publishing to have a limit", 429, || like("bob"));
    // Whoever watched goes on watching.
    eventually("the like", || match stream.next().expect("the stream goes on") {
        message if message.json()["type"] == "like" => Ok(()),
        message => Err(message),
    });

    // A setting that is gone has its default again.
    configured.reload("max_topics = 3\n", READ);
    for _ in 0..20 {
        becomes("the default reactions to hold", 400, || {
            node.post("/v1/videos/1/likes", reaction("ana", "wow")).status
        });
    }
    node.publish("live:1", &json!({"type": "note"}));
    node.publish("live:1", &json!({"type": "note"}));
}

#[test]
fn streams_that_grow_where_there_is_no_memory_for_more() {
    let configured = Configured::start("");
    let node = &configured.node;
    let stream = node.stream("topic=live:1");
    configured.reload("max_memory = \"1MiB\"\n", READ);
    becomes("the node's memory to be full", true, || node.info()["limits"]["memory_bytes"]["full"] == true);
    let change = |body| node.post(&format!("/v1/connections/{}/topics", stream.connection()), body);
    let refused = change(json!({"add": ["live:2"], "remove": ["live:1"]}).to_string());
    assert!(refused.problem(503).contains("memory is full"), "{refused:?}");
    assert!(refused.header("retry-after").is_some());
    let answer = change(json!({"remove": ["live:1"]}).to_string());
    assert_eq!((answer.status, &answer.json()["topics"]), (200, &json!([])), "all of the change, or nothing of it");
}

#[test]
fn bad_settings_that_half_hold_after_hup() {
    let configured = Configured::start("max_topics = 2\n");
    for bad in ["max_topics = 3\nidle_timeout = \"soon\"\n", "max_topics = 3\nmax_topicz = 4\n", "max_topics = \n"] {
        let line = configured.reload(bad, "will not do");
        assert!(line.contains("fanfare.toml") && line.contains("the old ones hold"), "{line}");
        assert_eq!((configured.topics(2), configured.topics(3)), (200, 400));
    }
    std::fs::remove_file(&configured.file).unwrap();
    configured.node.signal(Signal::HUP);
    eventually("the lack of the file to be told", || match configured.lines("No such file").len() {
        0 => Err(configured.node.log()),
        _ => Ok(()),
    });
    assert_eq!((configured.topics(2), configured.topics(3)), (200, 400));
}

#[test]
fn signals_that_end_the_node_without_a_drain() {
    let mut configured = Configured::start("");
    let mut stream = configured.node.stream("topic=live:1");
    configured.node.signal(Signal::USR1);
    configured.node.until_logged(&["\"happened\""]);
    for signal in [Signal::USR2, Signal::HUP] {
        configured.node.signal(signal);
    }
    eventually("each signal to be heard", || {
        let heard = (configured.lines("means nothing").len(), configured.lines(READ).len());
        if heard == (1, 1) { Ok(()) } else { Err(heard) }
    });
    configured.node.publish("live:1", &json!({"type": "note"}));
    assert_eq!(stream.next().expect("the stream goes on").json()["type"], "note");
    configured.node.signal(Signal::QUIT);
    let bye = stream.next().expect("bye comes before the end");
    assert_eq!((bye.name.as_str(), bye.json()["reason"].as_str()), ("bye", Some("drain")));
    assert_eq!(configured.node.ended().code(), Some(0));
    assert_eq!(configured.lines("\"drained\"").len(), 1);
}

#[test]
fn node_that_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let number = folder.path().join("pid");
    let line = format!(
        "echo $$ >{}; exec {} all --cores 1 --drain 0s --listen 127.0.0.1:0 --internal 127.0.0.1:0 --db sqlite:{}",
        number.display(),
        program().get_program().to_str().unwrap(),
        folder.path().join("fanfare.db").display(),
    );
    let mut terminal = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script, of bsdutils");
    let lines = BufReader::new(terminal.stdout.take().unwrap()).lines();
    let _ready = lines.map_while(Result::ok).find(|line| line.contains("Metrics")).expect("it greets");
    let pid = std::fs::read_to_string(&number).unwrap().trim().to_owned();
    // As if its window were closed.
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    eventually("the node to end", || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        match stat.rsplit_once(") ") {
            None => Ok(()),
            Some((_, rest)) if rest.starts_with('Z') => Ok(()),
            Some(_) => Err(stat),
        }
    });
}
