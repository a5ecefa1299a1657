//! `fanfare subscribe`: prints what happens on topics, for people on a terminal and for scripts in a pipe.

use std::io::{self, IsTerminal, Read as _, Write};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::http::{self, Error, Request, Url, percent_encode};
use super::sse::{Event, Parser};

/// The flags of `fanfare subscribe`. Not `Debug`, since they hold a token.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare subscribe live:42
  fanfare subscribe live:42 chat:7 --json --count 10 | jq .data")]
pub struct SubscribeArgs {
    /// Topics to watch, such as live:42; at least one
    #[arg(value_name = "TOPIC", required = true)]
    pub topics: Vec<String>,
    /// Connect to the frontend at this URL
    #[arg(long, env = "FANFARE_URL", hide_env = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Say that this member is watching [default: nobody]
    #[arg(long, value_name = "NAME")]
    pub member: Option<String>,
    /// Resume after the event at this position, as an earlier stream's id: line gave it [default: from now on]
    #[arg(long, value_name = "POSITION")]
    pub last_event_id: Option<String>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env = true)]
    pub token: Option<String>,
    /// Print each event's data as it came, one a line [default: readable lines]
    #[arg(long)]
    pub json: bool,
    /// Stop after this many events [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

/// Wait before the first reconnect when the server named none; it doubles from failure to failure.
const RETRY_MS_DEFAULT: u64 = 1_000;
/// Wait before a reconnect at most.
const RETRY_MS_MAX: u64 = 30_000;
/// A stream has a comment line every 25 s at least; one that is silent for twice that is dead.
const SILENCE: Duration = Duration::from_secs(55);

/// Why the stream ended.
enum End {
    /// As many events as were asked for, or nobody reads the output any more.
    Done,
    /// Worth another try; the flag says that the stream had been open.
    Again { opened: bool, why: String, wait_ms: Option<u64> },
    /// Trying again would not help.
    Never(Error),
}

/// Prints events until `--count` is reached, for ever without it. Exit status 0, 1 when the server refuses the
/// request, 2 for a mistake in the arguments.
pub fn run(args: &SubscribeArgs) -> ExitCode {
    let url = match Url::parse(&args.url) {
        Ok(url) => url,
        Err(error) => {
            eprintln!("fanfare subscribe: {error}");
            return ExitCode::from(2);
        }
    };
    let raw = args.json || !io::stdout().is_terminal();
    let mut parser = Parser::new(args.last_event_id.clone());
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut failures = 0u32;
    while left > 0 {
        match stream(args, &url, raw, &mut parser, &mut left) {
            End::Done => break,
            End::Never(error) => {
                eprintln!("fanfare subscribe: {error}");
                return ExitCode::FAILURE;
            }
            End::Again { opened, why, wait_ms } => {
                failures = if opened { 0 } else { failures + 1 };
                let base = wait_ms.or(parser.retry_ms).unwrap_or(RETRY_MS_DEFAULT);
                let wait = backoff(base, failures, random());
                eprintln!("{why}; reconnecting in {:.1} s", wait.as_secs_f64());
                std::thread::sleep(wait);
                parser.restart();
            }
        }
    }
    ExitCode::SUCCESS
}

/// The wait before a reconnect: the base doubled a failure, at most 30 s, of which the upper half is random.
fn backoff(base_ms: u64, failures: u32, random: u64) -> Duration {
    let most = base_ms.saturating_mul(1 << failures.min(16)).clamp(1, RETRY_MS_MAX.max(base_ms));
    Duration::from_millis(most / 2 + random % (most / 2 + 1))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without the kernel's random bytes the waits lose their jitter, nothing else.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn stream(args: &SubscribeArgs, url: &Url, raw: bool, parser: &mut Parser, left: &mut u64) -> End {
    let again = |opened, why: String| End::Again { opened, why, wait_ms: None };
    let resume = parser.last_event_id.clone();
    let mut headers = vec![("Accept", "text/event-stream")];
    headers.extend(resume.iter().map(|value| ("Last-Event-ID", value.as_str())));
    let (path, token) = (path(args), args.token.as_deref());
    let request = Request { path: &path, token, headers: &headers, patience: Some(SILENCE), json: None };
    let mut answer = match http::send(url, &request) {
        Ok(answer) => answer,
        Err(Error::Status { status: status @ (429 | 502..=504), detail, retry_after }) => {
            return End::Again {
                opened: false,
                why: format!("{status}: {detail}"),
                wait_ms: retry_after.map(|seconds| seconds.saturating_mul(1000)),
            };
        }
        Err(error @ (Error::Status { .. } | Error::Url(_))) => return End::Never(error),
        Err(error) => return again(false, error.to_string()),
    };
    let mut bytes = [0; 16 * 1024];
    let mut events = Vec::new();
    loop {
        match answer.read(&mut bytes) {
            Ok(0) => return again(true, "the server ended the stream".to_owned()),
            Ok(read) => parser.push(&bytes[..read], &mut events),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return again(true, format!("nothing came for {} s", SILENCE.as_secs()));
            }
            Err(error) => return again(true, format!("the connection broke: {error}")),
        }
        let mut output = io::stdout().lock();
        for event in events.drain(..) {
            if !event.name.is_empty() {
                eprintln!("{} {}", event.name, event.data);
                continue;
            }
            let line = if raw { event.data.clone() } else { human(&event) };
            if writeln!(output, "{line}").is_err() {
                return End::Done;
            }
            *left -= 1;
            if *left == 0 {
                return if output.flush().is_ok() { End::Done } else { again(true, "cannot write".to_owned()) };
            }
        }
        if output.flush().is_err() {
            return End::Done;
        }
    }
}

