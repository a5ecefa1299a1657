//! The listener that speaks TLS. Each test is named after what it prevents.

use crate::support;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::node::program;
use support::tls::{Secured, Tls, Viewer, put};
use support::{becomes, eventually};

/// Runs a program of others with these words and this input.
fn run(name: &str, words: &[&str], input: &str) -> Output {
    let mut child = Command::new(name)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    // Who refuses may be gone.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// `openssl s_client` against a node, with one request; all that it says.
fn s_client(secured: &Secured, words: &[&str], input: &str) -> String {
    let address = secured.address.to_string();
    let certificate = secured.certificate("a.example");
    let always = ["s_client", "-connect", &address, "-CAfile", certificate.to_str().unwrap()];
    let output = run("openssl", &[&always[..], words].concat(), input);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

const ASK: &str = "GET /v1/time HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// A client that takes little at once.
fn slow_socket(secured: &Secured) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&secured.address.into()).unwrap();
    socket.into()
}

fn handshakes(secured: &Secured, result: &str) -> u64 {
    secured.node.metric("fanfare_tls_handshakes_total", &format!("result=\"{result}\""))
}

#[test]
fn client_of_some_kind_gets_no_answer() {
    let secured = Secured::start(&["a.example"], &[]);
    let url = format!("https://a.example:{}/v1/time", secured.address.port());
    let resolve = format!("a.example:{}:127.0.0.1", secured.address.port());
    let certificate = secured.certificate("a.example");
    let trusted = certificate.to_str().unwrap();
    for version in ["1.2", "1.3"] {
        let flag = format!("--tlsv{version}");
        let words = ["-sS", "--cacert", trusted, "--resolve", &resolve, &flag, "--tls-max", version, &url];
        let output = run("curl", &words, "");
        assert!(output.status.success() && output.stdout.starts_with(b"{\"now\":"), "{version}: {output:?}");
        let flag = format!("-tls{}", version.replace('.', "_"));
        let said = s_client(&secured, &[&flag, "-servername", "a.example", "-alpn", "h2,http/1.1", "-ign_eof"], ASK);
        for part in
            [&*format!("Protocol  : TLSv{version}"), "ALPN protocol: http/1.1", "{\"now\":", "Verify return code: 0"]
        {
            // What OpenSSL 3 says of TLS 1.3 stands in another place.
            assert!(said.contains(part) || said.contains(&format!("New, TLSv{version}")), "{part} in {said}");
        }
        assert!(said.contains("{\"now\":") && said.contains("ALPN protocol: http/1.1"), "{said}");
    }
    let script = "import ssl, sys, urllib.request\n\
                  context = ssl.create_default_context(cafile=sys.argv[1])\n\
                  context.check_hostname = False\n\
                  print(urllib.request.urlopen(sys.argv[2], context=context).read().decode())";
    let url = format!("https://{}/v1/time", secured.address);
    let output = run("python3", &["-c", script, trusted, &url], "");
    assert!(output.stdout.starts_with(b"{\"now\":"), "{output:?}");
}

