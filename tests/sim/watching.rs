//! Who watches a node and does not read costs the node one snapshot, and others nothing.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fanfare::runtime::account::Use;
use fanfare::settings::{Flags, Role, Settings};
use fanfare::wire::snapshot::Snapshot;

use crate::lone::{Client, Process};

/// What came of a watcher.
#[derive(Default)]
struct Seen {
    bytes: Vec<u8>,
    closed: bool,
}

/// Sends its request, and then takes so many bytes.
struct Watcher {
    asks: bool,
    room: usize,
    seen: Arc<Mutex<Seen>>,
}

impl Client for Watcher {
    fn is_read(&mut self, into: &mut [u8]) -> Option<usize> {
        let request = b"GET /v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        std::mem::take(&mut self.asks).then(|| {
            into[..request.len()].copy_from_slice(request);
            request.len()
        })
    }

    fn is_sent(&mut self, bytes: &[u8]) {
        self.seen.lock().unwrap().bytes.extend_from_slice(bytes);
    }

    fn takes(&mut self, bytes: usize) -> usize {
        let taken = bytes.min(self.room);
        self.room -= taken;
        taken
    }

    fn is_closed(&mut self) {
        self.seen.lock().unwrap().closed = true;
    }
}

/// The snapshots that a watcher got whole.
fn snapshots(seen: &Mutex<Seen>) -> Vec<Snapshot> {
    let text = String::from_utf8(seen.lock().unwrap().bytes.clone()).expect("it is UTF-8");
    let data = text.split("\n").filter_map(|line| line.strip_prefix("data: "));
    data.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

#[test]
fn a_watcher_who_stops_reading_costs_only_itself() {
    let environment = [("FANFARE_DISPATCHERS".into(), "http://127.0.0.1:8081".into())];
    let settings = Settings::resolve(Role::Frontend, &Flags::default(), environment).expect("the settings are right");
    let seen: [Arc<Mutex<Seen>>; 2] = Default::default();
    let mut process = Process::start(&settings, None, |_| {
        [800, usize::MAX].map(|room| {
            let at = usize::from(room == usize::MAX);
            Watcher { asks: true, room, seen: Arc::clone(&seen[at]) }
        })
    });
    let [stuck, well] = &seen;
    (0..2).for_each(|core| process.comes_inside(core));
    process.passes(Duration::from_secs(20));
    assert_eq!(process.node.watchers.load(Ordering::Relaxed), 2);
    let (got, of_stuck) = (snapshots(well), stuck.lock().unwrap().bytes.len());
    assert!((18..=21).contains(&got.len()), "{} snapshots in 20 s", got.len());
    assert!(got.windows(2).all(|two| (500..=1_500).contains(&(two[1].at - two[0].at))), "one a second");
    assert_eq!(of_stuck, 800);
    let held = process.node.counters[0].held[Use::Requests as usize].get();
    let whole = well.lock().unwrap().bytes.len() / got.len();
    assert!(held <= 3 * whole as u64, "{held} bytes are held for a watcher, whose snapshots have {whole}");
    // It is cut after half a minute, and the other one gets on.
    process.passes(Duration::from_secs(25));
    assert!(stuck.lock().unwrap().closed && !well.lock().unwrap().closed);
    assert_eq!(process.node.watchers.load(Ordering::Relaxed), 1);
    assert!(snapshots(well).len() >= got.len() + 20);
}
