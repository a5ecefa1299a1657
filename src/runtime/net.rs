//! A shard's sockets, listeners and timers: the kernel's, or those of a simulation. Nothing else of a shard touches a
//! descriptor.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, getpeername, sockopt};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Type};

use super::calls::{of, receive, shut_down, transmit};
use super::cores::Engine;
use super::readiness::{Interest, Readiness, Ready};
use super::ring::Ring;
use super::secure::Secure;
pub use super::socket::Socket;
use super::sync::Signal;
use crate::limits::{TCP_USER_TIMEOUT, TICK};
use crate::runtime::process;

/// The token of the shard's mailbox.
pub const MAILBOX: u64 = u64::MAX;
/// The token of the timer that goes off every [`TICK`].
pub const TICKS: u64 = u64::MAX - 1;
/// The token of the timer that [`Net::rest`] sets.
pub const RESTED: u64 = u64::MAX - 2;
/// The token of the first door; the others' are below it.
const DOORS: u64 = u64::MAX - 3;

/// The door of the public listener.
pub const PUBLIC: usize = 0;
/// The door of the internal one.
pub const INTERNAL: usize = 1;
/// The door of the public listener that speaks TLS, where there is one.
pub const SECURE: usize = 2;
/// Doors, at most.
pub const DOORS_MAX: usize = 3;

/// The door that a token is of.
pub fn door_of(token: u64) -> Option<usize> {
    (token_of(SECURE)..=token_of(PUBLIC)).contains(&token).then(|| (DOORS - token) as usize)
}

/// The token of a door.
pub fn token_of(door: usize) -> u64 {
    DOORS - door as u64
}

/// A simulation's sockets. Every method does what the kernel's call does for a non-blocking socket, watched edge-triggered;
/// [`Net`] says more of each.
pub trait Simulated: Send {
    /// See [`Net::accept`].
    fn accept(&mut self, door: usize) -> io::Result<Option<Socket>>;
    /// See [`Net::open`].
    fn open(&mut self, door: usize, open: bool) -> io::Result<()>;
    /// See [`Net::connect`].
    fn connect(&mut self, address: SocketAddr) -> io::Result<Socket>;
    /// See [`Net::watch`].
    fn watch(&mut self, socket: &Socket, token: u64) -> io::Result<()>;
    /// See [`Net::recv`].
    fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>>;
    /// See [`Net::send`].
    fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize>;
    /// See [`Net::error`].
    fn error(&mut self, socket: &Socket) -> io::Result<()>;
    /// See [`Net::peer`].
    fn peer(&self, socket: &Socket) -> Option<IpAddr>;
    /// See [`Net::shut`].
    fn shut(&mut self, socket: &Socket);
    /// See [`Net::close`].
    fn close(&mut self, socket: Socket);
    /// See [`Net::resident`].
    fn resident(&self) -> u64;
    /// See [`Net::rest`].
    fn rest(&mut self, time: Duration) -> io::Result<()>;
}

/// The kernel's.
#[derive(Debug)]
pub struct Kernel {
    readiness: Readiness,
    doors: Vec<TcpListener>,
    ticks: OwnedFd,
    rested: OwnedFd,
    secure: Option<Box<Secure>>,
    /// None where the kernel refuses it, and on epoll: each send is a system call then.
    ring: Option<Ring>,
}

