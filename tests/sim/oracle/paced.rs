//! What is shown of a type that has a pace: the same to all, no more of it than there is room for, and to those who ask for all
//! all of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, is_floor, place};
use crate::viewer::Viewer;
use crate::world::{Client, World};

/// The type that has a pace in the simulation, and how many of it are shown a second.
pub const PACED: &str = "note";
const PER_SECOND: usize = 1;

/// What somebody was shown as one who does not ask for all would be.
pub fn shown(world: &World) -> BTreeSet<&str> {
    let viewers = world.present().filter_map(Client::viewer);
    let shown = viewers.flat_map(|viewer| viewer.shown.iter().filter(|shown| !viewer.left_out.contains(&shown.id)));
    shown.filter(|shown| shown.kind == PACED).map(|shown| shown.id.as_str()).collect()
}

impl Case<'_> {
    /// Of one data center, whose history gives the times: others' events may come late, and all at once.
    pub fn paced(&mut self, viewer: &Viewer) {
        if self.lost || self.world.plan.data_centers > 1 {
            return;
        }
        let mut quarters: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for shown in viewer.shown.iter().filter(|shown| shown.kind == PACED && !viewer.left_out.contains(&shown.id)) {
            let topic = shown.id.split(' ').next().unwrap_or_default();
            if let Some((_, at)) = place(&shown.place).filter(|(_, at)| !is_floor(*at)) {
                quarters.entry(topic).or_default().push(at.0 / 250);
            }
        }
        for (topic, quarters) in quarters {
            for first in &quarters {
                let count = quarters.iter().filter(|quarter| (*first..first + 4).contains(*quarter)).count();
                // The part of an event that a quarter of a second had over is for the next ones.
                if count > PER_SECOND + 1 {
                    let name = format!("viewer {}", viewer.number);
                    self.wrong.push(format!("{name} was shown {count} of {PACED} of {topic} in a second"));
                    return;
                }
            }
        }
    }
}
