//! Members who watch a topic here.

use crate::frontend::Frontend;
use crate::ground::Ground;
use crate::ground::present::{Present, PresentAsk};
use crate::kv::crowd::member_hash;
use crate::limits::PRESENT_LOOKS;

impl Frontend {
    /// What this core knows of its viewers; the first one knows of all who watches.
    pub(crate) fn present_here(&self, ground: &Ground, ask: &PresentAsk) -> Present {
        let mut present = Present::default();
        let entries = self.topics.by_name(ask.topic.as_str());
        let viewers = entries.flat_map(|entry| entry.viewers.iter()).take(PRESENT_LOOKS);
        let members = viewers.filter_map(|viewer| ground.slots.at(viewer.slot).rights.as_ref()?.member.as_deref());
        for member in members {
            if present.sample.len() >= ask.limit {
                break;
            }
            present.sample.insert(member.to_owned());
        }
        if ground.id == 0 {
            let crowd = self.audience.crowd(&ask.topic);
            (present.viewers, present.members) = (crowd.viewers, crowd.members.count());
            let here = |member: &String| (member.clone(), self.audience.has(&ask.topic, member_hash(member)));
            present.here = ask.of.iter().map(here).collect();
        }
        present
    }
}