impl Kernel {
    /// For a shard on this engine, with these listeners, by their doors' numbers, what the one that speaks TLS offers, and the
    /// signal of the mailbox that wakes it.
    ///
    /// # Errors
    /// Descriptors that the kernel refuses.
    pub fn new(
        engine: Engine,
        doors: Vec<TcpListener>,
        offer: Option<Arc<ServerConfig>>,
        signal: &Signal,
    ) -> io::Result<Kernel> {
        assert!(doors.len() == if offer.is_some() { DOORS_MAX } else { SECURE }, "a listener a door");
        let readiness = Readiness::new()?;
        readiness.add(signal, MAILBOX, Interest::Read)?;
        let timer = || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        let (ticks, rested) = (timer()?, timer()?);
        set(&ticks, TICK, TICK)?;
        readiness.add(&ticks, TICKS, Interest::Read)?;
        readiness.add(&rested, RESTED, Interest::Read)?;
        for (number, door) in doors.iter().enumerate() {
            readiness.add(door, token_of(number), Interest::ReadLevel)?;
        }
        let secure = offer.map(|offer| Box::new(Secure::new(offer)));
        let ring = if engine == Engine::Uring { Ring::new().ok() } else { None };
        Ok(Kernel { readiness, doors, ticks, rested, secure, ring })
    }
}

impl Kernel {
    fn give_up_ring(&mut self, error: &io::Error) {
        tracing::warn!(%error, "io_uring fails; each send is a system call from now on");
        self.ring = None;
    }

    /// A connection came in by a door.
    fn enter(&mut self, door: usize, socket: Socket) -> Socket {
        let Some(secure) = self.secure.as_mut().filter(|_| door == SECURE) else { return socket };
        let socket = socket.secured();
        secure.begin(&socket);
        socket
    }
}

fn set(timer: &OwnedFd, first: Duration, every: Duration) -> io::Result<()> {
    let spec = |time: Duration| Timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos().into() };
    let times = Itimerspec { it_value: spec(first), it_interval: spec(every) };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &times)?;
    Ok(())
}

/// A shard's sockets, listeners and timers.
pub enum Net {
    /// The kernel's.
    Kernel(Kernel),
    /// A simulation's.
    Simulated(Box<dyn Simulated>),
}

impl Net {
    /// The next connection that waits at a door; none if none does now.
    ///
    /// # Errors
    /// What would repeat at once, such as too many open files.
    pub fn accept(&mut self, door: usize) -> io::Result<Option<Socket>> {
        let kernel = match self {
            Net::Kernel(kernel) => kernel,
            Net::Simulated(net) => return net.accept(door),
        };
        loop {
            return match accept_with(&kernel.doors[door], SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => Ok(Some(kernel.enter(door, socket.into()))),
                Err(Errno::AGAIN) => Ok(None),
                // The client left before it was accepted.
                Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => continue,
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Whether [`poll`](Net::poll) is to tell, level-triggered, that connections wait at a door. It does at the start.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open(&mut self, door: usize, open: bool) -> io::Result<()> {
        match self {
            Net::Kernel(Kernel { readiness, doors, .. }) if open => {
                readiness.add(&doors[door], token_of(door), Interest::ReadLevel)
            }
            Net::Kernel(Kernel { readiness, doors, .. }) => readiness.remove(&doors[door]),
            Net::Simulated(net) => net.open(door, open),
        }
    }

    /// Begins a connection. That it is writable tells that it is connected, or that [`error`](Net::error) says why not.
    ///
    /// # Errors
    /// It failed at once.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<Socket> {
        if let Net::Simulated(net) = self {
            return net.connect(address);
        }
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        match socket.connect(&address.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
            _ => Ok(OwnedFd::from(socket).into()),
        }
    }

    /// From now on [`poll`](Net::poll) tells, edge-triggered, what happens to a socket.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn watch(&mut self, socket: &Socket, token: u64) -> io::Result<()> {
        match self {
            Net::Kernel(kernel) => kernel.readiness.add(of(socket), token, Interest::Socket),
            Net::Simulated(net) => net.watch(socket, token),
        }
    }

    /// Reads what is there at once: `Some(0)` at the end of what the peer sends, none if nothing is there now.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<Option<usize>> {
        if let Net::Simulated(net) = self {
            return net.recv(socket, into);
        }
        match self.secure(socket) {
            Some(secure) => secure.recv(socket, into),
            None => receive(of(socket), into),
        }
    }

