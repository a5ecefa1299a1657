//! What stands between clients and a node in the tests: passes on, cuts, turns away, and knows whose stream is whose by the
//! `member` in its address.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

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
    mode: Mode,
    node: SocketAddr,
    /// Both ends of what is open.
    open: HashMap<u64, [TcpStream; 2]>,
    next: u64,
    turned_away: HashMap<String, usize>,
    heartbeats: HashMap<String, usize>,
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
        let state = State { mode: Mode::Open, node, open, next: 0, turned_away, heartbeats };
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
                *state.turned_away.entry(who).or_default() += 1;
            }
            if state.mode == Mode::BadGateway {
                let answer = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\n502";
                let _ = client.write_all(answer.as_bytes());
            }
            return;
        }
        let Ok(mut upstream) = TcpStream::connect(state.node) else { return };
        if upstream.write_all(head).is_err() {
            return;
        }
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
                    *asker_up.lock().unwrap() = Some(who);
                }
            });
        });
        let (mut from, mut to) = (upstream, client);
        pass(&mut from, &mut to, |bytes| {
            if bytes == Framing::Chunked.heartbeat()
                && let Some(who) = &*asker.lock().unwrap()
            {
                *shared.0.lock().unwrap().heartbeats.entry(who.clone()).or_default() += 1;
            }
        });
    });
    shared.0.lock().unwrap().open.remove(&id);
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
