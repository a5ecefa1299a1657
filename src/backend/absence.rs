//! The backend that ranks highest for a member's bucket notices who went offline.

use std::sync::Arc;

use crate::backend::Backend;
use crate::ground::Ground;
use crate::ground::asking::Asked;
use crate::kv::{BUCKETS, Request as KvRequest, highest};
use crate::limits::*;

impl Backend {
    /// Once a tick: looks now and then for members who went offline.
    pub(crate) fn look_for_absent(&mut self, ground: &mut Ground) {
        if ground.clock.instant < self.next_due || ground.is_draining() {
            return;
        }
        self.next_due = ground.clock.instant + PRESENCE_DUE_EVERY;
        let buckets = own_buckets(ground);
        if !buckets.is_empty() {
            ground.ask(KvRequest::Due(buckets, PRESENCE_DUE_MAX), Asked::Due);
        }
    }
}

/// Buckets of members whose going offline this shard is to notice.
pub(crate) fn own_buckets(ground: &Ground) -> Vec<u8> {
    let alive = Arc::clone(&ground.alive);
    let backends = || alive.iter().filter(|node| node.is("backend")).map(|node| node.id);
    let alone = ground.node.info.is_none();
    let mine = |bucket: &usize| {
        bucket % ground.node.shards() == ground.id
            && (alone || highest(&format!("presence {bucket}"), backends()) == Some(ground.node.id))
    };
    (0..BUCKETS).filter(mine).map(|bucket| bucket as u8).collect()
}
