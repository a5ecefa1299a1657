//! `fanfare trace`: publishes one event, and draws its journey through every node and data center until it is back on its own
//! streams.

pub mod args;
mod cluster;
mod draw;
mod journey;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::http::{self, Answer, Error, Request, Url, percent_encode};
use super::publish::{Failure, body};
use super::sse::{Event, Parser};
use crate::client::trace::args::TraceArgs;
use crate::wire::connection_id::ConnectionId;
use crate::wire::hops::hex;
use cluster::Cluster;
use journey::{Row, Step, Tree};

/// How long streams may take to connect, the event to come back, and the nodes to have its journey.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks for the journeys of an event that is back already.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
enum Untraced {
    #[error(transparent)]
    Failure(#[from] Failure),
    #[error("{0}: {1}")]
    At(String, Error),
    #[error("cannot read --secret-file {0}: {1}")]
    Secret(String, std::io::Error),
    #[error("the stream at {0} did not connect within {PATIENCE:?}: {1}")]
    NotConnected(String, String),
    #[error(
        "the event did not come back on {0} within {PATIENCE:?}: {1}; on a busy topic it may have merged with others"
    )]
    NotBack(String, String),
    #[error("no node kept its journey; is the internal listener of one node a data center given by --internal?")]
    NoJourney,
}

/// Traces one event. Exit status 0, 1 when its journey is not known, 2 for a mistake in the arguments.
pub fn run(args: &TraceArgs) -> ExitCode {
    match trace(args) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("fanfare trace: {error}");
            let is_usage = matches!(
                error,
                Untraced::Failure(Failure::Json(_)) | Untraced::At(_, Error::Url(_)) | Untraced::Secret(..)
            );
            ExitCode::from(if is_usage { 2 } else { 1 })
        }
    }
}

/// Unix time in microseconds.
fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// What a stream has to say: that it is connected, or what came, and when.
enum Said {
    Connected(ConnectionId),
    Event(Value, u64),
    Ended(String),
}

/// A stream of this command's own.
struct Watching {
    url: String,
    said: mpsc::Receiver<Said>,
    connection: ConnectionId,
}

/// What came back on a stream.
struct Back {
    url: String,
    connection: ConnectionId,
    received_us: u64,
}

impl Watching {
    fn open(url: &str, args: &TraceArgs) -> Result<Watching, Untraced> {
        let at = |error| Untraced::At(url.to_owned(), error);
        let to = Url::parse(url).map_err(at)?;
        let path = format!("/v1/events?topic={}", percent_encode(&args.topic));
        let (token, headers) = (args.token.as_deref(), &[("Accept", "text/event-stream")]);
        let request = Request { path: &path, token, headers, patience: Some(3 * PATIENCE), json: None };
        let answer = http::send(&to, &request).map_err(at)?;
        let (tell, said) = mpsc::channel();
        std::thread::spawn(move || read(answer, &tell));
        match said.recv_timeout(PATIENCE) {
            Ok(Said::Connected(connection)) => Ok(Watching { url: url.to_owned(), said, connection }),
            Ok(Said::Ended(why)) => Err(Untraced::NotConnected(url.to_owned(), why)),
            _ => Err(Untraced::NotConnected(url.to_owned(), "nothing came".to_owned())),
        }
    }

    /// Waits for the event of this id.
    fn until(self, id: &str, deadline: Instant) -> Result<Back, Untraced> {
        let Watching { url, said, connection } = self;
        let mut others = 0;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match said.recv_timeout(left) {
                Ok(Said::Event(event, received_us)) if event["id"] == id => {
                    return Ok(Back { url, connection, received_us });
                }
                Ok(Said::Ended(why)) => return Err(Untraced::NotBack(url, why)),
                Ok(_) => others += 1,
                Err(_) => return Err(Untraced::NotBack(url, format!("{others} other events came"))),
            }
        }
    }
}

/// Reads a stream until it ends, or nobody listens any more.
fn read(mut answer: Answer, tell: &mpsc::Sender<Said>) {
    use std::io::Read as _;
    let (mut parser, mut events, mut bytes) = (Parser::default(), Vec::new(), [0; 16 * 1024]);
    let why = loop {
        match answer.read(&mut bytes) {
            Ok(0) => break "the server ended the stream".to_owned(),
            Ok(read) => {
                let received_us = unix_us();
                parser.push(&bytes[..read], &mut events);
                for Event { name, data } in events.drain(..) {
                    let Ok(data) = serde_json::from_str::<Value>(&data) else { continue };
                    let said = match name.as_str() {
                        "" => Said::Event(data, received_us),
                        "connected" => match data["connection"].as_str().and_then(ConnectionId::decode) {
                            Some(connection) => Said::Connected(connection),
                            None => continue,
                        },
                        _ => continue,
                    };
                    if tell.send(said).is_err() {
                        return;
                    }
                }
            }
            Err(error) => break error.to_string(),
        }
    };
    // Whoever waited may be gone.
    let _ = tell.send(Said::Ended(why));
}

