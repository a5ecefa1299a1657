//! A shard's account of memory: who holds bytes on behalf of somebody reserves them first, by what they are for. What
//! cannot be reserved waits, comes in pages, or is refused; each refusal is counted.

use std::cell::Cell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Streams whose clients read too slowly, or that come back: what waits for them, and what is being written to them.
    Streams,
    /// Topics with viewers: their logs, recent events and newest values.
    Topics,
    /// Questions to the key-value store and the database, and what waits for their answers.
    Questions,
    /// What other cores' full mailboxes did not take.
    Cores,
    /// Events for other nodes and other data centers.
    Nodes,
    /// Requests that are not complete, and answers that their clients have not taken.
    Requests,
}

impl Use {
    /// Each of them once, in the order of their places in an account.
    pub const ALL: [Use; 6] = [Use::Streams, Use::Topics, Use::Questions, Use::Cores, Use::Nodes, Use::Requests];

    /// As the label `use` of the metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Use::Streams => "streams",
            Use::Topics => "topics",
            Use::Questions => "questions",
            Use::Cores => "cores",
            Use::Nodes => "nodes",
            Use::Requests => "requests",
        }
    }
}

/// A number for each use, in the order of [`Use::ALL`].
pub type ByUse<T> = [T; Use::ALL.len()];

/// There is no room for these bytes; it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no memory is left for this")]
pub struct Full;

struct Inner {
    held: ByUse<Cell<usize>>,
    most: ByUse<Cell<usize>>,
    refused: ByUse<Cell<u64>>,
}

/// One shard's account. Clones are the same account; it never leaves its shard.
#[derive(Clone)]
pub struct Account(Rc<Inner>);

impl Account {
    /// An account with these bounds, in bytes.
    pub fn new(most: ByUse<usize>) -> Account {
        Account(Rc::new(Inner { held: Default::default(), most: most.map(Cell::new), refused: Default::default() }))
    }

    /// An account without bounds, for what is tested by itself.
    pub fn unbounded() -> Account {
        Account::new([usize::MAX; Use::ALL.len()])
    }

    /// A reservation of nothing yet.
    pub fn open(&self, what: Use) -> Reservation {
        Reservation { account: self.clone(), what, bytes: 0 }
    }

    /// Reserves bytes.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn reserve(&self, what: Use, bytes: usize) -> Result<Reservation, Full> {
        let mut reservation = self.open(what);
        reservation.resize(bytes).map(|()| reservation)
    }

    /// Bytes that are held.
    pub fn held(&self, what: Use) -> usize {
        self.0.held[what as usize].get()
    }

    /// Bytes that are held of all uses.
    pub fn total(&self) -> usize {
        self.0.held.iter().map(Cell::get).sum()
    }

    /// Bytes that may be held.
    pub fn most(&self, what: Use) -> usize {
        self.0.most[what as usize].get()
    }

    /// From now on these are its bounds, in bytes. What is held beyond one stays, and nothing is added to it.
    pub fn bound(&self, most: ByUse<usize>) {
        self.0.most.iter().zip(most).for_each(|(bound, most)| bound.set(most));
    }

    /// How often something found no room.
    pub fn refused(&self, what: Use) -> u64 {
        self.0.refused[what as usize].get()
    }

    /// More is held than may be: somebody has to give up something.
    pub fn is_over(&self, what: Use) -> bool {
        self.held(what) > self.most(what)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(Use::ALL.iter().map(|what| (what, self.held(*what)))).finish()
    }
}

/// Bytes that are reserved until it is dropped. Whatever holds bytes on behalf of somebody has one beside them.
#[must_use = "dropped, it reserves nothing"]
pub struct Reservation {
    account: Account,
    what: Use,
    bytes: usize,
}

impl Reservation {
    /// Bytes that are reserved.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many more may be held of its use.
    pub fn room(&self) -> usize {
        self.account.most(self.what).saturating_sub(self.account.held(self.what))
    }

    /// Reserves `bytes` in all, from now on. Fewer than before always fit.
    ///
    /// # Errors
    /// There is no room for so many; then as many as before stay reserved.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        let most = self.account.most(self.what);
        self.resize_within(bytes, most)
    }

    /// Same, where less may be held in all than the account's bound: what can wait leaves room for what cannot.
    ///
    /// # Errors
    /// There is no room for so many.
    pub fn resize_within(&mut self, bytes: usize, most: usize) -> Result<(), Full> {
        let inner = &self.account.0;
        let after = inner.held[self.what as usize].get() - self.bytes + bytes;
        if bytes > self.bytes && after > most {
            let refused = &inner.refused[self.what as usize];
            refused.set(refused.get() + 1);
            return Err(Full);
        }
        self.settle(bytes);
        Ok(())
    }

    /// Reserves so many bytes more.
    ///
    /// # Errors
    /// There is no room for them.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        self.resize(self.bytes + bytes)
    }

    /// What is held is `bytes`, whether or not there is room for them: for what is bounded by other means, and for what
    /// [`Account::is_over`] is asked of before the turn ends.
    pub fn settle(&mut self, bytes: usize) {
        let held = &self.account.0.held[self.what as usize];
        held.set(held.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(0);
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes for {:?}", self.bytes, self.what)
    }
}

