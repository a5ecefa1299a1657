//! What one client may have of a turn: a shard serves many, and one that only sends must not keep it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare::limits::READ_BURST;
use fanfare::settings::{Flags, Role, Settings};

use crate::lone::{Client, Process};

/// One client, which begins with these bytes and then sends others without end: however often it is read, there is more.
struct Endless {
    first: &'static [u8],
    then: &'static [u8],
    at: usize,
    /// Reads since this was set back.
    reads: Arc<AtomicUsize>,
}

/// Reads after which a turn without bound is taken for one.
const WITHOUT_BOUND: usize = 1_000;

impl Client for Endless {
    fn is_read(&mut self, into: &mut [u8]) -> Option<usize> {
        assert!(self.reads.fetch_add(1, Ordering::Relaxed) < WITHOUT_BOUND, "a turn reads one client without a bound");
        for byte in into.iter_mut() {
            let later = || self.then[(self.at - self.first.len()) % self.then.len()];
            *byte = self.first.get(self.at).copied().unwrap_or_else(later);
            self.at += 1;
        }
        Some(into.len())
    }
}

/// How often the client is read, and how many of its requests are served, in each of some turns of a node of this role.
fn turns(role: Role, first: &'static [u8], then: &'static [u8]) -> Vec<(usize, u64)> {
    let environment = [("FANFARE_DISPATCHERS", "http://127.0.0.1:8081"), ("FANFARE_KV", "redis://127.0.0.1:1")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    let settings = Settings::resolve(role, &Flags::default(), environment).expect("the settings are right");
    let count = Arc::new(AtomicUsize::new(0));
    let client = Endless { first, then, at: 0, reads: Arc::clone(&count) };
    let mut process = Process::start(&settings, None, |_| [client]);
    let turns = (0..10).map(|turn| {
        let served = process.node.counters[0].requests.get();
        if turn == 0 {
            process.comes(0);
        } else {
            process.has_sent(0);
        }
        (count.swap(0, Ordering::Relaxed), process.node.counters[0].requests.get() - served)
    });
    turns.collect()
}

#[test]
fn client_that_only_sends_is_read_without_a_bound() {
    const LINES: &[u8] = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999999999\r\n\r\n";
    const LINE: &[u8] = &{
        let mut line = [b' '; 1000];
        (line[0], line[1], line[999]) = (b'{', b'}', b'\n');
        line
    };
    for (role, first, then) in [
        // On a stream, where it means nothing.
        (Role::Frontend, &b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &b"x"[..]),
        // Requests without end, each answered.
        (Role::Frontend, b"", b"GET /v1/time HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        // Behind an error that ends the connection.
        (Role::Frontend, b"nonsense\r\n\r\n", b"x"),
        // A body of lines, none of which ends, or of which none is an event.
        (Role::Dispatcher, LINES, b"x"),
        (Role::Dispatcher, LINES, LINE),
    ] {
        let turns = turns(role, first, then);
        // Once for its readiness, and once since there was more; or what was read before is more than one turn serves.
        let fits = |(reads, served): &(usize, u64)| *reads <= 2 * READ_BURST && (*reads > 0 || *served > 0);
        assert!(turns.iter().all(fits), "{role:?} {:?}: {turns:?}", String::from_utf8_lossy(first));
    }
}
