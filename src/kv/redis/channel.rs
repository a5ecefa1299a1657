//! What dispatchers hear on their data center's channel: how viewer counts change, here and at peers, and what waits for those.

use crate::kv::crowd::Crowd;
use crate::kv::datacenter::PeerViewers;
use crate::kv::{BUCKETS, NodeCounts};
use crate::wire::connection_id::NodeId;
use crate::wire::topic::Topic;

/// What the channel says.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// A node's viewers changed.
    Change(NodeCounts),
    /// They changed, by the change of this number at least, in so many topics that they are to be read.
    Read(NodeId, u64),
    /// A peer's viewers changed.
    PeerViewers(PeerViewers),
    /// They changed in so many topics that they are to be read.
    ReadPeer(String),
    /// The first event of a bucket waits for a peer.
    Queued(u8),
}

/// Reads `<node> <number> <f|d|r>[ <topic> <count>]*`, as `counts.lua` wrote it, `v <peer>[ <topic> <count>]*` and `V <peer>`, as
/// `note_peer.lua` did, and `q <bucket>`, as `append.lua` did.
pub fn told(message: &str) -> Option<Told> {
    let mut words = message.split(' ');
    match (words.next()?, words.next()?) {
        ("q", bucket) => bucket.parse().ok().filter(|number| usize::from(*number) < BUCKETS).map(Told::Queued),
        ("V", dc) => Some(Told::ReadPeer(dc.to_owned())),
        ("v", dc) => Some(Told::PeerViewers(PeerViewers { dc: dc.to_owned(), full: false, viewers: counts(words)? })),
        (node, number) => {
            let (node, number) = (node.parse().ok()?, number.parse().ok()?);
            let full = match words.next()? {
                "r" => return Some(Told::Read(node, number)),
                kind @ ("f" | "d") => kind == "f",
                _ => return None,
            };
            Some(Told::Change(NodeCounts { node, number, full, counts: counts(words)? }))
        }
    }
}

fn counts<'a>(mut words: impl Iterator<Item = &'a str>) -> Option<Vec<(Topic, Crowd)>> {
    let mut counts = Vec::new();
    while let Some(topic) = words.next() {
        counts.push((Topic::parse(topic).ok()?, words.next()?.parse().ok()?));
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::crowd::Members;

    #[test]
    fn reads_what_the_channel_says() {
        let topic = |text| Topic::parse(text).unwrap();
        let node = NodeId(7);
        let counts = vec![
            (topic("live:a%20b"), Crowd { viewers: 3, members: Members::of([7].into_iter()) }),
            (topic("live:2"), Crowd::default()),
        ];
        let viewers = PeerViewers { dc: "eu-1".to_owned(), full: false, viewers: counts.clone() };
        assert_eq!(told("v eu-1 live:a%20b 3/eAAAAAAc live:2 0"), Some(Told::PeerViewers(viewers)));
        assert_eq!(told("V eu-1"), Some(Told::ReadPeer("eu-1".to_owned())));
        assert_eq!(told("q 63"), Some(Told::Queued(63)));
        let change = NodeCounts { node, number: 5, full: false, counts };
        assert_eq!(told(&format!("{node} 5 d live:a%20b 3/eAAAAAAc live:2 0")), Some(Told::Change(change)));
        let empty = NodeCounts { node, number: 6, full: true, counts: vec![] };
        assert_eq!(told(&format!("{node} 6 f")), Some(Told::Change(empty)));
        assert_eq!(told(&format!("{node} 7 r")), Some(Told::Read(node, 7)));
        let broken = [&format!("{node} 1 x"), &format!("{node} 1 d live:1"), &format!("{node} 1 d 1 1"), "v eu live:1"];
        for broken in ["", "x 1 f", "q 64", "q x", "V"].into_iter().chain(broken.map(|text| text as &str)) {
            assert_eq!(told(broken), None, "{broken}");
        }
    }
}
