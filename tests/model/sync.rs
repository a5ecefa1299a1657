//! What a mailbox is made of, in the model.

use std::io;

pub use crossbeam_channel::{SendError, TryRecvError, TrySendError};
pub use loom::sync::Arc;
use loom::sync::atomic::AtomicUsize;
pub use loom::sync::atomic::{AtomicBool, Ordering};
use loom::sync::{Condvar, Mutex};

/// Places of a queue: as many as are ever sent.
const PLACES: usize = 2;

/// A queue that promises no more than crossbeam's does: who finds a message has what its sender did before, and who finds none
/// knows nothing.
#[derive(Debug)]
struct Queue<M> {
    places: [Place<M>; PLACES],
    sent: AtomicUsize,
    taken: AtomicUsize,
}

#[derive(Debug)]
struct Place<M> {
    is_full: AtomicBool,
    /// Taken only by who has the place for itself, so that the lock orders nothing.
    message: Mutex<Option<M>>,
}

impl<M> Queue<M> {
    /// The oldest place that was not taken, if its message is there.
    fn next(&self) -> Option<&Place<M>> {
        let place = self.places.get(self.taken.load(Ordering::Relaxed))?;
        place.is_full.load(Ordering::Acquire).then_some(place)
    }
}

#[derive(Debug)]
pub struct Sender<M>(Arc<Queue<M>>);

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Sender<M> {
        Sender(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
pub struct Receiver<M>(Arc<Queue<M>>);

pub fn bounded<M>(capacity: usize) -> (Sender<M>, Receiver<M>) {
    assert_eq!(capacity, PLACES);
    let places = [(); PLACES].map(|()| Place { is_full: AtomicBool::new(false), message: Mutex::new(None) });
    let queue = Arc::new(Queue { places, sent: AtomicUsize::new(0), taken: AtomicUsize::new(0) });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<M> Sender<M> {
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        let place = &self.0.places[self.0.sent.fetch_add(1, Ordering::Relaxed)];
        *place.message.lock().expect("nobody panics with it") = Some(message);
        place.is_full.store(true, Ordering::Release);
        Ok(())
    }

    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.try_send(message).map_err(|_| unreachable!("there is room"))
    }

    pub fn len(&self) -> usize {
        self.0.sent.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<M> Receiver<M> {
    pub fn try_recv(&self) -> Result<M, TryRecvError> {
        let place = self.0.next().ok_or(TryRecvError::Empty)?;
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Ok(place.message.lock().expect("nobody panics with it").take().expect("the place is full"))
    }

    pub fn len(&self) -> usize {
        usize::from(!self.is_empty())
    }

    pub fn is_empty(&self) -> bool {
        self.0.next().is_none()
    }
}

/// A descriptor in a set that is watched edge-triggered.
#[derive(Debug)]
pub struct Signal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    pub fn new() -> io::Result<Signal> {
        Ok(Signal { is_raised: Mutex::new(false), raised: Condvar::new() })
    }

    pub fn raise(&self) {
        *self.is_raised.lock().expect("nobody panics with it") = true;
        self.raised.notify_one();
    }

    pub fn lower(&self) -> bool {
        std::mem::take(&mut self.is_raised.lock().expect("nobody panics with it"))
    }

    pub fn wait(&self) {
        let mut is_raised = self.is_raised.lock().expect("nobody panics with it");
        while !*is_raised {
            is_raised = self.raised.wait(is_raised).expect("nobody panics with it");
        }
        *is_raised = false;
    }
}
