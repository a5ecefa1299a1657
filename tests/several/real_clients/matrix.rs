//! Every client through the same: a cut, a proxy without its node, a killed node, a drain, silence, a token that ends. What it
//! took is the table in docs/clients.md, which is held against what was seen here.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::between::{Between, Mode};
use super::secure::Authority;
use super::support::node::Node;
use super::support::ports::free_port;
use super::support::redis::Redis;
use super::support::token::{self, Guarded};
use super::{here, needs};

/// A client, as the table has it.
struct Client {
    /// In the table.
    name: &'static str,
    /// On the wire, and in what it prints.
    who: &'static str,
    /// How a token goes.
    token: &'static str,
    /// What it needs of whoever uses it.
    needs: &'static str,
}

const fn client(name: &'static str, who: &'static str, token: &'static str, needs: &'static str) -> Client {
    Client { name, who, token, needs }
}

const PLAIN: &str = "the lines of docs/first-steps.md: a new one when `readyState` is 2";
const NOTHING: &str = "nothing";
const LOOP: &str = "a loop with a pause that varies, and the last `id` in `Last-Event-ID`";

const CLIENTS: [Client; 15] = [
    client("Chromium, `EventSource`", "chromium", "query", PLAIN),
    client("Firefox ESR, `EventSource`", "firefox", "query", PLAIN),
    client("WebKit, `EventSource`", "webkit", "query", PLAIN),
    client("Chromium, `fanfare.js`", "chromium-fanfare", "header", NOTHING),
    client("Firefox ESR, `fanfare.js`", "firefox-fanfare", "header", NOTHING),
    client("WebKit, `fanfare.js`", "webkit-fanfare", "header", NOTHING),
    client(
        "`@microsoft/fetch-event-source`",
        "fetch-event-source",
        "header",
        "`openWhenHidden: true`; an `onclose` that throws, or it takes a drain for the end; a `fetch` that sets the token anew",
    ),
    client(
        "`event-source-polyfill`",
        "event-source-polyfill",
        "header",
        "a new one with `last_event_id` when `readyState` is 2; its `heartbeatTimeout` (45 s) stays above 25 s",
    ),
    client(
        "`reconnecting-eventsource`",
        "reconnecting-eventsource",
        "query",
        "at `bye` `token` a new one with `lastEventId`, since it comes back with the old token for ever",
    ),
    client("npm `eventsource`", "eventsource", "header", "a new one with `last_event_id` when `readyState` is 2"),
    client("Python `httpx-sse`", "httpx-sse", "header", LOOP),
    client(
        "Python `requests-sse`",
        "requests-sse",
        "header",
        "the same loop around it with `latest_event_id`, and `max_connect_retry=0`, since it doubles its waits",
    ),
    client("Python `sseclient-py`", "sseclient-py", "header", LOOP),
    client(
        "Rust `eventsource-client`",
        "eventsource-client",
        "header",
        "a new one with `last_event_id` after 401, which it repeats for ever",
    ),
    client(
        "Rust `reqwest-eventsource`",
        "reqwest-eventsource",
        "header",
        "a new one with `Last-Event-ID` after every status but 200, which end it",
    ),
];
/// Java has no client of its own, and is followed line by line.
const JAVA: Client = client("Java `HttpClient`", "java", "header", "the parsing of lines, and the same loop");

fn clients() -> impl Iterator<Item = &'static Client> {
    CLIENTS.iter().chain([&JAVA])
}

/// One thing that a client heard, or did.
#[derive(Debug)]
pub struct Line {
    who: String,
    /// The event's name; none where its own code began a new stream.
    name: Option<String>,
    data: String,
}

