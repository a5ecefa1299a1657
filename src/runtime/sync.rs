//! What a mailbox is made of. The model of it in tests/model has others, which try out every order.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
pub use std::sync::Arc;
pub use std::sync::atomic::{AtomicBool, Ordering};

pub use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use rustix::event::{EventfdFlags, eventfd};

/// A descriptor that becomes ready each time it is raised, edge-triggered; only simulations read it.
#[derive(Debug)]
pub struct Signal(OwnedFd);

impl Signal {
    /// One that was not raised.
    ///
    /// # Errors
    /// Too many open files.
    pub fn new() -> io::Result<Signal> {
        Ok(Signal(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?))
    }

    /// Makes it ready.
    pub fn raise(&self) {
        // The counter cannot overflow, since it is written at most once a look; a full one would wake just as well.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Whether it was raised since this was asked last.
    pub fn lower(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
