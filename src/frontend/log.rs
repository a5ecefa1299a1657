//! The bytes of one topic that not every viewer on a shard has got yet: one run of memory, so that what a viewer lacks is
//! one slice of it, whatever number of events that is.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::wire::event::ByClass;
use crate::wire::frame::Frame;

/// A place in a topic's log: bytes since its beginning, modulo 2^32. Logs stay far shorter than that.
pub type Cursor = u32;

/// Capacity that an emptied log keeps.
const KEPT_BYTES: usize = 4096;

/// A frame in a log.
#[derive(Debug)]
struct End {
    /// Behind it.
    cursor: Cursor,
    frame: Arc<Frame>,
    /// Frames of each class up to here, this one included.
    total: ByClass,
}

/// The tail of one topic's events on one shard.
#[derive(Debug, Default)]
pub struct Log {
    bytes: Vec<u8>,
    /// The cursor of `bytes[0]`.
    base: Cursor,
    /// Where each frame ends, oldest first: needed when a viewer takes a part only.
    ends: VecDeque<End>,
    /// Frames of each class, ever.
    total: ByClass,
    /// Behind the newest frame that is not for each of the viewers.
    chosen: Option<Cursor>,
}

impl Log {
    /// The cursor behind the newest frame.
    pub fn end(&self) -> Cursor {
        self.base.wrapping_add(self.bytes.len() as u32)
    }

    /// The cursor of the oldest byte held.
    pub fn start(&self) -> Cursor {
        self.base
    }

