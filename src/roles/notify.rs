//! Tells systemd how this process fares, by the protocol of sd_notify(3): lines of text to a datagram socket that the
//! environment names. Without one nothing of this runs.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use tracing::{info, warn};

use crate::ground::node::Node;
use crate::limits::{NOTIFY_EVERY, NOTIFY_START_LOOK, NOTIFY_STOP_MARGIN};
use crate::runtime::process::thread_time;
use crate::runtime::turning::{Seen, Shown, Turning};

/// The way to systemd.
pub struct Notifier {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// The socket that `name` names, as `NOTIFY_SOCKET` does: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// Those of making a socket, and `InvalidInput` for a name that is neither.
    pub fn to(name: &str) -> io::Result<Notifier> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None if name.starts_with('/') => SocketAddr::from_pathname(name)?,
            None => return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a path nor an abstract name")),
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Notifier { socket, address })
    }

    /// Sends lines such as `READY=1`. What does not get through is lost, as with any datagram; systemd then acts by its
    /// time limits.
    pub fn send(&self, lines: &str) {
        let _ = self.socket.send_to_addr(lines.as_bytes(), &self.address);
    }

    /// Says that the process ends, and asks for as much time as that takes, whatever the unit allows.
    pub fn stopping(&self, drain: Duration) {
        let time = (drain + NOTIFY_STOP_MARGIN).as_micros();
        self.send(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={time}\nSTATUS=draining for {} s", drain.as_secs()));
    }
}

/// The watchdog's interval that the environment asks of process `pid`, if any.
fn watchdog(usec: Option<&str>, for_pid: Option<&str>, pid: u32) -> Option<Duration> {
    let ours = for_pid.is_none_or(|text| text.parse() == Ok(pid));
    let interval = usec?.parse().ok().filter(|&usec| usec > 0 && ours)?;
    Some(Duration::from_micros(interval))
}

/// Starts to tell systemd of `node`, where the environment asks for it: ready once every shard has turned, then its beats
/// for the watchdog as long as every shard turns. `threads` are those of the shards, in their order.
///
/// # Errors
/// When no thread can be started.
pub fn start(node: &Arc<Node>, threads: Vec<Pid>) -> io::Result<Option<Arc<Notifier>>> {
    let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(name) = variable("NOTIFY_SOCKET") else { return Ok(None) };
    let notifier = match Notifier::to(&name) {
        Ok(notifier) => Arc::new(notifier),
        Err(error) => {
            // systemd will say so too, once its patience ends.
            warn!(socket = name, %error, "NOTIFY_SOCKET cannot be used");
            return Ok(None);
        }
    };
    let interval =
        watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref(), std::process::id());
    let (thread_node, thread_notifier) = (Arc::clone(node), Arc::clone(&notifier));
    std::thread::Builder::new()
        .name("notify".to_owned())
        .spawn(move || tell(&thread_node, &threads, &thread_notifier, interval))?;
    Ok(Some(notifier))
}

fn tell(node: &Node, threads: &[Pid], notifier: &Notifier, interval: Option<Duration>) {
    // A shard may stand still for half of the interval, as time of its own, and is looked at eight times in it: beats come in
    // time although most of them come late.
    let patience = interval.map_or(Duration::MAX, |interval| interval / 2);
    let every = interval.map_or(NOTIFY_EVERY, |interval| (interval / 8).min(NOTIFY_EVERY));
    let mut turning = Turning::new(node.shards(), patience, every, Instant::now());
    let mut ready = false;
    let mut stuck = false;
    loop {
        let ticks = node.counters.iter().map(|counters| counters.ticks.get());
        let shards = ticks.zip(threads).map(|(ticks, thread)| Shown { ticks, time: thread_time(*thread) });
        let mut seen = turning.look(shards, Instant::now());
        if node.drained.load(Ordering::Relaxed) == node.shards() {
            // They end, and what was taken is yet to be stored.
            seen = Seen::Turning;
        }
        if !ready && seen == Seen::Turning {
            ready = true;
            notifier.send(&format!("READY=1\n{}", status(node)));
        }
        match seen {
            Seen::Turning => {
                if stuck {
                    info!("all shards turn again");
                }
                stuck = false;
                if interval.is_some() {
                    notifier.send("WATCHDOG=1");
                }
            }
            Seen::Stuck(shard) => {
                if !stuck {
                    warn!(shard, "a shard does not turn; systemd's watchdog is told");
                    let trigger = if interval.is_some() { "\nWATCHDOG=trigger" } else { "" };
                    notifier.send(&format!("STATUS=shard {shard} does not turn{trigger}"));
                }
                stuck = true;
            }
            Seen::Starting(_) => {}
        }
        if ready && !stuck && !node.draining.load(Ordering::Relaxed) {
            notifier.send(&status(node));
        }
        std::thread::sleep(if ready { every } else { NOTIFY_START_LOOK });
    }
}

fn status(node: &Node) -> String {
    let streams: u64 = node.counters.iter().map(|counters| counters.connections.get()).sum();
    format!("STATUS={streams} streams, {} shards, serving {}", node.shards(), node.public)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_the_process_that_it_names() {
        let interval = Some(Duration::from_secs(2));
        assert_eq!(watchdog(Some("2000000"), None, 7), interval);
        assert_eq!(watchdog(Some("2000000"), Some("7"), 7), interval);
        for (usec, pid) in [
            (None, None),
            (Some("2000000"), Some("8")),
            (Some("2000000"), Some("x")),
            (Some("0"), None),
            (Some("-1"), None),
        ] {
            assert_eq!(watchdog(usec, pid, 7), None, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn names_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        Notifier::to(path.to_str().unwrap()).unwrap().stopping(Duration::from_secs(7));
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        let text = std::str::from_utf8(&buffer[..length]).unwrap();
        let micros: u128 = text.split("EXTEND_TIMEOUT_USEC=").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
        assert!(text.starts_with("STOPPING=1\n") && micros > 7_000_000, "{text}");

        let name = format!("fanfare-test-{}", std::process::id());
        let abstract_socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::to(&format!("@{name}")).unwrap().send("READY=1");
        let length = abstract_socket.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        assert!(Notifier::to("vsock:2:1").is_err() && Notifier::to("relative").is_err());
    }
}
