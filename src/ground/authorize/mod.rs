//! An operator's own server is asked before somebody subscribes or publishes. Who asks waits: a request as it came, which is then
//! served once more, or an open stream, which keeps what it has. Each shard keeps answers; the first one asks, so that the same is
//! asked once however many want to know.
//!
//! - [`kept`]: answers that still hold.
//! - [`asking`]: which questions are asked, and when none is.
//! - `shard/authorizing.rs`: what a request wants.
//! - `http/parked.rs`: the request that waits.
//! - `frontend/granting.rs`: streams are asked about again.

pub mod asking;
pub mod kept;

use std::sync::Arc;
use std::time::Instant;

use tracing::{info, warn};

use crate::ground::access::Access;
use crate::ground::authorize::asking::{Asking, Next, Settled};
use crate::ground::authorize::kept::Kept;
use crate::ground::hooks::Failure;
use crate::ground::message::Message;
use crate::ground::slots::Conn;
use crate::ground::{Ground, Reply};
use crate::limits::*;
use crate::observe::happenings::What;
use crate::observe::happenings::subject::Subject;
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::runtime::trouble::Told;
use crate::wire::authorize::{Action, Answer, Question, Who};
use crate::wire::http::HttpError;
use crate::wire::request::Request;
use crate::wire::status::Status;

/// Asks the operator's server.
pub trait Authorizer: Send + Sync {
    /// Takes a question, without waiting; false if it has no room. What came of it is told to the first shard by
    /// [`Message::Answered`], surely, and not much later than `deadline`.
    fn submit(&self, text: Arc<str>, deadline: Instant) -> bool;

    /// What the log calls the server: its URL, without what may be a secret.
    fn name(&self) -> &str;
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server answered, and that holds until a time in Unix ms.
    Answered(Arc<Answer>, u64),
    /// It did not.
    Away,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiter {
    /// A request that came in by this connection.
    Request(Conn),
    /// An open stream.
    Stream(Conn),
}

/// By what an open stream has its topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What was asked, of its topics those that it had then.
    pub question: Arc<Question>,
    /// When it is asked again, in Unix ms.
    pub until_ms: u64,
    /// It is being asked.
    pub asking: bool,
}

impl Grant {
    /// The stream got more topics, by this one.
    pub fn join(self, more: Grant) -> Grant {
        let mut question = Question::clone(&more.question);
        if question.who.member.is_none() {
            // Without tokens a change of topics names nobody, and the stream did.
            question.who = Arc::clone(&self.question.who);
        }
        question.topics.extend(self.question.topics.iter().cloned());
        question.topics.sort();
        question.topics.dedup();
        Grant { question: Arc::new(question), until_ms: self.until_ms.min(more.until_ms), asking: false }
    }

    /// Whether it is to be asked again now. It then is.
    pub fn is_due(&mut self, now_ms: u64) -> bool {
        self.until_ms <= now_ms && !std::mem::replace(&mut self.asking, true)
    }
}

/// What such a failure is counted as.
fn what(failure: Failure) -> What {
    match failure {
        Failure::Connect => What::AuthorizeFailedConnect,
        Failure::Timeout => What::AuthorizeFailedTimeout,
        Failure::Status(_) => What::AuthorizeFailedStatus,
        Failure::Redirect => What::AuthorizeFailedRedirect,
        Failure::Answer => What::AuthorizeFailedAnswer,
    }
}

/// A shard's part in it.
#[derive(Debug, Default)]
pub struct Authorizing {
    pub(crate) kept: Kept,
    waiting: Map<Arc<str>, Vec<Waiter>>,
    /// How many they are.
    waiters: usize,
    /// For the request that is being served once more.
    pub(crate) verdict: Option<Verdict>,
    /// A request is being served once more.
    pub(crate) is_resumed: bool,
    /// On the first shard.
    asking: Asking,
    told: Told,
}

impl Ground {
    /// Whether there is a server to ask.
    pub(crate) fn authorizes(&self) -> bool {
        self.node.authorizer.is_some()
    }

