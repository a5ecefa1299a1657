//! Many sends by one system call, and what a shard waits by: an io_uring of its own.
//!
//! Nothing is in flight when a call of [`Ring::send_each`] returns: each send either takes what the socket's buffer has room for
//! or says that it has none, as `send(2)` does with `MSG_DONTWAIT`. So no buffer outlives the call, and who lends it may do
//! with it afterwards what he likes. Nor is anything when [`Ring::wait`] returns.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use io_uring::{IoUring, opcode, types};
use rustix::io::Errno;
use rustix::net::SendFlags;

use super::calls::of;
use super::socket::Socket;
use crate::limits::SENDS_BATCH;

/// The ring that a shard sends and waits by.
pub(super) struct Ring(Box<IoUring>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// One for the calling thread alone. Kernels before 6.1 get one that they handle less quickly.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn new() -> io::Result<Ring> {
        let depth = SENDS_BATCH as u32;
        let quick = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(depth);
        Ok(Ring(Box::new(quick.or_else(|_| IoUring::new(depth))?)))
    }

    /// Sends to up to [`SENDS_BATCH`] sockets of the kernel's. Puts into `taken`, in the same order, how many bytes each took.
    ///
    /// # Errors
    /// The ring is of no more use; what `taken` does not say was perhaps sent.
    pub(super) fn send_each<'a>(
        &mut self,
        sends: impl Iterator<Item = (&'a Socket, &'a [u8])>,
        taken: &mut Vec<io::Result<usize>>,
    ) -> io::Result<()> {
        let flags = (SendFlags::DONTWAIT | SendFlags::NOSIGNAL).bits() as i32;
        let first = taken.len();
        for (socket, bytes) in sends {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let send =
                opcode::Send::new(types::Fd(of(socket).as_raw_fd()), bytes.as_ptr(), length).flags(flags).build();
            // SAFETY: the bytes and the socket are borrowed for longer than this call, which ends only once the kernel has
            // completed every send, or has given up the ring with those that it never saw.
            let pushed = unsafe { self.0.submission().push(&send.user_data(taken.len() as u64)) };
            pushed.map_err(|_| io::Error::other("more sends than a batch has"))?;
            taken.push(Err(Errno::IO.into()));
        }
        let mut left = taken.len() - first;
        while left > 0 {
            match self.0.submit_and_wait(left) {
                Err(error) if error.raw_os_error() != Some(Errno::INTR.raw_os_error()) => return Err(error),
                _ => {}
            }
            for completed in self.0.completion() {
                left -= 1;
                taken[completed.user_data() as usize] = match completed.result() {
                    result if result >= 0 => Ok(result as usize),
                    result if -result == Errno::AGAIN.raw_os_error() => Ok(0),
                    result => Err(io::Error::from_raw_os_error(-result)),
                };
            }
        }
        Ok(())
    }

    /// Waits on this thread until a descriptor is readable. A signal does not end it.
    ///
    /// # Errors
    /// The ring is of no more use.
    pub(super) fn wait(&mut self, descriptor: &OwnedFd) -> io::Result<()> {
        let poll = opcode::PollAdd::new(types::Fd(descriptor.as_raw_fd()), libc::POLLIN as u32).build();
        // SAFETY: it names no memory, and the descriptor is borrowed for longer than this call, which ends once it was polled.
        unsafe { self.0.submission().push(&poll) }.map_err(|_| io::Error::other("no room for a poll"))?;
        loop {
            match self.0.submit_and_wait(1) {
                Err(error) if error.raw_os_error() != Some(Errno::INTR.raw_os_error()) => return Err(error),
                _ => {}
            }
            match self.0.completion().next().map(|completed| completed.result()) {
                None => {}
                Some(result) if result >= 0 => return Ok(()),
                Some(result) => return Err(io::Error::from_raw_os_error(-result)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = TcpStream::connect(listener.local_addr().expect("it listens")).expect("it listens");
        let server = listener.accept().expect("it connected").0;
        server.set_nonblocking(true).expect("a socket can be");
        (OwnedFd::from(server).into(), client)
    }

    #[test]
    fn each_takes_what_it_has_room_for_and_nothing_is_waited_for() {
        let Ok(mut ring) = Ring::new() else { return eprintln!("this kernel gives no ring") };
        let (mut free, full, broken) = (pair(), pair(), pair());
        let large = vec![b'x'; 64 << 20];
        broken.1.shutdown(Shutdown::Both).expect("it is connected");
        let mut taken = Vec::new();
        let mut send = |bytes: &[u8]| {
            taken.clear();
            let sends = [(&free.0, &b"abc"[..]), (&full.0, bytes), (&broken.0, &b"abc"[..])];
            ring.send_each(sends.into_iter(), &mut taken).expect("it works");
            taken.iter().map(|taken| taken.as_ref().ok().copied()).collect::<Vec<_>>()
        };
        let first = send(&large);
        assert!(first[0] == Some(3) && first[1].is_some_and(|taken| (1..large.len()).contains(&taken)), "{first:?}");
        // The first send to a connection that was shut may still be taken, the next is not.
        assert_eq!(send(&large), [Some(3), Some(0), None]);
        let mut read = [0; 6];
        free.1.read_exact(&mut read).expect("it was sent");
        assert_eq!(&read, b"abcabc");
    }

    #[test]
    fn a_wait_ends_once_something_is_there_and_leaves_nothing_behind() {
        let Ok(mut ring) = Ring::new() else { return eprintln!("this kernel gives no ring") };
        let (server, client) = pair();
        let server = of(&server).try_clone_to_owned().expect("a descriptor");
        for wait in [Duration::from_millis(50), Duration::ZERO] {
            let began = Instant::now();
            let mut sender = client.try_clone().expect("a descriptor");
            let sends = std::thread::spawn(move || {
                std::thread::sleep(wait);
                sender.write_all(b"x").expect("it is open");
            });
            ring.wait(&server).expect("it works");
            assert!(began.elapsed() >= wait);
            sends.join().expect("it ends");
        }
        // What is there already is not waited for, and sends go on.
        ring.wait(&server).expect("it works");
        let (socket, mut taken) = (pair(), Vec::new());
        ring.send_each([(&socket.0, &b"abc"[..])].into_iter(), &mut taken).expect("it works");
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].as_ref().ok(), Some(&3));
        client.shutdown(Shutdown::Both).expect("it is open");
    }
}
