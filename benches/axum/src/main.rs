//! The yardstick of `scripts/compare`: a Server-Sent Events server written by hand on axum and tokio, the way an
//! engineer would in a day. One broadcast channel a topic, one task a connection, `Sse` with its keep-alive, an event
//! encoded once and shared. It speaks the same requests and frames as Fanfare, so the same client measures both.
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::{get, post};
use futures::StreamExt;
use futures::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;

/// Events a topic's channel keeps for a receiver that lags; past it the receiver loses the oldest.
const CHANNEL_EVENTS: usize = 1024;

#[derive(Default)]
struct Topics {
    channels: RwLock<HashMap<String, broadcast::Sender<Arc<str>>>>,
    next_id: AtomicU64,
}

#[derive(Deserialize)]
struct Publish<'a> {
    topic: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    key: Option<&'a str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Topics {
    fn subscribe(&self, topic: &str) -> broadcast::Receiver<Arc<str>> {
        if let Some(sender) = self.channels.read().expect("no holder panics").get(topic) {
            return sender.subscribe();
        }
        self.channels
            .write()
            .expect("no holder panics")
            .entry(topic.to_owned())
            .or_insert_with(|| broadcast::channel(CHANNEL_EVENTS).0)
            .subscribe()
    }

    /// Encodes the event once and hands it to the topic's channel, if it has one. Returns the event's id.
    fn publish(&self, topic: &str, event: &Publish) -> String {
        let id = format!("{:016x}", self.next_id.fetch_add(1, Ordering::Relaxed));
        let channels = self.channels.read().expect("no holder panics");
        let Some(sender) = channels.get(topic) else {
            return id;
        };
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |elapsed| elapsed.as_millis());
        let key = event
            .key
            .map_or(String::new(), |key| format!("\"key\":{},", json!(key)));
        let frame = format!(
            r#"{{"id":"{id}","topic":{},"type":{},{key}"at":{at},"count":1,"data":{}}}"#,
            json!(topic),
            json!(event.kind),
            event.data.get()
        );
        // An error means that nobody is subscribed at this moment, which is no failure.
        let _ = sender.send(frame.into());
        id
    }
}

async fn events(
    State(topics): State<Arc<Topics>>,
    RawQuery(query): RawQuery,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let query = query.unwrap_or_default();
    let streams: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "topic")
        .map(|(_, topic)| BroadcastStream::new(topics.subscribe(&topic)))
        .collect();
    let connected = Event::default()
        .event("connected")
        .data(r#"{"connection":"","node":"axum","heartbeat_ms":15000,"pending":[]}"#);
    // A receiver that lagged goes on with what the channel still has: what it missed is lost.
    let live = stream::select_all(streams).filter_map(|item| async move {
        item.ok().map(|frame| Ok(Event::default().data(&*frame)))
    });
    Sse::new(stream::once(async { Ok(connected) }).chain(live))
        .keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

async fn publish_one(
    State(topics): State<Arc<Topics>>,
    Path(topic): Path<String>,
    body: String,
) -> Result<(StatusCode, Json<serde_json::Value>), (StatusCode, String)> {
    let event: Publish = serde_json::from_str(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    let id = topics.publish(&topic, &event);
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id }))))
}

async fn publish_lines(
    State(topics): State<Arc<Topics>>,
    body: String,
) -> (StatusCode, Json<serde_json::Value>) {
    let (mut accepted, mut rejected) = (0u64, Vec::new());
    for (index, line) in body
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
    {
        match serde_json::from_str::<Publish>(line) {
            Ok(Publish { topic: None, .. }) => {
                rejected.push(json!({"line": index + 1, "detail": "topic is missing"}));
            }
            Ok(event) => {
                topics.publish(event.topic.unwrap_or_default(), &event);
                accepted += 1;
            }
            Err(error) => rejected.push(json!({"line": index + 1, "detail": error.to_string()})),
        }
    }
    let total = rejected.len();
    rejected.truncate(100);
    (
        StatusCode::ACCEPTED,
        Json(json!({"accepted": accepted, "rejected_total": total, "rejected": rejected})),
    )
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listen = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:8090".to_owned());
    let app = Router::new()
        .route("/v1/events", get(events).post(publish_lines))
        .route("/v1/topics/{topic}/events", post(publish_one))
        .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
        .with_state(Arc::new(Topics::default()));
    let listener = TcpListener::bind(&listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app).await
}