    /// Who makes a request, as the server is told.
    pub(crate) fn who_asks(
        &self,
        conn: Conn,
        request: &Request<'_>,
        access: Option<&Access>,
        named: Option<String>,
    ) -> Arc<Who> {
        let member = match access {
            Some(Access::Token(rights)) => rights.sub.as_deref().map(str::to_owned),
            _ => named,
        };
        let address = self.client(conn, request).map(|address| address.to_canonical().to_string());
        let header = |name: &&'static str| {
            let value = match *name {
                "authorization" => request.authorization,
                "cookie" => request.cookie,
                _ => request.origin,
            };
            value.map(|value| (*name, value.to_owned()))
        };
        let headers = self.live.authorize.headers.iter().filter_map(header).collect();
        Arc::new(Who { member, address, headers })
    }

    /// What is answered to a question, if that is known or can be told at once. Otherwise who waits is told later.
    pub(crate) fn ask_server(&mut self, question: &Question, waiter: Waiter) -> Option<Verdict> {
        let text = question.text();
        if let Some((answer, until_ms)) = self.authorizing.kept.get(&text, self.clock.unix_ms) {
            self.counters().authorize_kept.add(1);
            return Some(Verdict::Answered(answer, until_ms));
        }
        if self.authorizing.waiters >= AUTHORIZE_WAITING_MAX {
            self.happened(What::AuthorizeFailedFull, 1, Subject::default());
            return Some(Verdict::Away);
        }
        self.authorizing.waiters += 1;
        let waiting = self.authorizing.waiting.entry(Arc::clone(&text)).or_default();
        waiting.push(waiter);
        if waiting.len() == 1 {
            let again = matches!(waiter, Waiter::Stream(_));
            self.send(0, Message::Ask { text, shard: self.id, again });
        }
        None
    }

    /// Whether somebody may publish a line's event of this type to these topics; false if who waits is told later.
    ///
    /// # Errors
    /// As [`Ground::require_allowed`].
    pub(crate) fn may_publish(
        &mut self,
        conn: Conn,
        topics: &[&str],
        kind: &str,
        who: &Arc<Who>,
    ) -> Result<bool, HttpError> {
        let topics = topics.iter().map(|topic| Box::from(*topic)).collect();
        let (action, kind) = (Action::Publish, Some(kind.into()));
        let question = Question { action, topics, kind, who: Arc::clone(who) };
        let verdict = self.authorizing.verdict.take().or_else(|| self.ask_server(&question, Waiter::Request(conn)));
        verdict.map_or(Ok(false), |verdict| self.require_allowed(&question, &verdict).map(|_| true))
    }

    /// Until when a request may do what it asks, in Unix ms.
    ///
    /// # Errors
    /// 403 where the server refuses it, or one of its topics; 503 where it does not answer, unless that allows all.
    pub(crate) fn require_allowed(&self, question: &Question, verdict: &Verdict) -> Result<u64, HttpError> {
        match verdict {
            Verdict::Away if self.live.authorize.away_allows => Ok(self.clock.unix_ms),
            Verdict::Away => Err(HttpError::unavailable(
                "whether this is allowed is for another server to say, which does not answer now; try again",
            )),
            Verdict::Answered(answer, until_ms) => {
                let refused = |detail: String| HttpError::new(Status::Forbidden, detail);
                match &**answer {
                    Answer::Refused { detail: Some(detail), .. } => Err(refused(detail.to_string())),
                    Answer::Refused { detail: None, .. } => {
                        let does = if question.action == Action::Publish { "publish" } else { "subscribe" };
                        Err(refused(format!("the server that is asked who may {does} refuses this")))
                    }
                    Answer::Allowed { topics: Some(allowed), .. } => {
                        match question.topics.iter().find(|topic| !allowed.contains(topic)) {
                            Some(topic) => Err(refused(format!("the server that is asked refuses the topic {topic}"))),
                            None => Ok(*until_ms),
                        }
                    }
                    Answer::Allowed { topics: None, .. } => Ok(*until_ms),
                }
            }
        }
    }

    /// What a stream has by an answer that holds until a time in Unix ms.
    pub(crate) fn grant(&mut self, question: Arc<Question>, until_ms: u64) -> Grant {
        Grant { question, until_ms: self.ask_again_at(until_ms), asking: false }
    }

    /// When a stream is asked about again whose answer holds until a time in Unix ms: somewhat sooner than that, and not all at once.
    pub(crate) fn ask_again_at(&mut self, until_ms: u64) -> u64 {
        let (now_ms, again_ms) = (self.clock.unix_ms, AUTHORIZE_AGAIN.as_millis() as u64);
        let left_ms = until_ms.saturating_sub(now_ms);
        let sooner_ms = self.random.number() % (left_ms / 10 + 1);
        now_ms + (left_ms - sooner_ms).max(again_ms)
    }

    /// On the first shard: one wants to know.
    pub(crate) fn on_ask(&mut self, text: Arc<str>, shard: usize, again: bool) {
        let Some(authorizer) = self.node.authorizer.clone() else { return };
        if let Some((answer, until_ms)) = self.authorizing.kept.get(&text, self.clock.unix_ms) {
            return self.send(shard, Message::Verdict { text, verdict: Verdict::Answered(answer, until_ms) });
        }
        let (now, deadline) = (self.clock.instant, self.clock.instant + self.live.authorize.deadline);
        let mut next = self.authorizing.asking.ask(&text, shard, again, now, deadline);
        if next == Next::Ask && !authorizer.submit(Arc::clone(&text), deadline) {
            self.authorizing.asking.take_back(&text);
            next = Next::Full;
        }
        self.counters().authorize_waiting.set(self.authorizing.asking.len() as u64);
        let what = match next {
            Next::Ask | Next::Wait => return,
            Next::Paused => What::AuthorizeFailedPaused,
            Next::Full => What::AuthorizeFailedFull,
        };
        self.happened(what, 1, Subject::default());
        self.send(shard, Message::Verdict { text, verdict: Verdict::Away });
    }

    /// On the first shard: the server answered, or did not.
    pub(crate) fn on_answered(&mut self, text: Arc<str>, answer: Result<Answer, Failure>) {
        let (now, chance) = (self.clock.instant, self.random.number());
        let settled = self.authorizing.asking.settle(&text, answer.is_err(), chance, now);
        // It came too late: those who waited were told so.
        let Some(Settled { shards, turned }) = settled else { return };
        let is_away = self.authorizing.asking.is_away();
        let counters = self.counters();
        counters.authorize_away.set(is_away.into());
        counters.authorize_waiting.set(self.authorizing.asking.len() as u64);
        match &answer {
            Ok(Answer::Allowed { .. }) => counters.authorize_allowed.add(1),
            Ok(Answer::Refused { .. }) => counters.authorize_refused.add(1),
            Err(failure) => self.happened(what(*failure), 1, Subject::says(format_args!("{failure:?}"))),
        }
        self.tell_of_server(answer.as_ref().err(), turned, is_away);
        let verdict = match answer {
            Ok(answer) => {
                let kept = match &answer {
                    Answer::Allowed { kept, .. } => kept.unwrap_or(self.live.authorize.keep),
                    Answer::Refused { kept, .. } => kept.unwrap_or(AUTHORIZE_REFUSED_KEEP),
                };
                Verdict::Answered(Arc::new(answer), self.clock.unix_ms + kept.as_millis() as u64)
            }
            Err(_) => Verdict::Away,
        };
        if let Verdict::Answered(answer, until_ms) = &verdict
            && *until_ms > self.clock.unix_ms
        {
            self.authorizing.kept.put(Arc::clone(&text), Arc::clone(answer), *until_ms);
        }
        for shard in shards {
            self.send(shard, Message::Verdict { text: Arc::clone(&text), verdict: verdict.clone() });
        }
    }

    fn tell_of_server(&mut self, failure: Option<&Failure>, turned: bool, is_away: bool) {
        let Some(authorizer) = &self.node.authorizer else { return };
        let server = authorizer.name();
        let Some(failure) = failure else {
            if turned {
                info!(server, "the server that is asked who may do what answers again");
            }
            return;
        };
        if self.authorizing.told.fails(self.clock.instant) {
            let holds = if self.live.authorize.away_allows { "allowed" } else { "refused" };
            let asked = if is_away { "it is asked less until it answers" } else { "it is asked on" };
            warn!(
                server,
                ?failure,
                "the server that is asked who may do what fails: what it does not answer is {holds}, and {asked}; told once a minute"
            );
        }
    }

    /// A question of this shard's has its answer. Gives the streams that waited for it; requests are served once more.
    pub(crate) fn on_verdict(&mut self, text: &Arc<str>, verdict: &Verdict) -> Vec<Conn> {
        if let Verdict::Answered(answer, until_ms) = verdict
            && *until_ms > self.clock.unix_ms
        {
            self.authorizing.kept.put(Arc::clone(text), Arc::clone(answer), *until_ms);
        }
        let waiters = self.authorizing.waiting.remove(text).unwrap_or_default();
        shrink(&mut self.authorizing.waiting);
        self.authorizing.waiters -= waiters.len();
        let mut streams = Vec::new();
        for waiter in waiters {
            match waiter {
                Waiter::Request(conn) => self.reply(conn, Reply::Verdict(verdict.clone())),
                Waiter::Stream(conn) => streams.push(conn),
            }
        }
        streams
    }

    /// Once a tick, on the first shard: nobody waits longer than the deadline.
    pub(crate) fn tick_authorizing(&mut self) {
        if self.authorizing.asking.is_empty() {
            return;
        }
        for text in self.authorizing.asking.late(self.clock.instant) {
            self.on_answered(text, Err(Failure::Timeout));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(member: Option<&str>, topics: &[&str], until_ms: u64) -> Grant {
        let who = Arc::new(Who { member: member.map(str::to_owned), address: None, headers: Vec::new() });
        let topics = topics.iter().map(|topic| Box::from(*topic)).collect();
        let question = Arc::new(Question { action: Action::Subscribe, topics, kind: None, who });
        Grant { question, until_ms, asking: false }
    }

    #[test]
    fn a_grant_is_asked_again_once_when_it_is_over() {
        let mut grant = grant(None, &["live:1"], 7);
        assert!(!grant.is_due(6) && grant.is_due(7) && !grant.is_due(8));
    }

    #[test]
    fn what_a_stream_has_by_two_answers_ends_with_the_first() {
        let stream = grant(Some("ana"), &["live:2", "live:1"], 9);
        let joined = stream.clone().join(grant(None, &["live:3", "live:1"], 7));
        assert_eq!(
            (&*joined.question.topics, joined.until_ms),
            (&["live:1", "live:2", "live:3"].map(Box::from)[..], 7)
        );
        assert_eq!(joined.question.who.member.as_deref(), Some("ana"), "a change names nobody");
        let joined = stream.join(grant(Some("bob"), &["live:3"], 10));
        assert_eq!((joined.until_ms, joined.question.who.member.as_deref()), (9, Some("bob")));
    }
}
