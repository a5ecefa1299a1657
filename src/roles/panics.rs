//! What becomes of a node that panics.

use std::sync::{Arc, OnceLock};

use crate::ground::node::Node;
use crate::limits::LOG_FLUSH;
use crate::observe::{happenings, log};

/// A shard that panicked would leave its part of the connections dead and the rest alive: end, and be restarted. What happened
/// before, at the node that this is told of, is written first.
pub(super) fn abort() -> Arc<OnceLock<Arc<Node>>> {
    let recorded: Arc<OnceLock<Arc<Node>>> = Arc::default();
    let node = Arc::clone(&recorded);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The panic is written by who panics, which is for ever where nobody reads it.
        let in_time = std::thread::Builder::new().spawn(|| {
            std::thread::sleep(LOG_FLUSH * 2);
            std::process::abort();
        });
        drop(in_time);
        log::flush();
        if let Some(node) = node.get() {
            log::write_happenings(&happenings::for_log(&node.counters));
        }
        usual(panic);
        std::process::abort();
    }));
    recorded
}
