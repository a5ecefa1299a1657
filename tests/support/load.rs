//! Those who publish, and who know what was acknowledged.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::site::{Reply, post};
use super::{described, eventually};

/// Between two posts of one publisher, unless told otherwise.
const PAUSE: Duration = Duration::from_millis(10);

/// What is posted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Events of this type, to dispatchers: they have ids of the publisher, who posts again what failed.
    Events(&'static str),
    /// Comments, to backends: these give the ids, and a failure leaves open what happened.
    Comments,
    /// Likes by a new member each, to backends, who post again what failed.
    Likes,
}

/// What one post says of itself.
struct Shared {
    taken: Mutex<Vec<String>>,
    stop: AtomicBool,
    /// Answers 503.
    refused: AtomicUsize,
    /// Of those, without `Retry-After`.
    rude: AtomicUsize,
    /// Posts without any answer.
    failed: AtomicUsize,
}

/// A publisher on a thread of its own, that posts to its topics in turns, one after the other.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// `topics` are topics of events, or videos of likes and comments.
    pub fn start(what: What, nodes: Vec<SocketAddr>, topics: &[String]) -> Load {
        Load::by("", what, nodes, topics, PAUSE)
    }

    /// The same, by one of several publishers, whose names their members and ids of events begin with.
    pub fn by(who: &str, what: What, nodes: Vec<SocketAddr>, topics: &[String], pause: Duration) -> Load {
        let who = who.to_owned();
        let shared = Arc::new(Shared {
            taken: Mutex::default(),
            stop: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            rude: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
        });
        let (own, topics) = (Arc::clone(&shared), topics.to_vec());
        let thread = std::thread::spawn(move || own.run(&who, what, &nodes, &topics, pause));
        Load { shared, thread: Some(thread) }
    }

    /// Ids that were acknowledged; of likes `video/member`.
    pub fn taken(&self) -> Vec<String> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.taken.lock().unwrap().len()
    }

    /// Answers 503 so far.
    pub fn refused(&self) -> usize {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Posts without an answer so far.
    pub fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Waits until so many more were acknowledged.
    #[track_caller]
    pub fn more(&self, count: usize) {
        let wanted = self.count() + count;
        eventually("more to be taken", || match self.count() {
            taken if taken >= wanted => Ok(()),
            taken => Err(format!("{taken} of {wanted}; {} refused, {} failed", self.refused(), self.failed())),
        });
    }

    /// Ends it. Gives all that was acknowledged.
    pub fn stop(mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("once").join().expect("the publisher");
        assert_eq!(self.shared.rude.load(Ordering::Relaxed), 0, "503 without Retry-After");
        self.taken()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn run(&self, who: &str, what: What, nodes: &[SocketAddr], topics: &[String], pause: Duration) {
        let mut at = 0;
        for number in 0.. {
            for topic in topics {
                let (target, body, own) = describe(who, what, topic, number);
                loop {
                    if self.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    at += 1;
                    let answer = post(nodes[at % nodes.len()], &target, &body);
                    std::thread::sleep(pause);
                    match answer {
                        // A like that was stored though nobody said so is 200 when it comes again.
                        Ok(reply) if matches!(reply.status, 200..=202) => {
                            self.taken.lock().unwrap().push(id(what, &reply).unwrap_or(own));
                            break;
                        }
                        Ok(reply) => {
                            assert_eq!(reply.status, 503, "{reply:?}");
                            self.refused.fetch_add(1, Ordering::Relaxed);
                            self.rude.fetch_add(usize::from(!reply.retry_after), Ordering::Relaxed);
                        }
                        Err(_) => {
                            self.failed.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    if what == What::Comments {
                        break;
                    }
                }
            }
        }
    }
}

/// Target, body, and the id if the publisher gives it.
fn describe(who: &str, what: What, topic: &str, number: u64) -> (String, String, String) {
    match what {
        What::Events(kind) => {
            let id = format!("{who}{kind}/{topic}/{number}");
            let body = json!({"type": kind, "id": id, "key": "k", "data": number}).to_string();
            described::note_published(body.as_bytes());
            (format!("/v1/topics/{topic}/events"), body, id)
        }
        What::Comments => {
            let body = json!({"member": format!("{who}ana"), "text": number.to_string()});
            (format!("/v1/videos/{topic}/comments"), body.to_string(), String::new())
        }
        What::Likes => {
            let body = json!({"member": format!("{who}m{number}"), "reaction": "like"});
            (format!("/v1/videos/{topic}/likes"), body.to_string(), format!("{topic}/{who}m{number}"))
        }
    }
}

fn id(what: What, reply: &Reply) -> Option<String> {
    match what {
        What::Likes => None,
        _ => Some(reply.body["id"].as_str().expect("an id").to_owned()),
    }
}
