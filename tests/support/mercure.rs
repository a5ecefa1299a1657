//! Publishers and subscribers of Mercure's protocol.

use std::net::SocketAddr;

use serde_json::{Value, json};
use url::form_urlencoded::Serializer;

use super::http::{Answer, Client, request};
use super::sse::{Message, Stream};
use super::token::{SECRET, signed, unix_seconds};

/// Where it is served.
pub const HUB: &str = "/.well-known/mercure";

/// A form, or a query.
pub fn form(fields: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The target of a subscriber's request.
pub fn target(topics: &[&str], more: &[(&str, &str)]) -> String {
    let topics: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", *topic)).collect();
    format!("{HUB}?{}", form(&[&topics[..], more].concat()))
}

/// A token with Mercure's claim, which holds for an hour.
pub fn pass(claim: &Value) -> String {
    signed(SECRET, &json!({"sub": "ana", "iat": unix_seconds(), "exp": unix_seconds() + 3600, "mercure": claim}))
}

/// Headers with a token, if there is one.
pub fn bearer(token: Option<&str>) -> Vec<(&'static str, String)> {
    token.map(|token| ("Authorization", format!("Bearer {token}"))).into_iter().collect()
}

fn headers<'a>(more: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    more.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// Publishes a form.
pub fn publish(address: SocketAddr, token: Option<&str>, fields: &[(&str, &str)]) -> Answer {
    let token = bearer(token);
    let kind = ("Content-Type", "application/x-www-form-urlencoded");
    let headers = [&headers(&token)[..], &[kind]].concat();
    Client::connect(address).request("POST", HUB, &headers, form(fields).as_bytes())
}

/// Publishes an update, which must be taken. Gives its id.
#[track_caller]
pub fn update(address: SocketAddr, token: Option<&str>, fields: &[(&str, &str)]) -> String {
    let answer = publish(address, token, fields);
    assert_eq!(answer.status, 200, "{answer:?} {}", answer.text());
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"), "{answer:?}");
    answer.text()
}

/// Opens a stream with these headers, and waits for `connected`.
#[track_caller]
pub fn open(address: SocketAddr, target: &str, more: &[(&'static str, String)]) -> Stream {
    let headers = [&headers(more)[..], &[("Accept", "text/event-stream")]].concat();
    let mut stream = Stream::with_request(address, &request("GET", target, &headers, b""));
    stream.wait_connected();
    assert_eq!(stream.hello["pending"], json!([]), "{}", stream.hello);
    stream
}

/// The texts of the next updates.
#[track_caller]
pub fn texts(stream: &mut Stream, count: usize) -> Vec<String> {
    (0..count).map(|_| next(stream).data).collect()
}

/// The next update.
#[track_caller]
pub fn next(stream: &mut Stream) -> Message {
    let message = stream.next().expect("the stream goes on");
    assert_eq!(message.name, "message", "{message:?}");
    message
}
