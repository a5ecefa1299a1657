//! Events that are encoded again, since something else is to be said of them.

use super::{Event, Frame, Paced, Place, Stored};
use crate::wire::position::Position;

impl Frame {
    /// The same event, of class `every`, from which a client comes back to an earlier place. `None` if it is not to be read, as
    /// no event is.
    pub fn resuming_from(&self, dc: &str, position: Position) -> Option<Frame> {
        let stored = Stored::read(self.json())?;
        let place = Some(Place { dc, position, prev: self.prev, paced: self.paced });
        let hops = self.hops.as_ref();
        let encoded = Frame::encode(&Event { place, hops, ..stored.event(self.class, self.ttl_ms) });
        Some(Frame { position: self.position, ..encoded })
    }

    /// The same event, of class `every`, with this said of it; as it is where it cannot be read, as any event can.
    pub(super) fn paced_as(self, paced: Paced) -> Frame {
        if paced == self.paced {
            return self;
        }
        let encoded = self.position.and_then(|position| {
            let stored = Stored::read(self.json())?;
            let place = Some(Place { dc: self.dc()?, position, prev: self.prev, paced });
            let hops = self.hops.as_ref();
            Some(Frame::encode(&Event { place, hops, ..stored.event(self.class, self.ttl_ms) }))
        });
        encoded.unwrap_or(self)
    }
}
