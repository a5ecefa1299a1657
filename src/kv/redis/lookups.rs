//! Look-ups under way, and what became known of their topics meanwhile. No IO, no clock.

use crate::kv::Notice;
use crate::runtime::random::Map;
use crate::wire::topic::Topic;

#[derive(Debug, Default)]
struct Lookup {
    count: usize,
    stale: bool,
}

/// The server sends an answer and a later change in this order, but they reach shards by different ways. So an answer that
/// was under way while a change was told is followed by the change once more: no cache keeps it.
#[derive(Debug, Default)]
pub struct Lookups(Map<Topic, Lookup>);

impl Lookups {
    /// A look-up begins.
    pub fn begin(&mut self, topic: &Topic) {
        self.0.entry(topic.clone()).or_default().count += 1;
    }

    /// Shards are told this.
    pub fn changed(&mut self, notice: &Notice) {
        match notice {
            Notice::Invalidated(topic) => {
                if let Some(lookup) = self.0.get_mut(topic) {
                    lookup.stale = true;
                }
            }
            Notice::InvalidatedAll => self.0.values_mut().for_each(|lookup| lookup.stale = true),
            Notice::Counts(_) | Notice::PeerViewers(_) | Notice::Queued(_) => {}
        }
    }

    /// A look-up ends. True if what it found may be older than a change that was told meanwhile.
    pub fn end(&mut self, topic: &Topic) -> bool {
        let Some(lookup) = self.0.get_mut(topic) else { return false };
        lookup.count -= 1;
        let stale = lookup.stale;
        if lookup.count == 0 {
            self.0.remove(topic);
        }
        stale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_make_stale_what_is_under_way() {
        let [one, two] = ["live:1", "live:2"].map(|text| Topic::parse(text).unwrap());
        let mut lookups = Lookups::default();
        lookups.changed(&Notice::Invalidated(one.clone()));
        lookups.begin(&one);
        lookups.begin(&one);
        lookups.begin(&two);
        assert!(!lookups.end(&one));
        lookups.changed(&Notice::Invalidated(one.clone()));
        assert!(lookups.end(&one) && !lookups.end(&two));
        lookups.begin(&one);
        assert!(!lookups.end(&one), "a change is told once");
        lookups.begin(&two);
        lookups.changed(&Notice::InvalidatedAll);
        assert!(lookups.end(&two) && lookups.0.is_empty());
    }
}
