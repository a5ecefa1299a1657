//! Thousands of streams held by one thread, each checked: on epoll, with a small state a stream.

use std::cell::Cell;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use rustix::event::{Timespec, epoll};

use super::DEADLINE;
use super::http::Client;
use super::sse::{Chunks, Message, Messages};

/// One stream of a crowd.
struct Member {
    socket: TcpStream,
    chunks: Chunks,
    messages: Messages,
}

/// Many streams.
pub struct Crowd {
    epoll: rustix::fd::OwnedFd,
    members: Vec<Member>,
    body: Vec<u8>,
    buffer: Vec<u8>,
}

impl Crowd {
    pub fn new() -> Crowd {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a file descriptor is free");
        Crowd { epoll, members: Vec::new(), body: Vec::new(), buffer: vec![0; 64 * 1024] }
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Opens `count` streams, and waits until each is connected.
    pub fn join(&mut self, address: SocketAddr, query: impl Fn(usize) -> String, count: usize) {
        let first = self.members.len();
        for number in first..first + count {
            let mut client = Client::connect(address);
            let query = query(number);
            client.send(format!("GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let head = client.answer_to_head();
            assert_eq!(head.status, 200, "{head:?}");
            let (socket, early) = client.into_parts();
            socket.set_nonblocking(true).expect("a socket option");
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).expect("it is a socket of ours");
            let mut member = Member { socket, chunks: Chunks::default(), messages: Messages::default() };
            // `connected` comes later, but for what came with the head.
            let mut seen = 0;
            member.chunks.feed(&early, &mut self.body);
            member.messages.feed(&self.body, |message| {
                assert_eq!(message.name, "connected");
                seen += 1;
            });
            self.body.clear();
            self.members.push(member);
            if seen == 0 {
                self.until("connected", |who, message| {
                    assert_eq!((who, message.name.as_str()), (number, "connected"));
                    true
                });
            }
        }
    }

    /// Reads until `each` says that all came: it is called with a stream's number and what it got. Fails after
    /// [`DEADLINE`] without any.
    pub fn until(&mut self, what: &str, mut each: impl FnMut(usize, Message) -> bool) {
        let (mut done, last) = (false, Cell::new(Instant::now()));
        let mut each = |number, message| {
            last.set(Instant::now());
            each(number, message)
        };
        while !done {
            done = self.turn(what, &mut each);
            // Comments that keep streams alive are no messages.
            assert!(last.get().elapsed() < DEADLINE, "{} streams got nothing while waiting for {what}", self.len());
        }
    }

    /// Waits for something to read, and reads. True once `each` said so.
    fn turn(&mut self, what: &str, each: &mut impl FnMut(usize, Message) -> bool) -> bool {
        let mut events = Vec::with_capacity(1024);
        let started = Instant::now();
        while events.is_empty() {
            assert!(started.elapsed() < DEADLINE, "{} streams got nothing while waiting for {what}", self.len());
            let second = Timespec { tv_sec: 1, tv_nsec: 0 };
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&second)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("{error}"),
            }
        }
        let mut done = false;
        for event in &events {
            let number = event.data.u64() as usize;
            let member = &mut self.members[number];
            match member.socket.read(&mut self.buffer) {
                Ok(0) => panic!("stream {number} ended while waiting for {what}"),
                Ok(count) => {
                    self.body.clear();
                    let ended = member.chunks.feed(&self.buffer[..count], &mut self.body);
                    member.messages.feed(&self.body, |message| done |= each(number, message));
                    assert!(!ended, "stream {number} was ended while waiting for {what}");
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => panic!("stream {number}: {error}"),
            }
        }
        self.body.clear();
        done
    }
}
