//! Sends deliveries of hooks, by threads of its own that may block: a few for each hook, so that one whose receiver is slow holds
//! up no other.

use std::io::Read as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::typestate::WithBody;
use ureq::{Agent, RequestBuilder};

use crate::auth::Watcher;
use crate::auth::watch::Shared;
use crate::db::hooks::Delivery;
use crate::ground::hooks::{Attempt, Failure, Hook, HookSender, Ran, Run};
use crate::ground::message::Message;
use crate::limits::{HOOK_ANSWER_BYTES, HOOK_PAGE, HOOK_SENDERS, HOOK_TIMEOUT};
use crate::runtime::mailbox;
use crate::runtime::tls::requests_config;
use crate::settings::{self, Secret, Settings, SettingsError, Url, hook_keys};
use crate::wire::hooks;

/// The threads of all hooks.
pub(super) struct Hooks {
    queues: Vec<Sender<Run>>,
    secrets: Vec<Shared<Secret>>,
}

impl Hooks {
    /// Starts them, where the settings name hooks. They end with the node.
    pub(super) fn start(settings: &Settings, mail: &mailbox::Sender<Message>) -> Result<Option<Hooks>, SettingsError> {
        let mut hooks = Hooks { queues: Vec::new(), secrets: Vec::new() };
        for (number, hook) in settings.hooks.iter().enumerate() {
            let refuse = |problem: String| settings.refuse("hooks", &problem, "or leave the hook out");
            let agent = agent(&hook.url, HOOK_TIMEOUT, HOOK_SENDERS).map_err(refuse)?;
            let secret = Shared::new(hook.secret.clone());
            // As many as are under way at a time, with those that were taken meanwhile.
            let (queue, runs) = bounded(2 * HOOK_PAGE as usize);
            for _ in 0..HOOK_SENDERS {
                let (agent, secret, runs, mail) = (agent.clone(), secret.clone(), runs.clone(), mail.clone());
                let post = Post { number, url: hook.url.to_string(), agent, secret };
                let work = move || post.work(&runs, &mail);
                let thread = std::thread::Builder::new().name(format!("hook-{number}")).spawn(work);
                thread.map_err(|error| refuse(format!("no thread to send by: {error}")))?;
            }
            hooks.queues.push(queue);
            hooks.secrets.push(secret);
        }
        Ok((!hooks.queues.is_empty()).then_some(hooks))
    }

    /// What gives them deliveries.
    pub(super) fn sender(&self) -> Arc<dyn HookSender> {
        Arc::new(Queues(self.queues.clone()))
    }

    /// Begins to watch the files of secrets, for as long as the node lives.
    pub(super) fn watch(&self, settings: &Settings) -> Result<Vec<Watcher<Secret>>, SettingsError> {
        let watch = |secret: &Shared<Secret>| {
            let path = secret.load().path().to_owned();
            Watcher::of(&path, secret).map_err(|error| settings.refuse("hooks", &error.problem, error.remedy))
        };
        self.secrets.iter().map(watch).collect()
    }
}

/// By hook.
struct Queues(Vec<Sender<Run>>);

impl HookSender for Queues {
    fn submit(&self, run: Run) {
        // There is room for all that a backend takes from its database at a time.
        let sent = self.0[run.hook].try_send(run);
        debug_assert!(sent.is_ok(), "more is under way than was taken");
    }
}

/// What sends to one receiver.
struct Post {
    number: usize,
    url: String,
    agent: Agent,
    secret: Shared<Secret>,
}

impl Post {
    fn work(&self, runs: &Receiver<Run>, mail: &mailbox::Sender<Message>) {
        for run in runs {
            let mut goes_on = true;
            let mut attempts = Vec::with_capacity(run.deliveries.len());
            for delivery in &run.deliveries {
                let in_time = run.until.saturating_duration_since(Instant::now()) > HOOK_TIMEOUT;
                let attempt = if goes_on && in_time { self.send(delivery) } else { Attempt::Untried };
                goes_on &= attempt == Attempt::Taken;
                attempts.push((delivery.number, delivery.tries, attempt));
            }
            // The shard is gone only when the node is.
            let _ = mail.send(Message::HooksSent(Ran { hook: self.number, attempts }));
        }
    }

    fn send(&self, delivery: &Delivery) -> Attempt {
        let Delivery { id, sequence, event, subject, at, data, .. } = delivery;
        let body = hooks::body(*event, *sequence, subject, *at, data);
        match signed(self.agent.post(&self.url), &self.secret, id, &body).send(&body) {
            Ok(mut answer) => {
                let attempt = match answer.status().as_u16() {
                    200..=299 => Attempt::Taken,
                    300..=399 => Attempt::Failed(Failure::Redirect),
                    410 => Attempt::Ended,
                    status => Attempt::Failed(Failure::Status(status)),
                };
                // What is left of an answer would keep its connection from being used again.
                let mut rest = answer.body_mut().as_reader().take(HOOK_ANSWER_BYTES);
                let _ = std::io::copy(&mut rest, &mut std::io::sink());
                attempt
            }
            Err(error) => Attempt::Failed(failure(&error)),
        }
    }
}

/// A request that carries this body as JSON, under this id, signed now.
pub(super) fn signed(
    request: RequestBuilder<WithBody>,
    secret: &Shared<Secret>,
    id: &str,
    body: &[u8],
) -> RequestBuilder<WithBody> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // A file that changed to what is no secret was not taken up.
    let keys = hook_keys(&secret.load()).unwrap_or_default();
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, seconds, body)).collect();
    request
        .header("content-type", "application/json")
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds.to_string())
        .header("webhook-signature", signatures.join(" "))
}

/// A hook as shards know it.
pub(super) fn as_shards_know_it(hook: &settings::Hook) -> Hook {
    Hook { key: hook.key(), name: name(&hook.url), events: hook.events.clone() }
}

/// What the log calls a URL: without what may be a secret.
pub(super) fn name(url: &Url) -> String {
    let mut name = url.clone();
    name.set_query(None);
    name.into()
}

pub(super) fn failure(error: &ureq::Error) -> Failure {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock};
    match error {
        ureq::Error::Timeout(_) => Failure::Timeout,
        ureq::Error::Io(error) => match error.kind() {
            TimedOut | WouldBlock => Failure::Timeout,
            ConnectionReset | ConnectionAborted | UnexpectedEof => Failure::Answer,
            _ => Failure::Connect,
        },
        ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::Tls(_) | ureq::Error::Rustls(_) => {
            Failure::Connect
        }
        _ => Failure::Answer,
    }
}

/// A client that goes nowhere but where it is sent.
pub(super) fn agent(url: &Url, timeout: Duration, connections: usize) -> Result<Agent, String> {
    let is_secure = url.scheme() == "https";
    let config = Agent::config_builder()
        .tls_config(requests_config(is_secure)?)
        .https_only(is_secure)
        .timeout_global(Some(timeout))
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .user_agent(concat!("fanfare/", env!("CARGO_PKG_VERSION")));
    Ok(config.build().new_agent())
}
