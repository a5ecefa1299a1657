//! The system calls that the standard library and socket2 do not have: epoll, ppoll, fork.
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections from one source address: fewer than half of the ports, since a connect first looks at every second one, and by the
/// time that those are taken looks at all of them before it goes on.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;

/// What to wait for: something to read, or the other side's end.
pub const READABLE: libc::c_int = libc::EPOLLIN | libc::EPOLLRDHUP;
/// Room to write.
pub const WRITABLE: libc::c_int = libc::EPOLLOUT;
/// What says that a connection has ended.
pub const HANG_UP: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

/// Now, in µs since the epoch.
pub fn now_us() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    elapsed.map_or(0, |elapsed| elapsed.as_micros() as u64)
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A set of sockets to wait on.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

impl Epoll {
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor is checked and then owned here alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd })
    }

    /// Waits for `socket` to become [`READABLE`], [`WRITABLE`], or either, and reports it as `token`, once for each time.
    ///
    /// # Errors
    /// When the kernel has no room for the watch.
    pub fn watch(&self, socket: &impl AsRawFd, token: u64, wanted: libc::c_int, known: bool) -> io::Result<()> {
        // Edge-triggered: level-triggered, the kernel would ask each socket once more after its read.
        let mut event = libc::epoll_event { events: (libc::EPOLLET | wanted) as u32, u64: token };
        let operation = if known { libc::EPOLL_CTL_MOD } else { libc::EPOLL_CTL_ADD };
        // SAFETY: both descriptors are open, and `event` outlives the call, which copies it.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, socket.as_raw_fd(), &mut event) }).map(drop)
    }

    /// Waits at most `timeout_ms` and returns how many of `events` are filled; 0 also when a signal came.
    pub fn wait(&self, events: &mut [libc::epoll_event], timeout_ms: i32) -> usize {
        let room = events.len().min(4096) as i32;
        // SAFETY: `events` is writable for at least `room` entries during the call.
        let filled = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), room, timeout_ms) };
        usize::try_from(filled).unwrap_or(0)
    }

    /// Sleeps until there is something to [wait](Epoll::wait) for or the time is over, to the microsecond.
    pub fn sleep(&self, timeout_us: u64) {
        poll(&mut [libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 }], timeout_us);
    }
}

fn poll(watched: &mut [libc::pollfd], timeout_us: u64) {
    let timeout = libc::timespec {
        tv_sec: (timeout_us / 1_000_000) as libc::time_t,
        tv_nsec: (timeout_us % 1_000_000 * 1000) as libc::c_long,
    };
    // SAFETY: `watched` and `timeout` outlive the call, and the count is the slice's own. A failure (a signal) means
    // only that the caller looks at its sockets once more than needed.
    unsafe {
        libc::ppoll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, &timeout, std::ptr::null());
    }
}

/// Begins to connect. Towards 127/8 the source address is one of 127/8 too, by `index`, since one address has only
/// 28,000 ports; the port is chosen at the connect, so that it may be shared between destinations.
///
/// # Errors
/// When there is no descriptor or port left, or the connect fails at once.
pub fn connect(target: SocketAddr, index: u32, receive_buffer: Option<usize>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let SocketAddr::V4(v4) = target
        && v4.ip().is_loopback()
    {
        let one: libc::c_int = 1;
        // SAFETY: the option takes an int, which `one` is and whose size is passed; the socket is open.
        check(unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const one).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        })?;
        let block = index / CONNECTIONS_PER_SOURCE;
        let source = Ipv4Addr::new(127, 1 + (block >> 15) as u8 % 200, (block >> 7) as u8, (block << 1) as u8 | 1);
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket)
}

/// The side of a fork that this is.
#[derive(Debug)]
pub enum Forked {
    Parent { child: u32 },
    Child,
}

/// Forks a process that ends with this one.
///
/// # Errors
/// When the kernel refuses, or when this process has other threads, whose locks the child would inherit locked.
pub fn fork() -> io::Result<Forked> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("cannot fork with {threads} threads running")));
    }
    // SAFETY: this process has one thread, so the child finds no lock held by a thread that it does not have.
    match check(unsafe { libc::fork() })? {
        0 => {
            // SAFETY: the option takes a signal number and touches no memory.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
            Ok(Forked::Child)
        }
        child => Ok(Forked::Parent { child: child as u32 }),
    }
}

/// Ends a forked child at once, without the parent's exit handlers.
pub fn exit_child(status: i32) -> ! {
    // SAFETY: `_exit` takes a number, never returns, and runs no handler of the parent's.
    unsafe { libc::_exit(status) }
}

/// Waits for a child to end, at most `patience`, and kills it after that.
pub fn reap(child: u32, patience: Duration) {
    let deadline = std::time::Instant::now() + patience;
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call; the process is a child of this one that nobody else waits for.
        let ended = unsafe { libc::waitpid(child as libc::pid_t, &mut status, libc::WNOHANG) };
        if ended != 0 {
            return;
        }
        if std::time::Instant::now() > deadline {
            // SAFETY: the child has not been waited for, so its number is still its own.
            unsafe { libc::kill(child as libc::pid_t, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Raises the soft limit on open files to the hard one; returns it.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: both calls get a pointer to a limit that outlives them.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
            if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
                return raised.rlim_cur;
            }
        }
    }
    limit.rlim_cur
}

/// Clock ticks a second, in which /proc counts CPU time.
pub fn ticks_per_second() -> u64 {
    // SAFETY: the call takes a name and touches no memory.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1)
}
