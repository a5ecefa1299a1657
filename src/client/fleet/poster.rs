//! The publishing client: keeps requests flowing on a few kept-alive connections, several under way on each where
//! asked for. What is posted, and when, a [`Load`] says.
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::sys::{Epoll, HANG_UP, READABLE, WRITABLE, now_us};
use super::transport::{Target, Transport};

/// Bytes waiting to be written on a connection, beyond which no further request is made.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that an answer may have.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Reconnects in a run at most; a server that closes after each answer is no server to measure this way.
const RECONNECTS_MAX: u32 = 10_000;
/// Sockets that one look finds at most; the others come with the next.
const EVENTS: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// When its oldest event was due, in µs since the epoch.
    pub due_us: u64,
    pub events: u32,
}

/// What a connection is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// A request was written.
    Request(Tag),
    /// Nothing is due before that time, in µs since the epoch.
    Wait(u64),
    /// Nothing will be due any more.
    Done,
}

/// What is posted, and what becomes of it.
pub trait Load {
    /// Writes the next request of a connection, if one is due at `now_us`.
    fn next(&mut self, connection: usize, now_us: u64, out: &mut Vec<u8>) -> Next;
    /// Takes an answer.
    fn answered(&mut self, tag: Tag, status: u16, body: &[u8], now_us: u64);
    /// Learns that a request has no answer, and why.
    fn unanswered(&mut self, tag: Tag, why: &str);
}

#[derive(Debug)]
struct Connection {
    target: Target,
    stream: Option<Transport>,
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    under_way: VecDeque<Tag>,
    done: bool,
    /// There may be something to read, and the other side's end may be behind it.
    ready: bool,
    ended: bool,
    /// When it is looked at even without an answer, in µs since the epoch.
    wakes_us: u64,
}

/// Posts until the load is done or `deadline_us` has passed; what has no answer by then is reported as unanswered.
pub fn run(load: &mut impl Load, targets: &[Target], depth: usize, deadline_us: u64) {
    let epoll = match Epoll::new() {
        Ok(epoll) => epoll,
        Err(error) => return load.unanswered(Tag { due_us: now_us(), events: 0 }, &format!("epoll: {error}")),
    };
    let mut connections: Vec<_> = targets.iter().map(|target| Connection::new(target.clone())).collect();
    let mut buffer = vec![0; 64 * 1024];
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS];
    // Connections to look at in this turn; the others wait for an answer, or for a time.
    let mut turn: Vec<usize> = (0..connections.len()).collect();
    let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut left = connections.len();
    let mut reconnects = 0;
    loop {
        for index in turn.drain(..) {
            let connection = &mut connections[index];
            if connection.is_over() {
                continue;
            }
            if std::mem::take(&mut connection.ready)
                && let Err(why) = connection.receive(load, &mut buffer)
            {
                connection.give_up(load, &why);
            }
            let wake_us = loop {
                if !connection.done && connection.stream.is_none() {
                    reconnects += 1;
                    connection.open(load, &epoll, index, reconnects);
                }
                let wake_us = connection.fill(load, index, depth);
                match connection.flush() {
                    Ok(()) => break wake_us,
                    Err(why) => connection.give_up(load, &why.to_string()),
                }
            };
            if connection.is_over() {
                left -= 1;
            } else if wake_us != u64::MAX && wake_us != connection.wakes_us {
                connection.wakes_us = wake_us;
                waiting.push(Reverse((wake_us, index)));
            }
        }
        let now = now_us();
        if left == 0 || now >= deadline_us {
            break;
        }
        let wake_us = waiting.peek().map_or(deadline_us, |Reverse((wake_us, _))| *wake_us);
        epoll.sleep(wake_us.min(deadline_us).saturating_sub(now));
        let found = epoll.wait(&mut events, 0);
        for event in &events[..found] {
            let index = event.u64 as usize;
            connections[index].ready = true;
            connections[index].ended |= event.events & HANG_UP != 0;
            turn.push(index);
        }
        let now = now_us();
        while let Some(Reverse((_, index))) = waiting.peek().filter(|Reverse((wake_us, _))| *wake_us <= now) {
            connections[*index].wakes_us = u64::MAX;
            turn.push(*index);
            waiting.pop();
        }
    }
    for connection in &mut connections {
        connection.give_up(load, "no answer in time");
    }
}

