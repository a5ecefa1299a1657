//! The proxies' configurations in `tuning/proxy`, as they are but for ports, files and sizes, in front of a running node:
//! with curl and a browser, by HTTP/2 over TLS.

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use fanfare::settings::IpNet;
use fanfare::wire::client_address::client_address;
use serde_json::{Value, json};
use support::nginx::{changed, here, nginx};
use support::node::Node;
use support::{DEADLINE, becomes, eventually};
use tempfile::TempDir;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Nginx,
    HaProxy,
}

/// A running proxy, killed when this is dropped.
struct Proxy {
    child: Child,
    port: u16,
    folder: TempDir,
}

/// A certificate that nobody signed, and its key.
fn certificate(folder: &Path) {
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=fanfare.example", "-addext", "subjectAltName=DNS:fanfare.example,IP:127.0.0.1"])
        .args(["-keyout", "fanfare.key", "-out", "fanfare.crt"])
        .current_dir(folder)
        .output()
        .expect("openssl; scripts/test installs it");
    assert!(output.status.success(), "{output:?}");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    fs::write(folder.join("fanfare.pem"), read("fanfare.crt") + &read("fanfare.key")).unwrap();
}

impl Proxy {
    fn start(kind: Kind, public: SocketAddr, internal: SocketAddr) -> Proxy {
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        // The port is free when it is chosen; should somebody take it before the proxy does, another is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let mut child = Proxy::launch(kind, folder.path(), port, public, internal);
            let started = eventually("the proxy to listen", || match child.try_wait().unwrap() {
                Some(status) => Ok(Err(status)),
                None => TcpStream::connect(("127.0.0.1", port)).map(|_| Ok(())).map_err(|error| error.to_string()),
            });
            match started {
                Ok(()) => return Proxy { child, port, folder },
                Err(status) => eprintln!("{kind:?} ended with {status}"),
            }
        }
        panic!("{kind:?} does not start; its errors are above");
    }

    fn launch(kind: Kind, folder: &Path, port: u16, public: SocketAddr, internal: SocketAddr) -> Child {
        let file = |name: &str| folder.join(name).display().to_string();
        let mut command = match kind {
            Kind::Nginx => {
                let changes = [
                    ("listen 443 ssl http2 backlog=65535;", format!("listen 127.0.0.1:{port} ssl http2;")),
                    ("server 127.0.0.1:8080;", format!("server {public};")),
                    ("/etc/ssl/certs/fanfare.pem", file("fanfare.pem")),
                    ("/etc/ssl/private/fanfare.key", file("fanfare.key")),
                    ("/var/log/nginx/fanfare.log", file("access.log")),
                ];
                nginx(folder, "nginx.conf", &changes)
            }
            Kind::HaProxy => {
                let changes = [
                    ("maxconn 500000", "maxconn 1000".to_owned()),
                    ("maxconn 490000", "maxconn 900".to_owned()),
                    ("bind :443", format!("bind 127.0.0.1:{port}")),
                    ("/etc/haproxy/fanfare.pem", file("fanfare.pem")),
                    (
                        "server one 127.0.0.1:8080 check port 8081",
                        format!("server one {public} check port {}", internal.port()),
                    ),
                    ("log /dev/log local0", "log stderr local0 warning".to_owned()),
                ];
                fs::write(folder.join("haproxy.cfg"), changed("haproxy.cfg", &changes)).unwrap();
                let mut command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(folder.join("haproxy.cfg"));
                command
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the proxy; scripts/test installs it")
    }

    fn before(kind: Kind, node: &Node) -> Proxy {
        let proxy = Proxy::start(kind, node.public, node.internal);
        // HAProxy knows a server only once it has checked it.
        eventually("an answer by the proxy", || {
            let answer = proxy.curl(&["-o", "/dev/null", "-w", "%{http_code}"], "/v1/time");
            let code = String::from_utf8_lossy(&answer.stdout).into_owned();
            if code == "200" { Ok(()) } else { Err(code) }
        });
        proxy
    }

    fn url(&self, target: &str) -> String {
        format!("https://127.0.0.1:{}{target}", self.port)
    }

    fn curl_command(&self, arguments: &[&str], target: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["--http2", "-k", "-s", "-S", "-N", "--max-time", "60"]).args(arguments).arg(self.url(target));
        command.stdin(Stdio::null());
        command
    }

    fn curl(&self, arguments: &[&str], target: &str) -> Output {
        self.curl_command(arguments, target).output().expect("curl; scripts/test installs it")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx ends its workers on SIGTERM; killed, it would leave them behind.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A stream that curl follows.
struct Followed {
    curl: Child,
    lines: mpsc::Receiver<String>,
}

impl Followed {
    fn open(proxy: &Proxy, target: &str) -> Followed {
        let mut curl = proxy.curl_command(&["-i"], target).stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(curl.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Followed { curl, lines }
    }

    /// The next line that begins so, without that.
    #[track_caller]
    fn next(&self, prefix: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|error| panic!("no line {prefix:?}: {error}"));
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.trim().to_owned();
            }
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

fn streams_arrive_event_by_event(kind: Kind) {
    let node = Node::with(&["--cores", "2", "--trusted-proxy", "127.0.0.1"]);
    let proxy = Proxy::before(kind, &node);
    let followed = Followed::open(&proxy, "/v1/events?topic=live:42");
    assert_eq!(followed.next("HTTP/2 "), "200");
    assert_eq!(followed.next("content-type: "), "text/event-stream; charset=utf-8");
    assert_eq!(followed.next("event: "), "connected");
    for number in 0..10 {
        // Only once the last one is here is the next one sent, so a buffer that waits to be full would end the test.
        node.publish("live:42", &json!({"type": "news", "data": {"number": number}}));
        let event = loop {
            let event: Value = serde_json::from_str(&followed.next("data: ")).unwrap();
            if event["type"] == "news" {
                break event;
            }
        };
        assert_eq!(event["data"]["number"], number);
    }
    // A viewer that leaves the proxy leaves the node.
    drop(followed);
    becomes("connections, after curl left", 0, || node.counts()[0]);
}

fn posts_work(kind: Kind) {
    let node = Node::start();
    let proxy = Proxy::before(kind, &node);
    let like = |member: &str| {
        let body = support::reaction(member, "like");
        let output = proxy.curl(&["-d", &body, "-w", " %{http_code} %{http_version}"], "/v1/videos/42/likes");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(like("ana"), r#"{"likes":1} 201 2"#);
    assert_eq!(like("bo"), r#"{"likes":2} 201 2"#);
    assert_eq!(like("bo"), r#"{"likes":2} 200 2"#);
    // A body of some megabytes, past what proxies take unless they are told.
    let line = json!({"topic": "live:42", "type": "news", "data": "x".repeat(1000)}).to_string() + "\n";
    let body = proxy.folder.path().join("body");
    fs::write(&body, line.repeat(3000)).unwrap();
    let data = format!("@{}", body.display());
    let output = proxy.curl(&["--data-binary", &data, "-H", "Content-Type: application/x-ndjson"], "/v1/events");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&3000.into(), &0.into()));
    // As many topics as a stream may have, with long names: a head of 21 KiB.
    let topics: Vec<String> = (0..100).map(|number| format!("topic=live:{number:0>195}")).collect();
    let followed = Followed::open(&proxy, &format!("/v1/events?{}", topics.join("&")));
    assert_eq!(followed.next("event: "), "connected");
    // Errors are the node's own, not the proxy's.
    let output = proxy.curl(&["-d", "{", "-w", "%{http_code}"], "/v1/videos/42/likes");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("\"detail\"") && text.ends_with("400"), "{text}");
}

/// A server that answers every request with its head.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", head.len());
    let _ = stream.write_all(&head);
}

fn the_viewers_address_is_passed_on(kind: Kind) {
    let server = echo();
    let proxy = Proxy::start(kind, server, server);
    let forged = ["-H", "X-Forwarded-For: 198.51.100.66, 10.0.0.9"];
    let head = eventually("an answer by the proxy", || {
        let output = proxy.curl(&[&forged[..], &["-f"]].concat(), "/v1/events");
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.success() { Ok(text) } else { Err(text) }
    });
    let header = |name: &str| -> Vec<&str> {
        let named =
            head.lines().filter_map(|line| line.split_once(':').filter(|(other, _)| other.eq_ignore_ascii_case(name)));
        named.map(|(_, value)| value.trim()).collect()
    };
    // The proxy's box has 10.0.0.1, as far as the node can tell.
    let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
    let client = client_address([10, 0, 0, 1].into(), header("X-Forwarded-For").into_iter(), &trusted);
    assert_eq!(client.to_string(), "127.0.0.1", "and not what the client made up: {head}");
    assert_eq!(header("X-Forwarded-Proto"), ["https"], "{head}");
    assert_eq!(header("Host"), [format!("127.0.0.1:{}", proxy.port)], "{head}");
}

fn a_browser_follows_many_streams(kind: Kind) {
    assert!(here("tests/browser/node_modules/playwright-core").exists(), "scripts/test installs it");
    let node = Node::with(&["--cores", "2", "--trusted-proxy", "127.0.0.1"]);
    let proxy = Proxy::before(kind, &node);
    let output = Command::new("node")
        .arg("behind_proxy.mjs")
        .arg(proxy.url(""))
        .current_dir(here("tests/browser"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("20 streams on one connection"), "{output:?}");
}

macro_rules! for_each_proxy {
    ($($name:ident)*) => {
        mod nginx {
            $(#[test] fn $name() { super::$name(super::Kind::Nginx) })*
        }
        mod haproxy {
            $(#[test] fn $name() { super::$name(super::Kind::HaProxy) })*
        }
    };
}

for_each_proxy! {
    streams_arrive_event_by_event
    posts_work
    the_viewers_address_is_passed_on
    a_browser_follows_many_streams
}
