//! The secrets between nodes, which are rotated while nodes run.

use crate::auth::Watcher;
use crate::auth::watch::Shared;
use crate::ground::node::Node;
use crate::settings::SettingsError;
use crate::settings::{Secret, Settings};

/// Begins to watch the files of secrets, for as long as the node lives.
pub fn watch(settings: &Settings, node: &Node) -> Result<Vec<Watcher<Secret>>, SettingsError> {
    let cluster = node.cluster_secret.iter().map(|secret| ("cluster_secret_file", secret));
    let peers = node.peers.iter().filter_map(|peer| Some(("peer_secret_file", peer.secret.as_ref()?)));
    let watch = |(setting, secret): (&str, &Shared<Secret>)| {
        let path = secret.load().path().to_owned();
        Watcher::of(&path, secret).map_err(|error| settings.refuse(setting, &error.problem, error.remedy))
    };
    cluster.chain(peers).map(watch).collect()
}
