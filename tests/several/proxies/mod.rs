//! Proxies in front of a running node, by curl and by browsers, over HTTP/1.1 and HTTP/2: with the configurations of
//! `tuning/proxy`, as they are but for ports, files and sizes, and without any.

mod away;
mod setup;

use crate::support;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use fanfare::settings::IpNet;
use fanfare::wire::client_address::client_address;
use serde_json::json;
use setup::{Config, Followed, Http, Kind, Proxy};
use support::nginx::here;
use support::node::Node;
use support::{becomes, eventually};

/// Less than what a kernel waits with a small piece for more of it, and a multiple of what an event takes.
const AT_ONCE: Duration = Duration::from_millis(150);
const EVENTS: u32 = 20;

/// Only once an event is here is the next one sent, so a buffer that waits to be full would end the test.
fn events_arrive(node: &Node, followed: &Followed) {
    let mut soonest = Duration::MAX;
    for number in 0..EVENTS {
        let sent = Instant::now();
        node.publish("live:42", &json!({"type": "news", "data": {"number": number}}));
        assert_eq!(followed.event("news")["data"]["number"], number);
        soonest = soonest.min(sent.elapsed());
    }
    // A machine may be slow now and then; who waits for more to send waits each time.
    assert!(soonest < AT_ONCE, "the soonest of {EVENTS} events took {soonest:?}");
}

fn streams_arrive_event_by_event(kind: Kind) {
    let node = Node::with(&["--cores", "2", "--trusted-proxy", "127.0.0.1"]);
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    for &http in kind.versions() {
        let followed = Followed::open(&proxy, http, &[], "/v1/events?topic=live:42");
        let (version, type_name) = match http {
            Http::One => ("HTTP/1.1 ", "Content-Type: "),
            Http::Two => ("HTTP/2 ", "content-type: "),
        };
        assert_eq!(&followed.next(version)[..3], "200");
        // HAProxy writes names in small letters in HTTP/1.1, too.
        let type_name = if matches!(kind, Kind::HaProxy | Kind::HaProxyPlain) { "content-type: " } else { type_name };
        assert_eq!(followed.next(type_name), "text/event-stream; charset=utf-8");
        assert_eq!(followed.next("event: "), "connected");
        events_arrive(&node, &followed);
    }
}

/// A viewer that leaves the proxy leaves the node.
fn leaving_is_noticed(kind: Kind) {
    // Comment lines that a proxy needs to see that a viewer has left.
    let comments = match kind {
        Kind::Lighttpd => 1,
        Kind::Apache => 2,
        _ => 0,
    };
    let node = Node::with(&["--cores", "2", "--trusted-proxy", "127.0.0.1"]);
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    let open = |&http: &Http| {
        let followed = Followed::open(&proxy, http, &[], "/v1/events?topic=chat:42");
        assert_eq!(followed.next("event: "), "connected");
        followed
    };
    let left: Vec<Followed> = kind.versions().iter().map(open).collect();
    let stay: Vec<Followed> = kind.versions().iter().map(open).collect();
    let stays = stay.len() as u64;
    becomes("connections", 2 * stays, || node.counts()[0]);
    drop(left);
    // Those who stay tell the time, by the comment line that comes to all in silence.
    for _ in 0..comments {
        stay.iter().for_each(|stays| _ = stays.next(":"));
    }
    becomes("connections, after half of them left", stays, || node.counts()[0]);
    if comments == 0 {
        assert!(!stay.iter().any(|stays| stays.has(":")), "it took a comment line to notice");
    }
}

fn a_stream_is_resumed(kind: Kind) {
    let node = Node::start();
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    let followed = Followed::open(&proxy, kind.versions()[0], &[], "/v1/events?topic=live:42");
    assert_eq!(followed.next("event: "), "connected");
    node.publish("live:42", &json!({"type": "comment", "data": "first"}));
    assert_eq!(followed.event("comment")["data"], "first");
    // Its place stands in the same block; what came before it has another one, if any.
    let comment = followed.id();
    drop(followed);
    node.publish("live:42", &json!({"type": "comment", "data": "missed"}));
    for &http in kind.versions() {
        let header = format!("Last-Event-ID: {comment}");
        let followed = Followed::open(&proxy, http, &["-H", &header], "/v1/events?topic=live:42");
        while followed.event("comment")["data"] != "missed" {}
    }
}

