//! A bounded queue into a shard, from other shards and from threads that may block, with a wake-up that costs a system
//! call only when the shard may be asleep.

use std::cell::Cell;
use std::io;

use super::planted::{Mistake, planted};
use super::sync::{Arc, AtomicBool, Ordering, Receiver, Signal, TryRecvError, TrySendError, bounded};

#[derive(Debug)]
struct Wake {
    signal: Signal,
    /// Set by the first sender after the receiver last looked; only that one makes the system call.
    signalled: AtomicBool,
}

/// The receiving end, owned by one shard.
#[derive(Debug)]
pub struct Mailbox<M> {
    receiver: Receiver<M>,
    wake: Arc<Wake>,
    taken: Cell<u64>,
}

/// A sending end; cheap to clone.
#[derive(Debug)]
pub struct Sender<M> {
    sender: super::sync::Sender<M>,
    wake: Arc<Wake>,
}

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender { sender: self.sender.clone(), wake: Arc::clone(&self.wake) }
    }
}

/// A mailbox for `capacity` messages.
pub fn mailbox<M>(capacity: usize) -> io::Result<(Sender<M>, Mailbox<M>)> {
    let wake = Arc::new(Wake { signal: Signal::new()?, signalled: AtomicBool::new(false) });
    let (sender, receiver) = bounded(capacity);
    Ok((Sender { sender, wake: Arc::clone(&wake) }, Mailbox { receiver, wake, taken: Cell::new(0) }))
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

    /// Whether the shard was woken since this was asked last. For simulations, whose shards do not watch the descriptor.
    pub fn takes_wake(&self) -> bool {
        self.wake.signal.lower()
    }

    fn wake(&self) {
        if !self.wake.signalled.swap(true, Ordering::AcqRel) {
            self.wake.signal.raise();
        }
    }
}

impl<M> Mailbox<M> {
    /// What becomes ready when the shard is to look, edge-triggered.
    pub fn signal(&self) -> &Signal {
        &self.wake.signal
    }

    /// Whether the shard may sleep: nothing waits, and whatever comes from now on makes the descriptor ready. Ask before
    /// each sleep, unless [`next`](Mailbox::next) just gave `None`: only these two make senders signal again.
    pub fn may_sleep(&self) -> bool {
        self.looks();
        self.receiver.is_empty()
    }

    /// The next message. After `None`, the descriptor becomes ready again with the next message sent.
    pub fn next(&self) -> Option<M> {
        let message = match self.receiver.try_recv() {
            Ok(message) => Some(message),
            Err(TryRecvError::Empty) => {
                // First say that we look, then look once more: a sender that came in between either is seen, or signals.
                if self.looks() { self.receiver.try_recv().ok() } else { None }
            }
            Err(TryRecvError::Disconnected) => None,
        };
        self.taken.set(self.taken.get() + u64::from(message.is_some()));
        message
    }

    /// Messages that were taken out.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// Same, once all that wait now are.
    pub fn sent(&self) -> u64 {
        self.taken.get() + self.receiver.len() as u64
    }

    /// From now on the next sender signals. Gives whether one did since the last look.
    fn looks(&self) -> bool {
        !planted(Mistake::WakeUpLost) && self.wake.signalled.swap(false, Ordering::AcqRel)
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