    /// Bytes held.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that it takes, the frames that it refers to included.
    pub fn held(&self) -> usize {
        let frames = self.bytes.len() + self.ends.len() * Frame::OWN_BYTES;
        self.bytes.capacity() + self.ends.capacity() * size_of::<End>() + frames
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether a frame that follows `cursor` is not for each of the viewers.
    pub fn chooses_since(&self, cursor: Cursor) -> bool {
        self.chosen.is_some_and(|chosen| chosen.wrapping_sub(cursor).cast_signed() > 0)
    }

    /// Appends a frame that is not for each of the viewers.
    pub fn push_chosen(&mut self, frame: &Arc<Frame>) {
        self.push(frame);
        self.chosen = Some(self.end());
    }

    /// Appends a frame.
    pub fn push(&mut self, frame: &Arc<Frame>) {
        self.bytes.extend_from_slice(frame.bytes());
        let class = &mut self.total[frame.class() as usize];
        *class = class.wrapping_add(1);
        self.ends.push_back(End { cursor: self.end(), frame: Arc::clone(frame), total: self.total });
    }

    /// All that follows `cursor`.
    pub fn since(&self, cursor: Cursor) -> &[u8] {
        &self.bytes[self.offset(cursor)..]
    }

    fn offset(&self, cursor: Cursor) -> usize {
        cursor.wrapping_sub(self.base) as usize
    }

    /// For a viewer at `cursor` that took `taken` bytes more: the rest of the frame that was cut, if one was, and the whole
    /// frames behind it.
    pub fn split(&self, cursor: Cursor, taken: usize) -> (Range<usize>, impl Iterator<Item = &Arc<Frame>>) {
        let at = self.offset(cursor) + taken;
        // Frames that ended before or at the cut are through.
        let first = self.ends.partition_point(|end| self.offset(end.cursor) <= at);
        let start = if first == 0 { 0 } else { self.offset(self.ends[first - 1].cursor) };
        let (torn, whole) = match self.ends.get(first) {
            Some(end) if start < at => (at..self.offset(end.cursor), first + 1),
            _ => (at..at, first),
        };
        (torn, self.ends.range(whole..).map(|end| &end.frame))
    }

    /// The bytes at a place that [`split`](Log::split) named.
    pub fn slice(&self, place: Range<usize>) -> &[u8] {
        &self.bytes[place]
    }

    /// Number of frames that follow `cursor`.
    pub fn frames_since(&self, cursor: Cursor) -> usize {
        let at = self.offset(cursor);
        self.ends.len() - self.ends.partition_point(|end| self.offset(end.cursor) <= at)
    }

    /// Frames of each class that follow `cursor`.
    pub fn classes_since(&self, cursor: Cursor) -> ByClass {
        let at = self.offset(cursor);
        let first = self.ends.partition_point(|end| self.offset(end.cursor) <= at);
        let Some(next) = self.ends.get(first) else { return ByClass::default() };
        let mut since = std::array::from_fn(|class| self.total[class].wrapping_sub(next.total[class]));
        since[next.frame.class() as usize] += 1;
        since
    }

    /// One of the frames that follow `cursor`, the `choice`th counted round; none if none follows.
    pub fn sample(&self, cursor: Cursor, choice: usize) -> Option<&Arc<Frame>> {
        let at = self.offset(cursor);
        let first = self.ends.partition_point(|end| self.offset(end.cursor) <= at);
        let count = self.ends.len() - first;
        (count > 0).then(|| &self.ends[first + choice % count].frame)
    }

    /// Forgets what precedes `cursor`, when that is worth the move.
    pub fn trim(&mut self, cursor: Cursor) {
        let dead = self.offset(cursor);
        if dead == self.bytes.len() {
            self.base = cursor;
            self.chosen = None;
            self.bytes.clear();
            self.ends.clear();
            if self.bytes.capacity() > KEPT_BYTES {
                self.bytes = Vec::new();
                self.ends = VecDeque::new();
            }
        } else if dead > self.bytes.len() / 2 {
            let gone = self.ends.partition_point(|end| self.offset(end.cursor) <= dead);
            self.ends.drain(..gone);
            self.bytes.drain(..dead);
            self.base = cursor;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::event::Class;
    use crate::wire::frame::tests::frame;
    use proptest::prelude::*;

    #[test]
    fn frames_that_are_not_for_all_are_known_until_they_are_behind() {
        let (mut log, frame) =
            (Log { base: u32::MAX - 100, ..Log::default() }, frame("a:b", "x", None, Class::Every, "1"));
        let mut cursors = vec![log.end()];
        for chooses in [false, true, false] {
            if chooses {
                log.push_chosen(&frame)
            } else {
                log.push(&frame)
            }
            cursors.push(log.end());
        }
        assert_eq!(
            cursors.iter().map(|cursor| log.chooses_since(*cursor)).collect::<Vec<_>>(),
            [true, true, false, false]
        );
        log.trim(cursors[2]);
        assert!(!log.chooses_since(cursors[2]));
        log.trim(cursors[3]);
        log.push(&frame);
        assert!(!log.chooses_since(cursors[3]));
    }

    proptest! {
        #[test]
        fn a_cut_anywhere_loses_nothing(sizes in prop::collection::vec(0usize..60, 1..20), skip: prop::sample::Index, cut: prop::sample::Index, base: u32) {
            let mut log = Log { base, ..Log::default() };
            let frames: Vec<_> = sizes.iter().map(|size| frame("a:b", "x", None, Class::ALL[size % 4], &"1".repeat(size + 1))).collect();
            let mut cursors = vec![log.end()];
            for frame in &frames {
                log.push(frame);
                cursors.push(log.end());
            }
            let from = skip.index(cursors.len());
            let rest = log.since(cursors[from]).to_vec();
            prop_assert_eq!(&rest, &frames[from..].iter().flat_map(|f| f.bytes().to_vec()).collect::<Vec<_>>());
            prop_assert_eq!(log.frames_since(cursors[from]), frames.len() - from);
            let mut classes = ByClass::default();
            frames[from..].iter().for_each(|frame| classes[frame.class() as usize] += 1);
            prop_assert_eq!(log.classes_since(cursors[from]), classes);
            for choice in 0..frames.len() - from {
                prop_assert!(Arc::ptr_eq(log.sample(cursors[from], choice).unwrap(), &frames[from + choice]));
            }
            prop_assert!(from < frames.len() || log.sample(cursors[from], 3).is_none());
            let taken = cut.index(rest.len() + 1);
            let (torn, whole) = log.split(cursors[from], taken);
            let mut again = rest[..taken].to_vec();
            let whole: Vec<_> = whole.cloned().collect();
            again.extend_from_slice(log.slice(torn));
            for frame in whole {
                again.extend_from_slice(frame.bytes());
            }
            prop_assert_eq!(&again, &rest);
            // Trimming to any earlier frame's end changes nothing for those behind it.
            log.trim(cursors[from]);
            prop_assert_eq!(log.since(cursors[from]), &rest[..]);
            prop_assert_eq!(log.classes_since(cursors[from]), classes);
            prop_assert_eq!(log.frames_since(cursors[from]), frames.len() - from);
        }
    }
}
