//! Tokens from elsewhere: whose, for whom, for how long, and keys that an issuer serves. Each test is named after what it
//! prevents.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::node::Node;
use crate::support::token::{Guarded, SECRET, as_bearer, claims, signed, unix_seconds, with};
use crate::support::{becomes, eventually};

const STREAM: &str = "/v1/events?topic=chat:7";

#[test]
fn token_for_somebody_else_or_for_ever() {
    let guarded = Guarded::start(&[
        "--jwt-issuer",
        "https://id.example,https://id2.example",
        "--jwt-audience",
        "fanfare",
        "--jwt-max-life",
        "2h",
    ]);
    let node = &guarded.node;
    let good = with(with(claims("ana", &["*"], &[]), "iss", "https://id.example"), "aud", "fanfare");
    let now = unix_seconds();
    let old = with(with(good.clone(), "iat", now - 6 * 3600), "exp", now + 600);
    for (claims, says) in [
        (good.clone(), ""),
        (with(good.clone(), "iss", "https://id2.example"), ""),
        (with(good.clone(), "aud", json!(["other", "fanfare"])), ""),
        (with(good.clone(), "iss", "https://id.example/"), "iss is not"),
        (with(good.clone(), "iss", Value::Null), "iss is not"),
        (with(good.clone(), "aud", "other"), "aud does not"),
        (with(good.clone(), "aud", json!([])), "aud does not"),
        (with(good.clone(), "aud", json!({"fanfare": 1})), "aud does not"),
        (with(good.clone(), "exp", now + 3 * 3600), "more than 2h"),
        (with(good.clone(), "exp", now * 1000), "milliseconds"),
        (old, "more than 2h"),
    ] {
        let answer = as_bearer(node, &signed(SECRET, &claims), "GET", STREAM, "");
        match says {
            "" => assert_eq!(answer.status, 200, "{claims}: {answer:?}"),
            says => assert!(answer.problem(401).contains(says), "{claims}: {answer:?}"),
        }
    }
}

/// An issuer that serves keys at a URL.
struct Issuer {
    address: SocketAddr,
    /// A status and a body.
    serves: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(serves: (u16, String)) -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let (serves, asked) = (Arc::new(Mutex::new(serves)), Arc::new(AtomicUsize::new(0)));
        let (serving, counts) = (Arc::clone(&serves), Arc::clone(&asked));
        // It ends with the tests' process.
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let Ok(mut connection) = connection else { continue };
                let mut head = Vec::new();
                let mut byte = [0; 1];
                while !head.ends_with(b"\r\n\r\n") && matches!(connection.read(&mut byte), Ok(1)) {
                    head.push(byte[0]);
                }
                let (status, body) = serving.lock().expect("nobody panics with it").clone();
                counts.fetch_add(1, Ordering::SeqCst);
                let length = body.len();
                let _ = write!(
                    connection,
                    "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
            }
        });
        Issuer { address, serves, asked }
    }

    fn serve(&self, status: u16, body: String) {
        *self.serves.lock().expect("nobody panics with it") = (status, body);
    }

    fn node(&self) -> Node {
        let url = format!("http://{}/jwks.json", self.address);
        Node::with(&["--cores", "2", "--auth", "jwt", "--jwt-key-url", &url])
    }
}

/// A set of the keys of these names.
fn set(names: &[&str]) -> String {
    let all = include_str!("../../keys/jwks.json");
    let all: Value = serde_json::from_str(all).expect("it is JSON");
    let keys: Vec<&Value> = all["keys"]
        .as_array()
        .expect("keys")
        .iter()
        .filter(|key| names.iter().any(|name| key["kid"] == *name))
        .collect();
    json!({ "keys": keys }).to_string()
}

/// A token by one of the keys.
fn by(kid: &str) -> String {
    let pem =
        std::fs::read(format!("{}/tests/keys/{kid}.pem", env!("CARGO_MANIFEST_DIR"))).expect("a key of the tests");
    let (algorithm, key) = match kid {
        "ed" => (Algorithm::EdDSA, EncodingKey::from_ed_pem(&pem)),
        _ => (Algorithm::ES256, EncodingKey::from_ec_pem(&pem)),
    };
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    jsonwebtoken::encode(&header, &claims("ana", &["*"], &[]), &key.expect("a private key")).expect("it signs")
}

fn status(node: &Node, token: &str) -> u16 {
    as_bearer(node, token, "GET", STREAM, "").status
}

#[test]
fn key_that_an_issuer_serves_and_nobody_fetches() {
    let issuer = Issuer::start((200, set(&["ed"])));
    let node = issuer.node();
    assert_eq!((status(&node, &by("ed")), issuer.asked.load(Ordering::SeqCst)), (200, 1));
    // It was asked a moment ago.
    assert_eq!((status(&node, &by("ec")), issuer.asked.load(Ordering::SeqCst)), (401, 1));
    issuer.serve(200, set(&["ed", "ec"]));
    becomes("the new key is fetched", 200, || status(&node, &by("ec")));
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
    assert_eq!(status(&node, &by("ed")), 200);
}

#[test]
fn issuer_that_is_away() {
    let issuer = Issuer::start((500, String::new()));
    let node = issuer.node();
    let detail = as_bearer(&node, &by("ed"), "GET", "/v1/topics/chat:7/events", "").problem(503);
    assert!(detail.contains("the issuer is being asked"), "{detail}");
    let ready = || crate::support::http::Client::connect(node.internal).request("GET", "/health/ready", &[], b"");
    assert!(ready().text().contains("could not be fetched yet"), "{:?}", ready());
    issuer.serve(200, set(&["ed"]));
    becomes("the keys are fetched", 200, || status(&node, &by("ed")));
    eventually("it is ready", || match ready() {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.text()),
    });
    issuer.serve(500, String::new());
    let asked = issuer.asked.load(Ordering::SeqCst);
    // A key that it does not know makes it ask, and what it knows holds.
    becomes("it asks again", true, || {
        status(&node, &by("ec"));
        issuer.asked.load(Ordering::SeqCst) > asked
    });
    assert_eq!(status(&node, &by("ed")), 200);
    node.until_logged(&["keys for tokens are not to be had"]);
}
