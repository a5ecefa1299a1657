//! A connection's socket, in four bytes.

use std::num::NonZeroI32;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

/// A connection's socket: a descriptor, closed when this is dropped, or a simulation's. A descriptor stands here as its
/// complement; one that speaks TLS as itself, with [`TLS`] set.
#[derive(Debug)]
pub struct Socket(NonZeroI32);

const TLS: i32 = 1 << 30;
/// No simulation has so many.
const NONE: i32 = TLS - 1;

impl Socket {
    /// A simulation's, by the number that it gave it, which is positive.
    pub fn simulated(number: NonZeroI32) -> Socket {
        assert!((1..NONE).contains(&number.get()), "descriptors have the others");
        Socket(number)
    }

    /// That of a stream whose viewer is the node itself. Nothing is sent to it, and it is not closed.
    pub fn none() -> Socket {
        Socket(NonZeroI32::new(NONE).expect("it is not zero"))
    }

    /// The number that a simulation gave it; another if it is none of a simulation.
    pub fn number(&self) -> i32 {
        self.0.get()
    }

    /// Whether it speaks TLS: what is sent and received has to go by [`Net`](super::net::Net).
    pub fn is_secure(&self) -> bool {
        self.0.get() >= TLS
    }

    /// The same, from now on as one that speaks TLS.
    pub(super) fn secured(self) -> Socket {
        let raw = self.raw().expect("it is the kernel's");
        std::mem::forget(self);
        Socket(NonZeroI32::new(raw | TLS).expect("a bit of it is set"))
    }

    fn raw(&self) -> Option<RawFd> {
        match self.0.get() {
            number if number < 0 => Some(!number),
            number if number >= TLS => Some(number ^ TLS),
            _ => None,
        }
    }

    /// Its descriptor, if it has one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor came from an `OwnedFd`, and is open until `self`, which this borrows, is dropped.
        self.raw().map(|raw| unsafe { BorrowedFd::borrow_raw(raw) })
    }
}

impl From<OwnedFd> for Socket {
    fn from(descriptor: OwnedFd) -> Socket {
        // Descriptors are not negative, so that their complements are, and never zero.
        Socket(NonZeroI32::new(!descriptor.into_raw_fd()).expect("a descriptor is not -1"))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(raw) = self.raw() {
            // SAFETY: it came from an `OwnedFd`, and nobody uses it after `self`.
            drop(unsafe { OwnedFd::from_raw_fd(raw) });
        }
    }
}
