//! Events of other data centers at their topics' homes.

use std::sync::Arc;

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::wire::frame::Frame;

impl Frontend {
    /// At a topic's home: a frame of another data center is for this node's viewers, unless it was here before, by
    /// whichever dispatcher it came.
    pub(crate) fn on_peer_frame(&mut self, ground: &mut Ground, frame: &Arc<Frame>) {
        let now = ground.clock.instant;
        let mut repeated = 0;
        for origin in frame.origins() {
            let window = self.peers_seen.of(origin.sender, origin.shard, 0, now);
            window.reach(origin.number);
            if window.is_new(origin.number) {
                window.see(origin.number);
            } else {
                repeated += u64::from(origin.count);
            }
        }
        let count = u64::from(frame.count()).saturating_sub(repeated);
        ground.counters().frames_repeated.add(repeated);
        if count > 0 {
            self.ingress(ground, &frame.with_origins(&[]).recounted(count));
        }
    }
}