#[test]
fn old_versions_renegotiation_or_another_protocol_are_taken() {
    let secured = Secured::start(&["a.example"], &[]);
    let old = s_client(&secured, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"], "");
    assert!(old.contains("SSL alert number") && old.contains("New, (NONE)"), "{old}");
    let again = s_client(&secured, &["-tls1_2"], "R\n");
    assert!(again.contains("RENEGOTIATING") && again.contains("no renegotiation"), "{again}");
    let other = s_client(&secured, &["-alpn", "h2"], "");
    assert!(other.contains("no application protocol"), "{other}");
    let compressed = s_client(&secured, &["-tls1_2", "-ign_eof"], ASK);
    assert!(
        compressed.contains("Compression: NONE") && compressed.contains("Secure Renegotiation IS supported"),
        "{compressed}"
    );
    becomes("handshakes that failed", 2, || handshakes(&secured, "failed"));
}

#[test]
fn who_comes_back_shakes_hands_in_full_or_only_on_the_same_core() {
    let secured = Secured::start(&["a.example"], &["--cores", "2"]);
    for version in ["-tls1_2", "-tls1_3"] {
        let ticket = secured.folder.path().join(version);
        let path = ticket.to_str().unwrap();
        let before = handshakes(&secured, "resumed");
        s_client(&secured, &[version, "-ign_eof", "-sess_out", path], ASK);
        // By both cores, as the kernel spreads them.
        for _ in 0..8 {
            let said = s_client(&secured, &[version, "-ign_eof", "-sess_in", path], ASK);
            assert!(said.contains("Reused, TLS") && said.contains("{\"now\":"), "{said}");
        }
        becomes("handshakes by ticket", before + 8, || handshakes(&secured, "resumed"));
    }
}

#[test]
fn keys_changed_by_a_client_break_its_connection() {
    let secured = Secured::start(&["a.example"], &["--idle-timeout", "2s"]);
    let answer = s_client(&secured, &["-tls1_3"], "k\nK\n");
    assert!(answer.contains("KEYUPDATE"), "{answer}");
    let mut tls = secured.connect("a.example").unwrap();
    for _ in 0..20 {
        tls.0.conn.refresh_traffic_keys().unwrap();
        tls.0.write_all(b"GET /v1/time HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut head = [0; 15];
        tls.0.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200 OK");
        let mut rest = [0; 16 * 1024];
        while !rest.windows(7).any(|part| part == b"{\"now\":") {
            let _ = tls.0.read(&mut rest).unwrap();
        }
    }
}

#[test]
fn everybody_is_shown_the_same_certificate() {
    let secured = Secured::start(&["a.example", "b.example"], &[]);
    for name in ["a.example", "b.example"] {
        assert!(secured.connect(name).is_ok(), "{name}");
    }
    // Who asks for no name, or for one that nobody has, gets the first.
    for words in [&["-noservername"][..], &["-servername", "c.example"]] {
        let said = s_client(&secured, words, "");
        assert!(said.contains("Verify return code: 0 (ok)") || said.contains("verify return:1"), "{said}");
        assert!(!said.contains("verify error"), "{said}");
    }
}

#[test]
fn renewed_certificate_waits_for_a_restart_or_a_bad_one_is_taken() {
    let secured = Secured::start(&["a.example"], &[]);
    let mut old = secured.view("topic=live:1");
    let said = |what: &str| secured.node.log().iter().filter(|line| line.contains(what)).count();
    let before = secured.config("a.example");
    let metrics = support::http::Client::connect(secured.node.internal).request("GET", "/metrics", &[], b"").text();
    let days = metrics.lines().find_map(|line| line.strip_prefix("fanfare_tls_certificate_days_left "));
    assert!(days.unwrap().parse::<u64>().unwrap() > 1000);
    std::fs::write(secured.certificate("a.example"), "no PEM").unwrap();
    eventually("the bad file to be told of", || (said("certificates stay as they were") > 0).then_some(()).ok_or(()));
    let socket = || TcpStream::connect(secured.address).unwrap();
    assert!(Tls::connect(socket(), &before, "a.example").is_ok());
    put(secured.folder.path(), "a.example");
    eventually("the new certificate", || secured.connect("a.example").map(drop));
    assert!(Tls::connect(socket(), &before, "a.example").is_err());
    assert!(said("certificates changed") > 0);
    // Those that watch go on.
    secured.node.publish("live:1", &json!({"type": "like", "data": {}}));
    assert_eq!(old.event()["type"], "like");
}

#[test]
fn half_a_handshake_is_kept_for_ever() {
    let secured = Secured::start(&["a.example"], &[]);
    let mut sockets: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(secured.address).unwrap()).collect();
    // A head of a record, and some of what it says that follows.
    sockets[1].write_all(&[22, 3, 1, 1, 0, 1, 0]).unwrap();
    becomes("half-done handshakes", 4, || secured.node.metric("fanfare_tls_handshaking", ""));
    sockets[2].write_all(b"\x80\x2e\x01\x00\x02").unwrap();
    sockets[3].write_all(&[22, 3, 1, 0xff, 0xff, 1]).unwrap();
    for socket in &mut sockets {
        socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
        let mut said = Vec::new();
        // Those that broke a rule get an alert.
        let _ = socket.read_to_end(&mut said);
        assert!(said.len() <= 7, "{said:?}");
    }
    becomes("handshakes that were late", 2, || handshakes(&secured, "late"));
    assert_eq!(handshakes(&secured, "failed"), 2);
    assert_eq!(secured.node.metric("fanfare_tls_handshaking", ""), 0);
}

#[test]
fn half_done_handshakes_have_no_bound() {
    const MOST: usize = 2048;
    let secured = Secured::start(&["a.example"], &["--cores", "1"]);
    let sockets: Vec<TcpStream> = (0..MOST + 50).map(|_| TcpStream::connect(secured.address).unwrap()).collect();
    becomes("those that made room", 50, || handshakes(&secured, "displaced"));
    // Told once a tick.
    becomes("half-done handshakes", MOST as u64, || secured.node.metric("fanfare_tls_handshaking", ""));
    assert!(secured.get("/v1/time").contains("{\"now\":"));
    drop(sockets);
}

#[test]
fn records_of_nonsense_before_a_handshake_end_the_node() {
    let secured = Secured::start(&["a.example"], &["--cores", "1"]);
    let records: [&[u8]; 5] = [
        b"\x16\x03\x01\x00\x08\0\0\0\0\0\0\0\0",
        b"\x16\x03\x03\x00\x04\0\0\0\0\x16\x03\x03\x00\x04\0\0\0\0",
        b"\x14\0\0\0\0\0\0\0",
        b"\x15\x03\x03\x00\x04\x02\x00\x02\x00",
        b"\x17\x03\x03\x00\x08\0\0\0\0\0\0\0\0",
    ];
    for record in records {
        let mut socket = TcpStream::connect(secured.address).unwrap();
        socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
        socket.write_all(record).unwrap();
        // An alert or none, and the end, be it a hard one.
        let ended = socket.read_to_end(&mut Vec::new());
        let ended = ended.map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, |_| true);
        assert!(ended, "{record:?}");
        assert!(secured.get("/v1/time").contains("{\"now\":"), "{record:?}");
    }
    assert_eq!(handshakes(&secured, "failed"), records.len() as u64);
}

