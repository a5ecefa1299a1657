//! How a shard that has nothing to do waits.

use crate::limits::{PATIENCE, PATIENCE_CREDIT_MAX, PATIENCE_PROBE};
use crate::runtime::net::Net;
use crate::runtime::readiness::Ready;

/// Whether to look again for a few microseconds before sleeping. Falling asleep and waking up cost more than that, the
/// other cores included, so under a stream of small requests looking is cheaper; where nothing comes so soon it is waste,
/// and stops.
#[derive(Debug, Default)]
pub struct Patience {
    /// Rises when looking paid, falls when it did not.
    credit: i32,
    /// Sleeps since it was last tried without credit.
    sleeps: u32,
}

impl Patience {
    /// Looks for what becomes ready very soon. True if something did; it is in `ready` then.
    ///
    /// # Errors
    /// The kernel cannot be asked.
    pub fn watch(&mut self, net: &mut Net, ready: &mut Vec<Ready>) -> std::io::Result<bool> {
        if self.credit <= 0 {
            self.sleeps += 1;
            if self.sleeps < PATIENCE_PROBE {
                return Ok(false);
            }
            self.sleeps = 0;
        }
        net.poll_for(PATIENCE, ready)?;
        let paid = !ready.is_empty();
        self.credit = if paid { (self.credit + 1).min(PATIENCE_CREDIT_MAX) } else { (self.credit - 2).max(0) };
        Ok(paid)
    }
}