fn posts_work(kind: Kind) {
    let node = Node::start();
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    let like = |member: &str| {
        let body = support::reaction(member, "like");
        let output = proxy.curl(&["-d", &body, "-w", " %{http_code}"], "/v1/videos/42/likes");
        String::from_utf8(output.stdout).unwrap()
    };
    // What is asked again is what is there now.
    let likes = || proxy.json(&[], "/v1/videos/42/likes")["likes"].clone();
    assert_eq!((like("ana").as_str(), likes()), (r#"{"likes":1} 201"#, 1.into()));
    assert_eq!((like("bo").as_str(), likes()), (r#"{"likes":2} 201"#, 2.into()));
    assert_eq!((like("bo").as_str(), likes()), (r#"{"likes":2} 200"#, 2.into()));
    // A body of some megabytes, past what proxies take unless they are told.
    let line = json!({"topic": "live:42", "type": "news", "data": "x".repeat(1000)}).to_string() + "\n";
    let body = proxy.folder.path().join("body");
    fs::write(&body, line.repeat(3000)).unwrap();
    let data = format!("@{}", body.display());
    let answer = proxy.json(&["--data-binary", &data, "-H", "Content-Type: application/x-ndjson"], "/v1/events");
    assert_eq!((&answer["accepted"], &answer["rejected_total"]), (&3000.into(), &0.into()));
    let http = *kind.versions().last().unwrap();
    // As many topics as a stream may have, with long names: a head of 21 KiB.
    let topics: Vec<String> = (0..100).map(|number| format!("topic=live:{number:0>195}")).collect();
    let followed = Followed::open(&proxy, http, &[], &format!("/v1/events?{}", topics.join("&")));
    assert_eq!(followed.next("event: "), "connected");
    // A video whose name has all that a path may hold by escapes.
    let name = "a%2Fb%20c%C3%A9";
    let followed = Followed::open(&proxy, http, &[], &format!("/v1/events?topic=live:{}", name.replace('%', "%25")));
    assert_eq!(followed.next("event: "), "connected");
    proxy.json(&["-d", &support::reaction("ana", "like")], &format!("/v1/videos/{name}/likes"));
    assert_eq!(followed.event("like")["topic"], format!("live:{name}"));
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
    let proxy = Proxy::start(kind, Config::Shipped, server, server);
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
    // Varnish does not know; who speaks TLS before it says so.
    let scheme: &[&str] = if kind == Kind::Varnish { &[] } else { &["https"] };
    assert_eq!(header("X-Forwarded-Proto"), scheme, "{head}");
    assert_eq!(header("Host"), [format!("127.0.0.1:{}", proxy.port())], "{head}");
}

fn a_browser_follows_many_streams(kind: Kind) {
    assert!(here("tests/browser/node_modules/playwright-core").exists(), "scripts/test installs it");
    let node = Node::with(&["--cores", "2", "--trusted-proxy", "127.0.0.1"]);
    let proxy = Proxy::before(kind, Config::Shipped, &node);
    let output = Command::new("node")
        .arg("behind_proxy.mjs")
        .arg(proxy.url(""))
        .current_dir(here("tests/browser"))
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("20 streams on one connection"), "{output:?}");
}

/// Every 20 s of silence there is a comment line, which resets the timeouts on the way; they are of a minute, as most proxies
/// have them by default.
#[test]
fn quiet_streams_outlast_the_timeouts() {
    let node = Node::start();
    let shipped = ALL.iter().map(|&kind| (kind, Config::Shipped));
    let bare =
        ALL.iter().filter(|&&kind| kind != Kind::NginxTwice && passes_bare(kind)).map(|&kind| (kind, Config::Bare));
    let proxies: Vec<(Kind, Config, Proxy)> =
        shipped.chain(bare).map(|(kind, config)| (kind, config, Proxy::before(kind, config, &node))).collect();
    let mut streams = Vec::new();
    for (kind, config, proxy) in &proxies {
        let versions = if *config == Config::Bare { &[Http::One][..] } else { kind.versions() };
        for &http in versions {
            let followed = Followed::open(proxy, http, &[], "/v1/events?topic=live:42");
            assert_eq!(followed.next("event: "), "connected", "{kind:?} {config:?}");
            streams.push((kind, config, http, followed));
        }
    }
    // 80 s at least.
    for _ in 0..4 {
        for (kind, config, http, followed) in &streams {
            // Shown should this fail.
            eprintln!("a comment line by {kind:?}, {config:?}, {http:?}");
            followed.next(":");
        }
    }
    node.publish("live:42", &json!({"type": "news"}));
    for (.., followed) in &streams {
        followed.event("news");
    }
}

/// Whether events come through it as it comes.
fn passes_bare(kind: Kind) -> bool {
    kind != Kind::Lighttpd
}

fn as_it_comes(kind: Kind) {
    let node = Node::start();
    let proxy = Proxy::before(kind, Config::Bare, &node);
    let followed = Followed::open(&proxy, Http::One, &[], "/v1/events?topic=live:42");
    assert_eq!(followed.next("event: "), "connected");
    for number in 0..EVENTS {
        node.publish("live:42", &json!({"type": "news", "data": {"number": number}}));
        assert_eq!(followed.event("news")["data"]["number"], number);
    }
}

const ALL: [Kind; 7] =
    [Kind::Nginx, Kind::NginxTwice, Kind::HaProxy, Kind::Caddy, Kind::Apache, Kind::Varnish, Kind::Lighttpd];

macro_rules! proxies {
    ($($name:ident $kind:ident: $($test:ident)*;)*) => {
        $(mod $name {
            $(#[test] fn $test() { super::$test(super::Kind::$kind) })*
        })*
    };
}

proxies! {
    nginx Nginx: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on a_browser_follows_many_streams as_it_comes;
    nginx_before_nginx NginxTwice: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed;
    haproxy HaProxy: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on a_browser_follows_many_streams as_it_comes;
    haproxy_without_tls HaProxyPlain: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed;
    caddy Caddy: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on a_browser_follows_many_streams as_it_comes;
    apache Apache: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on a_browser_follows_many_streams as_it_comes;
    varnish Varnish: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on as_it_comes;
    lighttpd Lighttpd: streams_arrive_event_by_event leaving_is_noticed a_stream_is_resumed posts_work
        the_viewers_address_is_passed_on;
}
