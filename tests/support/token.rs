//! Tokens as an issuer makes them, good and bad, and nodes that ask for them.

use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::http::{Answer, Client, request};
use super::node::Node;

/// What the tests' nodes check tokens by.
pub const SECRET: &str = "the tests' secret, which has more than 32 bytes";
/// What they do not.
pub const OTHER_SECRET: &str = "another secret that has more than 32 bytes....";

pub fn unix_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_secs()
}

/// What a refusal begins with in `WWW-Authenticate`.
pub const BEARER: &str = "Bearer realm=\"fanfare\"";

/// Claims that hold for an hour.
pub fn claims(sub: &str, subscribe: &[&str], publish: &[&str]) -> Value {
    let now = unix_seconds();
    json!({"sub": sub, "iat": now, "exp": now + 3600, "fanfare": {"subscribe": subscribe, "publish": publish}})
}

/// The same claims with one of them set.
pub fn with(mut claims: Value, name: &str, value: impl Into<Value>) -> Value {
    claims[name] = value.into();
    claims
}

/// A token for these claims, signed by a secret.
pub fn signed(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("it signs")
}

/// A good token that holds for an hour.
pub fn token(sub: &str, subscribe: &[&str], publish: &[&str]) -> String {
    signed(SECRET, &claims(sub, subscribe, publish))
}

/// A token that no node of the tests may take.
pub struct Bad {
    pub name: &'static str,
    pub token: String,
    /// What the detail of the answer says.
    pub says: &'static str,
}

/// Every kind of bad token, with claims that would allow everything.
pub fn bad_tokens() -> Vec<Bad> {
    let all = claims("ana", &["*"], &["*"]);
    let now = unix_seconds();
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let unsigned = format!("{}.{}.", part(r#"{"alg":"none","typ":"JWT"}"#), part(&all.to_string()));
    let rsa = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem")).expect("a key of the tests");
    let rsa = EncodingKey::from_rsa_pem(&rsa).expect("a private key");
    let good = signed(SECRET, &all);
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let header = message.split_once('.').expect("three parts").0;
    let changed = format!("{header}.{}.{signature}", part(&with(all.clone(), "sub", "eve").to_string()));
    let mut endless = all.clone();
    endless.as_object_mut().expect("an object").remove("exp");
    let bad = |name, token, says| Bad { name, token, says };
    vec![
        bad("wrong key", signed(OTHER_SECRET, &all), "signature does not fit"),
        bad("alg none", unsigned.clone(), "algorithm (alg)"),
        bad("alg none with a signature", format!("{unsigned}{signature}"), "algorithm (alg)"),
        bad(
            "wrong algorithm",
            jsonwebtoken::encode(&Header::new(Algorithm::RS256), &all, &rsa).expect("it signs"),
            "algorithm (alg)",
        ),
        bad("changed", changed, "signature does not fit"),
        bad("no signature", format!("{message}."), "signature does not fit"),
        bad("expired", signed(SECRET, &with(all.clone(), "exp", now - 60)), "expired"),
        bad("not yet valid", signed(SECRET, &with(all.clone(), "nbf", now + 3600)), "not valid yet"),
        bad("without an end", signed(SECRET, &endless), "exp is missing"),
        bad("no token at all", "opensesame".to_owned(), "malformed"),
    ]
}

/// A node that asks for tokens, and its key file.
pub struct Guarded {
    pub node: Node,
    pub key_file: PathBuf,
    _folder: TempDir,
}

impl Guarded {
    /// Two shards, and these flags.
    pub fn start(flags: &[&str]) -> Guarded {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let key_file = folder.path().join("secret");
        std::fs::write(&key_file, SECRET).expect("the folder is ours");
        let path = key_file.to_str().expect("a path of the tests");
        let jwt = ["--cores", "2", "--auth", "jwt", "--jwt-key-file", path];
        let node = Node::in_folder(folder.path(), &[&jwt, flags].concat());
        Guarded { node, key_file, _folder: folder }
    }

    /// Asserts that nothing logged so far shows a secret or one of these tokens.
    pub fn assert_silent<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) {
        let log = self.node.log().join("\n");
        for secret in [SECRET, OTHER_SECRET] {
            assert!(!log.contains(secret), "a secret is in the log: {log}");
        }
        for token in tokens {
            assert_unquoted(token, &log);
        }
    }
}

/// Asserts that a text shows no part of a token that anybody could use, or learn from.
#[track_caller]
pub fn assert_unquoted(token: &str, text: &str) {
    // Every header starts alike, and so do short texts.
    for part in token.split('.').skip(1).filter(|part| part.len() > 8).chain([token]) {
        assert!(!text.contains(part), "{part} is in {text}");
    }
}

/// A request, and its answer; of a stream the head only.
pub fn send(node: &Node, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut client = Client::connect(node.public);
    client.send(request(method, target, headers, body));
    if method == "HEAD" { client.answer_to_head() } else { client.answer_or_stream() }
}

/// A request with a token in `Authorization`.
pub fn as_bearer(node: &Node, token: &str, method: &str, target: &str, body: &str) -> Answer {
    send(node, method, target, &[("Authorization", &format!("Bearer {token}"))], body.as_bytes())
}

/// Publishes by the internal listener, as backends do.
pub fn publish_inside(node: &Node, topic: &str, event: &Value) {
    let target = format!("/v1/topics/{topic}/events");
    let answer = Client::connect(node.internal).request("POST", &target, &[], event.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
}
