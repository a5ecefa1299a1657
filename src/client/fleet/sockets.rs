//! The connections of one thread: one epoll set, one read buffer, thousands of sockets.
use std::io::{ErrorKind, Read as _, Write as _};

use super::frames::{Broken, Stream};
use super::sys::{self, Epoll, now_us};
use super::transport::{Target, Transport};
use super::worker::Clients;

/// Bytes that one read takes at most; shared by all of a thread's connections.
const READ_BYTES: usize = 256 * 1024;
/// How long a turn waits at most for something to read.
const TURN_MS: i32 = 10;

/// A client's place, whose connections follow each other.
#[derive(Debug, Default)]
struct Place {
    socket: Option<Transport>,
    stream: Stream,
    /// Tells its connections apart, for readiness that is told too late.
    generation: u32,
    /// The request is on its way.
    asked: bool,
    /// Known to epoll.
    watched: bool,
}

impl Place {
    fn close(&mut self) -> Option<Transport> {
        self.generation = self.generation.wrapping_add(1);
        self.socket.take()
    }
}

/// All connections of a thread.
#[derive(Debug)]
pub struct Sockets {
    target: Target,
    epoll: Epoll,
    places: Vec<Place>,
    ready: Vec<libc::epoll_event>,
    buffer: Vec<u8>,
}

impl Sockets {
    /// # Errors
    /// When no descriptor is left for the epoll set.
    pub fn new(target: Target) -> std::io::Result<Self> {
        Ok(Self {
            target,
            epoll: Epoll::new()?,
            places: Vec::new(),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; 1024],
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Begins to connect client `number`, at `place` among this thread's. How that ends is told to `clients`.
    pub fn open(&mut self, clients: &mut impl Clients, place: usize, number: u32, receive_buffer: Option<usize>) {
        if self.places.len() <= place {
            self.places.resize_with(place + 1, Place::default);
        }
        let source = self.target.source_base.wrapping_add(number);
        let connected = sys::connect(self.target.address, source, receive_buffer);
        match connected.and_then(|socket| self.target.over(socket)) {
            Ok(socket) => {
                let slot = &mut self.places[place];
                slot.close();
                (slot.socket, slot.stream) = (Some(socket), Stream::default());
                (slot.asked, slot.watched) = (false, false);
                self.ask(clients, place);
            }
            Err(error) => clients.ended(place, format!("connect: {error}")),
        }
    }

    /// Closes a connection, of which nothing more is told.
    pub fn close(&mut self, place: usize) {
        self.places[place].close();
    }

    /// Closes all connections with a reset, which leaves no port behind in TIME_WAIT. Nothing more is told of them.
    pub fn reset_all(&mut self) {
        self.places.iter_mut().filter_map(Place::close).for_each(Transport::reset);
    }

    /// Waits some milliseconds for what comes, and passes it on.
    pub fn turn(&mut self, clients: &mut impl Clients) {
        let filled = self.epoll.wait(&mut self.ready, TURN_MS);
        for index in 0..filled {
            let (token, events) = (self.ready[index].u64, self.ready[index].events);
            let (place, generation) = (token as u32 as usize, (token >> 32) as u32);
            if self.places[place].generation != generation {
                continue;
            }
            if !self.places[place].asked {
                self.ask(clients, place);
            } else {
                self.read(clients, place, events & sys::HANG_UP != 0);
            }
        }
    }

    /// Sends the request, which on loopback works right after the connect, before the kernel has said so.
    fn ask(&mut self, clients: &mut impl Clients, place: usize) {
        let slot = &mut self.places[place];
        let Some(socket) = &mut slot.socket else { return };
        let request = clients.request(place);
        let sent = socket.write(&request);
        let wanted = match sent {
            Ok(written) if written == request.len() => {
                slot.asked = true;
                if !clients.asked(place) {
                    return;
                }
                sys::READABLE
            }
            Ok(_) => return self.end(clients, place, "the request did not fit into the send buffer".to_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                sys::READABLE | sys::WRITABLE
            }
            Err(error) => return self.end(clients, place, format!("connect: {error}")),
        };
        let known = std::mem::replace(&mut slot.watched, true);
        let socket = &*socket;
        let token = u64::from(slot.generation) << 32 | place as u64;
        if let Err(error) = self.epoll.watch(socket, token, wanted, known) {
            self.end(clients, place, format!("epoll: {error}"));
        }
    }

    fn read(&mut self, clients: &mut impl Clients, place: usize, ended: bool) {
        let Place { socket: Some(socket), stream, .. } = &mut self.places[place] else { return };
        let why = loop {
            match socket.read(&mut self.buffer) {
                Ok(0) => break Broken::Ended.to_string(),
                Ok(read) => match clients.take(place, stream, &self.buffer[..read], now_us()) {
                    // The end of a socket that is emptied may be there to be seen.
                    Ok(()) if ended || !socket.is_emptied(read, self.buffer.len()) => {}
                    Ok(()) => return,
                    Err(why) => break why,
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break format!("read: {error}"),
            }
        };
        self.end(clients, place, why);
    }

    fn end(&mut self, clients: &mut impl Clients, place: usize, why: String) {
        self.close(place);
        clients.ended(place, why);
    }
}
