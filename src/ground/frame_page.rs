//! A part of a topic's history, as cores give it to each other.

use std::sync::Arc;

use crate::wire::frame::Frame;
use crate::wire::position::{Reach, Shown};

/// A part of a topic's history, as frames.
#[derive(Debug, Clone)]
pub struct FramePage {
    /// Oldest first.
    pub frames: Arc<[Arc<Frame>]>,
    /// There was nothing behind these when they were read.
    pub complete: bool,
    /// How far back history reaches.
    pub reaches: Reach,
    /// The store lost nothing since then; the beginning where that was not asked.
    pub since: Reach,
    /// Viewers were given everything up to here. What follows, and what is lost of it, comes to them live.
    pub shown: Shown,
    /// They were told that something before this may be missing, which nobody tells them again.
    pub told: Reach,
}

impl FramePage {
    /// Of a page, what a core with viewers has given them; what follows comes to them live, but for the word that something
    /// before `told` may be missing.
    pub fn up_to(&self, shown: Shown, told: Reach) -> FramePage {
        let given = self.frames.partition_point(|frame| frame.position().is_some_and(|position| shown.has(position)));
        let page = FramePage { shown: shown.min(self.shown), told, ..self.clone() };
        if given == self.frames.len() {
            return page;
        }
        FramePage { frames: self.frames[..given].into(), complete: true, ..page }
    }

    /// How far back history reaches for who is given this page: what follows it comes live, and what is lost of that.
    pub fn reaches_here(&self) -> Reach {
        self.reaches.and_live_from(self.shown.max(Shown::told(self.told)))
    }

    /// Whether something may be missing that follows what a client was shown, and that does not come live.
    pub fn lacks_after(&self, shown: Shown) -> bool {
        self.reaches_here().lacks_after(shown)
    }

    /// Those from `from` on that fit into so many bytes, at least one. Gives the first of them in the page that it gives.
    pub fn within(&self, from: usize, bytes: usize) -> (FramePage, usize) {
        let mut left = bytes;
        let fits = |frame: &&Arc<Frame>| {
            let size = frame.bytes().len();
            let fits = size <= left;
            left = left.saturating_sub(size);
            fits
        };
        let to = (from + self.frames[from..].iter().take_while(fits).count().max(1)).min(self.frames.len());
        let to_the_end = to == self.frames.len();
        // Whoever holds a page holds all of it: what comes before `from` is to fit, too.
        if to_the_end && self.frames[..from].iter().map(|frame| frame.bytes().len()).sum::<usize>() <= left {
            return (self.clone(), from);
        }
        let complete = self.complete && to_the_end;
        (FramePage { frames: self.frames[from..to].into(), complete, ..*self }, 0)
    }
}
