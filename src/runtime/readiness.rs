//! Which of a shard's descriptors are ready: one epoll set, which is itself a descriptor whose readiness a shard's ring waits
//! for, or where there is none a thread by itself.
//!
//! A connection that waits in such a set costs this process nothing at all; a future a connection would cost its state,
//! a waker and a pending submission each (docs/performance.md has the figures).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::limits::READY_BATCH;

/// What to be told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Edge-triggered: readable.
    Read,
    /// Level-triggered: readable. For listeners, whose queue may outlast one burst.
    ReadLevel,
    /// Edge-triggered: readable, writable, closed by the peer.
    Socket,
}

/// A descriptor that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The number it was added with.
    pub token: u64,
    /// There may be something to read, or an end, or an error.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The peer sends no more, or the connection is over.
    pub hung_up: bool,
    /// The connection is over: closed both ways, or broken.
    pub over: bool,
}

/// An epoll set.
#[derive(Debug)]
pub struct Readiness {
    set: OwnedFd,
}

impl Readiness {
    /// An empty set.
    pub fn new() -> io::Result<Readiness> {
        Ok(Readiness { set: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Adds a descriptor; closing it takes it out again.
    pub fn add(&self, descriptor: impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        use epoll::EventFlags;
        let flags = match interest {
            Interest::Read => EventFlags::IN | EventFlags::ET,
            Interest::ReadLevel => EventFlags::IN,
            Interest::Socket => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        };
        Ok(epoll::add(&self.set, descriptor, epoll::EventData::new_u64(token), flags)?)
    }

    /// Takes a descriptor out.
    pub fn remove(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.set, descriptor)?)
    }

    /// Replaces what is in `ready` by what is ready now; never waits.
    pub fn poll(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.take(ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))
    }

    /// Same, waiting on this thread until there is something.
    pub fn wait_blocking(&self, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.take(ready, None)
    }

    fn take(&self, ready: &mut Vec<Ready>, timeout: Option<&Timespec>) -> io::Result<()> {
        use epoll::EventFlags;
        ready.clear();
        let mut events = [const { std::mem::MaybeUninit::uninit() }; READY_BATCH];
        let events = match epoll::wait(&self.set, &mut events, timeout) {
            Ok((events, _)) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        ready.extend(events.iter().map(|event| {
            let flags = event.flags;
            let over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            let hung_up = over || flags.contains(EventFlags::RDHUP);
            Ready {
                token: event.data.u64(),
                readable: hung_up || flags.contains(EventFlags::IN),
                writable: flags.contains(EventFlags::OUT),
                hung_up,
                over,
            }
        }));
        Ok(())
    }

    /// Waits on this thread until something in the set is ready, and takes nothing out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn block(&self) -> io::Result<()> {
        match poll(&mut [PollFd::new(&self.set, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The set, to be waited for.
    pub(super) fn set(&self) -> &OwnedFd {
        &self.set
    }
}
