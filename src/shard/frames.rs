//! Batches of frames of other nodes, and of other data centers.

use std::sync::Arc;

use crate::ground::Ground;
use crate::ground::slots::Conn;
use crate::shard::services::{Services, with};
use crate::wire::batch::{Batch, Header};
use crate::wire::binary::Malformed;
use crate::wire::hops::Checkpoint;
use crate::wire::http::HttpError;

impl Services {
    /// The shard that remembers what was seen of a sender.
    pub(crate) fn window_owner(&self, ground: &Ground, header: &Header) -> usize {
        ((header.sender.0 ^ u64::from(header.shard)) % ground.node.shards() as u64) as usize
    }

    /// Takes a batch of a sender whose window is here: what is new goes to the viewers.
    pub(crate) fn take_frames(
        &mut self,
        ground: &mut Ground,
        bytes: &[u8],
        peer: Option<usize>,
    ) -> Result<(), Malformed> {
        let batch = Batch::parse(bytes)?;
        let header = batch.header;
        let Header { sender, shard, floor, .. } = header;
        let window = match (peer, &mut self.dispatcher, &mut self.frontend) {
            (Some(peer), Some(dispatcher), _) => dispatcher.peer_window(ground, peer, sender, shard, floor),
            (None, _, Some(frontend)) => frontend.windows.of(sender, shard, floor, ground.clock.instant),
            _ => return Ok(()),
        };
        let frames = batch.frames(|number| window.is_new(number))?;
        frames.iter().for_each(|(number, _)| window.see(*number));
        let counters = ground.counters();
        counters.frames_received.add(frames.len() as u64);
        counters.frames_repeated.add(u64::from(header.count) - frames.len() as u64);
        for (number, frame) in frames {
            let frame = Arc::new(frame);
            let frame = ground.pass(&frame, Checkpoint::Taken);
            match peer {
                Some(peer) => with(&mut self.dispatcher, |dispatcher| {
                    dispatcher.take_peer_frame(ground, peer, &header, number, &frame);
                }),
                None => with(&mut self.frontend, |frontend| frontend.ingress(ground, &frame)),
            }
        }
        Ok(())
    }

    /// Another shard has a batch of a sender whose window is here.
    pub(crate) fn on_frames(
        &mut self,
        ground: &mut Ground,
        bytes: &[u8],
        peer: Option<usize>,
        (shard, conn): (usize, Conn),
    ) {
        let result = self.take_frames(ground, bytes, peer);
        let answer = result.map(|()| Vec::new()).map_err(|error| HttpError::bad(error.to_string()));
        ground.reply_to((shard, conn), answer);
    }
}
