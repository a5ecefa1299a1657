//! What `tuning/observability` holds, against a real Prometheus that scrapes a running cluster.

use crate::support;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fanfare::runtime::process;
use serde_json::{Value, json};
use support::http::Client;
use support::node::Node;
use support::ports::free_port;
use support::token::publish_inside;
use support::{eventually, reaction};
use tempfile::TempDir;

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Runs `promtool`, which must be content.
#[track_caller]
fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool").args(arguments).output().expect("promtool is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

#[test]
fn alerts_that_prometheus_refuses_or_that_never_fire() {
    let path = |name: &str| file(name).to_str().expect("a path of the tests").to_owned();
    promtool(&["check", "config", &path("tuning/observability/prometheus.yml")]);
    promtool(&["check", "rules", &path("tuning/observability/alerts.yml")]);
    promtool(&["test", "rules", &path("tests/single/alerts.test.yml")]);
}

#[test]
fn alert_that_nobody_knows_what_to_do_about() {
    let read = |name: &str| std::fs::read_to_string(file(name)).expect("a file of the repository");
    let (alerts, page) = (read("tuning/observability/alerts.yml"), read("docs/operating.md"));
    let (mut names, mut links): (Vec<&str>, Vec<String>) = Default::default();
    for line in alerts.lines().map(str::trim) {
        names.extend(line.strip_prefix("- alert: "));
        links.extend(line.strip_prefix("runbook: ").map(|link| link.trim_matches('"').to_owned()));
    }
    assert!(names.len() > 30, "{names:?}");
    let anchors: Vec<String> =
        names.iter().map(|name| format!("docs/operating.md#{}", name.to_ascii_lowercase())).collect();
    assert_eq!(links, anchors, "each links to its paragraph");
    let mut told: Vec<&str> = Vec::new();
    for (at, _) in page.match_indices("\n### Fanfare") {
        let (name, text) = page[at + "\n### ".len()..].split_once("\n\n").expect("a paragraph");
        assert!(text.len() > 40 && !text.starts_with('#'), "{name} has a paragraph");
        told.push(name);
    }
    names.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, names, "each is told of, once, and no other");
}

/// A Prometheus of the test's own. It is killed when this is dropped.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Prometheus {
    /// Scrapes these nodes twice a second, with the alert rules.
    fn start(nodes: &[&Node]) -> Prometheus {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let targets: Vec<String> = nodes.iter().map(|node| node.internal.to_string()).collect();
        let config = json!({
            "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [file("tuning/observability/alerts.yml")],
            "scrape_configs": [{"job_name": "fanfare", "static_configs": [{"targets": targets}]}],
        });
        // YAML is a superset of JSON.
        let path = folder.path().join("prometheus.yml");
        std::fs::write(&path, config.to_string()).expect("the folder is ours");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed");
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, kept) = (BufReader::new(child.stderr.take().expect("it is piped")), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        let prometheus = Prometheus { child, address, log, _folder: folder };
        eventually("Prometheus to be ready", || match prometheus.curl(&["/-/ready"]) {
            text if text.contains("is Ready") => Ok(()),
            text => Err(format!("{text:?} {:?}", prometheus.log.lock().unwrap().last())),
        });
        prometheus
    }

    fn curl(&self, path_and_flags: &[&str]) -> String {
        let url = format!("http://{}{}", self.address, path_and_flags[0]);
        let output = Command::new("curl").args(["-s", "-m", "10", &url]).args(&path_and_flags[1..]).output();
        String::from_utf8(output.expect("curl is installed").stdout).expect("answers are UTF-8")
    }

    /// The values of a query, without those that are no number; or what is wrong with it.
    fn query(&self, query: &str) -> Result<Vec<f64>, String> {
        let text = self.curl(&["/api/v1/query", "--data-urlencode", &format!("query={query}")]);
        let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{error}: {text:?}"))?;
        let series = answer["data"]["result"].as_array().ok_or_else(|| answer.to_string())?;
        let value = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse::<f64>().ok());
        Ok(series.iter().filter_map(value).filter(|value| !value.is_nan()).collect())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every query of the dashboard with its panel's title, as Grafana would send it.
fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(file("tuning/observability/dashboard.json")).expect("it is there");
    let dashboard: Value = serde_json::from_str(&text).expect("it is JSON");
    let variables: Vec<&str> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| variable["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(variables, ["datasource", "instance"]);
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(panel["type"] == "row" || !targets.is_empty(), "{title} shows nothing");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            let query = expression.replace("$__rate_interval", "1m").replace("$instance", ".*");
            assert!(!query.contains('$'), "{title}: {query}");
            queries.push((title.to_owned(), query));
        }
    }
    assert!(queries.len() > 40, "{} queries", queries.len());
    queries
}

