//! What a node logs: no secret and no token, whatever goes wrong and however much it is asked to say; one line where one
//! says it; JSON for machines.

use crate::support;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::http::Client;
use support::node::{Node, program};
use support::postgres::Postgres;
use support::redis::Redis;
use support::token::{OTHER_SECRET, SECRET, assert_unquoted, bad_tokens, send, token};
use support::{becomes, eventually, reaction};

const CLUSTER_SECRET: &str = "cluster-hush-5d41402abc4b2a76b9719d911017c592";
const WRONG_CLUSTER_SECRET: &str = "wrong-hush-7d793037a0760186574b0282f2f435e7";
const REDIS_PASSWORD: &str = "redis-hush-9bf31c7ff062936a96d3c8bd1f8f2ff3";
const POSTGRES_PASSWORD: &str = "postgres-hush-c74d97b01eae257e44aa9d5bade97baf";

/// The program, with what it prints on standard output among its log.
fn talkative() -> Command {
    let fanfare = program();
    let mut command = Command::new("/bin/sh");
    command.env_clear().args(["-c", "exec \"$0\" \"$@\" >&2"]).arg(fanfare.get_program());
    command
}

#[track_caller]
fn assert_hushed(text: &str, tokens: &[String]) {
    let passwords = [CLUSTER_SECRET, WRONG_CLUSTER_SECRET, REDIS_PASSWORD, POSTGRES_PASSWORD];
    for secret in passwords.into_iter().chain([SECRET, OTHER_SECRET]) {
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            panic!("{secret} is in: {line}");
        }
    }
    for token in tokens {
        assert_unquoted(token, text);
    }
}

#[test]
fn secret_or_token_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().expect("a path of the tests").to_owned()
    };
    let (key_file, secret_file) = (file("key", SECRET), file("secret", CLUSTER_SECRET));
    let mut redis = Redis::with_password(REDIS_PASSWORD);
    let mut postgres = Postgres::start();
    postgres.sql("fanfare", &format!("ALTER ROLE locked PASSWORD '{POSTGRES_PASSWORD}'"));
    postgres.sql("postgres", "GRANT ALL ON DATABASE fanfare TO locked");
    postgres.sql("fanfare", "GRANT ALL ON SCHEMA public TO locked");
    let database = format!("postgres://locked:{POSTGRES_PASSWORD}@127.0.0.1:{}/fanfare", postgres.port());
    let kv = redis.url();
    assert!(kv.contains(REDIS_PASSWORD));
    let common = ["--cores", "2", "--log", "trace", "--cluster-secret-file", &secret_file];
    let jwt = ["--auth", "jwt", "--jwt-key-file", &key_file, "--jwt-cookie", "hush"];
    let flags = [&common[..], &jwt, &["--kv", &kv, "--drain", "0s"]].concat();
    let mut node = Node::run_on(talkative(), "all", "127.0.0.1:0", &database, &flags);

    // Tokens, good and bad, in every place that takes them.
    let mut tokens: Vec<String> = bad_tokens().into_iter().map(|bad| bad.token).collect();
    tokens.push(token("ana", &["live:*"], &["live:*"]));
    for token in &tokens {
        let (bearer, cookie) = (format!("Bearer {token}"), format!("hush={token}"));
        for (target, headers) in [
            ("/v1/events?topic=live:1".to_owned(), &[("Authorization", bearer.as_str())][..]),
            (format!("/v1/events?topic=live:1&access_token={token}"), &[]),
            ("/v1/events?topic=live:1".to_owned(), &[("Cookie", &cookie), ("Origin", "http://localhost")]),
            (format!("/v1/events?topic=nonsense&access_token={token}"), &[]),
            (format!("/no/such/place?access_token={token}"), &[]),
        ] {
            send(&node, "GET", &target, headers, b"");
        }
        let body = json!({"token": token}).to_string();
        send(&node, "POST", "/v1/connections/x/token", &[("Authorization", &bearer)], body.as_bytes());
    }
    // The cluster's secret, and another one.
    for secret in [CLUSTER_SECRET, WRONG_CLUSTER_SECRET] {
        let bearer = format!("Bearer {secret}");
        let answer = Client::connect(node.internal).request("GET", "/v1/node", &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, if secret == CLUSTER_SECRET { 200 } else { 401 });
        if answer.status == 200 {
            assert_hushed(&answer.text(), &tokens);
        }
    }
    // Neighbours, one of which has another secret.
    let url = format!("http://{}", node.internal);
    let wrong_file = file("wrong", WRONG_CLUSTER_SECRET);
    let neighbour = |secret: &str, kv: &str| {
        let flags = ["--cores", "1", "--log", "trace", "--cluster-secret-file", secret];
        let flags = [&flags[..], &["--dispatchers", &url, "--kv", kv]].concat();
        Node::run_on(talkative(), "frontend", "127.0.0.1:0", "sqlite:unused", &flags)
    };
    let (friend, stranger) = (neighbour(&secret_file, &kv), neighbour(&wrong_file, &kv));
    let _stream = friend.stream("topic=live:1");
    eventually("the stranger to be told", || match stranger.log().iter().find(|line| line.contains("secret")) {
        Some(_) => Ok(()),
        None => Err("nothing".to_owned()),
    });
    // A store and a database that go away and come back; meanwhile both are asked for.
    let bearer = format!("Bearer {}", tokens.last().expect("one"));
    let like = || {
        let body = reaction("ana", "like");
        send(&node, "POST", "/v1/videos/1/likes", &[("Authorization", &bearer)], body.as_bytes()).status
    };
    becomes("a like to be stored", true, || matches!(like(), 200 | 201));
    redis.kill();
    postgres.kill();
    becomes("likes to fail", 503, like);
    let ready = || Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    becomes("the node to be not ready", 503, || ready().status);
    assert_hushed(&ready().text(), &tokens);
    postgres.launch();
    redis.restart();
    // It has no password now, which is another thing that can be wrong.
    becomes("likes to be stored again", true, || matches!(like(), 200 | 201));
    node.signal(Signal::TERM);
    node.ended();
    for node in [&node, &friend, &stranger] {
        let log = node.log();
        assert!(log.len() > 5, "{log:?}");
        assert_hushed(&log.join("\n"), &tokens);
    }
}

