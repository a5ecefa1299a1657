//! `fanfare publish`: one event, from a shell.

use std::io::{IsTerminal as _, Read as _};
use std::process::ExitCode;
use std::time::Duration;

use super::http::{self, Error, Request, Url, percent_encode};

/// The flags of `fanfare publish`. Not `Debug`, since they hold a token.
#[derive(Clone, clap::Args)]
#[command(after_help = "\
Examples:
  fanfare publish live:42 like '{\"member\":\"ana\"}'
  date +%s | fanfare publish clock:tick second")]
pub struct PublishArgs {
    /// Topic to send to, such as live:42
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Type of the event, such as like
    #[arg(value_name = "TYPE")]
    pub event_type: String,
    /// Data of the event as JSON [default: standard input, or null if that is a terminal]
    #[arg(value_name = "JSON", allow_hyphen_values = true)]
    pub data: Option<String>,
    /// Send to the dispatcher at this URL
    #[arg(long, env = "FANFARE_URL", hide_env = true, default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// Key under which events of one type merge or replace one another [default: none]
    #[arg(long)]
    pub key: Option<String>,
    /// Identity of the event, so that a repeat is recognised [default: one is made]
    #[arg(long)]
    pub id: Option<String>,
    /// Present this token; FANFARE_TOKEN keeps it out of the list of processes [default: none]
    #[arg(long, env = "FANFARE_TOKEN", hide_env = true)]
    pub token: Option<String>,
}

/// How long the answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of JSON read from standard input at most; the server's own limit on an event is lower.
const INPUT_BYTES_MAX: u64 = 1024 * 1024;

/// Publishes and prints the event's id. Exit status 0, 1 when the server did not take it, 2 for a mistake in the arguments.
pub fn run(args: &PublishArgs) -> ExitCode {
    match publish(args) {
        Ok(id) => {
            println!("{id}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fanfare publish: {error}");
            ExitCode::from(match error {
                Failure::Json(_) | Failure::Http(Error::Url(_)) => 2,
                _ => 1,
            })
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the data is not JSON: {0}; a text needs its quotes, as in '\"hello\"'")]
    Json(serde_json::Error),
    #[error("cannot read standard input: {0}")]
    Input(std::io::Error),
    #[error(transparent)]
    Http(#[from] Error),
}

fn publish(args: &PublishArgs) -> Result<String, Failure> {
    let text = match &args.data {
        Some(data) => data.clone(),
        None if std::io::stdin().is_terminal() => "null".to_owned(),
        None => {
            let mut text = String::new();
            std::io::stdin().take(INPUT_BYTES_MAX).read_to_string(&mut text).map_err(Failure::Input)?;
            // Nothing at all, as from /dev/null, is no data.
            if text.trim().is_empty() { "null".to_owned() } else { text }
        }
    };
    let body = body(&args.event_type, args.key.as_deref(), args.id.as_deref(), &text).map_err(Failure::Json)?;
    let url = Url::parse(&args.url)?;
    let path = format!("/v1/topics/{}/events", percent_encode(&args.topic));
    let (token, patience) = (args.token.as_deref(), Some(ANSWER_TIMEOUT));
    let text = http::send(&url, &Request { path: &path, token, json: Some(&body), patience, headers: &[] })?.text()?;
    let id = serde_json::from_str::<serde_json::Value>(&text)
        .ok()
        .and_then(|answer| answer.get("id")?.as_str().map(str::to_owned));
    Ok(id.unwrap_or(text))
}

/// The request's body. The data is put in as it was typed, since numbers and key order are the caller's business.
pub(super) fn body(kind: &str, key: Option<&str>, id: Option<&str>, data: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str::<serde::de::IgnoredAny>(data)?;
    let mut body = format!("{{\"type\":{}", serde_json::Value::from(kind));
    for (name, value) in [("key", key), ("id", id)] {
        if let Some(value) = value {
            body.push_str(&format!(",\"{name}\":{}", serde_json::Value::from(value)));
        }
    }
    body.push_str(&format!(",\"data\":{}}}", data.trim()));
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_keeps_the_data_as_typed() {
        let body = |data| body("li\"ke", Some("k"), None, data);
        let made = body(" {\"b\":1.0,\"a\":12345678901234567890123} \n").unwrap();
        assert_eq!(made, r#"{"type":"li\"ke","key":"k","data":{"b":1.0,"a":12345678901234567890123}}"#);
        assert!(body("hello").is_err());
        assert!(body("1} , {").is_err());
    }
}