/// All clients, following one stream.
pub struct Followers {
    clients: Vec<&'static Client>,
    children: Vec<Child>,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Followers {
    /// Clients whose stream is at `url`; with tokens they read theirs from this file before each request. By TLS they trust this
    /// authority.
    pub fn start(url: &str, token_file: Option<&str>, authority: Option<&Authority>) -> Followers {
        // Rust's are built without TLS.
        let clients = clients().filter(|client| authority.is_none() || !client.name.starts_with("Rust")).collect();
        let mut followers = Followers { clients, children: Vec::new(), lines: Arc::default() };
        let folder = here("tests/clients");
        let python = needs("target/python/bin/python3");
        let rust = needs("target/clients/debug/fanfare-client-tests");
        needs("tests/clients/node_modules/@microsoft");
        let (python, rust) = (python.to_str().unwrap(), rust.to_str().unwrap());
        let more = ["fetch-event-source", "event-source-polyfill", "reconnecting-eventsource"];
        for browser in ["chromium", "firefox", "webkit"] {
            let mut pages = json!({browser: "eventsource", (format!("{browser}-fanfare")): "fanfare"});
            if browser == "chromium" {
                more.iter().for_each(|way| pages[way] = json!(way));
            }
            followers.run(&folder, &["node", "browser.mjs", browser, url, &pages.to_string()], token_file, authority);
        }
        followers.run(&folder, &["node", "npm_eventsource.mjs", "eventsource", url], token_file, authority);
        for who in ["httpx-sse", "requests-sse", "sseclient-py"] {
            followers.run(&folder, &[python, "sse_followers.py", who, url], token_file, authority);
        }
        for who in ["eventsource-client", "reqwest-eventsource"].iter().filter(|_| authority.is_none()) {
            followers.run(&folder, &[rust, who, url], token_file, authority);
        }
        followers.run(&folder, &["java", "Follower.java", "java", url], token_file, authority);
        followers
    }

    fn run(&mut self, folder: &PathBuf, words: &[&str], token_file: Option<&str>, authority: Option<&Authority>) {
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .args(token_file)
            .envs(authority.iter().flat_map(|authority| authority.environment()))
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; scripts/test installs it", words[0]));
        let (stdout, lines) = (child.stdout.take().unwrap(), Arc::clone(&self.lines));
        self.children.push(child);
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines().map_while(Result::ok) {
                let line: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
                let text = |name: &str| line[name].as_str().map(str::to_owned);
                assert_eq!(line["failed"], Value::Null, "{line}");
                let line = Line {
                    who: text("who").expect("a line says whose it is"),
                    name: text("name"),
                    data: text("data").unwrap_or_default(),
                };
                lines.lock().unwrap().push(line);
            }
        });
    }

    /// Waits until each of them is as it should be.
    #[track_caller]
    pub fn until(&mut self, what: &str, fits: impl Fn(&str, &[&Line]) -> bool) {
        // Some wait longer from failure to failure, and all of them run at once.
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let lines = self.lines.lock().unwrap();
            let clients = self.clients.iter();
            let lacks: Vec<&str> = clients
                .map(|client| client.who)
                .filter(|who| !fits(who, &lines.iter().filter(|line| line.who == *who).collect::<Vec<_>>()))
                .collect();
            if lacks.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: not {lacks:?}; they heard {:#?}", {
                lines.iter().filter(|line| lacks.contains(&&*line.who)).collect::<Vec<_>>()
            });
            drop(lines);
            for child in &mut self.children {
                assert!(child.try_wait().unwrap().is_none(), "a client ended");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn until_all_have(&mut self, text: &str) {
        self.until(&format!("{text:?} is heard by all"), |_, lines| lines.iter().any(|line| line.data.contains(text)));
    }

    fn mark(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// Whether its own code began a new stream since then, as the table says it.
    fn came_back(&self, client: &Client, since: usize) -> &'static str {
        let lines = self.lines.lock().unwrap();
        let own = lines[since..].iter().any(|line| line.who == client.who && line.name.is_none());
        if own { "own code" } else { "by itself" }
    }

    /// Nobody was told that something is missing, or got what is no event.
    #[track_caller]
    pub fn assert_well(&self) {
        for line in self.lines.lock().unwrap().iter().filter(|line| line.name.is_some()) {
            assert_ne!(line.name.as_deref(), Some("gap"), "{line:?}");
            assert!(line.data.starts_with('{'), "what is no event came as one: {line:?}");
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Its input ends, and so does it; browsers' scripts tidy up first.
            drop(child.stdin.take());
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

pub const TOPIC: &str = "room:1";

pub fn publish(node: &Node, text: &str) {
    node.publish(TOPIC, &json!({"type": "message", "data": {"text": text}}));
}

pub fn connected(lines: &[&Line]) -> bool {
    lines.iter().any(|line| line.name.as_deref() == Some("connected"))
}

/// What the table says of each client but for its token, in the order of [`clients`], and what befell each.
fn without_tokens() -> Vec<(Vec<&'static str>, String)> {
    let (redis, address, folder) = (Redis::start(), format!("127.0.0.1:{}", free_port()), tempfile::tempdir().unwrap());
    let url = redis.url();
    let start = || {
        let flags = ["--cores", "2", "--kv", &url, "--listen", &address, "--cors-origin", "*", "--drain", "1s"];
        Node::in_folder(folder.path(), &flags)
    };
    let mut node = start();
    let between = Between::start(node.public);
    let mut followers = Followers::start(&format!("http://{}/v1/events?topic={TOPIC}", between.address), None, None);
    let mut rows: Vec<Vec<&str>> = clients().map(|_| Vec::new()).collect();
    let stage = |followers: &Followers, rows: &mut Vec<Vec<&'static str>>, since| {
        for (row, client) in rows.iter_mut().zip(clients()) {
            row.push(followers.came_back(client, since));
        }
    };
    followers.until("connected", |_, lines| connected(lines));

    // Cut before anything came that has a place, and after.
    for text in ["the first", "after a cut"] {
        let since = followers.mark();
        between.set(Mode::Hold);
        between.cut();
        publish(&node, text);
        between.set(Mode::Open);
        followers.until_all_have(text);
        if text == "after a cut" {
            stage(&followers, &mut rows, since);
        }
    }

    // A proxy without its node.
    let since = followers.mark();
    between.set(Mode::BadGateway);
    between.cut();
    publish(&node, "behind a 502");
    followers.until("told 502", |who, _| between.turned_away(who) > 0);
    between.set(Mode::Open);
    followers.until_all_have("behind a 502");
    stage(&followers, &mut rows, since);

    // The node is killed, and every client finds nobody once.
    let since = followers.mark();
    between.set(Mode::Close);
    node.kill();
    between.cut();
    followers.until("turned away", |who, _| between.turned_away(who) > 0);
    node = start();
    between.set_node(node.public);
    publish(&node, "after a kill");
    between.set(Mode::Open);
    followers.until_all_have("after a kill");
    stage(&followers, &mut rows, since);

    // It drains.
    let since = followers.mark();
    between.set(Mode::Hold);
    node.signal(Signal::TERM);
    node.ended();
    node = start();
    between.set_node(node.public);
    publish(&node, "after a drain");
    between.set(Mode::Open);
    followers.until_all_have("after a drain");
    stage(&followers, &mut rows, since);

    // Silence, until each was sent a heartbeat: nobody takes that for an event, or leaves. Until a first one whoever the drain still
    // has coming back is back.
    let sent_another = |followers: &mut Followers| {
        let before: Vec<usize> = clients().map(|client| between.heartbeats(client.who)).collect();
        followers.until("sent a heartbeat", |who, _| {
            let at = clients().position(|client| client.who == who).unwrap();
            between.heartbeats(who) > before[at]
        });
    };
    sent_another(&mut followers);
    let since = followers.mark();
    sent_another(&mut followers);
    publish(&node, "after a heartbeat");
    followers.until_all_have("after a heartbeat");
    for (row, client) in rows.iter_mut().zip(clients()) {
        let lines = followers.lines.lock().unwrap();
        let heard: Vec<&Line> = lines[since..].iter().filter(|line| line.who == client.who).collect();
        assert!(heard.iter().all(|line| line.data.contains("after a heartbeat")), "{}: {heard:?}", client.name);
        row.push("unseen");
    }
    followers.assert_well();
    let lines = followers.lines.lock().unwrap();
    let story = |client: &Client| {
        let heard: Vec<&Line> = lines.iter().filter(|line| line.who == client.who).collect();
        format!("{:#?}\n{heard:#?}", between.story(client.who))
    };
    rows.into_iter().zip(clients().map(story)).collect()
}

/// How each comes back when its token has ended.
fn with_tokens() -> Vec<String> {
    let site = Guarded::start(&["--cors-origin", "*"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let mint = {
        let file = file.clone();
        move || {
            let claims = token::with(token::claims("ana", &["*"], &[]), "exp", token::unix_seconds() + 20);
            // Whole at once, since clients read it at any time.
            let next = file.with_extension("next");
            std::fs::write(&next, token::signed(token::SECRET, &claims)).unwrap();
            std::fs::rename(next, &file).unwrap();
        }
    };
    mint();
    let url = format!("http://{}/v1/events?topic={TOPIC}", site.node.public);
    let mut followers = Followers::start(&url, file.to_str(), None);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let minting = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_secs(2)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            mint();
        }
    });
    let named = |line: &&Line, name: &str| line.name.as_deref() == Some(name);
    let ended = |lines: &[&Line]| lines.iter().position(|line| named(line, "bye") && line.data.contains("\"token\""));
    let renewed =
        |lines: &[&Line]| lines.iter().filter(|line| named(line, "token")).count() > 1 && ended(lines).is_none();
    followers.until("there with a new token", |_, lines| {
        renewed(lines) || ended(lines).is_some_and(|at| connected(&lines[at..]))
    });
    let rights = json!({"publish": ["*"], "types": ["message"]});
    let publisher = token::signed(token::SECRET, &token::with(token::claims("bob", &[], &[]), "fanfare", rights));
    let body = json!({"type": "message", "data": {"text": "after a token"}}).to_string();
    let answer = token::as_bearer(&site.node, &publisher, "POST", &format!("/v1/topics/{TOPIC}/events"), &body);
    assert_eq!(answer.status, 202, "{answer:?}");
    followers.until_all_have("after a token");
    followers.assert_well();
    drop(stop);
    minting.join().unwrap();
    let lines = followers.lines.lock().unwrap();
    let how = |client: &Client| {
        let of: Vec<&Line> = lines.iter().filter(|line| line.who == client.who).collect();
        match (renewed(&of), of.iter().any(|line| line.name.is_none())) {
            (true, _) => "renewed as it goes",
            (false, true) => "own code",
            (false, false) => "by itself",
        }
    };
    clients().map(|client| format!("{}, {}", client.token, how(client))).collect()
}

#[test]
fn client_loses_something_or_stays_away() {
    let (rows, tokens) = (without_tokens(), with_tokens());
    let mut table = String::from(
        "| client | cut | 502 | killed | drain | heartbeat | token | what it needs |\n|---|---|---|---|---|---|---|---|\n",
    );
    let docs = std::fs::read_to_string(here("docs/clients.md")).unwrap();
    let mut others = String::new();
    for ((client, (row, story)), token) in clients().zip(&rows).zip(&tokens) {
        let line = format!("| {} | {} | {token} | {} |\n", client.name, row.join(" | "), client.needs);
        if !docs.contains(&line) {
            others += &format!("\n{line}\n{story}\n");
        }
        table += &line;
    }
    assert!(docs.contains(&table), "docs/clients.md says something else than was seen:\n\n{table}\n{others}");
}