#[test]
fn http_without_tls_is_cut_without_a_word() {
    let secured = Secured::start(&["a.example"], &[]);
    let mut socket = TcpStream::connect(secured.address).unwrap();
    socket.write_all(b"GET /v1/time HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    let mut said = String::new();
    socket.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("HTTP/1.1 400 ") && said.contains("this port speaks TLS"), "{said}");
    assert_eq!(handshakes(&secured, "plain"), 1);
}

#[test]
fn stream_by_tls_misses_events_or_its_end() {
    let secured = Secured::start(&["a.example"], &["--cores", "2"]);
    let mut viewers: Vec<Viewer> = (0..40).map(|_| secured.view("topic=live:1&topic=chat:2")).collect();
    for number in 0..50 {
        let topic = ["live:1", "chat:2"][number % 2];
        secured.node.publish(topic, &json!({"type": "comment", "data": {"member": "ana", "text": number}}));
    }
    for viewer in &mut viewers {
        let texts: Vec<Value> = (0..50).map(|_| viewer.event()["data"]["text"].clone()).collect();
        assert_eq!(texts.len(), 50);
        for topic in 0..2u64 {
            let of: Vec<u64> = texts.iter().filter_map(Value::as_u64).filter(|text| text % 2 == topic).collect();
            assert!(of.len() == 25 && of.is_sorted(), "{of:?}");
        }
    }
    secured.node.signal(Signal::TERM);
    for viewer in &mut viewers {
        assert_eq!(viewer.next().unwrap().name, "bye");
        // The body's end, and that of TLS.
        assert!(viewer.next().is_none());
        let mut rest = Vec::new();
        assert_eq!(viewer.tls.0.read_to_end(&mut rest).unwrap(), 0);
    }
}

#[test]
fn broadcast_to_many_by_tls_loses_or_spoils_some() {
    let secured = Secured::start(&["a.example"], &["--cores", "1"]);
    let mut viewers: Vec<Viewer> = (0..200).map(|_| secured.view("topic=chat:1")).collect();
    // Large enough for what goes by `sendfile` to viewers without TLS.
    let text = "x".repeat(15_000);
    for number in 0..10 {
        secured.node.publish("chat:1", &json!({"type": "message", "data": {"text": format!("{number}{text}")}}));
    }
    for viewer in &mut viewers {
        for number in 0..10 {
            assert_eq!(viewer.event()["data"]["text"], format!("{number}{text}"));
        }
    }
}