    /// Sends what is taken at once, in bytes: 0 if nothing is taken now.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn send(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<usize> {
        self.send_before(socket, bytes, false)
    }

    /// Same, where `more` is to be sent at once behind it.
    ///
    /// # Errors
    /// The connection is broken.
    #[inline]
    pub fn send_before(&mut self, socket: &Socket, bytes: &[u8], more: bool) -> io::Result<usize> {
        if let Net::Simulated(net) = self {
            return net.send(socket, bytes);
        }
        match self.secure(socket) {
            Some(secure) => secure.send(socket, bytes),
            None => transmit(of(socket), bytes, more),
        }
    }

    /// Same as [`send`](Net::send) to each of up to [`SENDS_BATCH`](crate::limits::SENDS_BATCH) connections, none of which speaks
    /// TLS. What each took is added to `taken`, in the same order.
    pub fn send_each<'a>(
        &mut self,
        mut sends: impl Iterator<Item = (&'a Socket, &'a [u8])>,
        taken: &mut Vec<io::Result<usize>>,
    ) {
        match self {
            Net::Kernel(kernel) => {
                if let Some(ring) = &mut kernel.ring
                    && let Err(error) = ring.send_each(&mut sends, taken)
                {
                    kernel.give_up_ring(&error);
                }
                taken.extend(sends.map(|(socket, bytes)| transmit(of(socket), bytes, false)));
            }
            Net::Simulated(net) => taken.extend(sends.map(|(socket, bytes)| net.send(socket, bytes))),
        }
    }

    /// The connections that speak TLS, if this is one of them.
    #[inline]
    pub fn secure(&mut self, socket: &Socket) -> Option<&mut Secure> {
        if socket.is_secure() { self.all_secure() } else { None }
    }

    /// The connections that speak TLS, where there is a listener for them.
    pub fn all_secure(&mut self) -> Option<&mut Secure> {
        match self {
            Net::Kernel(kernel) => kernel.secure.as_deref_mut(),
            Net::Simulated(_) => None,
        }
    }

    /// What became of a connection that was begun.
    ///
    /// # Errors
    /// Why it is none.
    pub fn error(&mut self, socket: &Socket) -> io::Result<()> {
        match self {
            Net::Kernel(_) => Ok(sockopt::socket_error(of(socket))??),
            Net::Simulated(net) => net.error(socket),
        }
    }

    /// The address at the other end; none if it broke.
    pub fn peer(&self, socket: &Socket) -> Option<IpAddr> {
        match self {
            Net::Kernel(_) => Some(SocketAddr::try_from(getpeername(of(socket)).ok()??).ok()?.ip()),
            Net::Simulated(net) => net.peer(socket),
        }
    }

    /// Nothing more will be sent.
    pub fn shut(&mut self, socket: &Socket) {
        match self {
            Net::Simulated(net) => net.shut(socket),
            Net::Kernel(_) => match self.secure(socket) {
                Some(secure) => secure.shut(socket),
                None => shut_down(of(socket)),
            },
        }
    }

    /// Ends a connection.
    pub fn close(&mut self, socket: Socket) {
        match self {
            Net::Simulated(net) => net.close(socket),
            Net::Kernel(_) => {
                if let Some(secure) = self.secure(&socket) {
                    secure.close(socket, Instant::now());
                }
            }
        }
    }

    /// Memory that the process has resident, in bytes.
    pub fn resident(&self) -> u64 {
        match self {
            Net::Kernel(_) => process::resident(),
            Net::Simulated(net) => net.resident(),
        }
    }

    /// [`RESTED`] becomes ready once, after this time.
    ///
    /// # Errors
    /// The timer cannot be set.
    pub fn rest(&mut self, time: Duration) -> io::Result<()> {
        match self {
            Net::Kernel(kernel) => set(&kernel.rested, time, Duration::ZERO),
            Net::Simulated(net) => net.rest(time),
        }
    }

    /// One of the timers became ready.
    pub fn went_off(&mut self, token: u64) {
        if let Net::Kernel(kernel) = self {
            // The kernel arms a periodic timer again only once its count was read.
            let timer = if token == TICKS { &kernel.ticks } else { &kernel.rested };
            let _ = rustix::io::read(timer, &mut [0; 8]);
        }
    }

    /// Replaces what is in `ready` by what is ready now; never waits. A simulation tells the shard itself.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll(&mut self, ready: &mut Vec<Ready>) -> io::Result<()> {
        match self {
            Net::Kernel(kernel) => kernel.readiness.poll(ready),
            Net::Simulated(_) => Ok(()),
        }
    }

    /// Same as [`poll`](Net::poll), again and again for so long, or until something is ready.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll_for(&mut self, time: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let began = Instant::now();
        while began.elapsed() < time {
            self.poll(ready)?;
            if !ready.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// Waits on this thread until something is ready. A ring that fails is given up for `poll`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn wait(&mut self) -> io::Result<()> {
        let Net::Kernel(kernel) = self else { return Ok(()) };
        let Some(ring) = &mut kernel.ring else { return kernel.readiness.block() };
        if let Err(error) = ring.wait(kernel.readiness.set()) {
            kernel.give_up_ring(&error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox;

    fn net() -> (Net, mailbox::Sender<u8>, [SocketAddr; 2]) {
        let doors = [(); SECURE].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        doors.iter().for_each(|door| door.set_nonblocking(true).expect("a listener can be"));
        let addresses = doors.each_ref().map(|door| door.local_addr().expect("it listens"));
        let (sender, mailbox) = mailbox::mailbox(8).expect("an eventfd");
        (
            Net::Kernel(Kernel::new(Engine::Epoll, doors.into(), None, mailbox.signal()).expect("descriptors")),
            sender,
            addresses,
        )
    }

    /// Waits until a token is ready.
    fn until(net: &mut Net, token: u64) -> Ready {
        let mut ready = Vec::new();
        loop {
            net.poll(&mut ready).expect("it can be asked");
            if let Some(ready) = ready.iter().find(|ready| ready.token == token) {
                return *ready;
            }
        }
    }

    #[test]
    fn a_rest_ends_once_and_the_next_has_its_own_time() {
        let (mut net, _sender, _) = net();
        net.rest(Duration::from_millis(1)).unwrap();
        until(&mut net, RESTED);
        net.went_off(RESTED);
        net.rest(Duration::from_secs(600)).unwrap();
        until(&mut net, TICKS);
        let mut ready = Vec::new();
        net.poll(&mut ready).unwrap();
        assert!(ready.iter().all(|ready| ready.token != RESTED), "{ready:?}");
    }

    #[test]
    fn a_connection_from_door_to_end() {
        let (mut net, _sender, [public, _]) = net();
        let client = net.connect(public).unwrap();
        net.watch(&client, 1).unwrap();
        // Doors are told of again and again; a socket is only once, so it comes first.
        assert!(until(&mut net, 1).writable);
        assert_eq!(door_of(until(&mut net, DOORS).token), Some(PUBLIC));
        let server = net.accept(PUBLIC).unwrap().expect("somebody waits");
        assert!(net.accept(PUBLIC).unwrap().is_none());
        net.error(&client).unwrap();
        assert_eq!(net.peer(&server), Some(public.ip()));
        let mut buffer = [0; 8];
        assert_eq!(net.recv(&server, &mut buffer).unwrap(), None);
        assert_eq!(net.send(&client, b"abc").unwrap(), 3);
        net.shut(&client);
        net.watch(&server, 2).unwrap();
        assert!(until(&mut net, 2).readable);
        assert_eq!(net.recv(&server, &mut buffer).unwrap(), Some(3));
        assert_eq!(net.recv(&server, &mut buffer).unwrap(), Some(0));
        net.close(server);
        while net.recv(&client, &mut buffer).is_ok_and(|count| count != Some(0)) {}
    }
}
