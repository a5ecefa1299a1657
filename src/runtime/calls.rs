//! System calls on sockets, none of which waits.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::socket::Socket;

/// The descriptor of a socket that is the kernel's.
pub(super) fn of(socket: &Socket) -> BorrowedFd<'_> {
    socket.descriptor().expect("the kernel's sockets have descriptors")
}

/// See [`Net::recv`](super::net::Net::recv).
pub(super) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        return match recv(socket, &mut *into, RecvFlags::DONTWAIT) {
            Ok((count, _)) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// See [`Net::send_before`](super::net::Net::send_before).
#[inline]
pub(super) fn transmit(socket: BorrowedFd<'_>, bytes: &[u8], more: bool) -> io::Result<usize> {
    let more = if more { SendFlags::MORE } else { SendFlags::empty() };
    loop {
        return match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL | more) {
            Ok(taken) => Ok(taken),
            Err(Errno::AGAIN) => Ok(0),
            Err(Errno::INTR) => continue,
            Err(error) => Err(error.into()),
        };
    }
}

/// See [`Net::shut`](super::net::Net::shut).
pub(super) fn shut_down(socket: BorrowedFd<'_>) {
    let _ = shutdown(socket, Shutdown::Write);
}