/// An account that several threads share, of one use, for what leaves its shard on the way.
#[derive(Debug, Clone)]
pub struct Common(Arc<InCommon>);

#[derive(Debug)]
struct InCommon {
    held: AtomicUsize,
    most: usize,
    refused: AtomicU64,
}

impl Common {
    /// An account with this bound, in bytes.
    pub fn new(most: usize) -> Common {
        Common(Arc::new(InCommon { held: AtomicUsize::new(0), most, refused: AtomicU64::new(0) }))
    }

    /// Reserves bytes until what is given is dropped, on whichever thread.
    ///
    /// # Errors
    /// There is no room for them; it was counted.
    pub fn reserve(&self, bytes: usize) -> Result<Share, Full> {
        let share = self.settle(bytes);
        if self.held() > self.0.most {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full);
        }
        Ok(share)
    }

    /// So many are held, whether or not there is room for them: for what is bounded by other means.
    pub fn settle(&self, bytes: usize) -> Share {
        self.0.held.fetch_add(bytes, Ordering::Relaxed);
        Share { account: self.clone(), bytes }
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// How often something found no room.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }
}

/// Bytes that are reserved in a [`Common`] account until it is dropped.
#[must_use = "dropped, it reserves nothing"]
#[derive(Debug)]
pub struct Share {
    account: Common,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.account.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Something that is held, and the bytes that are reserved for it.
#[derive(Debug)]
pub struct Held<T> {
    value: T,
    reservation: Reservation,
}

impl<T> Held<T> {
    /// Holds `value`, for which the reservation was made.
    pub fn new(value: T, reservation: Reservation) -> Held<T> {
        Held { value, reservation }
    }

    /// Bytes that are reserved for it.
    pub fn bytes(&self) -> usize {
        self.reservation.bytes()
    }

    /// Holds it no more.
    pub fn release(self) -> T {
        self.value
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_finds_no_room_is_refused_and_counted_and_nothing_of_another_use_is_taken() {
        let mut most = [0; Use::ALL.len()];
        most[Use::Cores as usize] = 100;
        let account = Account::new(most);
        let mut first = account.reserve(Use::Cores, 60).unwrap();
        assert_eq!(account.reserve(Use::Cores, 41).unwrap_err(), Full);
        assert_eq!(account.reserve(Use::Nodes, 1).unwrap_err(), Full);
        assert_eq!(first.grow(41), Err(Full));
        assert_eq!((first.bytes(), account.held(Use::Cores), account.refused(Use::Cores)), (60, 60, 2));
        let second = Held::new("x", account.reserve(Use::Cores, 40).unwrap());
        assert_eq!(account.total(), 100);
        first.settle(70);
        assert!(account.is_over(Use::Cores));
        assert_eq!(first.resize(65), Ok(()), "fewer always fit");
        assert_eq!(second.release(), "x");
        drop(first);
        assert_eq!(Use::ALL.map(|what| account.held(what)), [0; Use::ALL.len()]);
    }

    #[test]
    fn what_leaves_its_shard_counts_until_it_is_dropped_wherever_that_is() {
        let common = Common::new(100);
        let share = common.reserve(60).unwrap();
        assert_eq!(common.reserve(41).unwrap_err(), Full);
        let more = common.settle(50);
        assert_eq!((common.held(), common.refused()), (110, 1));
        std::thread::spawn(move || drop((share, more))).join().unwrap();
        assert_eq!(common.held(), 0);
    }

    proptest! {
        /// Whatever is reserved, changed and dropped: the sum is that of what is there, and never more than may be.
        #[test]
        fn the_sum_is_that_of_what_is_there(steps in prop::collection::vec((0usize..8, 0usize..50, any::<bool>()), 1..100)) {
            let account = Account::new([100; Use::ALL.len()]);
            let mut there: Vec<Option<Reservation>> = (0..8).map(|_| None).collect();
            for (place, bytes, drops) in steps {
                match &mut there[place] {
                    Some(_) if drops => there[place] = None,
                    Some(reservation) => drop(reservation.resize(bytes)),
                    empty => *empty = account.reserve(Use::Topics, bytes).ok(),
                }
                let sum: usize = there.iter().flatten().map(Reservation::bytes).sum();
                prop_assert_eq!(account.held(Use::Topics), sum);
                prop_assert!(sum <= 100);
            }
        }
    }
}
