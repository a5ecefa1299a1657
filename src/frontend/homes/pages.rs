//! Parts of a topic's history, as they are asked for and given.

use std::sync::Arc;

use crate::kv::{Page, Stored as Found};
use crate::limits::{PAGE_EVENTS, PAGE_EVENTS_MIN, SMALL_EVENT_BYTES};
use crate::wire::event::Class;
use crate::wire::frame::{Frame, Place, Stored};
use crate::wire::position::Reach;

/// Events to ask a store for, where so many bytes are wanted: most events are small, and what is too much is read for
/// nothing.
pub(crate) fn page_events(bytes: usize) -> u32 {
    ((bytes / SMALL_EVENT_BYTES) as u32).clamp(PAGE_EVENTS_MIN, PAGE_EVENTS)
}

/// Cuts a page of large events short: slow clients hold it for as long as they take it.
pub(crate) fn bound(page: &mut Page, bytes_max: usize) {
    let mut bytes = 0;
    let fits = page.events.iter().take_while(|stored| {
        bytes += stored.event.len();
        bytes <= bytes_max
    });
    // One event always fits.
    let fits = fits.count().max(1);
    if fits < page.events.len() {
        page.events.truncate(fits);
        page.complete = false;
    }
}

/// An event from history that reaches back so far, as a frame.
pub(crate) fn place(dc: &str, found: &Found, reaches: Reach) -> Option<Arc<Frame>> {
    let stored = Stored::read(&found.event)?;
    let mut event = stored.event(Class::Every, 0);
    let whole = Some(reaches.place()).filter(|place| *place < found.position);
    let prev = found.prev.max(whole).unwrap_or_default();
    event.place = Some(Place { dc, position: found.position, prev, paced: stored.paced });
    Some(Arc::new(Frame::encode(&event)))
}
