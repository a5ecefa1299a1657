//! TLS on a link to another data center, by rustls: bytes in between, on the socket that the shard waits for.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use url::Url;

use crate::ground::link::Filled;
use crate::limits::{LINK_READ_BURST, READ_BYTES, TLS_READ_BYTES};
use crate::runtime::net::{Net, Socket};

/// One connection's state.
#[derive(Debug)]
pub struct Tls(Box<ClientConnection>);

/// A non-blocking socket, as rustls reads and writes one.
struct Bytes<'a>(&'a mut Net, &'a Socket);

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(self.1, buffer)?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }
}

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.send(self.1, bytes)? {
            0 => Err(ErrorKind::WouldBlock.into()),
            taken => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether it is to be tried again: at once, or once the socket is ready.
fn again(error: &io::Error) -> Option<bool> {
    match error.kind() {
        ErrorKind::Interrupted => Some(true),
        ErrorKind::WouldBlock => Some(false),
        _ => None,
    }
}

impl Tls {
    /// Begins a connection to the host of a URL, whose name the certificate must have.
    ///
    /// # Errors
    /// The URL's host is no name that a certificate could have.
    pub fn new(config: &Arc<ClientConfig>, url: &Url) -> io::Result<Tls> {
        let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Tls(Box::new(connection)))
    }

    /// Takes as much of `plain` as there is room for; 0 until more was sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn take(&mut self, plain: &[u8]) -> io::Result<usize> {
        self.0.writer().write(plain)
    }

    /// Sends what the kernel takes. True if all is sent.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send(&mut self, net: &mut Net, socket: &Socket) -> io::Result<bool> {
        while self.0.wants_write() {
            match self.0.write_tls(&mut Bytes(net, socket)) {
                Ok(_) => {}
                Err(error) => match again(&error) {
                    Some(true) => {}
                    Some(false) => return Ok(false),
                    None => return Err(error),
                },
            }
        }
        Ok(true)
    }

    /// Reads what there is, and appends it to `plain`. True at the connection's end. Something may be to be sent then.
    ///
    /// # Errors
    /// The connection is broken, or the other end is not whom this one trusts.
    pub fn receive(&mut self, net: &mut Net, socket: &Socket, plain: &mut Vec<u8>) -> io::Result<Filled> {
        for _ in 0..LINK_READ_BURST * READ_BYTES / TLS_READ_BYTES {
            let ended = match self.0.read_tls(&mut Bytes(net, socket)) {
                Ok(count) => count == 0,
                Err(error) => match again(&error) {
                    Some(true) => continue,
                    Some(false) => return Ok(Filled::Emptied),
                    None => return Err(error),
                },
            };
            let state = match self.0.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The other end is told why, if it still listens.
                    let _ = self.send(net, socket);
                    return Err(io::Error::other(error));
                }
            };
            let start = plain.len();
            plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.0.reader().read_exact(&mut plain[start..])?;
            if ended {
                return Ok(Filled::Ended);
            }
        }
        Ok(Filled::More)
    }
}
