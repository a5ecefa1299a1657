//! Which nodes and data centers have a topic's viewers.

use crate::dispatcher::Dispatcher;
use crate::ground::Ground;
use crate::ground::message::Message;
use crate::ground::present::Whereabouts;
use crate::ground::slots::Conn;
use crate::wire::topic::Topic;

impl Dispatcher {
    /// At a topic's home: who has its viewers.
    pub(crate) fn on_whereabouts_asked(
        &mut self,
        ground: &mut Ground,
        topic: &Topic,
        anywhere: bool,
        asker: (usize, Conn),
    ) {
        let (crowd, nodes, peers) = self.tally.watched(topic, anywhere);
        ground.send(asker.0, Message::WhereaboutsKnown(asker.1, Box::new(Whereabouts { crowd, nodes, peers })));
    }
}
