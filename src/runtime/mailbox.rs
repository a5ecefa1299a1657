//! A bounded queue into a shard, from other shards and from threads that may block, with a wake-up that costs a system
//! call only when the shard may be asleep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, TryRecvError, TrySendError};
use rustix::event::{EventfdFlags, eventfd};

#[derive(Debug)]
struct Wake {
    signal: OwnedFd,
    /// Set by the first sender after the receiver last looked; only that one makes the system call.
    signalled: AtomicBool,
}

/// The receiving end, owned by one shard.
#[derive(Debug)]
pub struct Mailbox<M> {
    receiver: Receiver<M>,
    wake: Arc<Wake>,
}

/// A sending end; cheap to clone.
#[derive(Debug)]
pub struct Sender<M> {
    sender: crossbeam_channel::Sender<M>,
    wake: Arc<Wake>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { sender: self.sender.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// A mailbox for `capacity` messages.
pub fn mailbox<M>(capacity: usize) -> io::Result<(Sender<M>, Mailbox<M>)> {
    let signal = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    let wake = Arc::new(Wake { signal, signalled: AtomicBool::new(false) });
    let (sender, receiver) = crossbeam_channel::bounded(capacity);
    Ok((Sender { sender, wake: Arc::clone(&wake) }, Mailbox { receiver, wake }))
}

impl<M> Sender<M> {
    /// Sends without waiting; gives the message back when the mailbox is full, or its shard gone.
    pub fn try_send(&self, message: M) -> Result<(), M> {
        match self.sender.try_send(message) {
            Ok(()) => {
                self.wake();
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// Sends, waiting for room; for threads that may block. Gives the message back when the shard is gone.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.sender.send(message).map_err(|error| error.0)?;
        self.wake();
        Ok(())
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.sender.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.sender.is_empty()
    }

    fn wake(&self) {
        if !self.wake.signalled.swap(true, Ordering::AcqRel) {
            // The counter cannot overflow, since it is written at most once a look; a full one would wake just as well.
            let _ = rustix::io::write(&self.wake.signal, &1u64.to_ne_bytes());
        }
    }
}

impl<M> Mailbox<M> {
    /// Whether the shard may sleep: nothing waits, and whatever comes from now on makes the descriptor ready. Ask before
    /// each sleep, unless [`next`](Mailbox::next) just gave `None`: only these two make senders signal again.
    pub fn may_sleep(&self) -> bool {
        self.wake.signalled.swap(false, Ordering::AcqRel);
        self.receiver.is_empty()
    }

    /// The next message. After `None`, the descriptor becomes ready again with the next message sent.
    pub fn next(&self) -> Option<M> {
        match self.receiver.try_recv() {
            Ok(message) => Some(message),
            Err(TryRecvError::Empty) => {
                // First say that we look, then look once more: a sender that came in between either is seen, or signals.
                if self.wake.signalled.swap(false, Ordering::AcqRel) { self.receiver.try_recv().ok() } else { None }
            }
            Err(TryRecvError::Disconnected) => None,
        }
    }

    /// Messages that wait.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

impl<M> AsFd for Mailbox<M> {
    /// Ready after a signal, edge-triggered: it is never read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.signal.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::readiness::{Interest, Readiness};

    #[test]
    fn no_wake_up_is_lost() {
        let (sender, mailbox) = mailbox(8).unwrap();
        let readiness = Readiness::new().unwrap();
        readiness.add(&mailbox, 1, Interest::Read).unwrap();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let sender = sender.clone();
                std::thread::spawn(move || (0..10_000).for_each(|number| sender.send(number).unwrap()))
            })
            .collect();
        let mut ready = Vec::new();
        let mut seen = 0;
        while seen < 40_000 {
            // Blocks for good, and the test with it, if a wake-up is lost.
            readiness.wait_blocking(&mut ready).unwrap();
            while mailbox.next().is_some() {
                seen += 1;
            }
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(mailbox.next().is_none() && mailbox.is_empty());
    }

    #[test]
    fn a_reader_that_stops_early_is_woken_again() {
        let (sender, mailbox) = mailbox(8).unwrap();
        let readiness = Readiness::new().unwrap();
        readiness.add(&mailbox, 1, Interest::Read).unwrap();
        let mut ready = Vec::new();
        for number in 0..3 {
            sender.try_send(number).unwrap();
            readiness.poll(&mut ready).unwrap();
            assert_eq!(
                (ready.len(), mailbox.next()),
                (1, Some(number)),
                "just as many as there were, and no look for more"
            );
            assert!(mailbox.may_sleep());
        }
        sender.try_send(3).unwrap();
        assert!(!mailbox.may_sleep());
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, mailbox) = mailbox(1).unwrap();
        assert_eq!(sender.try_send(1), Ok(()));
        assert_eq!(sender.try_send(2), Err(2));
        assert_eq!((mailbox.next(), mailbox.next()), (Some(1), None));
        drop(mailbox);
        assert_eq!(sender.send(3), Err(3));
    }
}
