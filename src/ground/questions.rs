//! Questions to the key-value store by way of a dispatcher: asked here, and relayed there.

use std::sync::Arc;
use std::time::Instant;

use crate::ground::Ground;
use crate::ground::answering::{Handled, Incoming};
use crate::ground::asking::Asked;
use crate::ground::link::{Call, Called, Destination, Lane, Outcome, may_repeat};
use crate::ground::slots::Conn;
use crate::kv::{Answer, Heard, Request, Unavailable};
use crate::limits::*;
use crate::runtime::account::Reservation;
use crate::runtime::random::Map;
use crate::wire::http::HttpError;
use crate::wire::status::Status;

#[derive(Debug)]
pub(crate) struct Question {
    request: Request,
    deadline: Instant,
    /// Which dispatcher was asked last, and when.
    asked: Option<(Destination, Instant)>,
}

/// A shard's questions to dispatchers.
#[derive(Debug, Default)]
pub struct Questions {
    open: Map<u64, Question>,
    /// Tickets of those that are to be sent, oldest first.
    unsent: Vec<u64>,
    /// What is being told was answered by a dispatcher, and not given up here.
    pub(crate) answered: bool,
}

/// What the store says, each to its question.
pub type Answered = Result<Answer, Unavailable>;

/// Questions of another node that this one's store is asked.
#[derive(Debug)]
pub struct Relay {
    pub(crate) conn: Conn,
    pub(crate) answers: Vec<Option<Answered>>,
    pub(crate) missing: usize,
    /// What they take until they are answered.
    _held: Reservation,
}

impl Ground {
    /// Keeps a question for a dispatcher. It is sent at the end of the turn, with all others of this turn; its answer comes
    /// later, and surely, within [`KV_TIMEOUT`].
    pub(crate) fn ask_dispatcher(&mut self, ticket: u64, request: Request) {
        let now = self.clock.instant;
        let questions = &mut self.cluster.questions;
        // One too many is answered at the next tick, as if nobody had.
        let is_full = questions.open.len() >= QUESTIONS_MAX;
        let deadline = if is_full { now } else { now + KV_TIMEOUT };
        questions.open.insert(ticket, Question { request, deadline, asked: None });
        if !is_full {
            questions.unsent.push(ticket);
        }
    }

    /// Sends the questions that wait, to one dispatcher a request.
    pub(crate) fn send_questions(&mut self) {
        while !self.cluster.questions.unsent.is_empty() {
            let Questions { open, unsent, .. } = &self.cluster.questions;
            let before = unsent.first().and_then(|ticket| open.get(ticket)?.asked).map(|(dispatcher, _)| dispatcher);
            let Some(dispatcher) = self.pick_dispatcher(Lane::Questions, before) else { return };
            let now = self.clock.instant;
            let unsent = std::mem::take(&mut self.cluster.questions.unsent);
            let (mut body, mut tickets, mut at) = (b"[".to_vec(), Vec::new(), 0);
            for &ticket in &unsent {
                if tickets.len() == QUESTIONS_PER_CALL || body.len() > QUESTIONS_BYTES {
                    break;
                }
                let Some(question) = self.cluster.questions.open.get_mut(&ticket) else {
                    at += 1;
                    continue;
                };
                // Their answers are large.
                let is_large = matches!(question.request, Request::Read(_) | Request::Latest(_));
                if is_large && !tickets.is_empty() {
                    break;
                }
                at += 1;
                question.asked = Some((dispatcher, now));
                if !tickets.is_empty() {
                    body.push(b',');
                }
                serde_json::to_writer(&mut body, &question.request).expect("a question is plain data");
                tickets.push(ticket);
                if is_large {
                    break;
                }
            }
            body.push(b']');
            self.cluster.questions.unsent.extend_from_slice(&unsent[at..]);
            if tickets.is_empty() {
                continue;
            }
            let call = Call {
                path: "/v1/internal/kv",
                content_type: "application/json",
                body: Arc::new(body),
                deadline: now + QUESTIONS_TIMEOUT,
                what: Called::Questions(tickets),
            };
            if let Err(Called::Questions(tickets)) = self.call((dispatcher, Lane::Questions), call) {
                self.cluster.questions.unsent.splice(0..0, tickets);
                return;
            }
        }
    }