fn path(args: &SubscribeArgs) -> String {
    let mut path = "/v1/events".to_owned();
    let topics = args.topics.iter().map(|topic| ("topic", topic));
    let member = args.member.iter().map(|member| ("member", member));
    for (index, (name, value)) in topics.chain(member).enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(&format!("{name}={}", percent_encode(value)));
    }
    path
}

/// One line for a person: time, topic, type, key, count, data. What is not JSON is shown as it came.
fn human(event: &Event) -> String {
    let Ok(value) = serde_json::from_str::<Value>(&event.data) else {
        return printable(&event.data);
    };
    let text = |name| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let at = value.get("at").and_then(Value::as_u64).unwrap_or_default();
    let (seconds, ms) = (at / 1000 % 86_400, at % 1000);
    let mut line = format!(
        "{:02}:{:02}:{:02}.{ms:03}Z  {}  {}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        text("topic"),
        text("type")
    );
    if !text("key").is_empty() {
        line.push_str(&format!(" [{}]", text("key")));
    }
    if let Some(count) = value.get("count").and_then(Value::as_u64).filter(|count| *count != 1) {
        line.push_str(&format!(" ×{count}"));
    }
    if let Some(counts) = value.get("counts").and_then(Value::as_object) {
        let each: Vec<_> = counts.iter().map(|(key, count)| format!("{key} ×{count}")).collect();
        line.push_str(&format!(" ({})", each.join(", ")));
    }
    if let Some(data) = value.get("data") {
        line.push_str(&format!("  {data}"));
    }
    printable(&line)
}

/// Other people's text must not steer the terminal: control characters are shown as what they are.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people() {
        let event = |data: &str| Event { name: String::new(), data: data.to_owned() };
        let like = r#"{"id":"x","topic":"live:42","type":"like","key":"love","at":1732313131123,"count":3,"data":{"likes":7}}"#;
        assert_eq!(human(&event(like)), "22:05:31.123Z  live:42  like [love] ×3  {\"likes\":7}");
        let sum =
            r#"{"topic":"live:42","type":"like","key":"love","at":0,"count":3,"counts":{"like":1,"love":2},"data":1}"#;
        assert_eq!(human(&event(sum)), "00:00:00.000Z  live:42  like [love] ×3 (like ×1, love ×2)  1");
        let plain = r#"{"topic":"chat:1","type":"typing","at":0,"data":"\u001b[2J"}"#;
        assert_eq!(human(&event(plain)), "00:00:00.000Z  chat:1  typing  \"\\u001b[2J\"");
        assert_eq!(human(&event("\u{1b}not json")), "\u{fffd}not json");
    }

    #[test]
    fn waits_grow_and_stay_within_bounds() {
        for random in [0, 1, u64::MAX] {
            for failures in 0..40 {
                let wait = backoff(1000, failures, random);
                let most = (1000u64 << failures.min(10)).min(RETRY_MS_MAX);
                assert!(wait >= Duration::from_millis(most / 2) && wait <= Duration::from_millis(most));
            }
        }
        assert!(backoff(60_000, 0, 0) >= Duration::from_secs(30));
        assert!(backoff(0, 3, 5) <= Duration::from_millis(1));
    }

    #[test]
    fn topics_are_encoded_in_the_query() {
        let args = SubscribeArgs {
            topics: vec!["live:a&b".to_owned(), "chat:1".to_owned()],
            url: String::new(),
            member: Some("ana b".to_owned()),
            last_event_id: None,
            token: None,
            json: false,
            count: None,
        };
        assert_eq!(path(&args), "/v1/events?topic=live:a%26b&topic=chat:1&member=ana%20b");
    }
}