/// Names of our metrics in an expression.
fn metrics_of(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("fanfare_") || word.starts_with("process_"))
}

/// A little of everything that the dashboard shows.
fn load(all: &Node, frontend: &Node, round: u64) {
    let _stream = frontend.stream("topic=live:1&member=ana");
    for kind in ["like", "comment", "note", "receipt"] {
        publish_inside(all, "live:1", &json!({"type": kind, "data": round}));
    }
    let like = all.post("/v1/videos/1/likes", reaction(&format!("member-{round}"), "like"));
    assert_eq!(like.status, 201, "{like:?}");
    let now = all.get("/v1/time").json()["now"].as_u64().expect("a time");
    let samples = json!({"samples": [{"at": now - 20, "received": now}]}).to_string();
    assert_eq!(frontend.post("/v1/received", samples).status, 204);
}

#[test]
fn panel_of_the_dashboard_empty() {
    // The two data centers must know each other's address before they start.
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let peer = format!("there=http://{elsewhere}");
    let all = Node::with(&["--dc", "here", "--peer", &peer, "--canary", "on", "--trace-sample", "1"]);
    let url = format!("http://{}", all.internal);
    let folder = tempfile::tempdir().expect("a folder");
    let database = format!("sqlite:{}", folder.path().join("there.db").display());
    let peer = format!("here={url}");
    let there = Node::run_on(
        support::node::program(),
        "all",
        &elsewhere.to_string(),
        &database,
        &["--dc", "there", "--peer", &peer, "--canary", "on"],
    );
    // It has to name a store, and asks its dispatcher instead.
    let flags = ["--cores", "2", "--dispatchers", &url, "--kv", "redis://127.0.0.1:1", "--canary", "on"];
    let frontend = Node::role("frontend", &flags);
    let ready = |node: &Node| Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    eventually("the frontend to be ready", || match ready(&frontend) {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    });
    let prometheus = Prometheus::start(&[&all, &frontend]);
    let viewer = frontend.stream("topic=live:1");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ends by itself, should the other thread fail.
            for round in 0..100_000 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                load(&all, &frontend, round);
            }
        });
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check_queries(&prometheus)));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = checked {
            std::panic::resume_unwind(panic);
        }
    });
    check_alerts(&prometheus, &[&all, &frontend]);
    drop((viewer, there));
}

#[test]
fn frontend_that_was_stopped_unseen() {
    let node = Node::start();
    let prometheus = Prometheus::start(&[&node]);
    let up = |wanted: f64| {
        eventually(&format!("up to be {wanted}"), || match prometheus.query("up")? {
            up if up == [wanted] => Ok(()),
            up => Err(format!("{up:?}")),
        });
    };
    up(1.0);
    node.signal(rustix::process::Signal::STOP);
    up(0.0);
    let pending = "ALERTS{alertname=\"FanfareNodeDown\",alertstate=\"pending\"}";
    eventually("the alert to wait for its minute", || match prometheus.query(pending)? {
        alerts if alerts == [1.0] => Ok(()),
        alerts => Err(format!("{alerts:?}")),
    });
    node.signal(rustix::process::Signal::CONT);
    up(1.0);
}

fn check_queries(prometheus: &Prometheus) {
    for (title, query) in dashboard() {
        if query.contains("process_open_fds") && process::open_files().is_none() {
            // Kernels before 6.2 do not say.
            continue;
        }
        eventually(&format!("{title:?} to show {query}"), || match prometheus.query(&query)?.len() {
            0 => Err("no data".to_owned()),
            _ => Ok(()),
        });
    }
    // It gives a node half a second to answer, which is little on a busy machine.
    eventually("Prometheus to have scraped both", || match prometheus.query("sum(up{job=\"fanfare\"})")? {
        up if up == [2.0] => Ok(()),
        up => Err(format!("{up:?}")),
    });
}

fn check_alerts(prometheus: &Prometheus, nodes: &[&Node]) {
    let text = |node: &Node| Client::connect(node.internal).request("GET", "/metrics", &[], b"").text();
    let exported: String = nodes.iter().map(|node| text(node)).collect();
    let answer: Value = serde_json::from_str(&prometheus.curl(&["/api/v1/rules"])).expect("it is JSON");
    let groups = answer["data"]["groups"].as_array().expect("groups");
    let rules: Vec<&Value> = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert!(rules.len() >= 12, "{answer}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
        assert_ne!(rule["state"], "firing", "nothing is wrong here: {rule}");
        for metric in metrics_of(rule["query"].as_str().expect("a query")) {
            let is_there = ["{", " "].iter().any(|next| exported.contains(&format!("\n{metric}{next}")));
            let may_miss = metric == "process_open_fds" && process::open_files().is_none();
            assert!(is_there || may_miss, "{} asks for {metric}, which is not exported", rule["name"]);
        }
    }
}
