//! A way between two nodes that takes as long as a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

/// Passes connections on to another address, each byte after a delay, both ways.
pub struct Delay {
    /// Where it listens.
    pub address: SocketAddr,
    to: Arc<OnceLock<SocketAddr>>,
    ms: Arc<AtomicU64>,
}

impl Delay {
    /// One without a delay, which does not know yet where to pass connections on to.
    pub fn new() -> Delay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("loopback has free ports");
        let address = listener.local_addr().expect("it listens");
        let delay = Delay { address, to: Arc::default(), ms: Arc::default() };
        let (to, ms) = (Arc::clone(&delay.to), Arc::clone(&delay.ms));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // Who comes too early is refused, and tries again.
                let Some(Ok(far)) = to.get().map(TcpStream::connect) else { continue };
                for (from, into) in [(&near, &far), (&far, &near)] {
                    let copy = |stream: &TcpStream| stream.try_clone().expect("there are descriptors left");
                    pass(copy(from), copy(into), Arc::clone(&ms));
                }
            }
        });
        delay
    }

    /// Connections go there.
    pub fn leads_to(&self, address: SocketAddr) {
        self.to.set(address).expect("it is said once");
    }

    /// Each byte that comes from now on takes so long.
    pub fn takes(&self, delay: Duration) {
        self.ms.store(delay.as_millis() as u64, Ordering::Relaxed);
    }

    /// As a node's URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn pass(mut from: TcpStream, mut into: TcpStream, ms: Arc<AtomicU64>) {
    into.set_nodelay(true).expect("a socket option");
    let (tell, told) = mpsc::channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        let mut bytes = [0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut bytes) {
            let due = Instant::now() + Duration::from_millis(ms.load(Ordering::Relaxed));
            if tell.send((due, bytes[..read].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        for (due, bytes) in told {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if into.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = into.shutdown(Shutdown::Both);
    });
}
