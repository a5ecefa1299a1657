//! Follows a stream with one of Rust's clients, and prints what it hears as JSON, a line each.
//!
//! ```text
//! fanfare-client-tests eventsource-client|reqwest-eventsource 'http://127.0.0.1:8080/v1/events?topic=live:42' [TOKEN_FILE]
//! ```

use std::io::Read as _;
use std::time::Duration;

use eventsource_client::{Client as _, ClientBuilder, ReconnectOptions, SSE};
use futures_util::StreamExt as _;
use launchdarkly_sdk_transport::HyperTransport;
use reqwest_eventsource::{Error, Event, EventSource, retry::ExponentialBackoff};
use serde_json::{Value, json};

/// Between streams that we begin anew ourselves; an application would add jitter.
const PAUSE: Duration = Duration::from_secs(1);

struct Follower {
    who: String,
    url: String,
    token_file: Option<String>,
    last: String,
}

impl Follower {
    fn print(&self, mut line: Value) {
        line["who"] = json!(self.who);
        println!("{line}");
    }

    fn heard(&mut self, name: &str, id: &str, data: &str) {
        if !id.is_empty() {
            self.last = id.to_owned();
        }
        self.print(json!({"name": name, "id": id, "data": data}));
    }

    async fn anew(&self) {
        self.print(json!({"own": true}));
        tokio::time::sleep(PAUSE).await;
    }

    fn bearer(&self) -> Option<String> {
        let read = |file| std::fs::read_to_string(file).expect("the tests' file");
        self.token_file.as_ref().map(|file| format!("Bearer {}", read(file)))
    }

    /// Headers are fixed when the stream is made, so one whose token ended is made anew.
    async fn eventsource_client(mut self) {
        loop {
            let reconnects =
                ReconnectOptions::reconnect(true).retry_initial(false).delay(PAUSE).delay_max(5 * PAUSE).build();
            let mut builder = ClientBuilder::for_url(&self.url).expect("an address").reconnect(reconnects);
            if let Some(bearer) = self.bearer() {
                builder = builder.header("Authorization", &bearer).expect("a token");
            }
            if !self.last.is_empty() {
                builder = builder.last_event_id(self.last.clone());
            }
            let transport = HyperTransport::builder().build_http().expect("plain HTTP");
            let mut stream = builder.build_with_transport(transport).stream();
            while let Some(next) = stream.next().await {
                match next {
                    Ok(SSE::Event(event)) => {
                        self.heard(&event.event_type, event.id.as_deref().unwrap_or_default(), &event.data);
                    }
                    Err(eventsource_client::Error::UnexpectedResponse(answer, _)) if answer.status() == 401 => break,
                    // It comes back by itself.
                    Ok(_) | Err(_) => {}
                }
            }
            self.anew().await;
        }
    }

    /// It ends at every status but 200, such as a proxy's 502, and does not see `retry:` of a stream that never began.
    async fn reqwest_eventsource(mut self) {
        loop {
            let mut request = reqwest::Client::new().get(&self.url);
            if let Some(bearer) = self.bearer() {
                request = request.header("Authorization", bearer);
            }
            if !self.last.is_empty() {
                request = request.header("Last-Event-ID", &self.last);
            }
            let mut stream = EventSource::new(request).expect("a request without a body");
            stream.set_retry_policy(Box::new(ExponentialBackoff::new(PAUSE, 1.5, Some(5 * PAUSE), None)));
            while let Some(next) = stream.next().await {
                match next {
                    Ok(Event::Message(message)) => self.heard(&message.event, &message.id, &message.data),
                    Err(Error::InvalidStatusCode(..) | Error::InvalidContentType(..)) => break,
                    Ok(Event::Open) | Err(_) => {}
                }
            }
            self.anew().await;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let (who, url) = (arguments.next().expect("a client"), arguments.next().expect("an address"));
    let token_file = arguments.next();
    let url = if token_file.is_some() { url } else { format!("{url}&member={who}") };
    // It ends with its standard input.
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let follower = Follower { who: who.clone(), url, token_file, last: String::new() };
    match who.as_str() {
        "eventsource-client" => follower.eventsource_client().await,
        "reqwest-eventsource" => follower.reqwest_eventsource().await,
        other => panic!("no client {other}"),
    }
}
