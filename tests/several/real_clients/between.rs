//! What stands between clients and a node in the tests: passes on, cuts, turns away, and knows whose stream is whose by the
//! `member` in its address.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use fanfare::wire::sse::Framing;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It reaches the node.
    Open,
    /// It waits until another mode holds.
    Hold,
    /// It is closed without an answer.
    Close,
    /// It is told 502, as by a proxy whose node is away.
    BadGateway,
}

#[derive(Debug)]
struct State {
    began: Instant,
    mode: Mode,
    node: SocketAddr,
    /// Both ends of what is open.
    open: HashMap<u64, [TcpStream; 2]>,
    next: u64,
    turned_away: HashMap<String, usize>,
    heartbeats: HashMap<String, usize>,
    /// What became of each one's connections, to be told where a test fails.
    story: Vec<String>,
}

impl State {
    fn tell(&mut self, who: Option<&str>, what: &str) {
        let line = format!("{:?}: {} {what}", self.began.elapsed(), who.unwrap_or("nobody"));
        self.story.push(line);
    }
}

/// It runs until the test ends.
pub struct Between {
    pub address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Between {
    pub fn start(node: SocketAddr) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (open, turned_away, heartbeats) = Default::default();
        let (began, story) = (Instant::now(), Vec::new());
        let state = State { began, mode: Mode::Open, node, open, next: 0, turned_away, heartbeats, story };
        let state = Arc::new((Mutex::new(state), Condvar::new()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(&shared, client));
            }
        });
        Between { address, state }
    }

    /// From now on this becomes of connections. What is open stays so.
    pub fn set(&self, mode: Mode) {
        let mut state = self.state.0.lock().unwrap();
        state.mode = mode;
        state.tell(None, &format!("is there; from now on the way is {mode:?}"));
        state.turned_away.clear();
        self.state.1.notify_all();
    }

    /// The node is elsewhere from now on.
    pub fn set_node(&self, node: SocketAddr) {
        self.state.0.lock().unwrap().node = node;
    }

    /// Cuts everything that is open.
    pub fn cut(&self) {
        for (_, ends) in self.state.0.lock().unwrap().open.drain() {
            ends.iter().for_each(|end| drop(end.shutdown(Shutdown::Both)));
        }
    }

    /// What became of the connections of this one.
    pub fn story(&self, who: &str) -> Vec<String> {
        let state = self.state.0.lock().unwrap();
        let is_of = |line: &&String| [who, "nobody"].iter().any(|of| line.contains(&format!(": {of} ")));
        state.story.iter().filter(is_of).cloned().collect()
    }

    /// How often this one's stream was turned away since the mode was set.
    pub fn turned_away(&self, who: &str) -> usize {
        self.state.0.lock().unwrap().turned_away.get(who).copied().unwrap_or(0)
    }

    /// Heartbeats that were passed on to this one.
    pub fn heartbeats(&self, who: &str) -> usize {
        self.state.0.lock().unwrap().heartbeats.get(who).copied().unwrap_or(0)
    }
}

/// Whose stream is asked for, if it is one.
fn who(request: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(request.split(|byte| *byte == b'\r').next()?).ok()?;
    let query = line.split(' ').nth(1)?.strip_prefix("/v1/events?")?;
    query.split('&').find_map(|part| part.strip_prefix("member=")).map(str::to_owned)
}

fn serve(shared: &(Mutex<State>, Condvar), mut client: TcpStream) {
    let mut head = vec![0; 64 * 1024];
    // A request of these clients comes in one piece.
    let Ok(read @ 1..) = client.read(&mut head) else { return };
    let head = &head[..read];
    let (upstream, id) = {
        let mut state = shared.0.lock().unwrap();
        while state.mode == Mode::Hold {
            state = shared.1.wait(state).unwrap();
        }
        if state.mode != Mode::Open {
            if let Some(who) = who(head) {
                state.tell(Some(&who), "is turned away");
                *state.turned_away.entry(who).or_default() += 1;
            }
            if state.mode == Mode::BadGateway {
                let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\n502";
                let _ = client.write_all(answer.as_bytes());
            }
            return;
        }
        let (node, mut asks) = (state.node, |what: &str| state.tell(who(head).as_deref(), what));
        let Ok(mut upstream) = TcpStream::connect(node) else { return asks("finds no node") };
        if upstream.write_all(head).is_err() {
            return asks("finds a node that ends");
        }
        asks("asks the node");
        let id = state.next;
        state.next += 1;
        state.open.insert(id, [client.try_clone().unwrap(), upstream.try_clone().unwrap()]);
        (upstream, id)
    };
    let asker = Arc::new(Mutex::new(who(head)));
    std::thread::scope(|scope| {
        let (mut from, mut to, asker_up) =
            (client.try_clone().unwrap(), upstream.try_clone().unwrap(), Arc::clone(&asker));
        scope.spawn(move || {
            pass(&mut from, &mut to, |bytes| {
                if let Some(who) = who(bytes) {
                    shared.0.lock().unwrap().tell(Some(&who), "asks the node again, on the same connection");
                    *asker_up.lock().unwrap() = Some(who);
                }
            });
        });
        let (mut from, mut to) = (upstream, client);
        pass(&mut from, &mut to, |bytes| {
            if bytes.starts_with(b"HTTP/") {
                let line = String::from_utf8_lossy(bytes.split(|byte| *byte == b'\r').next().unwrap_or_default());
                let asker = asker.lock().unwrap().clone();
                shared.0.lock().unwrap().tell(asker.as_deref(), &format!("is answered {line}"));
            }
            if bytes == Framing::Chunked.heartbeat()
                && let Some(who) = &*asker.lock().unwrap()
            {
                *shared.0.lock().unwrap().heartbeats.entry(who.clone()).or_default() += 1;
            }
        });
    });
    let asker = asker.lock().unwrap().clone();
    let mut state = shared.0.lock().unwrap();
    state.open.remove(&id);
    state.tell(asker.as_deref(), "has a connection less");
}

fn pass(from: &mut TcpStream, to: &mut TcpStream, mut look: impl FnMut(&[u8])) {
    let mut bytes = [0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
        look(&bytes[..read]);
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
