//! Asks the operator's server who may do what, by threads of its own that may block.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use ureq::Agent;

use crate::auth::Watcher;
use crate::auth::watch::Shared;
use crate::ground::authorize::Authorizer;
use crate::ground::hooks::Failure;
use crate::ground::message::Message;
use crate::limits::*;
use crate::roles::hooks::{agent, failure, name, signed};
use crate::runtime::mailbox;
use crate::settings::{Secret, Settings, SettingsError};
use crate::wire::authorize::Answer;

/// A question, and when its answer is to be there.
type Asked = (Arc<str>, Instant);

/// The threads.
pub(super) struct Authorizing {
    queue: Sender<Asked>,
    name: Box<str>,
    secret: Shared<Secret>,
}

impl Authorizing {
    /// Starts them, where the settings name a server. They end with the node.
    pub(super) fn start(
        settings: &Settings,
        mail: &mailbox::Sender<Message>,
    ) -> Result<Option<Authorizing>, SettingsError> {
        let Some((url, secret)) = settings.authorize.as_ref().zip(settings.authorize_secret_file.as_ref()) else {
            return Ok(None);
        };
        let refuse = |problem: String| settings.refuse("authorize", &problem, "or leave it out");
        let agent = agent(url, AUTHORIZE_DEADLINE.1, AUTHORIZE_SENDERS).map_err(refuse)?;
        let secret = Shared::new(secret.clone());
        let (queue, asked) = bounded(AUTHORIZE_QUESTIONS_MAX);
        for _ in 0..AUTHORIZE_SENDERS {
            let (agent, secret, asked, mail) = (agent.clone(), secret.clone(), asked.clone(), mail.clone());
            let server = Server { url: url.to_string(), agent, secret };
            let work = move || server.work(&asked, &mail);
            let thread = std::thread::Builder::new().name("authorize".to_owned()).spawn(work);
            thread.map_err(|error| refuse(format!("no thread to ask by: {error}")))?;
        }
        Ok(Some(Authorizing { queue, name: name(url).into(), secret }))
    }

    /// What gives them questions.
    pub(super) fn authorizer(&self) -> Arc<dyn Authorizer> {
        Arc::new(Queue { queue: self.queue.clone(), name: self.name.clone() })
    }

    /// Begins to watch the file of the secret, for as long as the node lives.
    pub(super) fn watch(&self, settings: &Settings) -> Result<Watcher<Secret>, SettingsError> {
        let path = self.secret.load().path().to_owned();
        let refuse =
            |error: crate::auth::keys::KeyError| settings.refuse("authorize_secret_file", &error.problem, error.remedy);
        Watcher::of(&path, &self.secret).map_err(refuse)
    }
}

struct Queue {
    queue: Sender<Asked>,
    name: Box<str>,
}

impl Authorizer for Queue {
    fn submit(&self, text: Arc<str>, deadline: Instant) -> bool {
        self.queue.try_send((text, deadline)).is_ok()
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What asks it.
struct Server {
    url: String,
    agent: Agent,
    secret: Shared<Secret>,
}

impl Server {
    fn work(&self, asked: &Receiver<Asked>, mail: &mailbox::Sender<Message>) {
        for (text, deadline) in asked {
            let answer = self.ask(&text, deadline);
            // The shard is gone only when the node is.
            let _ = mail.send(Message::Answered { text, answer });
        }
    }

    fn ask(&self, text: &str, deadline: Instant) -> Result<Answer, Failure> {
        let id = format!("ask_{:016x}", getrandom::u64().unwrap_or_default());
        let send = || {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Nobody waits for it any more.
                return Err(Failure::Timeout);
            }
            let request = self.agent.post(&self.url).config().timeout_global(Some(left)).build();
            let request = signed(request, &self.secret, &id, text.as_bytes());
            request.send(text.as_bytes()).map_err(|error| failure(&error))
        };
        let mut answer = match send() {
            // A connection that was kept may just be closed, as idle, when it is used again.
            Err(Failure::Answer) => send()?,
            sent => sent?,
        };
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(AUTHORIZE_ANSWER_BYTES + 1).read_to_end(&mut body);
        match status {
            300..=399 => return Err(Failure::Redirect),
            200..=299 | 401 | 403 => {}
            status => return Err(Failure::Status(status)),
        }
        if let Err(error) = read {
            return Err(failure(&ureq::Error::from(error)));
        }
        if body.len() as u64 > AUTHORIZE_ANSWER_BYTES {
            return Err(Failure::Answer);
        }
        Answer::read(status, &body).map_err(|_| Failure::Answer)
    }
}