#[test]
fn slow_reader_by_tls_gets_broken_records_or_wrong_counts() {
    const LIKES: usize = 20_000;
    let secured = Secured::start(&["a.example"], &["--cores", "1"]);
    let slow = || {
        let tls = Tls::connect(slow_socket(&secured), &secured.config("a.example"), "a.example").unwrap();
        Viewer::open(tls, "topic=fast:1&topic=big:1")
    };
    let mut viewers: Vec<Viewer> = (0..3).map(|_| slow()).collect();
    let big = "x".repeat(4000);
    for start in (0..LIKES).step_by(2000) {
        let line = |number| {
            let like = json!({"topic": "fast:1", "type": "like", "key": format!("k{}", number % 7), "data": {}});
            let value = json!({"topic": "big:1", "type": "receipt", "key": format!("r{}", number % 40), "data": format!("{number}{big}")});
            if number % 20 == 0 { format!("{like}\n{value}\n") } else { format!("{like}\n") }
        };
        let lines: String = (start..start + 2000).map(line).collect();
        let mut inside = support::http::Client::connect(secured.node.internal);
        assert_eq!(inside.request("POST", "/v1/events", &[], lines.as_bytes()).json()["rejected_total"], 0);
    }
    becomes("streams that lag", 3, || secured.node.metric("fanfare_connections", "kind=\"lagging\""));
    for viewer in &mut viewers {
        let mut sums: HashMap<String, u64> = HashMap::new();
        while sums.values().sum::<u64>() < LIKES as u64 {
            let event = viewer.event();
            if event["type"] == "like" {
                *sums.entry(event["key"].as_str().unwrap().to_owned()).or_default() += event["count"].as_u64().unwrap();
            }
        }
        assert_eq!(sums.values().sum::<u64>(), LIKES as u64);
    }
    let lagging = || secured.node.metric("fanfare_connections", "kind=\"lagging\"");
    eventually("nobody to lag", || {
        // What is left of the receipts is read as well.
        for viewer in &mut viewers {
            viewer.tls.0.sock.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            let mut rest = [0; 64 * 1024];
            while viewer.tls.0.read(&mut rest).is_ok() {}
        }
        (lagging() == 0).then_some(()).ok_or_else(lagging)
    });
    becomes("what waits", 0, || secured.node.metric("fanfare_memory_bytes", "use=\"requests\""));
}

#[test]
fn large_bodies_and_answers_by_tls_are_cut() {
    let secured = Secured::start(&["a.example"], &[]);
    let text = "y".repeat(9000);
    let line = |number: usize| {
        format!("{}\n", json!({"topic": "chat:1", "type": "message", "data": format!("{number}{text}")}))
    };
    let body: String = (0..400).map(line).collect();
    assert!(body.len() > 3_000_000);
    let answer = secured.connect("a.example").unwrap().last("POST", "/v1/events", body.as_bytes());
    assert!(answer.contains("\"accepted\":400"), "{answer}");
    // Its client says that it sends no more, and takes its answer late: that comes whole, with a proper end.
    for number in 0..100 {
        let comment = json!({"member": "ana", "text": format!("{number}{}", "z".repeat(1200))});
        assert_eq!(secured.node.post("/v1/videos/1/comments", comment.to_string()).status, 201);
    }
    let mut tls = Tls::connect(slow_socket(&secured), &secured.config("a.example"), "a.example").unwrap();
    tls.0.write_all(b"GET /v1/videos/1/comments?limit=100 HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    tls.0.conn.send_close_notify();
    tls.0.flush().unwrap();
    let mut answer = String::new();
    tls.0.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.len() > 100_000, "{} of {answer:.200}", answer.len());
}

#[test]
fn certificate_that_will_not_do_is_found_by_viewers() {
    let folder = tempfile::tempdir().unwrap();
    let [certificate, key] = put(folder.path(), "a.example");
    let [_, other] = put(folder.path(), "b.example");
    let expired = folder.path().join("expired.pem");
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    std::fs::write(&expired, params.self_signed(&pair).unwrap().pem()).unwrap();
    let database = format!("sqlite:{}", folder.path().join("f.db").display());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (certificate, key, other, expired) = (text(&certificate), text(&key), text(&other), text(&expired));
    let cases = [
        (vec![], "--tls-cert", "needs it"),
        (vec!["--tls-cert", &certificate], "--tls-key", "names 1"),
        (vec!["--tls-key", &key], "--tls-cert", "names 1"),
        (vec!["--tls-cert", "/nowhere", "--tls-key", &key], "--tls-cert", "/nowhere"),
        (vec!["--tls-cert", &key, "--tls-key", &key], "--tls-cert", "no certificate"),
        (vec!["--tls-cert", &certificate, "--tls-key", &certificate], "--tls-cert", "no private key"),
        (vec!["--tls-cert", &certificate, "--tls-key", &other], "--tls-key", "not the key of"),
        (vec!["--tls-cert", &expired, "--tls-key", &key], "--tls-cert", "expired on Wed, 01 Jan 2020"),
    ];
    for (flags, setting, says) in cases {
        for command in ["all", "check"] {
            let always = [
                command,
                "--tls-listen",
                "127.0.0.1:0",
                "--listen",
                "127.0.0.1:0",
                "--internal",
                "127.0.0.1:0",
                "--db",
                &database,
            ];
            let output = program().args(always).args(&flags).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.code() == Some(2) && said.contains(setting) && said.contains(says),
                "{flags:?}: {said}"
            );
        }
    }
    let output = program().args(["all", "--tls-cert", &certificate, "--tls-key", &key]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("--tls-listen"), "{output:?}");
}