/// Publishes the event as a part of a new trace that is sampled. Gives its id, and when it was sent.
fn publish(args: &TraceArgs, data: &str) -> Result<(String, u64), Untraced> {
    let at = |error| Untraced::At(args.url.clone(), error);
    let url = Url::parse(&args.url).map_err(at)?;
    let path = format!("/v1/topics/{}/events", percent_encode(&args.topic));
    let mut random = [0; 24];
    getrandom::fill(&mut random).expect("the kernel has random bytes");
    // No part of it may be all zeros.
    (random[0], random[16]) = (random[0] | 1, random[16] | 1);
    let traceparent = format!("00-{}-{}-01", hex(&random[..16]), hex(&random[16..]));
    let (token, headers) = (args.token.as_deref(), &[("traceparent", traceparent.as_str())]);
    let request = Request { path: &path, token, headers, json: Some(data), patience: Some(PATIENCE) };
    let sent_us = unix_us();
    let answer: Value = http::send(&url, &request).and_then(Answer::json).map_err(at)?;
    let id = answer["id"].as_str().ok_or_else(|| at(Error::Malformed("it names no event".to_owned())))?;
    Ok((id.to_owned(), sent_us))
}

fn trace(args: &TraceArgs) -> Result<String, Untraced> {
    let data = args.data.as_deref().unwrap_or("null");
    let event = body(&args.event_type, args.key.as_deref(), None, data).map_err(Failure::Json)?;
    let mut cluster = Cluster::find(args)?;
    let watched = if args.watch.is_empty() { std::slice::from_ref(&args.url) } else { &args.watch };
    let watching: Vec<Watching> = watched.iter().map(|url| Watching::open(url, args)).collect::<Result<_, _>>()?;
    let (id, sent_us) = publish(args, &event)?;
    let deadline = Instant::now() + PATIENCE;
    let back: Vec<Back> =
        watching.into_iter().map(|watching| watching.until(&id, deadline)).collect::<Result<_, _>>()?;
    let rows = journeys(&mut cluster, &id, &back, Instant::now() + PATIENCE);
    if rows.is_empty() {
        return Err(Untraced::NoJourney);
    }
    cluster.hear_clocks(rows.iter().flat_map(Row::ends).collect::<BTreeSet<_>>());
    let ways: Vec<Vec<Step>> = rows.iter().map(|row| journey::way(row, sent_us, &cluster)).collect();
    let own = |back: &Back| {
        let row = rows.iter().position(|row| row.is_of(&back.connection))?;
        Some(journey::back(&ways[row], back.received_us, &cluster))
    };
    let own: Vec<Option<Vec<Step>>> = back.iter().map(own).collect();
    if args.json {
        let streams = back.iter().zip(&own).map(|(back, way)| {
            let total = way.as_deref().map(journey::total);
            json!({
                "url": back.url,
                "node": back.connection.node,
                "shard": back.connection.shard,
                "end_to_end_us": back.received_us.saturating_sub(sent_us),
                "sum_us": total.map(|total| total.us),
                "error_us": total.and_then(|total| total.error_us),
                "hops": way.as_deref().map(|way| journey::json(way, &cluster)),
            })
        });
        let others = ways.iter().map(|way| journey::json(way, &cluster));
        let found = json!({
            "id": id,
            "topic": args.topic,
            "type": args.event_type,
            "sent_at_us": sent_us,
            "streams": streams.collect::<Vec<_>>(),
            "journeys": others.collect::<Vec<_>>(),
        });
        return Ok(format!("{found:#}\n"));
    }
    let mut text = format!("{} in {}, {id}\n\n", args.event_type, args.topic);
    text += &draw::tree(&Tree::of(own.iter().flatten().chain(&ways)), &cluster);
    text.push('\n');
    for (back, way) in back.iter().zip(&own) {
        text += &draw::end(&back.url, back.received_us.saturating_sub(sent_us), way.as_deref());
    }
    Ok(text)
}

/// What nodes kept of an event, once those have it on whose streams it came back.
fn journeys(cluster: &mut Cluster, id: &str, back: &[Back], deadline: Instant) -> Vec<Row> {
    loop {
        let rows = cluster.journeys(id);
        let is_whole = back.iter().all(|back| rows.iter().any(|row| row.is_of(&back.connection)));
        if is_whole || Instant::now() >= deadline {
            return rows;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}
