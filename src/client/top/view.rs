//! What `fanfare top` shows: the last snapshot, and what it needs of those of the minute before.

use std::collections::VecDeque;

use crate::client::top::feed::News;
use crate::wire::snapshot::{Snapshot, Spread};

/// Snapshots in a minute.
const MINUTE: usize = 60;

/// See the [module](self).
#[derive(Debug)]
pub struct View {
    /// The node that was asked for.
    pub url: String,
    /// The newest snapshot.
    pub now: Option<Box<Snapshot>>,
    /// Why there is no newer one.
    pub lost: Option<String>,
    /// Deliveries a second, and the spread of their times since the start, of up to a minute, the newest last.
    past: VecDeque<(u64, Spread)>,
}

impl View {
    /// Of a node of which nothing is known yet.
    pub fn new(url: &str) -> View {
        View { url: url.to_owned(), now: None, lost: None, past: VecDeque::new() }
    }

    /// Something came.
    pub fn take(&mut self, news: News) {
        match news {
            News::Lost(why) => self.lost = Some(why),
            News::Refused(error) => self.lost = Some(error.to_string()),
            News::Snapshot(snapshot) => {
                self.lost = None;
                if self.now.as_ref().is_some_and(|before| before.node != snapshot.node) {
                    // It began anew, and counts from 0.
                    self.past.clear();
                }
                let rate = snapshot.deliveries.iter().map(|figure| figure.per_second).sum::<f64>();
                self.past.push_back((rate as u64, whole(&snapshot)));
                self.past.drain(..self.past.len().saturating_sub(MINUTE));
                self.now = Some(snapshot);
            }
        }
    }

    /// Deliveries a second, of so many seconds, the newest last.
    pub fn deliveries(&self, seconds: usize) -> Vec<u64> {
        let skipped = self.past.len().saturating_sub(seconds);
        self.past.iter().skip(skipped).map(|(rate, _)| *rate).collect()
    }

    /// The times that half and 99 % of the last minute's deliveries were within, in microseconds; or of all since the start, where there
    /// were none in it.
    pub fn latency(&self) -> Option<(f64, f64)> {
        let (now, before) = (&self.past.back()?.1, &self.past.front()?.1);
        let minute = now.counts.iter().zip(&before.counts).map(|(now, before)| now.saturating_sub(*before)).collect();
        let minute = Spread { counts: minute, ..Spread::default() };
        let spread = if minute.count() > 0 { &minute } else { now };
        let bounds = &self.now.as_ref()?.delivery_bounds_us;
        Some((spread.quantile_us(0.5, bounds)?, spread.quantile_us(0.99, bounds)?))
    }
}

/// Deliveries of all classes.
fn whole(snapshot: &Snapshot) -> Spread {
    let mut counts = vec![0; snapshot.delivery_bounds_us.len() + 1];
    for spread in &snapshot.delivery {
        counts.iter_mut().zip(&spread.counts).for_each(|(all, one)| *all += one);
    }
    Spread { counts, ..Spread::default() }
}