    /// A dispatcher answered questions, or did not.
    pub(crate) fn on_questions_answered(&mut self, tickets: Vec<u64>, outcome: Outcome) {
        let problem = match outcome {
            Outcome::Answer(200, body) => match serde_json::from_slice::<Vec<Answered>>(&body) {
                Ok(answers) if answers.len() == tickets.len() => {
                    for (ticket, answer) in tickets.into_iter().zip(answers) {
                        if self.cluster.questions.open.remove(&ticket).is_some() {
                            self.cluster.questions.answered = true;
                            self.on_heard(Heard::Answer { ticket, result: answer });
                        }
                    }
                    return;
                }
                Ok(_) => "a dispatcher's answer is not as long as the question".to_owned(),
                Err(error) => format!("a dispatcher's answer is not understood: {error}"),
            },
            Outcome::Answer(503, _) | Outcome::NotTaken => return self.ask_again(tickets, false),
            Outcome::Unknown => return self.ask_again(tickets, true),
            Outcome::Answer(status, body) => {
                let text = String::from_utf8_lossy(&body[..body.len().min(300)]).into_owned();
                format!("a dispatcher refused with status {status}: {text}")
            }
        };
        for ticket in tickets {
            self.give_up_question(ticket, &problem);
        }
    }

    /// Asks another dispatcher, but for questions of an unknown fate that must not be asked twice.
    fn ask_again(&mut self, tickets: Vec<u64>, unknown: bool) {
        for ticket in tickets {
            let Some(question) = self.cluster.questions.open.get(&ticket) else { continue };
            if unknown && !may_repeat(&question.request) {
                self.give_up_question(ticket, "a dispatcher broke off; whether it did as asked is not known");
            } else {
                self.cluster.questions.unsent.push(ticket);
            }
        }
    }

    fn give_up_question(&mut self, ticket: u64, why: &str) {
        if self.cluster.questions.open.remove(&ticket).is_some() {
            self.cluster.questions.answered = false;
            self.on_heard(Heard::Answer { ticket, result: Err(Unavailable(why.to_owned())) });
        }
    }

    /// Once a tick: nobody waits longer than [`KV_TIMEOUT`], nor for one dispatcher that hangs.
    pub(crate) fn tick_questions(&mut self) {
        let now = self.clock.instant;
        let open = &self.cluster.questions.open;
        let late: Vec<u64> =
            open.iter().filter(|(_, question)| question.deadline <= now).map(|(ticket, _)| *ticket).collect();
        for ticket in late {
            self.give_up_question(ticket, "no dispatcher answers");
        }
        let Questions { open, unsent, .. } = &mut self.cluster.questions;
        unsent.retain(|ticket| open.contains_key(ticket));
        for (ticket, question) in open {
            let is_late = |(_, since): (_, Instant)| now.saturating_duration_since(since) >= QUESTION_HEDGE;
            if question.asked.is_some_and(is_late) && may_repeat(&question.request) {
                // Until it is sent it does not count as asked, and so is not queued again.
                question.asked = question.asked.map(|(dispatcher, _)| (dispatcher, question.deadline));
                unsent.push(*ticket);
            }
        }
    }

    /// `POST /v1/internal/kv`: another node's questions to this one's store.
    pub(crate) fn relay_questions(&mut self, incoming: Incoming<'_>) -> Result<Handled, HttpError> {
        let Incoming { conn, to, body, .. } = incoming;
        let requests: Vec<Request> = serde_json::from_slice(body)
            .map_err(|error| HttpError::bad(format!("the body must be a list of questions: {error}")))?;
        if let Some((at, problem)) = requests.iter().enumerate().find_map(|(at, one)| Some((at, one.problem()?))) {
            return Err(HttpError::bad(format!("question {at}: {problem}")));
        }
        if requests.is_empty() {
            return Ok(Handled::Answered(self.answers().json(to, Status::Ok, b"[]")));
        }
        let held = self.reserve_question(body.len())?;
        let id = self.cluster.next_relay;
        self.cluster.next_relay += 1;
        let answers = requests.iter().map(|_| None).collect();
        self.cluster.relays.insert(id, Relay { conn, answers, missing: requests.len(), _held: held });
        for (at, request) in requests.into_iter().enumerate() {
            self.ask(request, Asked::Relay { id, at });
        }
        Ok(Handled::Later)
    }
}
