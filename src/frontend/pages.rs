//! Large writes without copies: a busy topic's log also stands in a memory file, from which `sendfile` hands whole pages
//! to sockets. Every viewer's socket refers to the same pages, so neither this side nor the receiving one touches memory
//! of its own for each viewer.
//!
//! Pages are appended to and never changed where they were sent from; what no viewer needs any more is punched out of the
//! file, and the kernel keeps those pages for as long as a socket refers to them.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create, sendfile};
use rustix::io::{Errno, pwrite};

use crate::frontend::log::{Cursor, Log};
use crate::ground::slots::TopicIndex;
use crate::limits::{PAGED_TOPICS_MAX, PAGES_IDLE, PAGES_PUNCH_BYTES};
use crate::runtime::net::Socket;
use crate::runtime::random::Map;

/// Bytes of a page, as far as this matters: holes are punched in multiples of it.
const PAGE: u64 = 4096;

/// One topic's memory file.
#[derive(Debug)]
struct Pages {
    file: OwnedFd,
    /// The file holds the log from here…
    from: Cursor,
    /// …to here…
    to: Cursor,
    /// …and this is where the next byte goes.
    end: u64,
    /// Before this place there is a hole.
    punched: u64,
    /// The shard's second of the last use.
    used: u32,
}

/// The memory files of a shard's busiest topics.
#[derive(Debug, Default)]
pub struct PageLogs {
    topics: Map<TopicIndex, Pages>,
}

impl PageLogs {
    /// Sends all of `log` behind `cursor`, as much as the socket takes at once. `None` if there is no file for the topic,
    /// and none can be made now, or the socket is not the kernel's, or what it sends is sealed.
    pub fn send(
        &mut self,
        topic: TopicIndex,
        log: &Log,
        cursor: Cursor,
        socket: &Socket,
        seconds: u32,
    ) -> Option<io::Result<usize>> {
        let socket = socket.descriptor().filter(|_| !socket.is_secure())?;
        if !self.topics.contains_key(&topic) {
            if self.topics.len() >= PAGED_TOPICS_MAX {
                return None;
            }
            let file = memfd_create("fanfare-log", MemfdFlags::CLOEXEC).ok()?;
            self.topics.insert(topic, Pages { file, from: cursor, to: cursor, end: 0, punched: 0, used: seconds });
        }
        let pages = self.topics.get_mut(&topic).expect("it was just made if it was missing");
        pages.used = seconds;
        let place = pages.catch_up(log, cursor).ok()?;
        Some(pages.send(socket, place))
    }

    /// Forgets a topic that is gone: its place may become another's.
    pub fn forget(&mut self, topic: TopicIndex) {
        self.topics.remove(&topic);
    }

    /// Gives back the files of topics that have become quiet.
    pub fn tidy(&mut self, seconds: u32) {
        self.topics.retain(|_, pages| seconds.saturating_sub(pages.used) < PAGES_IDLE.as_secs() as u32);
    }
}

/// Whether `a` comes before `b`: cursors wrap, and are never 2^31 apart.
fn precedes(a: Cursor, b: Cursor) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Pages {
    /// Makes the file hold the log from `cursor` on. Gives the place of `cursor` in the file.
    fn catch_up(&mut self, log: &Log, cursor: Cursor) -> io::Result<u64> {
        if precedes(cursor, self.from) || precedes(self.to, log.start()) {
            // What the file holds does not reach this far back, or has a gap to what the log holds: begin anew behind it.
            self.from = cursor;
            self.to = cursor;
        }
        while self.to != log.end() {
            let written = pwrite(&self.file, log.since(self.to), self.end)?;
            if written == 0 {
                return Err(Errno::IO.into());
            }
            self.to = self.to.wrapping_add(written as u32);
            self.end += written as u64;
        }
        self.punch(log);
        Ok(self.end - u64::from(log.end().wrapping_sub(cursor)))
    }

    /// Gives back pages that precede the log.
    fn punch(&mut self, log: &Log) {
        let dead = self.end.saturating_sub(log.len() as u64) / PAGE * PAGE;
        if dead >= self.punched + PAGES_PUNCH_BYTES {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            // Where this fails the pages stay until the topic is quiet.
            let _ = fallocate(&self.file, hole, self.punched, dead - self.punched);
            self.punched = dead;
        }
    }

    fn send(&self, socket: BorrowedFd<'_>, mut place: u64) -> io::Result<usize> {
        let start = place;
        while place < self.end {
            let left = (self.end - place) as usize;
            match sendfile(socket, &self.file, Some(&mut place), left) {
                // Taken in part, the rest does not fit; only another call would say so, and `place` has moved already.
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((place - start) as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let reader = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (writer, _) = listener.accept().unwrap();
        writer.set_nonblocking(true).unwrap();
        (OwnedFd::from(writer).into(), reader)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Two viewers at their own paces, a log that is trimmed and starts over, pages punched out while their bytes
        /// still wait unread: each gets just the log's bytes.
        #[test]
        fn viewers_get_the_logs_bytes(steps in prop::collection::vec((1usize..9000, 0u8..8, any::<bool>()), 1..60)) {
            let (mut logs, mut log) = (PageLogs::default(), Log::default());
            let mut viewers = [(pair(), log.end(), Vec::new()), (pair(), log.end(), Vec::new())];
            let mut all = Vec::new();
            for (number, (size, action, which)) in steps.into_iter().enumerate() {
                let frame = frame("a:b", "x", None, Class::Every, &format!("\"{number}{}\"", "y".repeat(size)));
                log.push(&frame);
                all.extend_from_slice(frame.bytes());
                let ((writer, reader), cursor, got) = &mut viewers[usize::from(which)];
                if action < 6 {
                    let taken = logs.send(1, &log, *cursor, writer, 0).unwrap().unwrap();
                    *cursor = cursor.wrapping_add(taken as u32);
                }
                if action % 2 == 0 {
                    // Some of what was sent is read now, some much later.
                    let sent = (all.len() - log.since(*cursor).len()) - got.len();
                    let mut bytes = vec![0; sent / 2];
                    reader.read_exact(&mut bytes).unwrap();
                    got.extend_from_slice(&bytes);
                }
                if action == 7 {
                    logs.tidy(PAGES_IDLE.as_secs() as u32);
                }
                let behind = viewers.iter().map(|viewer| viewer.1).max_by_key(|cursor| log.end().wrapping_sub(*cursor));
                log.trim(behind.unwrap());
            }
            for ((writer, mut reader), mut cursor, mut got) in viewers {
                while got.len() < all.len() {
                    if cursor != log.end() {
                        let taken = logs.send(1, &log, cursor, &writer, 0).unwrap().unwrap();
                        cursor = cursor.wrapping_add(taken as u32);
                    }
                    let sent = all.len() - log.since(cursor).len() - got.len();
                    let mut bytes = vec![0; sent];
                    reader.read_exact(&mut bytes).unwrap();
                    got.extend_from_slice(&bytes);
                }
                prop_assert!(got == all);
            }
        }
    }
}
