//! What all nodes of a cluster, and the store, agree on by hash: in which bucket a topic is, and who does what only one may.

use crate::wire::connection_id::NodeId;

/// Buckets that topics fall into by [`bucket`]: the unit of repair, and of Redis Cluster's slots.
pub const BUCKETS: usize = 64;

const _: () = assert!(BUCKETS == 1 << (64 - 58));

/// FNV-1a with a final mix (splitmix64): the same on every node and in every version, unlike tables' hashes.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (fnv ^ fnv >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// The node that is to do what only one of them may do, by rendezvous hashing: the same choice at every node that knows of
/// the same ones, and each that comes or goes moves only its own share (Thaler and Ravishankar, 1998).
pub fn highest(key: &str, nodes: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
    let key = stable_hash(key.as_bytes());
    nodes.into_iter().max_by_key(|node| (stable_hash(&(key ^ node.0).to_be_bytes()), node.0))
}

/// The bucket of a topic.
pub fn bucket(topic: &str) -> u8 {
    (stable_hash(topic.as_bytes()) >> 58) as u8
}

/// The digest of a set of topics: the exclusive or of their [`stable_hash`]es, so that it can be kept while topics come
/// and go in any order. 0 for none.
pub fn digest<'a>(topics: impl IntoIterator<Item = &'a str>) -> u64 {
    topics.into_iter().fold(0, |digest, topic| digest ^ stable_hash(topic.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hashes_never_change() {
        // Other nodes of the cluster, also of other versions, and what the store holds depend on it.
        assert_eq!(stable_hash(b""), 0xf52a_15e9_a9b5_e89b);
        assert_eq!((stable_hash(b"live:42"), bucket("live:42")), (LIVE_42, (LIVE_42 >> 58) as u8));
    }

    const LIVE_42: u64 = 0xed3e_f0e8_0566_c355;

    proptest! {
        #[test]
        fn who_leaves_moves_only_its_own_share(key: String, nodes in prop::collection::hash_set(any::<u64>(), 2..9)) {
            let nodes: Vec<NodeId> = nodes.into_iter().map(NodeId).collect();
            let chosen = highest(&key, nodes.iter().copied()).unwrap();
            for gone in &nodes {
                let rest = nodes.iter().copied().filter(|node| node != gone);
                let again = highest(&key, rest).unwrap();
                prop_assert!(again == chosen || *gone == chosen);
            }
        }

        #[test]
        fn a_digest_does_not_depend_on_order(mut topics in prop::collection::hash_set("[a-z]:[a-z]{1,3}", 0..9).prop_map(Vec::from_iter)) {
            let before = digest(topics.iter().map(String::as_str));
            topics.reverse();
            prop_assert_eq!(digest(topics.iter().map(String::as_str)), before);
        }
    }
}
