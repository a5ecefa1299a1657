//! A simulated member, who likes, writes and deletes by way of backends, and tries again as docs/http.md tells.

use std::net::SocketAddr;

use fanfare::runtime::random::Random;
use serde_json::{Value, json};

use crate::clients::{Call, SECOND};
use crate::fabric::Fabric;
use crate::tokens::token;
use crate::world::SLOW_VIDEO;

/// Something that a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Comment,
    Message,
    Like,
    /// A like that is stored already.
    LikeAgain,
    Unlike,
    /// Deletes a comment.
    Delete,
}

/// What a member did, and what came of it.
#[derive(Debug, Clone)]
pub struct Done {
    pub deed: Deed,
    /// The video or conversation.
    pub place: String,
    /// The text of a post, or who likes: different for each.
    pub mark: String,
    /// Of a post, once it was answered, or is to be deleted.
    pub id: String,
    pub begun: u64,
    /// How often it may have been taken.
    pub attempts: u64,
    /// It was sent with an `Idempotency-Key`, so that it is done once.
    pub once: bool,
    /// Slow mode refused it, which does not say that no earlier try of it was stored.
    pub is_barred: bool,
}

/// A member, who does one thing after the other.
#[derive(Debug)]
pub struct Poster {
    pub number: usize,
    /// Each is a video and a conversation.
    places: Vec<String>,
    once: bool,
    /// How many things it began.
    pub count: u64,
    current: Option<Done>,
    /// Videos that are still to be liked, whatever else ends.
    last: Vec<String>,
    call: Call,
    pub done: Vec<Done>,
    pub refused: u64,
    pub stops: bool,
    pub shows_tokens: bool,
    /// [`SLOW_VIDEO`] has slow mode.
    pub slow: bool,
    pace: u64,
    /// What no backend may do.
    pub faults: Vec<String>,
}

impl Poster {
    pub fn new(number: usize, places: Vec<String>, once: bool, pace: u64, next: u64) -> Poster {
        Poster {
            number,
            places,
            once,
            count: 0,
            current: None,
            last: Vec::new(),
            call: Call::new(number, next),
            done: Vec::new(),
            refused: 0,
            stops: false,
            shows_tokens: false,
            slow: false,
            pace,
            faults: Vec::new(),
        }
    }

    /// When it wants its next turn.
    pub fn due(&self) -> u64 {
        self.call.next
    }

    /// What it does, and how often it asked for it.
    pub fn current(&self) -> Option<(&Done, u64)> {
        self.current.as_ref().map(|done| (done, self.call.attempts))
    }

    /// Nothing of it is under way.
    pub fn rests(&self) -> bool {
        self.stops && self.current.is_none() && self.last.is_empty()
    }

    /// Likes each video once more, so that all who watch it know how many like it.
    pub fn like_all(&mut self, now: u64) {
        self.last.clone_from(&self.places);
        self.call.next = now;
    }

    fn is_undone(&self, like_or_post: &Done) -> bool {
        self.done.iter().any(|done| matches!(done.deed, Deed::Unlike | Deed::Delete) && done.mark == like_or_post.mark)
    }

    fn draft(&mut self, random: &mut Random, now: u64) -> Done {
        self.count += 1;
        let mark = format!("p{}-{}", self.number, self.count);
        let once = self.once;
        let new = |deed, place| Done {
            deed,
            place,
            mark,
            id: String::new(),
            begun: now,
            attempts: 0,
            once,
            is_barred: false,
        };
        if let Some(place) = self.last.pop() {
            return new(Deed::Like, place);
        }
        let draw = random.number() as usize;
        let place = self.places[(draw >> 8) % self.places.len()].clone();
        let (deed, earlier) = match draw % 20 {
            0..=8 => return new(Deed::Comment, place),
            9..=11 => return new(Deed::Message, place),
            12 | 13 => (Deed::LikeAgain, Deed::Like),
            14 => (Deed::Unlike, Deed::Like),
            15 => (Deed::Delete, Deed::Comment),
            _ => return new(Deed::Like, place),
        };
        let known: Vec<&Done> =
            self.done.iter().filter(|done| done.deed == earlier && !done.is_barred && !self.is_undone(done)).collect();
        match known.get((draw >> 16) % known.len().max(1)) {
            // The key was the first one's.
            Some(&done) => Done { deed, begun: now, attempts: 0, once: false, ..done.clone() },
            None => new(Deed::Like, place),
        }
    }

    /// Its turn.
    pub fn turn(&mut self, fabric: &mut Fabric, random: &mut Random, backends: &[SocketAddr]) {
        let now = fabric.now.get();
        if self.current.is_none() {
            if (self.stops && self.last.is_empty()) || now < self.call.next {
                return;
            }
            self.current = Some(self.draft(random, now));
            self.call.begin();
        }
        let done = self.current.as_mut().expect("it was just made if there was none");
        let who = format!("p{}", self.number);
        let is_like = matches!(done.deed, Deed::Like | Deed::LikeAgain | Deed::Unlike);
        let member = if is_like { done.mark.clone() } else { who };
        let shows_tokens = self.shows_tokens;
        let request = |host: &str| {
            let ends = now + 600 * SECOND;
            let pass = shows_tokens.then(|| token(Some(&member), &[], &["live:*", "chat:*"], ends));
            request(done, &member, host, pass.as_deref())
        };
        let Some((status, body)) = self.call.turn(fabric, random, backends, request) else { return };
        if status == 503 {
            self.refused += 1;
            return self.call.again(fabric, random);
        }
        let mut done = self.current.take().expect("it is under way");
        done.attempts = self.call.attempts;
        let is_slow = self.slow && done.place == SLOW_VIDEO;
        let wanted: &[u16] = match done.deed {
            Deed::Comment if is_slow => &[201, 429],
            Deed::Comment | Deed::Message => &[201],
            // One that was stored by a try without an answer is not new any more.
            Deed::Like if !done.once && done.attempts > 1 => &[200, 201],
            Deed::Like => &[201],
            Deed::LikeAgain | Deed::Unlike | Deed::Delete => &[200],
        };
        if !wanted.contains(&status) {
            self.faults.push(format!("{done:?} came to {status}, {}", String::from_utf8_lossy(&body)));
        }
        done.is_barred = status == 429;
        if matches!(done.deed, Deed::Comment | Deed::Message) {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            done.id = answer["id"].as_str().unwrap_or_default().to_owned();
        }
        self.done.push(done);
        self.call.rest(now, random, self.pace);
    }
}

fn request(done: &Done, who: &str, host: &str, pass: Option<&str>) -> String {
    let Done { place, mark, id, .. } = done;
    let like = json!({"member": who, "reaction": "like"});
    let post = json!({"member": who, "text": mark});
    let (method, path, body) = match done.deed {
        Deed::Comment => ("POST", format!("/v1/videos/{place}/comments"), post),
        Deed::Message => ("POST", format!("/v1/conversations/{place}/messages"), post),
        Deed::Like | Deed::LikeAgain => ("POST", format!("/v1/videos/{place}/likes"), like),
        Deed::Unlike => ("DELETE", format!("/v1/videos/{place}/likes"), like),
        Deed::Delete => ("DELETE", format!("/v1/videos/{place}/comments/{id}"), json!({"member": who})),
    };
    let pass = pass.map_or_else(String::new, |pass| format!("Authorization: Bearer {pass}\r\n"));
    let (body, key) =
        (body.to_string(), if done.once { format!("Idempotency-Key: {mark}\r\n") } else { String::new() });
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}:8080\r\n{pass}{key}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
