//! Ports that a test may listen on, now and again later.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;

use rustix::fs::{FlockOperation, flock};

/// Claims that this process holds, until it ends: what listens may be killed, and be back on its port as long as its test
/// runs. Processes that it starts inherit none of them.
static CLAIMS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port on which nobody listens, and that nobody else is given before this process ends, be it another test, of another
/// worktree or of another user.
///
/// It is below those from which Linux takes the ports of outgoing connections (`ip_local_port_range`) and of whoever listens
/// on port 0: one of them may otherwise have it when who was killed wants it back. And whoever dials the port of a server
/// that was killed may be given just that port and be connected to itself, after which a Cluster's node knows no address of
/// the dead one any more, and never calls it dead.
pub fn free_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("every Linux has it");
    let end: u16 = range.split_whitespace().next().and_then(|low| low.parse().ok()).expect("the lowest of them");
    let first = 10_000.min(end / 2);
    let count = u32::from(end - first);
    // Processes that start at once look at different ones first.
    let begin = getrandom::u32().expect("randomness") % count;
    let mut ports = (0..count).map(|step| first + ((begin + step) % count) as u16);
    ports.find(|port| claimed(*port)).expect("a port that nobody else has")
}

/// Claims a port if it is nobody's. Only who has the claim looks whether it is free, which is to have it for a moment.
fn claimed(port: u16) -> bool {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o666).open(file_of(port));
    // Where another user's umask left it to that user alone, it is that user's.
    let Ok(file) = file else { return false };
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() || TcpListener::bind(("0.0.0.0", port)).is_err()
    {
        return false;
    }
    CLAIMS.lock().expect("nobody panics with it").push(file);
    true
}

/// Files stay where they are: a lock on one that was removed would keep nobody from a new one of its name.
fn file_of(port: u16) -> PathBuf {
    let folder = PathBuf::from("/tmp/fanfare-test-ports");
    // Another one may make it first.
    if std::fs::create_dir(&folder).is_ok() {
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(&folder, all).expect("it was just made");
    }
    folder.join(port.to_string())
}
