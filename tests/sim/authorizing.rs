//! A server that is asked who may do what, and that answers late, twice, wrongly or never: each request has one answer, in its
//! order, and none that the server did not mean.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanfare::ground::authorize::Authorizer;
use fanfare::ground::hooks::Failure;
use fanfare::ground::message::Message;
use fanfare::kv::memory::MemoryKv;
use fanfare::limits::{AUTHORIZE_PAUSE_MAX, TICK};
use fanfare::runtime::random::Random;
use fanfare::settings::{Flags, Role, Settings};
use fanfare::wire::authorize::Answer;

use crate::lone::{Client, Process, times};

const SECRET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/hook.secret");

/// Topics; of each second one nothing may be published.
const TOPICS: u64 = 6;

/// Questions that are on their way.
#[derive(Default)]
struct Server {
    asked: Mutex<VecDeque<Arc<str>>>,
    chance: Mutex<Chance>,
}

/// By which a question finds no room.
struct Chance(Random);

impl Default for Chance {
    fn default() -> Chance {
        Chance(Random::new(7))
    }
}

impl Authorizer for Server {
    fn submit(&self, text: Arc<str>, _: Instant) -> bool {
        let fits = !self.chance.lock().expect("nobody panicked").0.number().is_multiple_of(20);
        if fits {
            self.asked.lock().expect("nobody panicked").push_back(text);
        }
        fits
    }

    fn name(&self) -> &str {
        "the simulated one"
    }
}

/// A client which sends its requests as it is read.
struct Sends {
    left: Vec<u8>,
    random: Random,
    answers: Arc<Mutex<String>>,
}

impl Client for Sends {
    fn is_read(&mut self, into: &mut [u8]) -> Option<usize> {
        let count = (self.random.number() as usize % 700).min(self.left.len()).min(into.len());
        if count == 0 {
            return None;
        }
        into[..count].copy_from_slice(&self.left[..count]);
        self.left.drain(..count);
        Some(count)
    }

    fn is_sent(&mut self, bytes: &[u8]) {
        *self.answers.lock().expect("nobody panicked") += &String::from_utf8_lossy(bytes);
    }
}

fn event(topic: u64) -> String {
    format!("{{\"topic\":\"room:{topic}\",\"type\":\"wave\"}}")
}

/// Requests that publish, and what each is about.
fn requests(random: &mut Random) -> (Vec<u8>, Vec<Vec<u64>>) {
    let (mut bytes, mut wanted) = (String::new(), Vec::new());
    for _ in 0..12 {
        let mut topic = || random.number() % TOPICS;
        let topics: Vec<u64> = if topic() == 0 { (0..20).map(|_| topic()).collect() } else { vec![topic()] };
        let (path, body) = match topics[..] {
            [topic] => (format!("/v1/topics/room:{topic}/events"), "{\"type\":\"wave\"}".to_owned()),
            _ => ("/v1/events".to_owned(), topics.iter().map(|topic| event(*topic) + "\n").collect()),
        };
        write!(bytes, "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .expect("it is a string");
        wanted.push(topics);
    }
    (bytes.into_bytes(), wanted)
}

/// What a server that works says of a question.
fn meant(text: &str) -> Answer {
    let question: serde_json::Value = serde_json::from_str(text).expect("a question is JSON");
    let topic = question["topics"][0].as_str().expect("a topic");
    let number: u64 = topic["room:".len()..].parse().expect("a number");
    let kept = number.is_multiple_of(3).then_some(Duration::ZERO);
    match number % 2 {
        0 => Answer::Allowed { topics: None, kept },
        _ => Answer::Refused { detail: None, kept },
    }
}

/// Whether an answer may be that of a request about these topics, of which the server meant to allow the even ones.
fn fits(topics: &[u64], status: &str, body: &str) -> bool {
    match topics {
        [topic] => status == "503" || status == if topic % 2 == 0 { "202" } else { "403" },
        topics => {
            let Ok(body) = serde_json::from_str::<serde_json::Value>(body) else { return false };
            let rejected = body["rejected"].as_array().map_or(&[][..], Vec::as_slice);
            let why = |line: usize| rejected.iter().find(|one| one["line"] == line as u64 + 1)?["detail"].as_str();
            let line_fits = |(line, topic): (usize, &u64)| match why(line) {
                None => topic % 2 == 0,
                Some(why) => topic % 2 == 1 || why.contains("does not answer"),
            };
            status == "202"
                && body["accepted"].as_u64() == Some((topics.len() - rejected.len()) as u64)
                && topics.iter().enumerate().all(line_fits)
        }
    }
}

fn run(seed: u64) {
    let environment = [("FANFARE_AUTHORIZE", "https://app.example/"), ("FANFARE_AUTHORIZE_SECRET_FILE", SECRET)];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let settings = Settings::resolve(Role::All, &Flags::default(), environment).expect("the settings are right");
    let mut random = Random::new(seed);
    let (server, kv) = (Arc::new(Server::default()), Arc::new(MemoryKv::new(3_600_000, times())));
    let sent = [(); 2].map(|()| requests(&mut random));
    let answers = [(); 2].map(|()| Arc::<Mutex<String>>::default());
    let mut mail = None;
    let mut process = Process::asking(&settings, Some(kv), Some(Arc::clone(&server) as _), |mails: &[_; 2]| {
        mail = Some(mails[0].clone());
        [0, 1].map(|core| Sends {
            left: sent[core].0.clone(),
            random: Random::new(seed + core as u64),
            answers: Arc::clone(&answers[core]),
        })
    });
    let mail = mail.expect("it was just given");
    (0..2).for_each(|core| process.comes(core));
    let works = seed.is_multiple_of(3);
    for step in 0..1_500 {
        process.has_sent(random.number() as usize % 2);
        let asked = server.asked.lock().expect("nobody panicked").pop_front();
        if let Some(text) = asked {
            let tell = |text: &Arc<str>, answer| {
                mail.send(Message::Answered { text: Arc::clone(text), answer }).expect("there is room");
            };
            match random.number() % 8 {
                // Later, or never.
                0 | 1 if !works => server.asked.lock().expect("nobody panicked").push_back(text),
                2 if !works => {}
                3 if !works => tell(&text, Err(Failure::Status(500))),
                4 if !works => {
                    tell(&text, Ok(meant(&text)));
                    tell(&text, Ok(meant(&text)));
                }
                _ => tell(&text, Ok(meant(&text))),
            }
        }
        if random.number().is_multiple_of(4) {
            process.passes(TICK * (random.number() % 8) as u32);
        }
        if step % 300 == 299 {
            process.passes(AUTHORIZE_PAUSE_MAX);
        }
    }
    process.settle();
    for ((_, wanted), answers) in sent.iter().zip(&answers) {
        let text = answers.lock().expect("nobody panicked");
        let given: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
        assert_eq!(given.len(), wanted.len(), "seed {seed}: {text}");
        for (topics, answer) in wanted.iter().zip(given) {
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(fits(topics, &head[..3], body), "seed {seed}: {topics:?}: {answer}");
        }
    }
}

#[test]
fn request_without_an_answer_or_with_one_that_was_not_meant() {
    (0..60).for_each(run);
}