#[test]
fn refusal_quotes_a_password() {
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("fanfare.db").display());
    let path = folder.path().join("secret");
    // One more than the present one and the one before it.
    std::fs::write(&path, [CLUSTER_SECRET; 3].join("\n")).unwrap();
    let redis = format!("redis://:{REDIS_PASSWORD}@127.0.0.1:1/not-a-number?x=y");
    let postgres = format!("postgres://ana:{POSTGRES_PASSWORD}@[::1/fanfare?sslmode=nonsense");
    let path = path.to_str().expect("a path of the tests");
    for flags in [
        ["--kv", redis.as_str(), "--db", database.as_str()],
        ["--db", postgres.as_str(), "--kv", "memory"],
        ["--cluster-secret-file", path, "--db", database.as_str()],
    ] {
        for more in [&[][..], &["--print-config"]] {
            let output = program()
                .args(["all", "--listen", "127.0.0.1:0", "--internal", "127.0.0.1:0", "--log", "trace"])
                .args(flags)
                .args(more)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(2), "{flags:?} {output:?}");
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(text.contains(flags[0]), "it names what is wrong: {text}");
            assert_hushed(&text, &[]);
        }
    }
}

#[test]
fn the_same_trouble_told_a_hundred_times() {
    let mut redis = Redis::start();
    let node = Node::with(&["--cores", "2", "--kv", &redis.url(), "--drain", "0s"]);
    let status = |node: &Node| Client::connect(node.internal).request("GET", "/health/ready", &[], b"").status;
    becomes("the node to be ready", 200, || status(&node));
    let before = node.log().len();
    redis.kill();
    becomes("the node to be not ready", 503, || status(&node));
    for number in 0..200 {
        // Whatever becomes of them.
        node.post(&format!("/v1/topics/live:{number}/events"), r#"{"type":"like"}"#);
        node.get("/v1/events?topic=nonsense");
        node.get("/nothing");
    }
    let log = node.log();
    for line in &log {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["timestamp"].is_string() && line["level"].is_string() && line["message"].is_string(), "{line}");
    }
    let told = &log[before..];
    assert!(told.iter().any(|line| line.contains("Redis")), "{told:?}");
    assert!(told.len() <= 10, "{} lines: {told:?}", told.len());
}