#[test]
fn idle_viewer_by_tls_holds_buffers() {
    // So many that what the node itself takes meanwhile weighs little.
    const VIEWERS: u64 = 2_000;
    let secured = Secured::start(&["a.example"], &["--cores", "1"]);
    let warm: Vec<Viewer> = (0..50).map(|_| secured.view("topic=live:1")).collect();
    let before = secured.node.rss_kib();
    let viewers: Vec<Viewer> = (0..VIEWERS).map(|_| secured.view("topic=live:1")).collect();
    becomes("streams", VIEWERS + warm.len() as u64, || secured.node.metric("fanfare_connections", "kind=\"stream\""));
    let each = || (secured.node.rss_kib().saturating_sub(before)) as f64 / VIEWERS as f64;
    eventually("a viewer to cost at most 4 KiB", || (each() <= 4.0).then_some(()).ok_or_else(each));
    println!("{} KiB a viewer", each());
    drop(viewers);
}

#[test]
fn own_commands_do_not_speak_tls() {
    let secured = Secured::start(&["localhost"], &["--cores", "2"]);
    let url = format!("https://localhost:{}", secured.address.port());
    let run = |authority: &Path, words: &[&str]| {
        let output = program().args(words).args(["--url", &url]).env("SSL_CERT_FILE", authority).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), told)
    };
    let trusted = secured.certificate("localhost");
    let viewer = program()
        .args(["subscribe", "live:1", "--url", &url])
        .env("SSL_CERT_FILE", &trusted)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    becomes("streams", 1, || secured.node.metric("fanfare_connections", "kind=\"stream\""));
    let (code, ..) = run(&trusted, &["publish", "live:1", "comment", r#"{"text":"hello"}"#]);
    assert_eq!(code, Some(0));
    let mut viewer = Ended(viewer);
    let mut line = String::new();
    while !line.contains("hello") {
        line.clear();
        assert_ne!(BufReader::new(viewer.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap(), 0);
    }
    // The load generator: viewers and publishers, first in full, then coming back with what they were given.
    let bench = |words: &[&str]| {
        let (code, report, told) = run(&trusted, &[&["bench"], words, &["--json"]].concat());
        assert_eq!(code, Some(0), "{report} {told}");
        serde_json::from_str::<Value>(&report).unwrap()
    };
    let broadcast = bench(&["broadcast", "-c", "30", "-r", "200", "-d", "1", "--warmup", "0", "--processes", "2"]);
    assert_eq!(broadcast["received"], json!(30 * 200), "{broadcast}");
    let full = handshakes(&secured, "full");
    bench(&["connect", "-c", "40", "--rounds", "2", "--full-handshakes"]);
    assert_eq!(handshakes(&secured, "full"), full + 80);
    bench(&["reconnect", "-c", "40", "-r", "50", "-d", "1", "--warmup", "0", "--window", "4", "--threads", "1"]);
    assert!(handshakes(&secured, "resumed") >= 40, "{}", handshakes(&secured, "resumed"));
    // Who is not trusted is named, and nothing is sent.
    let other = put(secured.folder.path(), "other.example");
    let (code, _, told) = run(&other[0], &["publish", "live:1", "comment", "{}"]);
    assert!(code == Some(1) && told.contains("certificate"), "{code:?} {told}");
    let (code, _, told) = run(&other[0], &["bench", "connect", "-c", "3"]);
    assert!(code == Some(1) && told.contains("certificate"), "{code:?} {told}");
}

/// A child that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