fn connect(target: &Target) -> io::Result<Transport> {
    let stream = TcpStream::connect_timeout(&target.address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    target.over(stream.into())
}

impl Connection {
    fn new(target: Target) -> Connection {
        Connection {
            target,
            stream: None,
            out: Vec::new(),
            written: 0,
            input: Vec::new(),
            under_way: VecDeque::new(),
            done: false,
            ready: false,
            ended: false,
            wakes_us: u64::MAX,
        }
    }

    /// Nothing is to be sent, and all is answered.
    fn is_over(&self) -> bool {
        self.done && self.under_way.is_empty()
    }

    /// Connects, for the `nth` time over all connections.
    fn open(&mut self, load: &mut impl Load, epoll: &Epoll, index: usize, nth: u32) {
        let connected = connect(&self.target).and_then(|stream| {
            epoll.watch(&stream, index as u64, READABLE | WRITABLE, false)?;
            Ok(stream)
        });
        match connected {
            Ok(stream) if nth < RECONNECTS_MAX => self.stream = Some(stream),
            Ok(_) => self.done = true,
            Err(error) => {
                load.unanswered(Tag { due_us: now_us(), events: 0 }, &format!("connect: {error}"));
                self.done = true;
            }
        }
    }

    /// Makes requests as far as depth allows; returns when to look again.
    fn fill(&mut self, load: &mut impl Load, index: usize, depth: usize) -> u64 {
        while !self.done && self.under_way.len() < depth && self.out.len() < UNSENT_BYTES_MAX {
            match load.next(index, now_us(), &mut self.out) {
                Next::Request(tag) => self.under_way.push_back(tag),
                Next::Wait(until_us) => return until_us,
                Next::Done => self.done = true,
            }
        }
        u64::MAX
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        while self.written < self.out.len() {
            match stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    fn receive(&mut self, load: &mut impl Load, buffer: &mut [u8]) -> Result<(), String> {
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut over = false;
        loop {
            match stream.read(buffer) {
                Ok(0) => over = true,
                Ok(read) => {
                    self.input.extend_from_slice(&buffer[..read]);
                    // The end of a socket that is emptied may be there to be seen.
                    if self.ended || !stream.is_emptied(read, buffer.len()) {
                        continue;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            }
            break;
        }
        let mut from = 0;
        while let Some(answer) = parse(&self.input[from..])? {
            from += answer.length;
            if answer.status < 200 {
                continue;
            }
            let tag = self.under_way.pop_front().ok_or("an answer without a request")?;
            load.answered(tag, answer.status, &answer.body, now_us());
        }
        self.input.drain(..from);
        if self.input.len() > ANSWER_BYTES_MAX {
            return Err("an answer of more than 256 KiB".to_owned());
        }
        if over { Err("the server closed the connection".to_owned()) } else { Ok(()) }
    }

    /// Drops the connection; its requests under way have no answer. Not sent again, since they may have been taken.
    fn give_up(&mut self, load: &mut impl Load, why: &str) {
        for tag in self.under_way.drain(..) {
            load.unanswered(tag, why);
        }
        self.stream = None;
        (self.ready, self.ended) = (false, false);
        self.out.clear();
        self.written = 0;
        self.input.clear();
    }
}

struct Answer<'a> {
    length: usize,
    status: u16,
    body: std::borrow::Cow<'a, [u8]>,
}

/// The first answer in the input, if it is complete.
fn parse(input: &[u8]) -> Result<Option<Answer<'_>>, String> {
    if input.is_empty() {
        return Ok(None);
    }
    let mut slots = [httparse::EMPTY_HEADER; 64];
    let mut answer = httparse::Response::new(&mut slots);
    let head = match answer.parse(input).map_err(|error| format!("an answer that is not HTTP: {error}"))? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial => return Ok(None),
    };
    let status = answer.code.unwrap_or(0);
    let header = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    if header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok(chunked_body(&input[head..])?.map(|(length, body)| Answer {
            length: head + length,
            status,
            body: body.into(),
        }));
    }
    let bodiless = status < 200 || status == 204;
    let length = match header("content-length") {
        Some(length) => length.trim().parse().map_err(|_| "a bad Content-Length")?,
        None if bodiless => 0,
        None => return Err("an answer without Content-Length".to_owned()),
    };
    Ok(input.get(head..head.saturating_add(length)).map(|body| Answer {
        length: head + length,
        status,
        body: body.into(),
    }))
}

/// A chunked body and how long it is on the wire, if it is complete.
fn chunked_body(input: &[u8]) -> Result<Option<(usize, Vec<u8>)>, String> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let (digits, size) = match httparse::parse_chunk_size(&input[at..]) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("a bad chunk size".to_owned()),
        };
        at += digits;
        let size = usize::try_from(size).map_err(|_| "a bad chunk size")?;
        let Some(chunk) = input.get(at..at.saturating_add(size).saturating_add(2)) else {
            return Ok(None);
        };
        // Trailers are not asked for, so the last chunk is followed by the blank line alone.
        body.extend_from_slice(&chunk[..size]);
        at += size + 2;
        if size == 0 {
            return Ok(Some((at, body)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A few requests at once, then some that are due later.
    #[derive(Default)]
    struct Few {
        made: u64,
        answered: u64,
        unanswered: Vec<String>,
    }

    impl Load for Few {
        fn next(&mut self, _: usize, now_us: u64, out: &mut Vec<u8>) -> Next {
            if self.made == 60 {
                return Next::Done;
            }
            self.made += 1;
            if self.made.is_multiple_of(2) {
                return Next::Wait(now_us + 2_000);
            }
            out.extend_from_slice(b"POST / HTTP/1.1\r\n\r\n");
            Next::Request(Tag { due_us: now_us, events: 1 })
        }

        fn answered(&mut self, _: Tag, status: u16, _: &[u8], _: u64) {
            assert_eq!(status, 204);
            self.answered += 1;
        }

        fn unanswered(&mut self, _: Tag, why: &str) {
            self.unanswered.push(why.to_owned());
        }
    }

    /// Answers `each` requests of every connection, then closes it.
    fn serve(each: usize) -> Target {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut heads = io::BufReader::new(stream.try_clone().unwrap());
                    for _ in 0..each {
                        let mut line = String::new();
                        while line != "\r\n" {
                            line.clear();
                            if io::BufRead::read_line(&mut heads, &mut line).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Target::plain(address)
    }

    #[test]
    fn every_request_has_its_end_whether_servers_keep_connections_or_close_them() {
        let mut load = Few::default();
        run(&mut load, &[(); 3].map(|()| serve(usize::MAX)), 1, now_us() + 30_000_000);
        assert_eq!((load.answered, load.unanswered), (30, vec![]));
        for each in [1, 2] {
            let mut load = Few::default();
            run(&mut load, &[(); 3].map(|()| serve(each)), 1, now_us() + 30_000_000);
            // Who closes without a word may do so while the next request is on its way.
            assert!(load.answered > 3 * each as u64, "{} with {each} a connection", load.answered);
            assert_eq!(load.answered + load.unanswered.len() as u64, 30, "{:?}", load.unanswered);
        }
        let mut load = Few::default();
        run(&mut load, &[(); 3].map(|()| serve(0)), 1, now_us() + 30_000_000);
        assert_eq!((load.answered, load.unanswered.len()), (0, 30), "each of them cut off");
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut load = Few::default();
        run(&mut load, &[(); 2].map(|()| Target::plain(gone)), 1, now_us() + 30_000_000);
        assert_eq!((load.answered, load.unanswered.len()), (0, 2), "{:?}", load.unanswered);
    }

    #[test]
    fn answers_cut_at_every_byte() {
        let answers = [
            ("HTTP/1.1 202 Accepted\r\ncontent-length: 5\r\n\r\nhello", 202, "hello"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 200, "hello"),
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        ];
        for (text, status, body) in answers {
            let twice = format!("{text}HTTP");
            for cut in 0..text.len() {
                assert!(parse(&text.as_bytes()[..cut]).unwrap().is_none(), "{text:?} cut at {cut}");
            }
            let answer = parse(twice.as_bytes()).unwrap().unwrap();
            assert_eq!((answer.length, answer.status), (text.len(), status));
            assert_eq!(&*answer.body, body.as_bytes());
        }
        assert!(parse(b"SSH\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}
