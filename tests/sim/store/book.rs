//! Where a simulated store keeps its history beyond its process, as the database of `fanfare all` does.

use std::sync::{Mutex, MutexGuard};

use fanfare::kv::kept::{Keep, Keeper, Kept};
use fanfare::kv::memory::pending::Batch;
use fanfare::kv::{Heard, Unavailable};

/// What it has, and what is under way.
#[derive(Debug, Default)]
pub struct Pages {
    kept: Kept,
    given: Option<(Vec<Keep>, Batch)>,
    /// What shards are to hear.
    pub told: Vec<(Option<usize>, Heard)>,
}

#[derive(Debug, Default)]
pub struct Book(Mutex<Pages>);

impl Keeper for Book {
    fn keep(&self, changes: Vec<Keep>, batch: Batch) -> Result<(), Unavailable> {
        let before = self.lock().given.replace((changes, batch));
        assert!(before.is_none(), "one at a time");
        Ok(())
    }

    fn tell(&self, shard: Option<usize>, heard: Heard) {
        self.lock().told.push((shard, heard));
    }
}

impl Book {
    pub fn new(now_ms: u64) -> Book {
        let kept = Kept { since_ms: now_ms, ..Kept::default() };
        Book(Mutex::new(Pages { kept, ..Pages::default() }))
    }

    pub fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Ends what is under way.
    pub fn commit(&self, is_kept: bool) {
        let mut pages = self.lock();
        let Some((changes, batch)) = pages.given.take() else { return };
        if is_kept {
            changes.into_iter().for_each(|change| pages.kept.apply(change));
        }
        drop(pages);
        batch.done(if is_kept { Ok(()) } else { Err(Unavailable("simulated: the disk is full".to_owned())) });
    }

    /// The process ends, with what is under way kept or not, and of which nobody hears. Gives what the next one begins with.
    pub fn end(&self, is_kept: bool) -> Kept {
        let mut pages = self.lock();
        for change in pages.given.take().filter(|_| is_kept).map(|(changes, _)| changes).into_iter().flatten() {
            pages.kept.apply(change);
        }
        pages.told.clear();
        pages.kept.clone()
    }
}

impl Pages {
    /// Something is under way.
    pub fn is_given(&self) -> bool {
        self.given.is_some()
    }
}
