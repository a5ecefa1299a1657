//! Networks of the test's own: each data center is alone in one, but for its links to the others.
//!
//! A network is a network namespace of the kernel without a name, kept by an open file. It goes with its links when the
//! test's process and those that it started in there are gone, however they ended, so nothing is left to clean up; and no
//! address or route of the machine is touched. To look into one while a test runs: `nsenter --net -t PID`, with the PID of
//! a process in there.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Where nobody listens: frames to it vanish.
const NOBODY: &str = "02:ff:00:00:ff:ff";

/// A network.
pub struct Network {
    number: u8,
    file: File,
}

/// Goes back to where the thread was.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        enter(&self.0);
    }
}

/// The network of this thread.
fn here() -> File {
    File::open("/proc/thread-self/ns/net").expect("every thread is in one")
}

fn enter(file: &File) {
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter a network");
}

impl Network {
    /// An empty one with an address of its own, by its number from 1.
    pub fn new(number: u8) -> Network {
        assert!(rustix::process::geteuid().is_root(), "networks of their own take root; run it as root");
        let made = std::thread::spawn(|| {
            // SAFETY: of what it shares with other threads this one gives up the network alone: no open files, so no
            // descriptor comes to mean something else for anybody.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("root may make a network");
            here()
        });
        let network = Network { number, file: made.join().expect("a thread of its own") };
        network.ip("link set lo up");
        network.ip(&format!("address add {}/32 dev lo", network.address()));
        network
    }

    /// Where the others reach it.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    /// Acts in there: the thread's sockets, and all that threads and processes begun by it have, belong there for good.
    pub fn inside<T>(&self, act: impl FnOnce() -> T) -> T {
        let _back = Back(here());
        enter(&self.file);
        act()
    }

    /// Runs `ip` in there.
    fn ip(&self, words: &str) {
        let output = self.inside(|| Command::new("ip").args(words.split(' ')).output());
        let output = output.expect("ip; scripts/test installs it");
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A link between two networks, by their places in a list.
pub struct Link {
    ends: [usize; 2],
}

/// The hardware address of the end of a link in `at` that leads to `to`.
fn hardware(at: &Network, to: &Network) -> String {
    format!("02:ff:00:00:{:02x}:{:02x}", at.number, to.number)
}

impl Link {
    /// Joins two networks that have no link yet.
    pub fn between(networks: &[&Network], ends: [usize; 2]) -> Link {
        let [one, other] = ends.map(|end| networks[end]);
        let file = format!("/proc/{}/fd/{}", std::process::id(), other.file.as_raw_fd());
        let (near, far) = (hardware(one, other), hardware(other, one));
        let (to, back) = (other.number, one.number);
        one.ip(&format!("link add to-{to} address {near} type veth peer name to-{back} address {far} netns {file}"));
        let link = Link { ends };
        for (at, to) in link.ways(networks) {
            at.ip(&format!("link set to-{} up", to.number));
            at.ip(&format!("route add {} dev to-{} src {}", to.address(), to.number, at.address()));
        }
        link.heal(networks);
        link
    }

    pub fn joins(&self, one: usize, other: usize) -> bool {
        self.ends == [one, other] || self.ends == [other, one]
    }

    fn ways<'a>(&self, networks: &[&'a Network]) -> [(&'a Network, &'a Network); 2] {
        let [one, other] = self.ends.map(|end| networks[end]);
        [(one, other), (other, one)]
    }

    /// Lets every packet vanish in silence, both ways, as a cable cut at sea does: no end learns of it but by waiting.
    /// (A device that is down would say so at once: the kernel knows no way then.)
    pub fn cut(&self, networks: &[&Network]) {
        for (at, to) in self.ways(networks) {
            lead(at, to, NOBODY);
        }
    }

    /// Lets packets pass again.
    pub fn heal(&self, networks: &[&Network]) {
        for (at, to) in self.ways(networks) {
            lead(at, to, &hardware(to, at));
        }
    }
}

/// Frames from one network to another go to this hardware address; it is never asked for.
fn lead(at: &Network, to: &Network, hardware: &str) {
    at.ip(&format!("neigh replace {} lladdr {hardware} dev to-{} nud permanent", to.address(), to.number));
}

/// What the other tests rely on: a link that is cut says nothing, also to who connects now, and heals as if nothing had been.
#[test]
fn link_that_tells_of_its_cut() {
    let networks = [1, 2].map(Network::new);
    let all: Vec<&Network> = networks.iter().collect();
    let link = Link::between(&all, [0, 1]);
    let listener = networks[1].inside(|| TcpListener::bind((networks[1].address(), 0))).expect("an address of its own");
    let address = listener.local_addr().expect("it listens");
    let connect = |ms| networks[0].inside(|| TcpStream::connect_timeout(&address, Duration::from_millis(ms)));
    let mut before = connect(10_000).expect("the link is whole");
    let (mut accepted, from) = listener.accept().expect("it connected");
    assert_eq!(from.ip(), networks[0].address());
    link.cut(&all);
    before.write_all(b"cut").expect("the kernel waits for an answer, and says nothing");
    assert_eq!(connect(500).expect_err("the link is cut").kind(), ErrorKind::TimedOut);
    link.heal(&all);
    let mut read = [0; 3];
    accepted.read_exact(&mut read).expect("what was written arrives");
    connect(10_000).expect("the link is whole again");
}
