//! Pages of history that a shard's streams hold. Many streams are given the same events, which are in memory once, so each
//! counts once, for as long as a page of any stream has it.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use crate::runtime::account::{Account, Reservation, Use};
use crate::runtime::random::Map;
use crate::runtime::shrink::shrink;
use crate::wire::frame::Frame;

#[derive(Debug)]
struct Inner {
    /// Events that are held, by where they are in memory, and in how many pages each is.
    pages: Map<*const Frame, u32>,
    reserved: Reservation,
}

/// What the streams of one shard hold. Clones are the same.
#[derive(Debug, Clone)]
pub struct HeldPages(Rc<RefCell<Inner>>);

/// A page that a stream holds.
#[derive(Debug)]
pub struct HeldPage {
    frames: Arc<[Arc<Frame>]>,
    among: HeldPages,
}

impl HeldPages {
    /// None yet, on a shard with this account.
    pub fn new(account: &Account) -> HeldPages {
        HeldPages(Rc::new(RefCell::new(Inner { pages: Map::default(), reserved: account.open(Use::Streams) })))
    }

    /// A stream holds these. Whoever asked for them reserved as much until now.
    pub fn hold(&self, frames: Arc<[Arc<Frame>]>) -> HeldPage {
        let inner = &mut *self.0.borrow_mut();
        let mut more = 0;
        for frame in &*frames {
            let pages = inner.pages.entry(Arc::as_ptr(frame)).or_default();
            more += if *pages == 0 { frame.held() } else { 0 };
            *pages += 1;
        }
        inner.reserved.settle(inner.reserved.bytes() + more);
        HeldPage { frames, among: self.clone() }
    }

    /// Bytes of what is held.
    pub fn bytes(&self) -> usize {
        self.0.borrow().reserved.bytes()
    }
}

impl Deref for HeldPage {
    type Target = [Arc<Frame>];

    fn deref(&self) -> &[Arc<Frame>] {
        &self.frames
    }
}

impl Drop for HeldPage {
    fn drop(&mut self) {
        let inner = &mut *self.among.0.borrow_mut();
        let mut fewer = 0;
        for frame in &*self.frames {
            let Entry::Occupied(mut pages) = inner.pages.entry(Arc::as_ptr(frame)) else {
                unreachable!("what a page has is held")
            };
            *pages.get_mut() -= 1;
            if *pages.get() == 0 {
                pages.remove();
                fewer += frame.held();
            }
        }
        shrink(&mut inner.pages);
        inner.reserved.settle(inner.reserved.bytes() - fewer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;

    #[test]
    fn what_is_on_many_pages_counts_once_until_the_last_of_them_goes() {
        let account = Account::unbounded();
        let held = HeldPages::new(&account);
        let events: Vec<_> =
            (0..3).map(|number| frame("live:1", "comment", None, Class::Every, &number.to_string())).collect();
        let bytes = |events: &[Arc<Frame>]| events.iter().map(|event| event.bytes().len()).sum::<usize>();
        let page: Arc<[Arc<Frame>]> = events.clone().into();
        let first = held.hold(Arc::clone(&page));
        let same = held.hold(page);
        let part = held.hold(events[1..].into());
        assert_eq!(account.held(Use::Streams), bytes(&events));
        drop(first);
        assert_eq!(account.held(Use::Streams), bytes(&events), "giving it up frees nothing yet");
        drop(same);
        assert_eq!(account.held(Use::Streams), bytes(&part));
        drop(part);
        assert_eq!((account.held(Use::Streams), held.0.borrow().pages.len()), (0, 0));
    }
}
