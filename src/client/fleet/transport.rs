//! The load generator's connections, by TLS where the URL asks for it.
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use socket2::Socket;

use crate::client::http::{Error, Url};
use crate::runtime::tls::client_config;

/// Where connections go, and from where.
#[derive(Debug, Clone)]
pub struct Target {
    pub address: SocketAddr,
    /// Added to the clients' numbers when source addresses are chosen, so that runs do not meet.
    pub source_base: u32,
    /// What is offered to whom, where it is by TLS.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// The first address of a URL's host. By `https://` all connections offer what the server gave them to come back with, unless
    /// each is to shake hands `in_full`.
    ///
    /// # Errors
    /// The name does not resolve, or this machine trusts no authority.
    pub fn of(url: &Url, in_full: bool) -> Result<Target, Error> {
        let tls = match url.is_secure {
            false => None,
            true => {
                let mut config = client_config(None).map_err(Error::Trust)?;
                if in_full {
                    Arc::make_mut(&mut config).resumption = Resumption::disabled();
                }
                let name = ServerName::try_from(url.host().to_owned());
                Some((config, name.map_err(|_| Error::Url(url.authority.clone()))?))
            }
        };
        Ok(Target { address: url.addresses()?[0], source_base: 0, tls })
    }

    /// To an address, without TLS.
    #[cfg(test)]
    pub fn plain(address: SocketAddr) -> Target {
        Target { address, source_base: 0, tls: None }
    }

    /// What is said over a socket that is connected to it, or will be.
    ///
    /// # Errors
    /// TLS without chance or memory.
    pub fn over(&self, socket: Socket) -> io::Result<Transport> {
        let Some((config, name)) = &self.tls else { return Ok(Transport::Plain(socket)) };
        let connection = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        Ok(Transport::Secure(Box::new(StreamOwned::new(connection, socket))))
    }
}

/// A connection on a socket that does not block. With TLS, hands are shaken by whoever reads or writes first, who is told to come
/// again ([`io::ErrorKind::WouldBlock`]) as long as they are not.
#[derive(Debug)]
pub enum Transport {
    Plain(Socket),
    Secure(Box<StreamOwned<ClientConnection, Socket>>),
}

impl Transport {
    fn socket(&self) -> &Socket {
        match self {
            Transport::Plain(socket) => socket,
            Transport::Secure(stream) => &stream.sock,
        }
    }

    /// Whether a read of so many bytes into so much room has emptied the socket. What comes by TLS is read a record at a time.
    pub fn is_emptied(&self, read: usize, room: usize) -> bool {
        matches!(self, Transport::Plain(_)) && read < room
    }

    /// It ends with a reset, which leaves no port behind in TIME_WAIT.
    pub fn reset(self) {
        // Should the option be refused, the ports rest in TIME_WAIT, and there are more of them.
        let _ = self.socket().set_linger(Some(Duration::ZERO));
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.socket().as_raw_fd()
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.read(into),
            Transport::Secure(stream) => stream.read(into),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.write(bytes),
            Transport::Secure(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(_) => Ok(()),
            Transport::Secure(stream) => stream.flush(),
        }
    }
}