#[test]
fn json_on_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let command = format!(
        "exec {} all --cores 1 --listen 127.0.0.1:0 --internal 127.0.0.1:0 --db sqlite:{}",
        program().get_program().to_str().expect("a path"),
        folder.path().join("fanfare.db").display()
    );
    let mut child = Command::new("script")
        .env_clear()
        .args(["-qefc", &command, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is installed: Debian's bsdutils");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let ready = lines.map_while(Result::ok).find(|line| line.contains("ready"));
    // Its terminal goes with it, and that ends the node.
    child.kill().unwrap();
    child.wait().unwrap();
    let ready = ready.expect("the node says that it is ready");
    assert!(serde_json::from_str::<Value>(&ready).is_err() && ready.contains("INFO"), "{ready}");
}

#[test]
fn store_that_goes_and_comes_fills_the_log() {
    let redis = Redis::start();
    let node = Node::with(&["--cores", "1", "--kv", &redis.url()]);
    let connected = || redis.info("stats", "total_connections_received").and_then(|count| count.parse::<u64>().ok());
    for _ in 0..8 {
        let before = connected().expect("a number");
        redis.command(&["CLIENT", "KILL", "SKIPME", "yes"]);
        eventually("the node to be back", || {
            let (now, clients) = (connected(), redis.command(&["CLIENT", "LIST"]).lines().count());
            // Those that ask here are gone at once.
            if now.is_some_and(|now| now > before + 2) && clients > 1 { Ok(()) } else { Err((now, clients)) }
        });
    }
    let log = node.log();
    let lines = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    let (away, back) = (lines("Redis: not available"), lines("Redis: connected"));
    // Once, and perhaps for another reason once more, or a minute later.
    assert!((1..=3).contains(&away) && back <= away + 1, "{away} {back} {log:#?}");
}

/// A node that logs more than any pipe holds each time that its settings are read again: what will not do is quoted.
fn talkative_node(folder: &std::path::Path, flags: &[&str]) -> Node {
    let file = folder.join("fanfare.toml");
    std::fs::write(&file, "").unwrap();
    let config = ["--cores", "1", "--drain", "0s", "--config", file.to_str().expect("a path of the tests")];
    let node = Node::in_folder(folder, &[&config, flags].concat());
    std::fs::write(&file, format!("idle_timeout = \"{}\"\n", "x".repeat(300_000))).unwrap();
    node
}

/// Has it log as much. Of signals that come together one is heard.
fn fill_log(node: &Node) {
    for _ in 0..20 {
        node.signal(Signal::HUP);
        node.info();
    }
}

#[test]
fn log_that_nobody_reads_holds_up_a_shard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, CLUSTER_SECRET).unwrap();
    let secret = ["--cluster-secret-file", path.to_str().expect("a path of the tests")];
    let mut node = talkative_node(folder.path(), &secret);
    let mut stream = node.stream("topic=live:1");
    let lost = || {
        let text = Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
        let sample = text.lines().find_map(|line| line.strip_prefix("fanfare_log_lines_lost_total "));
        sample.and_then(|value| value.parse::<u64>().ok()).expect("a number")
    };
    assert_eq!(lost(), 0);
    let lines = node.log_lines();
    let unread = lines.lock().unwrap();
    fill_log(&node);
    // The shard logs this.
    let bearer = format!("Bearer {WRONG_CLUSTER_SECRET}");
    let answer = Client::connect(node.internal).request("GET", "/v1/node", &[("Authorization", &bearer)], b"");
    assert_eq!(answer.status, 401);
    node.publish("live:1", &json!({"type": "note", "data": 1}));
    assert_eq!(stream.event()["type"], "note");
    eventually("lines to find no room", || {
        node.signal(Signal::HUP);
        if lost() > 0 { Ok(()) } else { Err("all found some") }
    });
    drop(unread);
    eventually("them to be told of", || {
        let log = node.log();
        let told = log.iter().find(|line| line.contains("lines that found no room")).ok_or(log.len())?;
        assert!(serde_json::from_str::<Value>(told).unwrap()["lines"].as_u64() > Some(0), "{told}");
        Ok::<(), usize>(())
    });
    node.signal(Signal::TERM);
    assert!(node.ended().success());
    eventually("its last line", || match node.log().last() {
        Some(line) if line.contains("\"drained\"") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn node_whose_log_nobody_reads_never_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = talkative_node(folder.path(), &[]);
    let lines = node.log_lines();
    let unread = lines.lock().unwrap();
    fill_log(&node);
    node.signal(Signal::TERM);
    let status = node.ended();
    drop(unread);
    assert!(status.success());
}
