//! Listening sockets, made so that the sockets they accept need no call of their own.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{LISTEN_BACKLOG, NOTSENT_LOWAT_BYTES, SEND_BUFFER_BYTES, TCP_USER_TIMEOUT};

/// Whether other processes may listen on the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// This process only: a port that another one has is an error.
    Alone,
    /// Any process of this user that asks for it too.
    Processes,
}

/// One listening socket a shard, all on one address, among which the kernel spreads connections (`SO_REUSEPORT`). With
/// port 0 the kernel chooses one for all.
pub fn bind(address: SocketAddr, shards: usize, sharing: Sharing) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::with_capacity(shards);
    let mut address = address;
    for shard in 0..shards {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The first socket binds alone, so that the kernel refuses a port which another process has; only then does it
        // agree to share it with its siblings.
        if shard > 0 || sharing == Sharing::Processes {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        // Accepted sockets inherit all of these.
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        // What waits is to wait here, where it can merge, and not in the kernel.
        socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
        socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
        socket.listen(LISTEN_BACKLOG)?;
        if shard == 0 {
            address = socket.local_addr()?.as_socket().expect("it was bound to an internet address");
        }
        listeners.push(socket.into());
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_share_a_port_and_others_do_not() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let ours = bind(any, 3, Sharing::Alone).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert!(ours.iter().all(|listener| listener.local_addr().unwrap() == address));
        assert_eq!(bind(address, 1, Sharing::Alone).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(bind(address, 1, Sharing::Processes).is_ok());
    }
}
